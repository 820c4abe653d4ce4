//! A stage of a pipeline: `relay IN OUT` reads frames from one buffer and writes them, inverted, to the next.
//! Before it, something that reads OUT (`stream reader OUT`); after it, something that writes IN (`stream writer IN`).

use std::error::Error;
use std::time::Duration;

use zerobuffer::{BufferConfig, Reader, Writer, WriterOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = &arguments[..] else { return Err("usage: relay IN OUT".into()) };

    let mut reader = Reader::create(input, BufferConfig::default())?;
    let options = WriterOptions::default().connect_timeout(Duration::from_secs(10));
    let mut writer = Writer::connect_with(output, options)?;

    if !reader.wait_for_writer(Duration::from_secs(30))? {
        return Err("no writer came".into());
    }
    for frame in reader.frames() {
        let frame = frame?;
        // The bytes go from the one buffer to the other once, and are changed on the way.
        let mut target = writer.acquire_frame(frame.len())?;
        for (to, from) in target.iter_mut().zip(frame.iter()) {
            *to = 255 - from;
        }
        target.commit()?;
    }
    Ok(())
}
