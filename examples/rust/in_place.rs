//! Pictures without a copy: `in_place viewer NAME` in one terminal, `in_place camera NAME` in another.

use std::error::Error;
use std::time::Duration;

use zerobuffer::{BufferConfig, Reader, Writer, WriterOptions};

const WIDTH: usize = 640;
const HEIGHT: usize = 480;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["viewer", name] => view(name),
        ["camera", name] => film(name),
        _ => Err("usage: in_place viewer|camera NAME".into()),
    }
}

/// Measures each picture where it lies in shared memory.
fn view(name: &str) -> Result<(), Box<dyn Error>> {
    let mut reader = Reader::create(name, BufferConfig::default())?;
    if !reader.wait_for_writer(Duration::from_secs(30))? {
        return Err("no writer came".into());
    }
    for frame in reader.frames() {
        let picture = frame?;
        let sum: u64 = picture.iter().map(|&pixel| u64::from(pixel)).sum();
        println!("picture {}: mean brightness {}", picture.sequence(), sum / picture.len() as u64);
        // The space goes back to the camera here, when `picture` is dropped.
    }
    Ok(())
}

/// Draws three pictures directly into shared memory.
fn film(name: &str) -> Result<(), Box<dyn Error>> {
    let options = WriterOptions::default().connect_timeout(Duration::from_secs(10));
    let mut writer = Writer::connect_with(name, options)?;
    for number in 0..3 {
        let mut picture = writer.acquire_frame(WIDTH * HEIGHT)?;
        for (y, row) in picture.chunks_exact_mut(WIDTH).enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                *pixel = ((x + y) / 8 + 20 * number) as u8;
            }
        }
        picture.commit()?;
    }
    Ok(())
}
