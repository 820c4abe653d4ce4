//! Users who may only read.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Instant;

use zerobuffer::{ErrorKind, Reader, Writer, inspect};

use super::peers;
use super::stage::{Child, clean_all, config, paths, prepare, stage, stay};
use crate::support::{PATIENCE, Peer, confine, role, say};

crate::support::peers!(shared_locks);

#[test]
fn users_who_may_only_read_cannot_hide_a_death() {
    stage(role!(shared_locks));
}

/// Takes a shared lock on `len` bytes of a file at `start`, which every user who may read the file can do. 0
/// bytes: up to its end.
fn lock_shared(file: &File, start: i64, len: i64, wait: bool) -> bool {
    // SAFETY: a struct flock is plain integers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_RDLCK as libc::c_short;
    (lock.l_start, lock.l_len) = (start, len);
    let command = if wait { libc::F_OFD_SETLKW } else { libc::F_OFD_SETLK };
    // SAFETY: `lock` outlives the call.
    unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const lock) == 0 }
}

fn shared_locks(arguments: &[String]) {
    let name = prepare(arguments);
    let [write_role, all] = [(0x50, 1), (0, 0)];
    // Locks what of the files can be opened: all of them, or the writer's role as soon as the writer gives it up.
    let locker = |range: (i64, i64), wait: bool| {
        move |ready: &dyn Fn()| {
            let files: Vec<File> = paths(name).iter().filter_map(|path| File::open(path).ok()).collect();
            assert!(!files.is_empty());
            for file in &files {
                // SAFETY: plain system call on an open descriptor.
                unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) };
            }
            if wait {
                ready();
            }
            for file in &files {
                assert!(lock_shared(file, range.0, range.1, wait), "{}", std::io::Error::last_os_error());
            }
            ready();
            stay();
        }
    };
    let mut dead_reader = Peer::start(role!(peers::reader), &[name, "644"]);
    dead_reader.expect("created");
    let mut live_writer = Peer::start(role!(peers::writer), &[name]);
    live_writer.expect("connected");
    dead_reader.kill();
    live_writer.kill();
    let attacker = Child::start(confine::NOBODY, locker(all, false));
    // A dead peer counts as dead, its files are removed, and the next reader can start at once.
    let snapshot = inspect::snapshot(name).unwrap();
    assert_eq!(snapshot.reader.presence, inspect::Presence::Dead);
    assert_eq!(snapshot.writer.presence, inspect::Presence::Dead);
    drop(Reader::create(name, config().mode(0o644)).unwrap());
    drop(attacker);

    let mut reader = Peer::start(role!(peers::reader), &[name, "644"]);
    reader.expect("created");
    reader.kill();
    let attacker = Child::start(confine::NOBODY, locker(all, false));
    assert_eq!(clean_all(), [name]);
    drop(attacker);

    // A reader learns of its writer's death, and the next writer is told what stands in its way.
    let mut reader = Reader::create(name, config().mode(0o644)).unwrap();
    let mut writer = Peer::start(role!(peers::writer), &[name]);
    writer.expect("connected");
    let attacker = Child::start(confine::NOBODY, locker(write_role, true));
    assert_eq!(&*reader.read_frame(PATIENCE).unwrap().unwrap(), b"frame");
    writer.kill();
    assert_eq!(reader.read_frame(PATIENCE).unwrap_err().kind(), ErrorKind::WriterDead);
    let start = Instant::now();
    let error = loop {
        match Writer::connect(name) {
            Err(error) => break error,
            // Before the attacker.
            Ok(writer) => drop(writer),
        }
        assert!(start.elapsed() < PATIENCE);
    };
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains("lslocks"), "no way out told: {error}");
    drop(attacker);
    drop(Writer::connect(name).unwrap());
    drop(reader);
    say("seen through");
}
