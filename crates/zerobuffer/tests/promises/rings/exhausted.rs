//! Descriptors, inotify instances and places for FIFOs that are used up: each step of opening fails with a typed error and leaves
//! nothing behind, or has another way.

use super::support;

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::support::{Name, PATIENCE, Peer, confine, hear, poll, role, say};
use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
use zerobuffer::{BufferConfig, ErrorKind, Reader, Result, WaitSet, WaitStrategy, Writer};

support::peers!(
    opener,
    reader_without_instances,
    writer,
    owner_in_a_full_folder,
    owner_in_a_read_only_folder
);

/// What does not come within this time is lost.
const LOST: Duration = Duration::from_secs(10);

fn small() -> BufferConfig {
    support::config().payload_size(4096).wait_strategy(WaitStrategy::Block)
}

/// Files that this process has open.
fn open_files() -> usize {
    // One of them is that of the listing itself.
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Takes all descriptors of this process but `free`.
fn take_descriptors(free: usize) -> Vec<std::fs::File> {
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    assert!(taken.len() >= free);
    taken.truncate(taken.len() - free);
    taken
}

/// Opens one of everything, waits with it, and closes it. Returns the steps that were done, and the error that ended them.
fn open_everything(name: &str) -> (Vec<&'static str>, Result<()>) {
    let mut done = Vec::new();
    let mut steps = || -> Result<()> {
        let mut reader = Reader::create(name, small())?;
        done.push("reader");
        let mut writer = Writer::connect(name)?;
        done.push("writer");
        reader.descriptor()?;
        done.push("descriptor of the reader");
        writer.descriptor()?;
        done.push("descriptor of the writer");
        let mut set = WaitSet::new()?;
        done.push("wait set");
        set.add_reader(&reader, 1)?;
        set.add_writer(&writer, 2)?;
        done.push("its handles");
        reader.notify(|| ())?;
        done.push("notification");
        let server = DuplexChannelFactory::new().create_immutable_server(name, small())?;
        done.push("server");
        server.start(|request| Ok(request.to_vec().into()), ProcessingMode::ThreadPool)?;
        done.push("its start");
        let client = DuplexChannelFactory::new().create_client(name)?;
        done.push("client");
        assert_eq!(&*client.call(b"call", LOST)?, b"call");
        done.push("call");
        client.descriptor()?;
        done.push("descriptor of the client");
        set.add_client(&client, 3)?;
        done.push("its place in the wait set");
        writer.write_frame(b"frame")?;
        assert!(reader.read_frame(LOST)?.is_some());
        assert!(reader.read_frame(Duration::from_millis(2))?.is_none(), "a wait, which is watched");
        done.push("wait");
        Ok(())
    };
    let result = steps();
    (done, result)
}

/// Files that this process has open, and threads that it has.
fn files_and_threads() -> String {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    format!("{} files, {threads} threads", open_files())
}

/// Opens everything with so many descriptors left, and then with enough of them, in a /dev/shm of its own. Arguments: name, mount
/// namespace, descriptors left, what is open at the end (nothing: tell).
fn opener(arguments: &[String]) {
    let [name, outer, free, open] = arguments else {
        panic!("name, mount namespace, descriptors left, open")
    };
    confine::mount_tmpfs("/dev/shm", "size=64m", outer);
    confine::limit(libc::RLIMIT_NOFILE, 300);
    let taken = take_descriptors(free.parse().unwrap());
    let (done, result) = open_everything(name);
    drop(taken);
    if let Err(error) = &result {
        assert_eq!(error.kind(), ErrorKind::System, "after {done:?}: {error}");
        assert!(error.to_string().contains("ulimit -n"), "no way out told after {done:?}: {error}");
    }
    let left = std::fs::read_dir("/dev/shm").unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), [""; 0], "left behind after {done:?}");
    let (again, whole) = open_everything(name);
    assert!(whole.is_ok(), "with descriptors, after {again:?}: {whole:?}");
    // What ends with its last handle may do so a moment later.
    let start = Instant::now();
    while !open.is_empty() && files_and_threads() != *open && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
    if open.is_empty() {
        std::thread::sleep(Duration::from_millis(500));
    }
    say(format!("{} {} {}", done.len(), u8::from(result.is_ok()), files_and_threads()));
}

#[test]
fn each_step_of_opening_with_any_number_of_descriptors_left_succeeds_or_says_so_and_leaves_nothing() {
    confine::need_root("a /dev/shm of one's own");
    let open = |free: usize, open: &str| -> (usize, bool, String) {
        let name = Name::new("exhausted");
        let arguments = [&*name, &confine::mount_namespace(), &free.to_string(), open];
        let wrapper = confine::unshare(&["--mount"]);
        let mut peer = Peer::start_through(&wrapper, role!(opener), &arguments, |_| {});
        let said = peer.hear();
        assert!(peer.wait().success(), "{free} descriptors left");
        for name in [&name, &name.suffixed("_request"), &name.suffixed("_response")] {
            name.assert_nothing_left();
        }
        let mut words = said.splitn(3, ' ');
        let mut next = || words.next().unwrap();
        (next().parse().unwrap(), next() == "1", next().to_owned())
    };
    let (steps, complete, all) = open(200, "");
    assert!(complete);
    let mut reached = Vec::new();
    for free in 0.. {
        assert!(free < 100, "{reached:?}");
        let (done, complete, left) = open(free, &all);
        assert_eq!(left, all, "left open with {free} descriptors, after {done} steps");
        reached.push(done);
        if complete {
            break;
        }
    }
    eprintln!("steps done of {steps}, by the descriptors left: {reached:?}");
    assert!(reached[0] == 0 && reached.len() > 10, "{reached:?}");
}

// ---- inotify instances ----

/// The next frame, waiting by the descriptor.
fn next_by_descriptor(reader: &mut Reader) -> Result<Vec<u8>> {
    loop {
        if let Some(frame) = reader.try_read_frame()? {
            return Ok(frame.to_vec());
        }
        assert!(poll(reader.descriptor()?, LOST), "the descriptor is not made ready");
    }
}

/// As a user who has no inotify instance left, waits for frames and for a death, by a descriptor and by a call.
fn reader_without_instances(arguments: &[String]) {
    confine::become_nobody();
    let mut taken = 0;
    // SAFETY: the call takes no pointers.
    while unsafe { libc::inotify_init1(libc::IN_CLOEXEC) } >= 0 {
        taken += 1;
    }
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EMFILE));
    // Those of the user, rather than all descriptors of the process.
    assert!(std::fs::File::open("/dev/null").is_ok());
    say(taken);
    for by_descriptor in [false, true] {
        let mut reader = Reader::create(&arguments[0], small().mode(0o666)).unwrap();
        say("created");
        hear();
        let next = |reader: &mut Reader| match by_descriptor {
            true => next_by_descriptor(reader),
            false => reader.read_frame(LOST).map(|frame| frame.expect("a frame is lost").to_vec()),
        };
        for _ in 0..3 {
            say("write");
            assert_eq!(next(&mut reader).unwrap(), b"frame");
        }
        say("die");
        assert_eq!(next(&mut reader).unwrap_err().kind(), ErrorKind::WriterDead);
        say("told");
        drop(reader);
    }
    say("end");
}

/// Writes a frame at each line. Ends as one that is killed.
fn writer(arguments: &[String]) {
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    say("connected");
    while hear().is_some_and(|order| order == "write") {
        writer.write_frame(b"frame").unwrap();
    }
    std::process::abort();
}

#[test]
fn a_user_without_inotify_instances_is_woken_and_told_of_deaths() {
    confine::need_root("another user");
    let name = Name::new("no-instance");
    let mut reader = Peer::start(role!(reader_without_instances), &[&name]);
    let taken: usize = reader.hear().parse().unwrap();
    eprintln!("{taken} instances were left");
    assert!(taken > 0);
    let mut writer = None;
    loop {
        match reader.hear_within(LOST * 2).expect("the reader hangs").as_str() {
            "created" => {
                let started = Peer::start(role!(writer), &[&name]);
                let connected: &mut Peer = writer.insert(started);
                connected.expect("connected");
                reader.tell("go");
            }
            "write" => writer.as_mut().unwrap().tell("write"),
            "die" => _ = writer.take().unwrap().kill(),
            "told" => {}
            "end" => break,
            other => panic!("{other}"),
        }
    }
    assert!(reader.wait().success());
}

// ---- folders that take no FIFO ----

/// Whether the descriptor is the end of a FIFO with a name.
fn has_fifo(fd: BorrowedFd<'_>) -> bool {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().starts_with("/dev/shm")
}

/// Ends of pipes that this process has open.
fn pipes() -> usize {
    let files = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|file| std::fs::read_link(file).is_ok_and(|link| link.to_string_lossy().starts_with("pipe:")))
        .count()
}

/// Waits for frames and for space by descriptors that have no FIFO, and leaves none of their pipes.
fn wait_without_fifos(mut reader: Reader, mut writer: Writer) {
    let before = pipes();
    assert!(!has_fifo(reader.descriptor().unwrap()) && !has_fifo(writer.descriptor().unwrap()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..200_u32 {
                let frame = number.to_le_bytes().repeat(300);
                while writer.try_write_frame(&frame).unwrap().is_none() {
                    assert!(poll(writer.descriptor().unwrap(), LOST), "space is lost");
                }
            }
        });
        for number in 0..200_u32 {
            assert_eq!(next_by_descriptor(&mut reader).unwrap()[..4], number.to_le_bytes());
            if number % 10 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    drop(writer);
    assert_eq!(next_by_descriptor(&mut reader).unwrap_err().kind(), ErrorKind::WriterClosed);
    drop(reader);
    let start = Instant::now();
    while pipes() != before && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(pipes(), before, "ends of pipes are left open");
}

/// Where as many files may be made as a buffer has, and no more.
fn owner_in_a_full_folder(arguments: &[String]) {
    let [name, outer] = arguments else { panic!("name, mount namespace") };
    confine::mount_tmpfs("/dev/shm", "nr_inodes=40", outer);
    let mut reader = Reader::create(name, small()).unwrap();
    let mut writer = Writer::connect(name).unwrap();
    // An extended ring has room for the names of FIFOs.
    writer.write_frame(b"first").unwrap();
    assert!(reader.read_frame(LOST).unwrap().is_some());
    let mut others = 0;
    while std::fs::write(format!("/dev/shm/other-{others}"), []).is_ok() {
        others += 1;
    }
    wait_without_fifos(reader, writer);
    let left = std::fs::read_dir("/dev/shm").unwrap().count();
    assert_eq!(left, others, "left behind");
    say("done");
}

fn owner_in_a_read_only_folder(arguments: &[String]) {
    let [name, outer] = arguments else { panic!("name, mount namespace") };
    confine::mount_tmpfs("/dev/shm", "size=1m", outer);
    let reader = Reader::create(name, small()).unwrap();
    let writer = Writer::connect(name).unwrap();
    confine::make_read_only(c"/dev/shm", outer);
    assert!(std::fs::write("/dev/shm/other", []).is_err());
    wait_without_fifos(reader, writer);
    say("done");
}

#[test]
fn descriptors_work_where_no_fifo_can_be_made() {
    confine::need_root("a /dev/shm of one's own");
    for role in [role!(owner_in_a_full_folder), role!(owner_in_a_read_only_folder)] {
        let name = Name::new("no-place");
        let arguments = [&*name, &confine::mount_namespace()];
        let mut peer = Peer::start_through(&confine::unshare(&["--mount"]), role, &arguments, |_| {});
        assert_eq!(peer.hear(), "done", "{}", role.name());
        assert!(peer.wait().success());
    }
}
