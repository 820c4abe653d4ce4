//! Clean-up removes what is provably dead, and nothing else.

use super::support;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use super::support::{Name, Peer, Role, hear, role, say};
use zerobuffer::cleanup::{self, Leftover};
use zerobuffer::{BufferConfig, KeptBuffer, Reader, Writer};

/// Offsets of docs/PROTOCOL.md, for forged peers.
const WRITER_PID: u64 = 0x50;
const READER_PID: u64 = 0x58;
const READER_WORD: u64 = 0x68;

support::peers!(reader, writer, keeper);

fn small() -> BufferConfig {
    support::config().payload_size(1 << 16)
}

fn reader(arguments: &[String]) {
    let _reader = Reader::create(&arguments[0], small()).unwrap();
    say("ready");
    hear();
}

fn keeper(arguments: &[String]) {
    let _kept = KeptBuffer::create(&arguments[0], small()).unwrap();
    say("ready");
    hear();
}

fn writer(arguments: &[String]) {
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    writer.write_frame(&[1; 1000]).unwrap();
    say("ready");
    hear();
}

fn start(role: Role, name: &Name) -> Peer {
    let mut peer = Peer::start(role, &[name]);
    peer.expect("ready");
    peer
}

fn leave_dead(name: &Name) {
    start(role!(reader), name).kill();
    assert_eq!(name.leftovers().len(), 4, "a killed reader leaves its files");
}

fn find(name: &str) -> Option<Leftover> {
    cleanup::leftovers().unwrap().into_iter().find(|leftover| leftover.name() == name)
}

fn forge(name: &Name, offset: u64, value: u64) {
    let segment = fs::OpenOptions::new().write(true).open(&name.paths()[0]).unwrap();
    segment.write_all_at(&value.to_le_bytes(), offset).unwrap();
}

/// Holds the name's lock as a live reader does, until the file is dropped. Waits for the other tests, which look at it.
fn hold_lock(name: &Name) -> fs::File {
    let file = fs::File::open(&name.paths()[3]).unwrap();
    // SAFETY: plain system call on an open descriptor.
    let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
    assert_eq!(result, 0, "the lock is free");
    file
}

/// Semaphores are taken for those of a 1.x reader at work until they have some age.
fn age(name: &Name) {
    for path in &name.paths()[1..3] {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    }
}

#[test]
fn what_a_killed_reader_left_is_found_and_removed() {
    let name = Name::new("clean-dead");
    leave_dead(&name);
    let leftover = find(&name).unwrap();
    assert_eq!((leftover.obstacle(), leftover.cause()), (None, "its reader is gone"));
    let mut files = leftover.files().to_vec();
    files.sort();
    let mut expected = name.paths().to_vec();
    expected.sort();
    assert_eq!(files, expected);
    assert!(leftover.bytes() >= 4096);
    assert!(leftover.remove().unwrap());
    name.assert_nothing_left();
    assert!(!leftover.remove().unwrap(), "there is nothing left to remove");
    name.assert_nothing_left();
}

#[test]
fn what_two_killed_peers_left_is_removed() {
    let name = Name::new("clean-both");
    let mut reader = start(role!(reader), &name);
    let mut writer = start(role!(writer), &name);
    writer.kill();
    assert_eq!(find(&name), None, "the reader lives");
    reader.kill();
    assert!(find(&name).unwrap().remove().unwrap());
    name.assert_nothing_left();
}

#[test]
fn a_live_buffer_is_never_a_leftover() {
    let name = Name::new("clean-live");
    let mut peer = start(role!(reader), &name);
    assert_eq!(find(&name), None);
    // Nor is that of a stopped reader.
    peer.signal(libc::SIGSTOP);
    assert_eq!(find(&name), None);
    peer.signal(libc::SIGCONT);
    assert_eq!(name.leftovers().len(), 4);
    peer.wait();
    name.assert_nothing_left();

    let mut keeper = start(role!(keeper), &name);
    assert_eq!(find(&name), None, "a buffer that is kept");
    keeper.kill();
    assert!(find(&name).unwrap().remove().unwrap());
    name.assert_nothing_left();
}

#[test]
fn what_a_live_writer_uses_stays_until_it_closes() {
    let name = Name::new("clean-writer");
    let mut reader = start(role!(reader), &name);
    let mut writer = start(role!(writer), &name);
    reader.kill();
    let leftover = find(&name).unwrap();
    let why = leftover.obstacle().expect("the writer lives");
    assert!(why.contains(&writer.pid().to_string()), "{why}");
    assert!(!leftover.remove().unwrap());
    assert_eq!(name.leftovers().len(), 4);
    writer.wait();
    name.assert_nothing_left();
}

#[test]
fn what_live_1_x_peers_use_stays() {
    let name = Name::new("clean-1x");
    leave_dead(&name);
    // As a 1.x writer leaves it: a pid, and no native word.
    forge(&name, WRITER_PID, std::process::id().into());
    let leftover = find(&name).unwrap();
    assert!(leftover.obstacle().is_some_and(|why| why.contains("its writer lives")), "{leftover:?}");
    assert!(!leftover.remove().unwrap());
    forge(&name, WRITER_PID, 0);
    // As a 1.x C# reader leaves it: a live pid, no lock that we know.
    forge(&name, READER_WORD, 0);
    forge(&name, READER_PID, std::process::id().into());
    assert_eq!(find(&name), None);
    assert!(!leftover.remove().unwrap(), "judged again before it is removed");
    assert_eq!(name.leftovers().len(), 4);
}

#[test]
fn a_reader_that_comes_back_loses_nothing_to_an_old_judgement() {
    let name = Name::new("clean-race");
    leave_dead(&name);
    let leftover = find(&name).unwrap();
    let mut reader = Reader::create(&name, small()).unwrap();
    assert!(!leftover.remove().unwrap());
    Writer::connect(&name).unwrap().write_frame(b"still here").unwrap();
    assert_eq!(&*reader.read_frame(support::PATIENCE).unwrap().unwrap(), b"still here");
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn orphaned_semaphores_go_when_no_reader_can_be_at_work() {
    let name = Name::new("clean-sem");
    leave_dead(&name);
    fs::remove_file(&name.paths()[0]).unwrap();
    let leftover = find(&name).unwrap();
    assert_eq!(leftover.cause(), "semaphores without a buffer");
    assert!(leftover.obstacle().is_some_and(|why| why.contains("1.x reader")), "{leftover:?}");
    assert!(!leftover.remove().unwrap());
    age(&name);
    assert!(find(&name).unwrap().remove().unwrap());
    name.assert_nothing_left();
}

#[test]
fn orphaned_lock_files_go_unless_somebody_holds_them() {
    let name = Name::new("clean-lock");
    leave_dead(&name);
    for path in &name.paths()[..3] {
        fs::remove_file(path).unwrap();
    }
    let lock = hold_lock(&name);
    assert_eq!(find(&name), None, "a reader is creating, or somebody cleans");
    drop(lock);
    let leftover = find(&name).unwrap();
    assert_eq!(leftover.cause(), "a lock file that no process holds");
    assert!(leftover.remove().unwrap());
    name.assert_nothing_left();
}

#[test]
fn a_held_lock_keeps_everything() {
    let name = Name::new("clean-held");
    leave_dead(&name);
    let _lock = hold_lock(&name);
    let leftover = find(&name).unwrap();
    assert!(leftover.obstacle().is_some_and(|why| why.contains("lock file")), "{leftover:?}");
    assert!(!leftover.remove().unwrap());
    assert_eq!(name.leftovers().len(), 4);
}

#[test]
fn foreign_files_are_neither_shown_nor_touched() {
    let name = Name::new("clean-foreign");
    let [segment, sem_w, _, lock] = name.paths();
    fs::write(&segment, vec![b'x'; 5000]).unwrap();
    assert_eq!(find(&name), None, "somebody else's shared memory");
    // A semaphore has 32 bytes; this is none.
    fs::write(&sem_w, b"notes").unwrap();
    let other = Name::new("clean-foreign-dir");
    fs::create_dir(&other.paths()[3]).unwrap();
    let link = Name::new("clean-foreign-link");
    std::os::unix::fs::symlink("/etc/passwd", &link.paths()[0]).unwrap();
    let before = fs::read(&segment).unwrap();
    for leftover in cleanup::leftovers().unwrap() {
        assert!(![&*other, &*link].contains(&leftover.name()), "{leftover:?}");
        assert!(!leftover.files().contains(&sem_w), "{leftover:?}");
    }
    fs::remove_dir(&other.paths()[3]).unwrap();
    fs::remove_file(&sem_w).unwrap();
    // Beside a foreign segment an orphaned lock file goes, the segment stays.
    fs::write(&lock, b"").unwrap();
    assert!(find(&name).unwrap().remove().unwrap());
    assert_eq!(name.leftovers(), std::slice::from_ref(&segment));
    assert_eq!(fs::read(&segment).unwrap(), before);
}

#[test]
fn corrupt_buffers_of_the_dead_are_removed() {
    for (what, size) in [("zeros", 4096), ("garbage", 4096), ("short", 7), ("empty", 0)] {
        let name = Name::new(&format!("clean-corrupt-{what}"));
        leave_dead(&name);
        let byte = if what == "garbage" { 0xe7 } else { 0 };
        fs::write(&name.paths()[0], vec![byte; size]).unwrap();
        match find(&name) {
            Some(leftover) => {
                assert_eq!(leftover.obstacle(), None, "{what}");
                assert!(leftover.remove().unwrap());
                name.assert_nothing_left();
            }
            // Without a pid it could be a 1.x reader's buffer that is just being made; time tells.
            None => assert_ne!(what, "garbage"),
        }
    }
}

/// 1.x C# readers keep their lock files in a folder of their own.
#[test]
fn lock_files_of_1_x_c_sharp_readers_go_with_the_rest() {
    let folder = std::path::Path::new("/tmp/zerobuffer/locks");
    fs::create_dir_all(folder).unwrap();
    let name = Name::new("clean-c-sharp");
    let old = folder.join(format!("{}.lock", &*name));
    let hold = || {
        let file = fs::File::create(&old).unwrap();
        // SAFETY: plain system call on an open descriptor.
        assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }, 0);
        file
    };
    leave_dead(&name);
    let lock = hold();
    let leftover = find(&name).unwrap();
    assert!(leftover.obstacle().is_some_and(|why| why.contains("lock file")), "{leftover:?}");
    assert!(!leftover.remove().unwrap() && old.exists());
    drop(lock);
    let leftover = find(&name).unwrap();
    assert!(leftover.files().contains(&old), "{leftover:?}");
    assert!(leftover.remove().unwrap());
    assert!(!old.exists());
    name.assert_nothing_left();
    // Alone, and at the next creation.
    drop(hold());
    assert!(find(&name).unwrap().remove().unwrap());
    assert!(!old.exists());
    leave_dead(&name);
    drop(hold());
    drop(Reader::create(&name, small()).unwrap());
    assert!(!old.exists());
    name.assert_nothing_left();
    let _ = fs::remove_dir(folder);
}

/// A close takes some microseconds, in which the reader's word says that it has gone and its role is still held.
#[test]
fn a_reader_that_is_just_closing_is_waited_for() {
    let name = Name::new("closing");
    for _ in 0..20 {
        let reader = Reader::create(&name, small()).unwrap();
        forge(&name, READER_PID, 0);
        let (go, gone) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                gone.recv().unwrap();
                reader.close().unwrap();
            });
            go.send(()).unwrap();
            drop(Reader::create(&name, small()).unwrap());
        });
    }
    name.assert_nothing_left();
}

#[test]
fn a_file_that_holds_nothing_yet_is_waited_for_and_named() {
    let name = Name::new("blank");
    let path = &name.paths()[0];
    fs::write(path, [0; 4096]).unwrap();
    let error = Reader::create(&name, small()).unwrap_err();
    assert_eq!(error.kind(), zerobuffer::ErrorKind::ReaderAlreadyConnected, "{error}");
    assert!(error.to_string().contains(&*path.to_string_lossy()), "no way out told: {error}");
    assert!(!error.to_string().contains("close it first"), "{error}");
    assert_eq!(fs::read(path).unwrap(), [0; 4096]);
    // A 1.x reader that comes to an end meanwhile makes room.
    std::thread::scope(|scope| {
        let start = std::time::Instant::now();
        let reader = scope.spawn(|| Reader::create(&name, small()).unwrap());
        while name.paths()[3].symlink_metadata().is_err() {
            assert!(start.elapsed() < support::PATIENCE);
            std::thread::yield_now();
        }
        fs::remove_file(path).unwrap();
        drop(reader.join().unwrap());
    });
    name.assert_nothing_left();
}
