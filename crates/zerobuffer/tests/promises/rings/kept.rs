//! Buffers kept for a reader that comes later.

use super::support;

use std::time::Duration;

use super::support::{Name, Peer, role, say};
use zerobuffer::{ErrorKind, KeptBuffer, Reader, Writer, inspect};

const SECOND: Duration = Duration::from_secs(1);

support::peers!(keeper, adopter);

/// Keeps a buffer with `count` frames in it until told to end.
fn keeper(arguments: &[String]) {
    let [name, count] = arguments else { panic!("name, count") };
    let config = support::config().payload_size(1 << 20).metadata_size(128);
    let mut kept = KeptBuffer::create(name, config).unwrap();
    let mut writer = Writer::connect(name).unwrap();
    for index in 0..count.parse::<u64>().unwrap() {
        writer.write_frame(&index.to_le_bytes()).unwrap();
    }
    say("kept");
    while let Some(line) = support::hear() {
        match line.as_str() {
            "write" => say(writer.write_frame(b"more").map_or_else(|e| e.kind().name(), |_| "written")),
            "adopted?" => say(kept.is_adopted()),
            _ => break,
        }
    }
    drop(writer);
    say(kept.close().unwrap());
}

/// Tries to create `name` when told to. Prints the sequence number of the first frame, or the error.
fn adopter(arguments: &[String]) {
    say("here");
    support::hear();
    match Reader::create(&arguments[0], support::config()) {
        Ok(mut reader) => {
            say(reader.read_frame(SECOND).unwrap().unwrap().sequence());
            support::hear();
        }
        Err(error) => say(error.kind()),
    }
}

#[test]
fn a_kept_buffer_is_taken_over_with_its_frames() {
    let name = Name::new("kept");
    let mut keeper = Peer::start(role!(keeper), &[&name, "100"]);
    keeper.expect("kept");
    assert!(inspect::snapshot(&name).unwrap().kept);
    let error = Reader::create(&name, support::config().payload_size(4096)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let error = KeptBuffer::create(&name, support::config()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReaderAlreadyConnected);
    keeper.tell("adopted?");
    keeper.expect("false");

    let mut reader = Reader::create(&name, support::config().payload_size(1 << 20)).unwrap();
    for index in 0..100_u64 {
        assert_eq!(*reader.read_frame(SECOND).unwrap().unwrap(), index.to_le_bytes());
    }
    keeper.tell("write");
    keeper.expect("written");
    assert_eq!(&*reader.read_frame(SECOND).unwrap().unwrap(), b"more");
    let snapshot = inspect::snapshot(&name).unwrap();
    assert_eq!((snapshot.kept, snapshot.reader.pid), (false, u64::from(std::process::id())));
    assert_eq!(
        Reader::create(&name, support::config()).unwrap_err().kind(),
        ErrorKind::ReaderAlreadyConnected
    );
    keeper.tell("adopted?");
    keeper.expect("true");
    keeper.tell("end");
    keeper.expect("true");
    assert!(keeper.wait().success());
    assert_eq!(reader.read_frame(SECOND).unwrap_err().kind(), ErrorKind::WriterClosed);
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn a_stopped_keeper_does_not_hinder_its_reader() {
    let name = Name::new("kept-stopped");
    let mut keeper = Peer::start(role!(keeper), &[&name, "3"]);
    keeper.expect("kept");
    keeper.signal(libc::SIGSTOP);
    let mut reader = Reader::create(&name, support::config()).unwrap();
    assert_eq!(reader.read_frame(SECOND).unwrap().unwrap().sequence(), 1);
    keeper.kill();
    assert_eq!(reader.read_frame(SECOND).unwrap().unwrap().sequence(), 2);
    assert_eq!(reader.read_frame(SECOND).unwrap().unwrap().sequence(), 3);
    assert_eq!(reader.read_frame(SECOND).unwrap_err().kind(), ErrorKind::WriterDead);
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn a_keeper_that_ends_alone_or_dies_leaves_nothing() {
    let name = Name::new("kept-alone");
    let mut keeper = Peer::start(role!(keeper), &[&name, "3"]);
    keeper.expect("kept");
    keeper.tell("end");
    keeper.expect("false");
    name.assert_nothing_left();

    let mut keeper = Peer::start(role!(keeper), &[&name, "3"]);
    keeper.expect("kept");
    keeper.kill();
    let mut reader = Reader::create(&name, support::config()).unwrap();
    assert!(reader.try_read_frame().unwrap().is_none(), "frames of a dead keeper are gone");
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn of_readers_that_race_for_a_kept_buffer_one_wins() {
    for _ in 0..20 {
        let name = Name::new("kept-race");
        let mut keeper = Peer::start(role!(keeper), &[&name, "1"]);
        keeper.expect("kept");
        let mut adopters: Vec<Peer> = (0..3).map(|_| Peer::start(role!(adopter), &[&name])).collect();
        adopters.iter_mut().for_each(|peer| peer.expect("here"));
        adopters.iter_mut().for_each(|peer| peer.tell("go"));
        let mut answers: Vec<String> = adopters.iter_mut().map(Peer::hear).collect();
        answers.sort();
        assert_eq!(answers, ["1", "ReaderAlreadyConnected", "ReaderAlreadyConnected"]);
        keeper.tell("end");
        keeper.expect("true");
        drop(keeper);
        adopters.iter_mut().for_each(|peer| assert!(peer.wait().success()));
        name.assert_nothing_left();
    }
}
