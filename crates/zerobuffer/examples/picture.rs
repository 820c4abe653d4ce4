//! A picture, filtered by another process: PNG in, PNG out, one copy each way through shared memory.
//!
//! ```sh
//! cargo run --release --example picture -- grey IN.png OUT.png      # or: invert
//! ```
//!
//! This process decodes the picture straight into the request buffer of a duplex channel. A second one, started by this
//! one, changes the pixels in place, with a mutable server; the response carries them back.

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use zerobuffer::BufferConfig;
use zerobuffer::duplex::{ClientOptions, DuplexChannelFactory, MutableFrame, ProcessingMode};

const PATIENCE: Duration = Duration::from_secs(10);

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["server", filter, channel] => serve(filter, channel),
        [filter @ ("grey" | "invert"), input, output] => convert(filter, input, output),
        _ => Err("usage: picture grey|invert IN.png OUT.png".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("picture: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The other process: filters pictures until its input ends.
fn serve(filter: &str, channel: &str) -> Outcome {
    let server = DuplexChannelFactory::new().create_mutable_server(channel, BufferConfig::default())?;
    // What the client says of its pictures: bytes per pixel.
    let samples = Arc::new(AtomicUsize::new(3));
    let described = Arc::clone(&samples);
    server.on_init(move |metadata| described.store(usize::from(metadata[0]), Ordering::Relaxed));
    server.on_error(|error| eprintln!("picture server: {error}"));
    let filter = if filter == "grey" { grey } else { invert };
    server.start(
        move |picture: &mut MutableFrame| {
            filter(picture, samples.load(Ordering::Relaxed));
            Ok(())
        },
        ProcessingMode::SingleThread,
    )?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(server.stop()?)
}

/// Luma of BT.601 for each of red, green and blue; alpha stays.
fn grey(pixels: &mut [u8], samples: usize) {
    if samples < 3 {
        return;
    }
    for pixel in pixels.chunks_exact_mut(samples) {
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
        pixel[..3].fill(((299 * r + 587 * g + 114 * b + 500) / 1000) as u8);
    }
}

/// The negative; alpha stays.
fn invert(pixels: &mut [u8], samples: usize) {
    let colours = if samples.is_multiple_of(2) { samples - 1 } else { samples };
    for pixel in pixels.chunks_exact_mut(samples) {
        pixel[..colours].iter_mut().for_each(|sample| *sample = 255 - *sample);
    }
}

fn convert(filter: &str, input: &str, output: &str) -> Outcome {
    let channel = format!("picture-{}", std::process::id());
    let mut server = Server::start(filter, &channel)?;
    let options = ClientOptions::default().connect_timeout(PATIENCE);
    let client = DuplexChannelFactory::new().create_client_with(&channel, options)?;

    let mut decoder = png::Decoder::new(BufReader::new(File::open(input)?));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info()?;
    let size = reader.output_buffer_size().ok_or("the picture is too large")?;
    let (colour, depth) = reader.output_color_type();
    client.set_metadata(&[colour.samples() as u8])?;

    // No further copy: the decoder writes into shared memory, and the encoder reads from it.
    let mut request = client.acquire_request_buffer(size)?;
    reader.next_frame(&mut request)?;
    let start = Instant::now();
    let response = request.call(PATIENCE)?;
    let time = start.elapsed();

    let (width, height) = (reader.info().width, reader.info().height);
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(output)?), width, height);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    encoder.write_header()?.write_image_data(&response)?;
    println!("{width} x {height}, {size} bytes, filtered by process {} in {time:?}: {output}", server.0.id());
    drop((response, client));
    server.stop()
}

/// The server's process; ends when its input is closed.
struct Server(Child);

impl Server {
    fn start(filter: &str, channel: &str) -> Result<Server, Box<dyn Error>> {
        let program = std::env::current_exe()?;
        let child = Command::new(program).args(["server", filter, channel]).stdin(Stdio::piped()).spawn()?;
        Ok(Server(child))
    }

    fn stop(&mut self) -> Outcome {
        drop(self.0.stdin.take());
        match self.0.wait()?.success() {
            true => Ok(()),
            false => Err("the server failed".into()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After an error: the closed pipe ends it.
        let _ = self.stop();
    }
}
