//! Deaths at each step of a descriptor: of its owner, and of the side that makes it ready.

use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zerobuffer::{BufferConfig, ErrorKind, Reader, Writer, cleanup};

use crate::support::{Name, PATIENCE, Peer, Role, hear, role, say};
use crate::victim::HALT;

crate::support::peers!(owner, publisher, connector, reader, cleaner);

fn config() -> BufferConfig {
    BufferConfig::default().payload_size(4096)
}

/// The FIFO of a descriptor.
fn fifo(descriptor: i32) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{descriptor}")).unwrap()
}

/// A writer that has its descriptor polled.
fn owner(arguments: &[String]) {
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    say(fifo(writer.descriptor().unwrap().as_raw_fd()).display());
    writer.write_frame(b"frame").unwrap();
    hear();
}

/// A writer that makes a reader's descriptor ready.
fn publisher(arguments: &[String]) {
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    say("connected");
    hear();
    writer.write_frame(b"frame").unwrap();
}

fn connector(arguments: &[String]) {
    drop(Writer::connect(&arguments[0]).unwrap());
}

/// A reader with a descriptor.
fn reader(arguments: &[String]) {
    let reader = Reader::create(&arguments[0], config()).unwrap();
    say(fifo(reader.descriptor().unwrap().as_raw_fd()).display());
    hear();
}

/// Removes what is left under one name.
fn cleaner(arguments: &[String]) {
    let left = cleanup::leftovers().unwrap();
    let mine = left.iter().find(|left| left.name() == arguments[0]).expect("leftovers");
    assert!(mine.remove().unwrap());
}

fn start_to_be_killed(role: Role, arguments: &[&str], point: &str) -> Peer {
    Peer::start_with(role, arguments, |command| {
        command.env("ZEROBUFFER_STOP", format!("kill:1:{point}"));
    })
}

#[track_caller]
fn assert_killed(mut peer: Peer, point: &str) {
    assert_eq!(peer.wait().signal(), Some(libc::SIGKILL), "{point} was not passed");
}

/// Waits until the descriptor is ready.
#[track_caller]
fn await_ready(reader: &Reader, what: &str) {
    let fd = reader.descriptor().unwrap().as_raw_fd();
    let mut event = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid `pollfd`.
    let ready = unsafe { libc::poll(&raw mut event, 1, 10_000) };
    assert_eq!(ready, 1, "{what}: the descriptor is not ready");
}

/// Reads one frame, or an end, waiting by the descriptor.
fn next(reader: &mut Reader, what: &str) -> Result<Vec<u8>, ErrorKind> {
    loop {
        match reader.try_read_frame() {
            Ok(Some(frame)) => return Ok(frame.to_vec()),
            Ok(None) => await_ready(reader, what),
            Err(error) => return Err(error.kind()),
        }
    }
}

/// Removes the FIFO of a process that is gone, as `zerobuffer clean` does.
fn clean(path: &Path) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let start = Instant::now();
    loop {
        let left = cleanup::leftovers().unwrap();
        let mine = left.iter().find(|left| left.name() == name).expect("it is found");
        if mine.obstacle().is_none() {
            assert!(mine.remove().unwrap() && !path.exists());
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{:?}", mine.obstacle());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_frame_whose_writer_dies_before_it_rings_makes_the_descriptor_ready() {
    // A connection rings, too.
    for (nth, point) in [(1, "extended:ring-reader"), (2, "descriptor:ring")] {
        for with_successor in [false, true] {
            let name = Name::new("fd-publisher");
            let mut reader = Reader::create(&name, config()).unwrap();
            // Makes the ring extended, so that the victim's frame is the first ring.
            drop(Writer::connect(&name).unwrap());
            assert!(reader.descriptor().is_ok());
            let mut victim = Peer::start_with(role!(publisher), &[&name], |command| {
                command.env("ZEROBUFFER_STOP", format!("kill:{nth}:{point}"));
            });
            victim.expect("connected");
            while reader.try_read_frame().is_ok_and(|frame| frame.is_some()) {}
            assert!(reader.try_read_frame().unwrap().is_none(), "it is armed");
            victim.tell("write");
            assert_killed(victim, point);
            let successor = with_successor.then(|| Writer::connect(&name).unwrap());
            assert_eq!(next(&mut reader, point), Ok(b"frame".to_vec()), "{point}");
            if let Some(mut successor) = successor {
                // The death is told before the next frame.
                successor.write_frame(b"next").unwrap();
            }
            assert_eq!(next(&mut reader, point), Err(ErrorKind::WriterDead), "{point}");
        }
    }
    let name = Name::new("fd-publisher");
    let mut reader = Reader::create(&name, config()).unwrap();
    assert!(reader.descriptor().is_ok() && reader.try_read_frame().unwrap().is_none());
    assert_killed(start_to_be_killed(role!(publisher), &[&name], "descriptor:open"), "descriptor:open");
    assert_eq!(next(&mut reader, "descriptor:open"), Err(ErrorKind::WriterDead));
}

/// Kills an owner at a point at which it makes its descriptor. Returns the FIFO that it leaves.
fn die_while_it_makes_its_fifo(name: &str, point: &str) -> Option<PathBuf> {
    let mut victim = Peer::start_with(role!(owner), &[name], |command| {
        command.env("ZEROBUFFER_STOP", format!("halt:1:{point}"));
    });
    let start = Instant::now();
    while !victim.is_stopped() {
        assert!(start.elapsed() < PATIENCE, "{point} was not passed");
        std::thread::yield_now();
    }
    let files = std::fs::read_dir(format!("/proc/{}/fd", victim.pid())).unwrap();
    let links = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
    let path = links.into_iter().find(|link| link.starts_with("/dev/shm/") && is_fifo(link));
    assert_eq!(path.is_some(), point != "descriptor:create", "{point}");
    victim.kill();
    path
}

fn is_fifo(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|info| info.file_type().is_fifo())
}

#[test]
fn an_owner_that_dies_at_any_step_leaves_at_most_a_fifo_that_is_cleaned_up() {
    let points = [
        "descriptor:create",
        "descriptor:inode",
        "descriptor:number",
        "descriptor:forget",
        "descriptor:unlink",
    ];
    for point in points {
        let name = Name::new("fd-owner");
        let mut reader = Reader::create(&name, config()).unwrap();
        let path = match point {
            "descriptor:forget" | "descriptor:unlink" => {
                let mut victim = start_to_be_killed(role!(owner), &[&name], point);
                let path = victim.hear();
                assert!(reader.read_frame(PATIENCE).unwrap().is_some());
                victim.tell("close");
                assert_killed(victim, point);
                Some(PathBuf::from(path))
            }
            _ => die_while_it_makes_its_fifo(&name, point),
        };
        // The next owner of the role is not disturbed.
        let mut next = Peer::start(role!(owner), &[&name]);
        let other = PathBuf::from(next.hear());
        next.tell("close");
        assert!(next.wait().success() && !other.exists());
        if let Some(path) = path {
            match point {
                // No word names it: its number was not stored yet, or was forgotten before the FIFO could be removed.
                "descriptor:inode" | "descriptor:number" | "descriptor:unlink" => clean(&path),
                _ => assert!(!path.exists(), "{point}"),
            }
        }
        drop(reader);
        name.assert_nothing_left();
    }
}

#[test]
fn a_dead_owners_fifo_is_removed_wherever_the_process_that_removes_it_dies() {
    let name = Name::new("fd-orphan");
    let survivor = Reader::create(&name, config()).unwrap();
    let mut dead = Peer::start(role!(owner), &[&name]);
    let path = PathBuf::from(dead.hear());
    dead.kill();
    assert_killed(
        start_to_be_killed(role!(connector), &[&name], "descriptor:remove-orphan"),
        "remove-orphan",
    );
    assert!(path.exists());
    drop(Writer::connect(&name).unwrap());
    assert!(!path.exists());
    drop(survivor);

    // A reader's FIFO goes with the files of its buffer.
    for point in ["clean:unlink-fifo", "clean:unlink-shm"] {
        let name = Name::new("fd-cleaner");
        let mut dead = Peer::start(role!(reader), &[&name]);
        let path = PathBuf::from(dead.hear());
        dead.kill();
        let left = cleanup::leftovers().unwrap();
        let mine = left.iter().find(|left| left.name() == &*name).expect("leftovers");
        assert!(mine.files().contains(&path), "{:?}", mine.files());
        assert_killed(start_to_be_killed(role!(cleaner), &[&name], point), point);
        assert_eq!(path.exists(), point == "clean:unlink-fifo");
        let mut cleaner = Peer::start(role!(cleaner), &[&name]);
        assert!(cleaner.wait().success() && !path.exists());
        name.assert_nothing_left();
    }

    // One that no buffer names goes by itself.
    let name = Name::new("fd-alone");
    let survivor = Reader::create(&name, config()).unwrap();
    let mut victim = start_to_be_killed(role!(owner), &[&name], "descriptor:unlink");
    let path = PathBuf::from(victim.hear());
    victim.tell("close");
    assert_killed(victim, "descriptor:unlink");
    std::thread::sleep(Duration::from_millis(1100));
    let file = path.file_name().unwrap().to_str().unwrap();
    assert_killed(start_to_be_killed(role!(cleaner), &[file], "clean:fifo"), "clean:fifo");
    clean(&path);
    drop(survivor);
}

/// Waits until a peer has come to its halt, and lets it stand still for a while.
fn await_halt(victim: &Peer, point: &str) {
    let start = Instant::now();
    while !victim.is_stopped() {
        assert!(start.elapsed() < PATIENCE, "{point} was not passed");
        std::thread::yield_now();
    }
    std::thread::sleep(HALT);
}

fn start_to_be_halted(role: Role, name: &str, nth: u32, point: &str) -> Peer {
    Peer::start_with(role, &[name], |command| {
        command.env("ZEROBUFFER_STOP", format!("halt:{nth}:{point}"));
    })
}

#[test]
fn a_writer_halted_at_any_step_of_a_ring_delays_its_frame_and_loses_nothing() {
    let points = [
        (1, "extended:ring-reader"),
        (1, "bell:wake"),
        (2, "descriptor:ring"),
        (1, "bell:clear"),
        (1, "bell:rouse"),
        (1, "bell:rouse-futex"),
        (1, "descriptor:open"),
    ];
    for (nth, point) in points {
        let name = Name::new("fd-halted");
        let mut reader = Reader::create(&name, config()).unwrap();
        drop(Writer::connect(&name).unwrap());
        assert!(reader.descriptor().is_ok());
        let mut victim = start_to_be_halted(role!(publisher), &name, nth, point);
        let connects = nth == 1 && !matches!(point, "extended:ring-reader" | "bell:wake");
        if !connects {
            victim.expect("connected");
        }
        while reader.try_read_frame().is_ok_and(|frame| frame.is_some()) {}
        assert!(reader.try_read_frame().unwrap().is_none(), "it is armed");
        if !connects {
            victim.tell("write");
        }
        await_halt(&victim, point);
        victim.signal(libc::SIGCONT);
        if connects {
            victim.expect("connected");
            victim.tell("write");
        }
        assert_eq!(next(&mut reader, point), Ok(b"frame".to_vec()), "{point}");
        assert_eq!(next(&mut reader, point), Err(ErrorKind::WriterClosed), "{point}");
        assert!(victim.wait().success());
    }
}

#[test]
fn an_owner_halted_at_any_step_of_its_descriptor_goes_on_and_leaves_nothing() {
    for point in ["create", "inode", "number", "forget", "unlink"] {
        let point = format!("descriptor:{point}");
        let name = Name::new("fd-halted-owner");
        let mut reader = Reader::create(&name, config()).unwrap();
        let mut victim = start_to_be_halted(role!(owner), &name, 1, &point);
        let ends = matches!(point.as_str(), "descriptor:forget" | "descriptor:unlink");
        if !ends {
            await_halt(&victim, &point);
            victim.signal(libc::SIGCONT);
        }
        let path = PathBuf::from(victim.hear());
        assert!(reader.read_frame(PATIENCE).unwrap().is_some(), "{point}");
        victim.tell("close");
        if ends {
            await_halt(&victim, &point);
            victim.signal(libc::SIGCONT);
        }
        assert!(victim.wait().success() && !path.exists(), "{point}");
        assert_eq!(reader.read_frame(PATIENCE).unwrap_err().kind(), ErrorKind::WriterClosed);
        drop(reader);
        name.assert_nothing_left();
    }
}
