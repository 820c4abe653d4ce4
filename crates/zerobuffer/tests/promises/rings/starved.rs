//! Waiting in a process that runs out of descriptors, inotify instances or rights: a typed error, or another way to be woken, and
//! never a call that hangs.

use super::support;

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::support::{Name, PATIENCE, Peer, confine, hear, role, say};
use zerobuffer::{BufferConfig, ErrorKind, Reader, WaitStrategy, Writer, WriterOptions};

support::peers!(reader, reader_without_inotify, writer, writer_of_nobody, reader_of_nobody);

/// What does not come within this time is lost.
const LOST: Duration = Duration::from_secs(10);

fn small() -> BufferConfig {
    support::config().payload_size(4096).wait_strategy(WaitStrategy::Block)
}

fn poll(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    let mut event = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid `pollfd`.
    unsafe { libc::poll(&raw mut event, 1, limit.as_millis().try_into().unwrap()) == 1 }
}

/// Takes all descriptors of this process but `free`.
fn take_descriptors(free: usize) {
    confine::limit(libc::RLIMIT_NOFILE, 200);
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    assert!(taken.len() >= free);
    taken.truncate(taken.len() - free);
    std::mem::forget(taken);
}

/// A result that lack of descriptors may have made an error of a known kind.
fn served<T>(what: &str, result: zerobuffer::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::System, "{what}: {error}");
            None
        }
    }
}

/// The next frame, waiting by the descriptor.
fn next_by_descriptor(reader: &mut Reader) -> zerobuffer::Result<Vec<u8>> {
    loop {
        if let Some(frame) = reader.try_read_frame()? {
            return Ok(frame.to_vec());
        }
        assert!(poll(reader.descriptor()?, LOST), "the descriptor is not made ready");
    }
}

/// Waits in every way it can with so many descriptors left. Arguments: buffer, descriptors left.
fn reader(arguments: &[String]) {
    let mut reader = Reader::create(&arguments[0], small()).unwrap();
    say("created");
    hear();
    take_descriptors(arguments[1].parse().unwrap());
    if served("descriptor", reader.descriptor().map(|fd| fd.as_raw_fd())).is_some() {
        for _ in 0..3 {
            while reader.try_read_frame().unwrap().is_some() {}
            say("write");
            assert_eq!(next_by_descriptor(&mut reader).unwrap(), b"frame");
        }
        while reader.try_read_frame().unwrap().is_some() {}
        let (tell, told) = channel();
        if served("notification", reader.notify(move || tell.send(()).unwrap())).is_some() {
            say("write");
            told.recv_timeout(LOST).expect("the notification is lost");
            assert_eq!(next_by_descriptor(&mut reader).unwrap(), b"frame");
        }
    }
    for _ in 0..3 {
        say("write");
        assert!(reader.read_frame(LOST).unwrap().is_some(), "the frame is lost");
    }
    say("die");
    assert_eq!(reader.read_frame(LOST).unwrap_err().kind(), ErrorKind::WriterDead);
    say("told");
}

/// Waits by its descriptor where no inotify instance may be made. In a user namespace of its own.
fn reader_without_inotify(arguments: &[String]) {
    let users = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    assert!(!users.contains("4294967295"), "this would change the limit of the machine: {users}");
    std::fs::write("/proc/sys/user/max_inotify_instances", "0").unwrap();
    let mut reader = Reader::create(&arguments[0], small()).unwrap();
    say("created");
    hear();
    say("write");
    assert_eq!(next_by_descriptor(&mut reader).unwrap(), b"frame");
    while reader.try_read_frame().unwrap().is_some() {}
    say("die");
    assert_eq!(next_by_descriptor(&mut reader).unwrap_err().kind(), ErrorKind::WriterDead);
    say("told");
}

/// Writes a frame at each line. Ends as one that is killed.
fn write_as_told(name: &str) {
    let mut writer = Writer::connect_with(name, WriterOptions::default().connect_timeout(PATIENCE)).unwrap();
    say("connected");
    while hear().is_some_and(|order| order == "write") {
        writer.write_frame(b"frame").unwrap();
    }
    std::process::abort();
}

fn writer(arguments: &[String]) {
    write_as_told(&arguments[0]);
}

fn writer_of_nobody(arguments: &[String]) {
    confine::become_nobody();
    write_as_told(&arguments[0]);
}

/// A reader of another user, which waits by its descriptor, and by a call.
fn reader_of_nobody(arguments: &[String]) {
    confine::become_nobody();
    let mut reader = Reader::create(&arguments[0], small().mode(0o666)).unwrap();
    say("created");
    hear();
    wait_for_frames_and_a_death(&mut reader, say);
}

/// Lets `tell` have frames written and the writer killed, and waits for both in two ways.
fn wait_for_frames_and_a_death(reader: &mut Reader, mut tell: impl FnMut(&'static str)) {
    for _ in 0..3 {
        while reader.try_read_frame().unwrap().is_some() {}
        assert!(reader.descriptor().is_ok());
        tell("write");
        assert_eq!(next_by_descriptor(reader).unwrap(), b"frame");
        tell("write");
        assert!(reader.read_frame(LOST).unwrap().is_some(), "the frame is lost");
    }
    while reader.try_read_frame().unwrap().is_some() {}
    tell("die");
    assert_eq!(next_by_descriptor(reader).unwrap_err().kind(), ErrorKind::WriterDead);
    tell("told");
}

/// Passes on what the reader wants of the writer, until the reader was told of its death.
fn serve(what: &str, mut reader: Peer, mut writer: Peer) {
    writer.expect("connected");
    reader.tell("go");
    loop {
        match reader.hear_within(LOST * 2).unwrap_or_else(|| panic!("{what}: the reader hangs")).as_str() {
            "write" => writer.tell("write"),
            "die" => _ = writer.kill(),
            "told" => break,
            other => panic!("{what}: {other}"),
        }
    }
    assert!(reader.wait().success(), "{what}");
}

#[test]
fn a_reader_with_any_number_of_descriptors_left_is_woken_or_has_a_typed_error() {
    for free in 0..12 {
        let name = Name::new("starved");
        let mut reader = Peer::start(role!(reader), &[&name, &free.to_string()]);
        reader.expect("created");
        let writer = Peer::start(role!(writer), &[&name]);
        serve(&format!("{free} descriptors left"), reader, writer);
    }
}

#[test]
fn a_descriptor_without_inotify_becomes_ready_at_a_death() {
    let alone = confine::unshare(&["--user", "--map-root-user"]);
    let name = Name::new("starved-inotify");
    let mut reader = Peer::start_through(&alone, role!(reader_without_inotify), &[&name], |_| {});
    reader.expect("created");
    let writer = Peer::start(role!(writer), &[&name]);
    serve("no inotify", reader, writer);
}

#[test]
fn users_who_may_not_open_each_others_fifos_wake_each_other_and_learn_of_deaths() {
    confine::need_root("another user");
    let name = Name::new("starved-user");
    let mut reader = Reader::create(&name, small().mode(0o666)).unwrap();
    let mut writer = Peer::start(role!(writer_of_nobody), &[&name]);
    writer.expect("connected");
    wait_for_frames_and_a_death(&mut reader, |order| match order {
        "write" => writer.tell("write"),
        "die" => _ = writer.kill(),
        _ => {}
    });
    drop(reader);
    let name = Name::new("starved-owner");
    let mut reader = Peer::start(role!(reader_of_nobody), &[&name]);
    reader.expect("created");
    let writer = Peer::start(role!(writer), &[&name]);
    serve("a reader of another user", reader, writer);
}
