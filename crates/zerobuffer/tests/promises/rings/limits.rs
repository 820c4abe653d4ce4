//! Too little memory, file size or descriptors (spec failure 10): clear errors, no SIGBUS, no SIGXFSZ, nothing left; and
//! what a buffer costs where there is enough.

use super::support;
use super::support::ledger::Stopwatch;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::support::forge::{Forge, at};
use super::support::{Name, Peer, Role, confine, fill, is_filled, role, say};
use zerobuffer::{BufferConfig, ErrorKind, Frame, Reader, Result, Writer, inspect};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

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
    cost,
    sparse,
    docker,
    giant_metadata,
    read_only,
    missing_shm
);

fn kind<T>(result: Result<T>) -> String {
    result.map_or_else(|error| error.kind().to_string(), |_| "ok".to_owned())
}

fn config(payload: usize) -> BufferConfig {
    support::config().payload_size(payload).metadata_size(1024)
}

/// What lies in this peer's own `/dev/shm`.
fn shm_files() -> Vec<String> {
    let entries = fs::read_dir("/dev/shm").unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Plays `role` in a mount namespace of its own; the role mounts a small `/dev/shm` there.
fn in_small_shm(role: Role, options: &str) {
    let name = Name::new(role.name());
    let arguments = [&*name, &confine::mount_namespace(), options];
    let mut peer = Peer::start_through(&confine::unshare(&["--mount"]), role, &arguments, |_| {});
    let said = peer.hear();
    assert!(peer.wait().success(), "{} in {options}: {said}", role.name());
    eprintln!("{} in a /dev/shm of {options}: {said}", role.name());
    name.assert_nothing_left();
}

/// Mounts the small `/dev/shm` that `in_small_shm` promised; gives the buffer's name.
fn small_shm(arguments: &[String]) -> &str {
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

const BALLAST: &str = "/dev/shm/ballast";

/// Takes all the memory that the file system has left.
fn fill_up() {
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

/// Connects to a buffer whose reader has reserved nothing, where there is no memory.
fn sparse(arguments: &[String]) {
    let name = small_shm(arguments);
    let (metadata, payload) = (64 * KIB as u64, MIB as u64);
    let mut block = [0_u8; 128];
    let mut set = |at: u64, value: u64| block[at as usize..][..8].copy_from_slice(&value.to_le_bytes());
    set(at::OIEB_SIZE, 128 | 1 << 32);
    set(at::METADATA_SIZE, metadata);
    set(0x10, metadata);
    set(at::PAYLOAD_SIZE, payload);
    set(at::FREE_BYTES, payload);
    set(at::READER_PID, u64::from(std::process::id()));
    let segment = fs::File::create(format!("/dev/shm/{name}")).unwrap();
    (&segment).write_all(&block).unwrap();
    segment.set_len(128 + metadata + payload).unwrap();
    let semaphores: Vec<fs::File> = ["w", "r"]
        .iter()
        .map(|which| fs::File::create(format!("/dev/shm/sem.sem-{which}-{name}")).unwrap())
        .collect();
    semaphores.iter().for_each(|file| file.set_len(32).unwrap());
    fill_up();
    // The semaphores have a length and no memory.
    assert_eq!(kind(Writer::connect(name)), "OutOfMemory");
    fs::remove_file(BALLAST).unwrap();
    semaphores.iter().for_each(|mut file| file.write_all(&[0; 32]).unwrap());
    fill_up();
    let mut writer = Writer::connect(name).unwrap();
    assert_eq!(kind(writer.set_metadata(&[1; 60_000])), "OutOfMemory");
    assert_eq!(kind(writer.write_frame(&[1; 100_000])), "OutOfMemory");
    fs::remove_file(BALLAST).unwrap();
    writer.set_metadata(&[1; 60_000]).unwrap();
    // The writer believes for a while that there is none.
    let start = Instant::now();
    while writer.write_frame(&[1; 100_000]).is_err() {
        assert!(start.elapsed() < support::PATIENCE);
        std::thread::yield_now();
    }
    say("no signal");
}

#[test]
fn failure_10_a_buffer_without_memory_raises_no_signal_in_its_writer() {
    confine::need_root("a /dev/shm of one's own");
    in_small_shm(role!(sparse), "size=1m");
}

/// Writes into a `/dev/shm` that is smaller than the buffer, as a container's of 64 MB is, while its reader does not read.
fn docker(arguments: &[String]) {
    let name = small_shm(arguments);
    let mut reader = Reader::create(name, config(8 * MIB)).unwrap();
    let options = zerobuffer::WriterOptions::default().write_timeout(Duration::from_millis(300));
    let mut writer = Writer::connect_with(name, options).unwrap();
    let mut written = 0;
    let mut write_until_refused = |writer: &mut Writer| {
        let start = Instant::now();
        loop {
            let last = Instant::now();
            match writer.write_frame(&[1; 50_000]) {
                Ok(_) => written += 1,
                Err(error) => {
                    assert!(last.elapsed() < Duration::from_secs(5) && start.elapsed() < support::PATIENCE);
                    return error;
                }
            }
        }
    };
    let error = write_until_refused(&mut writer);
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    assert!(error.to_string().contains("--shm-size"), "no way out told: {error}");
    assert_eq!(writer.acquire_frame(50_000).unwrap_err().kind(), ErrorKind::OutOfMemory);
    // With room for the whole ring, the reader is what the writer waits for.
    let c = |text: &str| std::ffi::CString::new(text).unwrap();
    let (folder, options) = (c("/dev/shm"), c("size=32m"));
    // SAFETY: all are C strings that outlive the call, or null where a remount ignores them.
    let result = unsafe {
        libc::mount(
            std::ptr::null(),
            folder.as_ptr(),
            std::ptr::null(),
            libc::MS_REMOUNT,
            options.as_ptr().cast(),
        )
    };
    assert_eq!(result, 0, "remount: {}", std::io::Error::last_os_error());
    let error = write_until_refused(&mut writer);
    assert_eq!(error.kind(), ErrorKind::BufferFull, "{error}");
    for _ in 0..written {
        assert_eq!(*reader.try_read_frame().unwrap().unwrap(), [1; 50_000]);
    }
    say(format!("{written} frames"));
}

#[test]
fn failure_10_a_shm_smaller_than_the_buffer_is_told_from_a_slow_reader() {
    confine::need_root("a /dev/shm of one's own");
    in_small_shm(role!(docker), "size=1m");
}

/// Reads metadata of a length that no machine has memory for.
fn giant_metadata(arguments: &[String]) {
    let name = small_shm(arguments);
    const HUGE: u64 = 16 << 40;
    let kept = zerobuffer::KeptBuffer::create(name, config(4096).classic(true)).unwrap();
    let forge = Forge::segment(name);
    forge.set(at::METADATA_SIZE, HUGE);
    forge.set(at::METADATA_WRITTEN, HUGE);
    forge.set(128, HUGE - 8);
    let segment = fs::OpenOptions::new().write(true).open(format!("/dev/shm/{name}")).unwrap();
    segment.set_len(128 + HUGE + 4096).unwrap();
    let reader = Reader::create(name, BufferConfig::default()).unwrap();
    assert_eq!(kind(reader.metadata()), "OutOfMemory");
    drop((reader, kept));
    say("refused");
}

#[test]
fn failure_13_metadata_of_a_forged_length_takes_no_memory() {
    confine::need_root("a /dev/shm of one's own");
    in_small_shm(role!(giant_metadata), "size=1m");
}

// ---- a /dev/shm that is missing, or not to be written to ----

fn read_only(arguments: &[String]) {
    let name = small_shm(arguments);
    let error = Reader::create(name, config(4096)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    let message = error.to_string();
    assert!(message.contains("read-only") && !message.contains("wider"), "{message}");
    say("refused");
}

#[test]
fn a_read_only_shm_is_called_one() {
    confine::need_root("a /dev/shm of one's own");
    in_small_shm(role!(read_only), "ro");
}

/// In a `/dev` that has no `shm`.
fn missing_shm(arguments: &[String]) {
    let [name, outer, _] = arguments else { panic!("name, mount namespace, options") };
    confine::mount_tmpfs("/dev", "mode=755", outer);
    for error in [
        Reader::create(name, config(4096)).unwrap_err(),
        Writer::connect(name).unwrap_err(),
        inspect::list().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::System, "{error}");
        assert!(error.to_string().contains("/dev/shm is missing"), "{error}");
    }
    // And one whose rights keep this user out.
    fs::create_dir("/dev/shm").unwrap();
    confine::mount_tmpfs("/dev/shm", "mode=700", outer);
    confine::become_nobody();
    for error in [Reader::create(name, config(4096)).unwrap_err(), Writer::connect(name).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("chmod 1777 /dev/shm"), "no way out told: {error}");
    }
    say("told apart");
}

#[test]
fn a_missing_shm_and_a_closed_one_are_called_so() {
    confine::need_root("a /dev of one's own");
    in_small_shm(role!(missing_shm), "");
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
            let (at, end) = (128, unwritten + if with_header { 4096 } else { 0 });
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
