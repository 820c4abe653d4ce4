//! Which writer decides the kind of ring, beside a writer of the 1.x package from PyPI: every order of coming
//! and going. (Crossings step by step, and crashes, are in `stop_points/entry.rs`.)

use crate::support;

use std::time::Duration;

use crate::driver::{Content, Old, hex};
use crate::support::forge::{Forge, at};
use crate::support::{Name, PATIENCE, Peer, hear, role, say};
use zerobuffer::{BufferConfig, ErrorKind, Reader, Writer};

const PAYLOAD: usize = 8192;

support::peers!(writer);

/// Connects, writes one frame, and closes when it is told to.
fn writer(arguments: &[String]) {
    match Writer::connect(&arguments[0]) {
        Ok(mut writer) => {
            writer.write_frame(b"ours").unwrap();
            say("connected");
            hear();
        }
        Err(error) => say(error.kind().name()),
    }
}

fn create(name: &str) -> Reader {
    Reader::create(name, BufferConfig::default().metadata_size(256).payload_size(PAYLOAD)).unwrap()
}

/// Whether the ring has become extended.
fn is_extended(name: &str) -> bool {
    Forge::segment(name).get(0x60) & 1 != 0
}

#[track_caller]
fn expect(reader: &mut Reader, bytes: &[u8], sequence: u64) {
    let frame = reader.read_frame(PATIENCE).unwrap().expect("in time");
    assert_eq!((&*frame, frame.sequence()), (bytes, sequence));
}

#[track_caller]
fn expect_end(reader: &mut Reader, kind: ErrorKind) {
    assert_eq!(reader.read_frame(PATIENCE).unwrap_err().kind(), kind);
}

/// A 1.x writer comes to an extended ring: it is refused, or never finds space, and nothing of it is seen.
#[track_caller]
fn theirs_is_kept_out(name: &str, reader: &mut Reader) {
    let mut old = Old::start();
    let answer = old.ask(&format!("connect {name}"));
    if answer.starts_with("ok") {
        old.ok("write-timeout 0.05");
        let answer = old.ask(&format!("write {}", hex(b"theirs")));
        assert!(answer.starts_with("error"), "{answer}");
        eprintln!("theirs connects, and is told: {answer}");
        old.ok("close");
    } else {
        eprintln!("theirs is told: {answer}");
    }
    assert!(
        !matches!(reader.read_frame(Duration::from_millis(120)), Ok(Some(_))),
        "a frame of the 1.x writer"
    );
}

#[test]
fn a_ring_that_theirs_has_used_stays_classic_for_ever() {
    let name = Name::new("theirs-first");
    let mut reader = create(&name);
    let content = Content { seed: 5, low: 1, high: 900 };
    let mut old = Old::writer(&name);
    old.ok(&format!("write {}", hex(b"theirs")));
    assert_eq!(Writer::connect(&name).unwrap_err().kind(), ErrorKind::WriterAlreadyConnected);
    // Unread, read, and read and given back.
    expect(&mut reader, b"theirs", 1);
    assert_eq!(Writer::connect(&name).unwrap_err().kind(), ErrorKind::WriterAlreadyConnected);
    old.ok("close");
    expect_end(&mut reader, ErrorKind::WriterClosed);
    for _ in 0..2 {
        let mut ours = Writer::connect(&name).unwrap();
        assert!(!is_extended(&name));
        for index in 0..20 {
            ours.write_frame(content.frame(index)).unwrap();
            expect(&mut reader, content.frame(index), index + 1);
        }
        drop(ours);
        expect_end(&mut reader, ErrorKind::WriterClosed);
        let mut old = Old::writer(&name);
        old.tell(&format!("send {} both", content.arguments(0, 200)));
        content.receive(&mut reader, 0, 200);
        old.answer_ok();
        old.ok("close");
        expect_end(&mut reader, ErrorKind::WriterClosed);
    }
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn a_ring_that_theirs_left_with_frames_in_it_is_classic() {
    let name = Name::new("theirs-left");
    let mut reader = create(&name);
    for killed in [false, true] {
        let mut old = Old::writer(&name);
        old.ok(&format!("write {}", hex(b"theirs")));
        if killed {
            old.kill();
        } else {
            old.ok("close");
        }
        let mut ours = Writer::connect(&name).unwrap();
        assert!(!is_extended(&name));
        ours.write_frame(b"ours").unwrap();
        expect(&mut reader, b"theirs", 1);
        let end = reader.read_frame(PATIENCE).unwrap_err().kind();
        assert!(matches!(end, ErrorKind::WriterClosed | ErrorKind::WriterDead), "{end:?}");
        expect(&mut reader, b"ours", 1);
        drop(ours);
        expect_end(&mut reader, ErrorKind::WriterClosed);
    }
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn a_ring_that_theirs_only_visited_can_still_become_extended() {
    for killed in [false, true] {
        let name = Name::new("visited");
        let mut reader = create(&name);
        let mut old = Old::writer(&name);
        assert_eq!(Writer::connect(&name).unwrap_err().kind(), ErrorKind::WriterAlreadyConnected);
        if killed {
            old.kill();
        } else {
            old.ok("close");
        }
        let mut ours = Writer::connect(&name).unwrap();
        assert!(is_extended(&name));
        ours.write_frame(b"ours").unwrap();
        let first = loop {
            match reader.read_frame(PATIENCE) {
                Ok(frame) => break frame.expect("in time"),
                Err(error) => {
                    assert!(
                        matches!(error.kind(), ErrorKind::WriterClosed | ErrorKind::WriterDead),
                        "{error}"
                    )
                }
            }
        };
        assert_eq!(&*first, b"ours");
        drop((first, ours));
        expect_end(&mut reader, ErrorKind::WriterClosed);
        drop(reader);
        name.assert_nothing_left();
    }
}

#[test]
fn theirs_is_kept_out_of_an_extended_ring_whoever_is_there() {
    let name = Name::new("ours-first");
    let mut reader = create(&name);
    let mut ours = Peer::start(role!(writer), &[&name]);
    ours.expect("connected");
    assert!(is_extended(&name));
    expect(&mut reader, b"ours", 1);
    theirs_is_kept_out(&name, &mut reader);
    // The native writer has closed.
    assert!(ours.wait().success());
    expect_end(&mut reader, ErrorKind::WriterClosed);
    theirs_is_kept_out(&name, &mut reader);
    // The native writer has died.
    let mut ours = Peer::start(role!(writer), &[&name]);
    ours.expect("connected");
    ours.kill();
    theirs_is_kept_out_before_the_end(&name);
    expect(&mut reader, b"ours", 1);
    expect_end(&mut reader, ErrorKind::WriterDead);
    theirs_is_kept_out(&name, &mut reader);
    // The native writer continues, unharmed.
    let mut ours = Writer::connect(&name).unwrap();
    theirs_is_kept_out(&name, &mut reader);
    for index in 1..=300_u64 {
        ours.write_frame(&vec![index as u8; 500]).unwrap();
        expect(&mut reader, &vec![index as u8; 500], index);
    }
    drop(ours);
    expect_end(&mut reader, ErrorKind::WriterClosed);
    drop(reader);
    name.assert_nothing_left();
}

/// Keeps a 1.x writer out while frames of the native writer are unread.
fn theirs_is_kept_out_before_the_end(name: &str) {
    let mut old = Old::start();
    if old.ask(&format!("connect {name}")).starts_with("ok") {
        old.ok("write-timeout 0.05");
        let answer = old.ask(&format!("write {}", hex(b"theirs")));
        assert!(answer.starts_with("error"), "{answer}");
        // The native writer is not kept out by it.
        old.kill();
    }
}

/// Adds arriving frames to `got` until none has come for `quiet`.
fn read_all(reader: &mut Reader, got: &mut Vec<Vec<u8>>, quiet: Duration) {
    loop {
        match reader.read_frame(quiet) {
            Ok(Some(frame)) => got.push(frame.to_vec()),
            Ok(None) => return,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WriterClosed | ErrorKind::WriterDead), "{error}");
            }
        }
    }
}

/// The words that a native writer leaves if it dies during its entry (stop_points/entry.rs has real deaths).
#[test]
fn theirs_goes_on_beside_an_entry_that_came_to_nothing() {
    let name = Name::new("broken-off");
    let mut reader = create(&name);
    let forge = Forge::segment(&name);
    let mut old = Old::writer(&name);
    let taken = |free: u64| {
        forge.set(at::EXTENSION, forge.get(at::EXTENSION) | 2);
        forge.set(at::FREE_BYTES, free.wrapping_sub(PAYLOAD as u64));
    };
    let assert_whole = || {
        assert_eq!(forge.get(at::EXTENSION) & 3, 0);
        assert_eq!(forge.get(at::FREE_BYTES), PAYLOAD as u64);
    };
    // The 1.x writer finds no space until the reader looks, and is woken.
    taken(PAYLOAD as u64);
    old.tell(&format!("write {}", hex(b"theirs")));
    expect(&mut reader, b"theirs", 1);
    old.answer_ok();
    assert_whole();
    // All bytes were taken after the 1.x writer had found space, and before it committed.
    old.ok(&format!("write {}", hex(b"more")));
    taken(forge.get(at::FREE_BYTES));
    expect(&mut reader, b"more", 2);
    assert_whole();
    // Nothing was taken.
    forge.set(at::EXTENSION, forge.get(at::EXTENSION) | 2);
    assert!(reader.read_frame(Duration::from_millis(1)).unwrap().is_none());
    assert_whole();
    old.ok("close");
    expect_end(&mut reader, ErrorKind::WriterClosed);
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn of_ours_and_theirs_that_come_at_once_one_gets_in() {
    let rounds = if support::full() { 300 } else { 25 };
    let (mut extended, mut classic) = (0, 0);
    let mut old = Old::start();
    for round in 0..rounds {
        let name = Name::new("at-once");
        let mut reader = create(&name);
        // The 1.x writer takes a moment longer, or less.
        old.tell(&format!("connect {}", &*name));
        std::thread::sleep(Duration::from_micros(round * 37 % 600));
        let ours = Writer::connect(&name);
        let theirs = old.answer().starts_with("ok");
        let mut frames: Vec<&[u8]> = Vec::new();
        let mut got = Vec::new();
        if theirs {
            old.ok("write-timeout 0.05");
            old.tell(&format!("write {}", hex(b"theirs")));
            // If the native writer has been in its entry, the 1.x writer finds space once the reader has
            // looked.
            read_all(&mut reader, &mut got, Duration::from_millis(20));
            if old.answer().starts_with("ok") {
                frames.push(b"theirs");
                classic += 1;
            }
        }
        if let Ok(mut ours) = ours {
            ours.write_frame(b"ours").unwrap();
            frames.push(b"ours");
            extended += u32::from(is_extended(&name));
        }
        assert_eq!(frames.len(), 1, "round {round}: {frames:?} got in");
        if theirs {
            old.ok("close");
        }
        read_all(&mut reader, &mut got, Duration::from_millis(10));
        assert_eq!(got, frames, "round {round}");
        drop(reader);
        name.assert_nothing_left();
    }
    eprintln!("{rounds} meetings: {extended} extended rings, {classic} classic ones");
}
