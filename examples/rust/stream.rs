//! A stream of frames: `stream reader NAME` in one terminal, `stream writer NAME` in another.

use std::error::Error;
use std::time::Duration;

use zerobuffer::{BufferConfig, Reader, Writer, WriterOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["reader", name] => read(name),
        ["writer", name] => write(name),
        _ => Err("usage: stream reader|writer NAME".into()),
    }
}

/// Creates the buffer and prints each frame, until the writer closes.
fn read(name: &str) -> Result<(), Box<dyn Error>> {
    let mut reader = Reader::create(name, BufferConfig::default())?;
    if !reader.wait_for_writer(Duration::from_secs(30))? {
        return Err("no writer came".into());
    }
    for frame in reader.frames() {
        // A writer that dies, rather than closes, is an error here.
        let frame = frame?;
        println!("{}: {}", frame.sequence(), String::from_utf8_lossy(&frame));
    }
    println!("end of stream");
    Ok(())
}

/// Connects to the buffer and writes five frames.
fn write(name: &str) -> Result<(), Box<dyn Error>> {
    let options = WriterOptions::default().connect_timeout(Duration::from_secs(10));
    let mut writer = Writer::connect_with(name, options)?;
    for number in 1..=5 {
        writer.write_frame(format!("frame {number} of 5").as_bytes())?;
    }
    Ok(())
}
