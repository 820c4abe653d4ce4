//! A reader that takes over a kept buffer, and meets an obstacle.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Instant;

use zerobuffer::{ErrorKind, KeptBuffer, Reader, Writer, inspect};

use super::peers;
use super::stage::{Child, LOCK_DIR, VICTIM, config, paths, prepare, stage, stay, write_file};
use crate::support::{PATIENCE, Peer, confine, role, say};

crate::support::peers!(failed_adoption, held_lock);

#[test]
fn an_adoption_that_fails_leaves_the_buffer_kept() {
    stage(role!(failed_adoption));
}

fn failed_adoption(arguments: &[String]) {
    let name = prepare(arguments);
    fs::create_dir(LOCK_DIR).unwrap();
    fs::set_permissions(LOCK_DIR, fs::Permissions::from_mode(0o1777)).unwrap();
    let mut keeper = Peer::start_with(role!(peers::keeper), &[name], |_| {});
    keeper.expect("kept");
    // Too few descriptors, one more at each try.
    let mut failures = 0;
    for spare in 0..16 {
        let taken = take_descriptors(spare);
        let result = Reader::create(name, config());
        drop(taken);
        match result {
            Ok(mut reader) => {
                assert_eq!(&*reader.read_frame(PATIENCE).unwrap().unwrap(), b"kept frame");
                assert!(failures > 3, "only {failures} failures");
                break;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::System, "{spare}: {error}");
                assert!(error.to_string().contains("ulimit -n"), "no way out told: {error}");
                assert!(!error.to_string().contains("/proc"), "{error}");
                assert!(inspect::snapshot(name).unwrap().kept, "lost with {spare} descriptors");
                failures += 1;
            }
        }
    }
    keeper.kill();
    // Another user's file in the place of the keeper's lock.
    let buffer = format!("{name}-2");
    let lock = PathBuf::from(format!("{LOCK_DIR}/{buffer}.lock"));
    let mut keeper = Child::start(VICTIM, |ready| {
        let _kept = KeptBuffer::create(&buffer, config()).unwrap();
        Writer::connect(&buffer).unwrap().write_frame(b"kept frame").unwrap();
        ready();
        stay();
    });
    fs::remove_file(&lock).unwrap();
    Child::run(confine::NOBODY, || write_file(&lock, b"", 0o600));
    Child::run(VICTIM, || {
        let error = Reader::create(&buffer, config()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(inspect::snapshot(&buffer).unwrap().kept);
    });
    fs::remove_file(&lock).unwrap();
    Child::run(VICTIM, || {
        let mut reader = Reader::create(&buffer, config()).unwrap();
        assert_eq!(&*reader.read_frame(PATIENCE).unwrap().unwrap(), b"kept frame");
    });
    keeper.kill();
    say(format!("{failures} failures undone"));
}

/// Takes all descriptors that this process may have, but for `spare`; gives them back when dropped.
fn take_descriptors(spare: usize) -> Vec<File> {
    let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
    // SAFETY: `limit` is a valid struct that outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    let mut files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    files.truncate(files.len() - spare);
    files
}

#[test]
fn a_lock_file_that_another_process_holds_delays_an_adoption_for_a_moment_only() {
    stage(role!(held_lock));
}

fn held_lock(arguments: &[String]) {
    let name = prepare(arguments);
    let mut delayed = 0;
    for round in 0..12 {
        let name = &format!("{name}-{round}");
        let mut keeper = Peer::start(role!(peers::keeper), &[name]);
        keeper.expect("kept");
        let lock = paths(name)[3].clone();
        // Makes and holds the file of that name as soon as it is missing.
        let squatter = Child::start(0, |ready| {
            let id = fs::metadata(&lock).unwrap().ino();
            ready();
            let held = loop {
                let made = OpenOptions::new().write(true).create(true).truncate(false).open(&lock).unwrap();
                // SAFETY: plain system call on an open descriptor.
                let taken = unsafe { libc::flock(made.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
                if taken && made.metadata().unwrap().ino() != id {
                    break made;
                }
            };
            stay();
            drop(held);
        });
        let start = Instant::now();
        let reader = Reader::create(name, config());
        assert!(start.elapsed() < PATIENCE / 2, "took {:?}", start.elapsed());
        drop(squatter);
        let mut reader = match reader {
            // The adopter was faster.
            Ok(reader) => reader,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ReaderAlreadyConnected, "{error}");
                assert!(error.to_string().contains(".lock"), "{error}");
                assert!(inspect::snapshot(name).unwrap().kept, "the buffer is kept still");
                delayed += 1;
                Reader::create(name, config()).unwrap()
            }
        };
        assert_eq!(&*reader.read_frame(PATIENCE).unwrap().unwrap(), b"kept frame");
        keeper.kill();
        if delayed == 2 {
            break;
        }
    }
    say(format!("delayed {delayed} times"));
}
