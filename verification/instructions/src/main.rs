//! Moves a given number of frames, so that a tool outside can count the instructions.
//!
//! `instructions MEASURE RING COUNT`. Two runs of different counts differ only by their frames: start-up
//! cancels out. The process has its own clock, which advances by a fixed step at each look, so no count
//! depends on the duration of a run. Both sides live in this process and act in turn. Only `call` has a
//! second thread, the server's; the two share a processor, and each runs until it sleeps.

mod clock;
mod turns;

use std::time::Duration;

use zerobuffer::duplex::{ClientOptions, DuplexChannelFactory, ProcessingMode};
use zerobuffer::{BufferConfig, Reader, WaitStrategy, Writer, WriterOptions};

const FRAME: [u8; 64] = [7; 64];

/// Room for every frame of the longest run, so that no write waits.
const ROOM: usize = 16 << 20;

/// Frames that `read` finds in the buffer, however many of them it reads.
const STOCK: u64 = 24_000;

const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [measure, ring, count] = &arguments[..] else {
        panic!("usage: instructions write|read|trip|call extended|classic COUNT");
    };
    let classic = match ring.as_str() {
        "extended" => false,
        "classic" => true,
        other => panic!("there is no ring `{other}`"),
    };
    let count = count.parse().expect("COUNT is a number");
    // No wait spins: a spin's length would depend on the other thread.
    let config = BufferConfig::default().classic(classic).wait_strategy(WaitStrategy::Block);
    match measure.as_str() {
        "write" => write(config.payload_size(ROOM), count),
        "read" => read(config.payload_size(ROOM), count),
        "trip" => trip(config, count),
        "call" => call(config, count),
        other => panic!("there is no measure `{other}`"),
    }
}

/// A new buffer with both of its sides.
fn pair(what: &str, config: BufferConfig) -> (Reader, Writer) {
    let name = name(what);
    let reader = Reader::create(&name, config).expect("a new buffer");
    let options = WriterOptions::default().wait_strategy(WaitStrategy::Block);
    (reader, Writer::connect_with(&name, options).expect("its writer"))
}

fn name(what: &str) -> String {
    format!("zbtest-instructions-{what}-{}", std::process::id())
}

fn write(config: BufferConfig, count: u64) {
    let (_reader, mut writer) = pair("write", config);
    for _ in 0..count {
        writer.write_frame(&FRAME).expect("room");
    }
}

fn read(config: BufferConfig, count: u64) {
    let (mut reader, mut writer) = pair("read", config);
    for _ in 0..STOCK {
        writer.write_frame(&FRAME).expect("room");
    }
    for _ in 0..count {
        let frame = reader.read_frame(PATIENCE).expect("a frame").expect("in time");
        assert_eq!(frame.len(), FRAME.len());
    }
}

/// A frame there and a frame back.
fn trip(config: BufferConfig, count: u64) {
    let (mut there, mut sender) = pair("there", config.clone());
    let (mut back, mut answerer) = pair("back", config);
    for _ in 0..count {
        sender.write_frame(&FRAME).expect("room");
        let frame = there.read_frame(PATIENCE).expect("a frame").expect("in time");
        answerer.write_frame(&frame).expect("room");
        drop(frame);
        let frame = back.read_frame(PATIENCE).expect("a frame").expect("in time");
        assert_eq!(frame.len(), FRAME.len());
    }
}

fn call(config: BufferConfig, count: u64) {
    turns::share_a_processor().expect("one processor and its batch scheduling");
    let factory = DuplexChannelFactory::new();
    let name = name("call");
    let server = factory.create_immutable_server(&name, config.clone()).expect("a server");
    server
        .start_responding(
            |request, responder| {
                responder.reply(request)?;
                Ok(())
            },
            ProcessingMode::SingleThread,
        )
        .expect("a thread");
    let options = ClientOptions::default().response_config(config);
    let client = factory.create_client_with(&name, options).expect("its client");
    for _ in 0..count {
        let response = client.call(&FRAME, PATIENCE).expect("a response");
        assert_eq!(response.len(), FRAME.len());
    }
    client.close();
    server.stop().expect("no handler runs");
}
