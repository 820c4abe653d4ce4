//! Too little memory, file size or descriptors (spec failure 10): clear errors, no SIGBUS, no SIGXFSZ,
//! nothing left. Also the cost of a buffer where there is enough.

use super::support;
use super::support::ledger::Stopwatch;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::support::forge::{Forge, at};
use super::support::{Name, Peer, Role, confine, fill, is_filled, role, say};
use zerobuffer::{BufferConfig, ErrorKind, Frame, Reader, Result, Writer, inspect};

pub(super) const KIB: usize = 1 << 10;
pub(super) const MIB: usize = 1 << 20;

support::peers!(
    creator,
    preallocator,
    ballast,
    streamer,
    giant,
    forged,
    file_size,
    sized_writer,
    descriptors,
    cost
);

pub(super) fn kind<T>(result: Result<T>) -> String {
    result.map_or_else(|error| error.kind().to_string(), |_| "ok".to_owned())
}

pub(super) fn config(payload: usize) -> BufferConfig {
    support::config().payload_size(payload).metadata_size(1024)
}

/// The files in this peer's own `/dev/shm`.
fn shm_files() -> Vec<String> {
    let entries = fs::read_dir("/dev/shm").unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Plays `role` in a mount namespace of its own; the role mounts a small `/dev/shm` there.
pub(super) fn in_small_shm(role: Role, options: &str) {
    let name = Name::new(role.name());
    let arguments = [&*name, &confine::mount_namespace(), options];
    let mut peer = Peer::start_through(&confine::unshare(&["--mount"]), role, &arguments, |_| {});
    let said = peer.hear();
    assert!(peer.wait().success(), "{} in {options}: {said}", role.name());
    eprintln!("{} in a /dev/shm of {options}: {said}", role.name());
    name.assert_nothing_left();
}

/// Mounts the small `/dev/shm` that `in_small_shm` promised; gives the buffer's name.
pub(super) fn small_shm(arguments: &[String]) -> &str {
    let [name, outer, options] = arguments else { panic!("name, mount namespace, options") };
    confine::mount_tmpfs("/dev/shm", options, outer);
    name
}

fn creator(arguments: &[String]) {
    let name = small_shm(arguments);
    let result = kind(Reader::create(name, config(MIB)).and_then(|mut reader| {
        // What can be created can be used, as far as the memory reaches.
        let mut writer = Writer::connect(name)?;
        writer.set_metadata(&[1; 1000])?;
        let result = writer.write_frame(&[2; 100]);
        assert!(result.is_ok() || result.unwrap_err().kind() == ErrorKind::OutOfMemory);
        let _ = reader.try_read_frame()?;
        reader.metadata()
    }));
    assert_eq!(shm_files(), [""; 0], "left behind after {result}");
    say(result);
}

#[test]
fn failure_10_creation_in_a_full_shm_fails_clearly_and_leaves_nothing() {
    confine::need_root("a /dev/shm of one's own");
    let mut outcomes = Vec::new();
    for options in [
        // Memory for less and less of segment, first and second semaphore.
        "size=4k",
        "size=8k",
        "size=12k",
        "size=16k",
        "size=64k",
        // Files for less and less of them; the directory is one.
        "nr_inodes=1",
        "nr_inodes=2",
        "nr_inodes=3",
        "nr_inodes=4",
        "nr_inodes=5",
    ] {
        let name = Name::new("creator");
        let arguments = [&*name, &confine::mount_namespace(), options];
        let mut peer =
            Peer::start_through(&confine::unshare(&["--mount"]), role!(creator), &arguments, |_| {});
        let said = peer.hear();
        assert!(said == "ok" || said == "OutOfMemory", "{options}: {said}");
        assert!(peer.wait().success());
        name.assert_nothing_left();
        outcomes.push((options, said));
    }
    eprintln!("creation in a small /dev/shm: {outcomes:?}");
    for expected in ["ok", "OutOfMemory"] {
        assert!(outcomes.iter().filter(|(_, said)| said == expected).count() >= 3, "{outcomes:?}");
    }
}

fn preallocator(arguments: &[String]) {
    let name = small_shm(arguments);
    let error = Reader::create(name, config(2 * MIB).preallocate(true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    assert!(error.to_string().contains("/dev/shm"), "no way out told: {error}");
    assert_eq!(shm_files(), [""; 0]);
    // What is preallocated needs no memory later: the rest of the file system may be full.
    let mut reader = Reader::create(name, config(512 * KIB).preallocate(true)).unwrap();
    assert!(inspect::snapshot(name).unwrap().memory >= 512 * KIB as u64);
    fill_up();
    let mut writer = Writer::connect(name).unwrap();
    for index in 0..200 {
        writer.write_frame(&vec![index as u8; 50_000]).unwrap();
        assert_eq!(*reader.try_read_frame().unwrap().unwrap(), vec![index as u8; 50_000]);
    }
    say("preallocated memory is used when there is no other");
}

#[test]
fn failure_10_preallocation_fails_clearly_or_lasts() {
    confine::need_root("a /dev/shm of one's own");
    in_small_shm(role!(preallocator), "size=1m");
}

pub(super) const BALLAST: &str = "/dev/shm/ballast";

/// Takes all the memory that the file system has left.
pub(super) fn fill_up() {
    let mut file = fs::File::create(BALLAST).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
}

fn ballast(arguments: &[String]) {
    let name = small_shm(arguments);
    let mut reader = Reader::create(name, config(4 * MIB)).unwrap();
    fill_up();
    let mut writer = Writer::connect(name).unwrap();
    writer.set_metadata(&[7; 1000]).unwrap();
    assert_eq!(reader.metadata().unwrap().unwrap(), [7; 1000]);
    for _ in 0..3 {
        let start = Stopwatch::start();
        let error = writer.write_frame(&[1; 100_000]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        assert!(error.to_string().contains("/dev/shm"), "no way out told: {error}");
        start.assert_within(Duration::from_millis(500));
        assert_eq!(writer.try_write_frame(&[1; 100_000]).unwrap_err().kind(), ErrorKind::OutOfMemory);
        assert_eq!(writer.acquire_frame(100_000).unwrap_err().kind(), ErrorKind::OutOfMemory);
        assert!(reader.try_read_frame().unwrap().is_none());
        // A second reader fails as clearly.
        assert_eq!(kind(Reader::create(&format!("{name}-2"), config(KIB))), "OutOfMemory");
    }
    // Memory comes back, and so does the writer.
    fs::remove_file(BALLAST).unwrap();
    let start = Stopwatch::start();
    while let Err(error) = writer.write_frame(&[2; 100_000]) {
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        start.assert_within(Duration::from_secs(2));
        std::thread::yield_now();
    }
    assert_eq!(*reader.try_read_frame().unwrap().unwrap(), [2; 100_000]);
    drop(writer);
    drop(reader);
    assert_eq!(shm_files(), [""; 0]);
    say(format!("wrote again {:?} after memory had come back", start.elapsed()));
}

#[test]
fn failure_10_a_writer_in_a_full_shm_says_so_and_recovers() {
    confine::need_root("a /dev/shm of one's own");
    in_small_shm(role!(ballast), "size=1m");
}

/// Streams through a ring that is far larger than the memory behind it.
fn streamer(arguments: &[String]) {
    let name = small_shm(arguments);
    let frames = if support::full() { 200_000 } else { 10_000 };
    let mut tops = Vec::new();
    // Frames held make the writer wrap; without them it takes the empty ring back to 0.
    for hold in [0, 1, 5] {
        let mut reader = Reader::create(name, config(8 * MIB)).unwrap();
        let mut highest = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut writer = Writer::connect(name).unwrap();
                let mut random = support::Random(hold as u64);
                for index in 0..frames {
                    let size = if random.between(0, 20) == 0 { 20_000 } else { 3_000 };
                    let mut frame = writer.acquire_frame(random.between(1, size) as usize).unwrap();
                    fill(index, &mut frame);
                    frame.commit().unwrap();
                }
            });
            let mut held = std::collections::VecDeque::<(u64, Frame)>::new();
            for index in 0..frames {
                let frame = reader.read_frame(support::PATIENCE).unwrap().expect("a frame");
                held.push_back((index, frame));
                if held.len() > hold {
                    let (index, frame) = held.pop_front().unwrap();
                    assert!(is_filled(index, &frame), "frame {index}");
                }
                if index % 64 == 0 {
                    highest = highest.max(inspect::snapshot(name).unwrap().write_position);
                }
            }
        });
        let memory = inspect::snapshot(name).unwrap().memory;
        assert!(memory <= 600 * KIB as u64 && highest < memory, "{memory} bytes, written up to {highest}");
        tops.push(highest);
    }
    assert!(
        *tops.last().unwrap() > 90 * KIB as u64,
        "the writer did not use the memory that there is: {tops:?}"
    );
    assert_eq!(shm_files(), [""; 0]);
    say(format!("{frames} frames, three times, up to ring positions {tops:?}"));
}

#[test]
fn failure_10_a_writer_goes_on_with_the_memory_it_has() {
    confine::need_root("a /dev/shm of one's own");
    // The second has less than the writer likes to reserve at a time.
    for options in ["size=600k", "size=200k"] {
        in_small_shm(role!(streamer), options);
    }
}

/// A frame that finds no memory must not stop the smaller ones that do.
fn giant(arguments: &[String]) {
    let name = small_shm(arguments);
    let mut reader = Reader::create(name, config(8 * MIB)).unwrap();
    let mut writer = Writer::connect(name).unwrap();
    for round in 0..20_u8 {
        assert_eq!(writer.write_frame(&vec![0; 3 * MIB]).unwrap_err().kind(), ErrorKind::OutOfMemory);
        for size in [10, 10_000, 300_000, 10] {
            // Held, so that each needs memory of its own.
            writer.write_frame(&vec![round; size]).unwrap();
        }
        let mut frames = Vec::new();
        assert_eq!(reader.read_frames(&mut frames, 9, Duration::ZERO).unwrap(), 4);
        assert!(frames.iter().all(|frame| frame.iter().all(|byte| *byte == round)));
    }
    say("small frames pass where giant ones do not");
}

#[test]
fn failure_10_a_frame_too_large_for_the_memory_does_not_stop_smaller_ones() {
    confine::need_root("a /dev/shm of one's own");
    in_small_shm(role!(giant), "size=1m");
}

// ---- RLIMIT_FSIZE ----

/// Reads what a forged position says is committed, where nothing was ever written and nothing can be written any more.
fn forged(arguments: &[String]) {
    let name = small_shm(arguments);
    // The first byte of the ring in a page that neither creation nor the writer's first frame reserves.
    const START: u64 = 128 + 1024;
    let unwritten = (START + 256 * KIB as u64).next_multiple_of(4096) - START;
    for classic in [false, true] {
        for with_header in [true, false] {
            let what = format!("classic {classic}, header there {with_header}");
            let mut reader = Reader::create(name, config(4 * MIB).classic(classic)).unwrap();
            let mut writer = Writer::connect(name).unwrap();
            writer.write_frame(&[1; 112]).unwrap();
            drop(reader.try_read_frame().unwrap().unwrap());
            fill_up();
            let forge = Forge::segment(name);
            // A second frame that ends where memory does, or reaches beyond, and more behind it.
            // The header of the first frame in an extended ring has room for the writer's word.
            let at = if classic { 128 } else { 144 };
            let end = unwritten + if with_header { 4096 } else { 0 };
            let committed = unwritten + 64 * KIB as u64;
            let kind = if classic { 0 } else { 1 << 48 };
            forge.set(START + at, kind | (end - at - 16));
            forge.set(START + at + 8, 2);
            if classic {
                forge.set(at::FREE_BYTES, 4 * MIB as u64 - (committed - at));
            } else {
                let control = forge.get(at::EXTENSION) & ((1 << 48) - 128);
                assert_eq!(forge.get(control), at / 16, "the ring is where this test looks for it");
                forge.set(control, committed / 16);
            }
            if !with_header {
                let frame = reader.try_read_frame().unwrap().expect("what has memory is a frame");
                assert_eq!(frame.iter().filter(|byte| **byte != 0).count(), 0);
            }
            let error = reader.read_frame(Duration::from_secs(5)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CorruptBuffer, "{what}: {error}");
            assert!(error.to_string().contains("no memory"), "{what}: {error}");
            drop((reader, writer));
            fs::remove_file(BALLAST).unwrap();
            assert_eq!(shm_files(), [""; 0]);
        }
    }
    say("refused");
}

#[test]
fn failure_13_forged_frames_where_there_is_no_memory_raise_no_sigbus() {
    confine::need_root("a /dev/shm of one's own");
    in_small_shm(role!(forged), "size=2m");
}

fn file_size(arguments: &[String]) {
    let [name, limit, payload] = arguments else { panic!("name, limit, payload") };
    confine::limit(libc::RLIMIT_FSIZE, limit.parse().unwrap());
    say(kind(Reader::create(name, config(payload.parse().unwrap()))));
}

/// Connects under a limit that is far below the buffer's size, and writes all over it.
fn sized_writer(arguments: &[String]) {
    let [name, limit] = arguments else { panic!("name, limit") };
    confine::limit(libc::RLIMIT_FSIZE, limit.parse().unwrap());
    let mut writer = Writer::connect(name).unwrap();
    writer.set_metadata(b"small").unwrap();
    for index in 0..40 {
        let mut frame = writer.acquire_frame(400_000).unwrap();
        fill(index, &mut frame);
        frame.commit().unwrap();
    }
    say("written");
}

#[test]
fn failure_10_a_limit_on_file_sizes_raises_no_signal() {
    let total = {
        let name = Name::new("fsize-total");
        let _reader = Reader::create(&name, config(MIB)).unwrap();
        inspect::snapshot(&name).unwrap().file_size as usize
    };
    for (limit, payload, expected) in [
        (0, MIB, "OutOfMemory"),
        (31, 17, "OutOfMemory"),
        (4096, MIB, "OutOfMemory"),
        (total - 1, MIB, "OutOfMemory"),
        (total, MIB, "ok"),
        (total - 1, 256 * MIB, "OutOfMemory"),
        (64 * KIB, 4096, "ok"),
    ] {
        let name = Name::new("fsize");
        let mut peer = Peer::start(role!(file_size), &[&name, &limit.to_string(), &payload.to_string()]);
        peer.expect(expected);
        let status = peer.wait();
        assert!(status.success(), "{limit} {payload}: {status}");
        name.assert_nothing_left();
    }
    for limit in ["0", "5000", "300000"] {
        let name = Name::new("fsize-writer");
        let mut reader = Reader::create(&name, config(4 * MIB)).unwrap();
        let mut peer = Peer::start(role!(sized_writer), &[&name, limit]);
        for index in 0..40 {
            assert!(is_filled(index, &reader.read_frame(support::PATIENCE).unwrap().unwrap()));
        }
        peer.expect("written");
        assert!(peer.wait().success());
        drop(reader);
        name.assert_nothing_left();
    }
}

// ---- RLIMIT_NOFILE ----

fn open_descriptors() -> usize {
    // One of them is that of the listing itself.
    fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Takes all descriptors that this process may have, but for `spare`; gives them back when dropped.
fn take_descriptors(spare: usize) -> Vec<fs::File> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid struct that outlives the calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = 64;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    let mut files = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        files.push(file);
    }
    files.truncate(files.len() - spare);
    files
}

fn descriptors(arguments: &[String]) {
    let [own, other] = arguments else { panic!("own name, name of a buffer of the parent") };
    let [own, other] = [own.as_str(), other.as_str()];
    let paths = |name: &str| {
        [
            format!("/dev/shm/{name}"),
            format!("/dev/shm/sem.sem-w-{name}"),
            format!("/tmp/zerobuffer/{name}.lock"),
        ]
    };
    let before = open_descriptors();
    let mut outcomes = Vec::new();
    for spare in 0..12 {
        let taken = take_descriptors(spare);
        let created = Reader::create(own, config(4096));
        let connected = Writer::connect(other);
        let inspected = inspect::snapshot(other);
        let good = created.is_ok() && connected.is_ok() && inspected.is_ok();
        for error in [created.as_ref().err(), connected.as_ref().err()].into_iter().flatten() {
            assert!(error.to_string().contains("ulimit -n"), "no way out told: {error}");
        }
        let kinds = [kind(created), kind(connected), kind(inspected)];
        assert!(kinds.iter().all(|kind| kind == "ok" || kind == "System"), "{spare}: {kinds:?}");
        drop(taken);
        assert_eq!(open_descriptors(), before, "descriptors leak");
        for path in paths(own) {
            assert!(!Path::new(&path).exists(), "{path} left behind with {spare} descriptors");
        }
        // No role was left taken either.
        drop(Writer::connect(other).unwrap());
        outcomes.push(good);
    }
    assert!(!outcomes[0] && outcomes[11], "{outcomes:?}");
    // Closing needs none.
    let reader = Reader::create(own, config(4096)).unwrap();
    let mut writer = Writer::connect(own).unwrap();
    let taken = take_descriptors(0);
    writer.write_frame(b"last").unwrap();
    drop(writer);
    drop(reader);
    drop(taken);
    for path in paths(own) {
        assert!(!Path::new(&path).exists(), "{path} left behind at the close");
    }
    say("done");
}

#[test]
fn failure_10_without_descriptors_calls_fail_clearly_and_leave_nothing() {
    let (own, other) = (Name::new("fds"), Name::new("fds-other"));
    let reader = Reader::create(&other, config(4096)).unwrap();
    let mut peer = Peer::start(role!(descriptors), &[&own, &other]);
    peer.expect("done");
    assert!(peer.wait().success());
    drop(reader);
    own.assert_nothing_left();
    other.assert_nothing_left();
}

// ---- what creation costs ----

/// Resident memory of this process: all of it, and the shared part.
fn resident() -> (usize, usize) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let of = |what: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("a line of the status");
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * KIB
    };
    (of("VmRSS:"), of("RssShmem:"))
}

fn cost(arguments: &[String]) {
    let name = arguments[0].as_str();
    // Once in vain, so that what is measured is the buffer, not the first use of code.
    drop(Reader::create(name, config(4096)).unwrap());
    let before = resident();
    let mut times = Vec::new();
    let mut memory = (0, 0, 0);
    for _ in 0..20 {
        let start = Instant::now();
        let reader = Reader::create(name, support::config()).unwrap();
        times.push(start.elapsed());
        let now = resident();
        let allocated = inspect::snapshot(name).unwrap().memory as usize;
        memory = (memory.0.max(now.0.saturating_sub(before.0)), memory.1.max(now.1), memory.2.max(allocated));
        drop(reader);
    }
    times.sort();
    say(format!(
        "{} {} {} {} {}",
        times[10].as_micros(),
        times[19].as_micros(),
        memory.0,
        memory.1,
        memory.2
    ));
}

#[test]
fn failure_10_creating_256_mib_costs_under_a_millisecond_and_little_memory() {
    let name = Name::new("cost");
    let mut peer = Peer::start(role!(cost), &[&name]);
    let said = peer.hear();
    let numbers: Vec<usize> = said.split(' ').map(|word| word.parse().unwrap()).collect();
    let [median, worst, grown, shared, allocated] = numbers[..] else { panic!("{said}") };
    eprintln!(
        "creating 256 MiB: {median} us in the median of 20, {worst} at the worst; {} KiB resident more, {} of shared \
         memory; the file has {} KiB",
        grown / KIB,
        shared / KIB,
        allocated / KIB
    );
    assert!(median < 1000);
    assert!(grown < 2 * MIB && shared < 2 * MIB);
    assert!(allocated <= 16 * KIB, "header and metadata need 4224 bytes");
    assert!(peer.wait().success());
    name.assert_nothing_left();
}
