//! The roles of the peers.

use std::time::{Duration, Instant};

use zerobuffer::{BufferConfig, KeptBuffer, Reader, Writer, WriterOptions, cleanup};

use crate::support::ledger::Ledger;
use crate::support::stream::{COMMITTED, RELEASED, Sink, Source};
use crate::support::{PATIENCE, hear, say};
use crate::victim::{DRAIN, FRAMES, HUGE, KEPT, MAX, NOTICE, config};

/// Reads as many frames as the script has, then closes. With "latest" it passes over those that are not the newest.
pub(crate) fn reader(arguments: &[String]) {
    let [name, ledger, which] = arguments else { panic!("name, ledger, which frames") };
    let ledger = Ledger::open(ledger);
    let mut reader = match Reader::create(name, config(name)) {
        Ok(reader) => reader,
        Err(error) => return say(format!("{:?}", error.kind())),
    };
    say("created");
    let mut sink = Sink::new(1, 2);
    while sink.received < FRAMES {
        let next = match which.as_str() {
            "latest" => reader.read_latest_frame(Duration::from_millis(2)),
            _ => reader.read_frame(Duration::from_millis(2)),
        };
        match next {
            Ok(Some(frame)) => {
                // Those before it were passed over.
                sink.received = frame.sequence() - 1;
                sink.take(frame, &ledger);
            }
            Ok(None) if ledger.get(DRAIN) != 0 => sink.release_all(&ledger),
            Ok(None) => {}
            Err(error) => {
                say(format!("{:?}", error.kind()));
                break;
            }
        }
    }
    sink.release_all(&ledger);
    drop(reader);
    say("closed");
}

/// Reads the frames of the script, but seldom, so that its writer sleeps for space.
pub(crate) fn slow_reader(arguments: &[String]) {
    let ledger = Ledger::open(&arguments[1]);
    let mut reader = Reader::create(&arguments[0], config(&arguments[0])).unwrap();
    say("created");
    let mut sink = Sink::new(1, 0);
    while sink.received < FRAMES {
        if sink.received.is_multiple_of(12) {
            // Longer than its writer spins.
            std::thread::sleep(Duration::from_millis(8));
        }
        if let Some(frame) = reader.read_frame(Duration::from_millis(2)).unwrap() {
            sink.take(frame, &ledger);
        }
    }
}

/// Creates, and waits to be killed or told to close.
pub(crate) fn plain_reader(arguments: &[String]) {
    match Reader::create(&arguments[0], config(&arguments[0])) {
        Ok(_reader) => {
            say("created");
            hear();
        }
        Err(error) => say(format!("{:?}", error.kind())),
    }
}

/// Writes the frames of the script, then closes. With "drain" it waits now and then until the ring is empty, with
/// "always" before every frame.
pub(crate) fn writer(arguments: &[String]) {
    let [name, ledger, drain] = arguments else { panic!("name, ledger, drain") };
    let ledger = Ledger::open(ledger);
    let options = WriterOptions::default().connect_timeout(PATIENCE).write_timeout(PATIENCE);
    let mut writer = match Writer::connect_with(name, options) {
        Ok(writer) => writer,
        Err(error) => return say(format!("{:?}", error.kind())),
    };
    say("connected");
    writer.set_metadata(b"metadata").unwrap();
    let mut source = Source::new(1, MAX);
    while source.sequence < FRAMES {
        let result = source.write(&mut writer, &ledger);
        if let Err(error) = result {
            say(format!("{:?}", error.kind()));
            break;
        }
        if drain == "always" || drain == "drain" && source.sequence.is_multiple_of(3) {
            wait_until_drained(&ledger, source.sequence);
        }
        if source.sequence == FRAMES / 2 {
            // Long enough for the next write to look at its reader.
            std::thread::sleep(Duration::from_millis(15));
        }
    }
    drop(writer);
    say("closed");
}

pub(crate) fn wait_until_drained(ledger: &Ledger, sequence: u64) {
    ledger.set(DRAIN, 1);
    let start = Instant::now();
    while ledger.get(RELEASED) < sequence && start.elapsed() < NOTICE {
        std::thread::yield_now();
    }
    ledger.set(DRAIN, 0);
}

/// Only connects.
pub(crate) fn connector(arguments: &[String]) {
    let writer = Writer::connect(&arguments[0]).unwrap();
    say("connected");
    hear();
    drop(writer);
}

/// Writes frames whose sizes are given.
pub(crate) fn exact_writer(arguments: &[String]) {
    let ledger = Ledger::open(&arguments[1]);
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    for (index, size) in arguments[2..].iter().enumerate() {
        let byte = u8::try_from(index + 1).unwrap();
        writer.write_frame(&vec![byte; size.parse().unwrap()]).unwrap();
        ledger.set(COMMITTED, index as u64 + 1);
    }
    say("written");
    hear();
}

/// Takes over a kept buffer, reads what is in it, and closes when it is told to.
pub(crate) fn adopter(arguments: &[String]) {
    let ledger = Ledger::open(&arguments[1]);
    let config = BufferConfig::default().huge_pages(arguments[0].contains(HUGE));
    let mut reader = Reader::create(&arguments[0], config).unwrap();
    say("created");
    let mut sink = Sink::new(1, 0);
    while sink.received < KEPT {
        sink.take(reader.read_frame(PATIENCE).unwrap().expect("in time"), &ledger);
    }
    hear();
}

/// Keeps a buffer until it is told to end.
pub(crate) fn keeper(arguments: &[String]) {
    let config = config(&arguments[0]);
    let kept = KeptBuffer::create(&arguments[0], config).unwrap();
    say("kept");
    hear();
    assert!(!kept.close().unwrap());
}

/// Removes what is left of one buffer.
pub(crate) fn cleaner(arguments: &[String]) {
    let left = cleanup::leftovers().unwrap();
    let mine = left.iter().find(|left| left.name() == arguments[0]).expect("leftovers");
    assert!(mine.remove().unwrap());
}

/// Reads frames, and the end of their writer.
pub(crate) fn careful_reader(arguments: &[String]) {
    let reader = Reader::create(&arguments[0], config(&arguments[0])).unwrap();
    say("created");
    read_to_the_end(reader);
}

/// As `careful_reader`, once it is told to read.
pub(crate) fn late_reader(arguments: &[String]) {
    let reader = Reader::create(&arguments[0], config(&arguments[0])).unwrap();
    say("created");
    hear();
    read_to_the_end(reader);
}

fn read_to_the_end(mut reader: Reader) {
    loop {
        match reader.read_frame(PATIENCE) {
            Ok(frame) => say(format!("frame {}", frame.expect("in time").sequence())),
            Err(error) => return say(format!("{:?}", error.kind())),
        }
    }
}

crate::support::peers!(
    reader,
    writer,
    connector,
    exact_writer,
    plain_reader,
    slow_reader,
    careful_reader,
    late_reader,
    adopter,
    keeper,
    cleaner
);
