//! Files under a buffer's name that are no sound buffers (spec failure 13), and names that are not allowed
//! (spec failure 14): typed errors, and no access outside the buffer.

use crate::support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use crate::support::forge::at;
use crate::support::{Name, Peer, confine, role, say};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use zerobuffer::{BufferConfig, ErrorKind, KeptBuffer, MAX_NAME_LEN, Reader, Result, Writer, inspect};

support::peers!(prober, namer, newcomer);

/// The kind of a call's error, or "ok".
fn kind<T>(result: Result<T>) -> String {
    result.map_or_else(|error| error.kind().to_string(), |_| "ok".to_owned())
}

// ---- segments ----

/// A file like that of a 1.x reader with the given pid, which does not know native locks.
#[derive(Clone)]
struct Image {
    block: [u8; 128],
    len: u64,
}

impl Image {
    const METADATA: u64 = 64;
    /// More than a page, so that a file that is too short has no memory where it should.
    const PAYLOAD: u64 = 16 << 10;

    fn new(reader_pid: u64) -> Image {
        let mut image = Image { block: [0; 128], len: 128 + Image::METADATA + Image::PAYLOAD };
        image.set(at::OIEB_SIZE, 128 | 1 << 32);
        image.set(at::METADATA_SIZE, Image::METADATA);
        image.set(0x10, Image::METADATA);
        image.set(at::PAYLOAD_SIZE, Image::PAYLOAD);
        image.set(at::FREE_BYTES, Image::PAYLOAD);
        image.set(at::READER_PID, reader_pid);
        image
    }

    fn set(&mut self, offset: u64, value: u64) {
        self.block[offset as usize..offset as usize + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn place(&self, name: &Name) {
        let [segment, ..] = name.paths();
        let bytes = &self.block[..self.len.min(128) as usize];
        fs::write(&segment, bytes).unwrap();
        fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(self.len).unwrap();
    }
}

/// What the segment's first block holds now.
fn first_block(name: &Name) -> [u8; 128] {
    let mut block = [0; 128];
    let [segment, ..] = name.paths();
    fs::File::open(segment).unwrap().read_exact(&mut block).unwrap();
    block
}

/// Makes the semaphores' files with the lengths given.
fn place_semaphores(name: &Name, lengths: [usize; 2]) {
    let [_, write, read, _] = name.paths();
    for (path, len) in [(write, lengths[0]), (read, lengths[1])] {
        fs::write(path, vec![0; len]).unwrap();
    }
}

const SEM: usize = size_of::<libc::sem_t>();

/// A pid that no process has.
fn dead_pid() -> u64 {
    u64::from(i32::MAX.cast_unsigned())
}

#[test]
fn failure_13_a_writer_refuses_segments_that_cannot_be_true() {
    let alive = u64::from(std::process::id());
    type Change = fn(&mut Image);
    use ErrorKind::*;
    let check = |what: &str, image: &Image, expected: &str, inspected: &str| {
        let name = Name::new("corrupt");
        image.place(&name);
        place_semaphores(&name, [SEM, SEM]);
        assert_eq!(kind(Writer::connect(&name)), expected, "connecting to {what}");
        let snapshot = inspect::snapshot(&name);
        let defects = snapshot.as_ref().is_ok_and(|snapshot| !snapshot.defects.is_empty());
        let found = if defects { "defects".to_owned() } else { kind(snapshot) };
        assert_eq!(found, inspected, "inspecting {what}");
        // A writer that was refused leaves no pid behind.
        if expected != "ok" && image.len >= 128 {
            assert_eq!(first_block(&name), image.block, "{what} was changed");
        }
    };
    check("a good one", &Image::new(alive), "ok", "ok");
    let changes: [(&str, Change, ErrorKind, &str); 24] = [
        ("an empty file", |i| i.len = 0, BufferNotFound, "IncompatibleProtocol"),
        ("127 bytes", |i| i.len = 127, BufferNotFound, "IncompatibleProtocol"),
        ("no size yet", |i| i.block[..4].fill(0), BufferNotFound, "IncompatibleProtocol"),
        ("a 1.x reader's first store", |i| i.block[4..].fill(0), BufferNotFound, "IncompatibleProtocol"),
        ("a 1.x reader's first stores", |i| i.block[8..].fill(0), BufferNotFound, "ok"),
        ("a block of 127", |i| i.block[0] = 127, IncompatibleProtocol, "IncompatibleProtocol"),
        ("a block of 192", |i| i.block[0] = 192, IncompatibleProtocol, "IncompatibleProtocol"),
        ("a block of 4 GiB", |i| i.block[..4].fill(255), IncompatibleProtocol, "IncompatibleProtocol"),
        ("version 0", |i| i.block[4] = 0, IncompatibleProtocol, "IncompatibleProtocol"),
        ("version 2", |i| i.block[4] = 2, IncompatibleProtocol, "IncompatibleProtocol"),
        ("no payload", |i| i.set(at::PAYLOAD_SIZE, 0), CorruptBuffer, "defects"),
        ("room for a header only", |i| i.set(at::PAYLOAD_SIZE, 16), CorruptBuffer, "defects"),
        ("too much payload", |i| i.set(at::PAYLOAD_SIZE, Image::PAYLOAD + 1), CorruptBuffer, "defects"),
        ("too much metadata", |i| i.set(at::METADATA_SIZE, 65), CorruptBuffer, "defects"),
        ("a payload that overflows", |i| i.set(at::PAYLOAD_SIZE, u64::MAX), CorruptBuffer, "defects"),
        ("metadata that overflows", |i| i.set(at::METADATA_SIZE, u64::MAX - 63), CorruptBuffer, "defects"),
        (
            "a sum that overflows",
            |i| {
                i.set(at::METADATA_SIZE, 1 << 63);
                i.set(at::PAYLOAD_SIZE, 1 << 63)
            },
            CorruptBuffer,
            "defects",
        ),
        (
            "a sum that overflows to what it has",
            |i| {
                i.set(at::METADATA_SIZE, 0_u64.wrapping_sub(64));
                i.set(at::PAYLOAD_SIZE, Image::PAYLOAD + 128)
            },
            CorruptBuffer,
            "defects",
        ),
        ("a byte too few", |i| i.len -= 1, CorruptBuffer, "defects"),
        ("only the first block", |i| i.len = 128, CorruptBuffer, "defects"),
        ("a position past the end", |i| i.set(at::WRITE_POS, Image::PAYLOAD + 1), CorruptBuffer, "defects"),
        ("no reader", |i| i.set(at::READER_PID, 0), BufferNotFound, "ok"),
        ("a dead reader", |i| i.set(at::READER_PID, dead_pid()), ReaderDead, "ok"),
        ("a writer", |i| i.set(at::WRITER_PID, 1), WriterAlreadyConnected, "ok"),
    ];
    for (what, change, expected, inspected) in changes {
        let mut image = Image::new(alive);
        change(&mut image);
        check(what, &image, &expected.to_string(), inspected);
    }
    // A file that is as huge as it says, and has no memory behind it.
    let mut image = Image::new(alive);
    image.set(at::PAYLOAD_SIZE, 1 << 46);
    image.len = 128 + Image::METADATA + (1 << 46);
    check("64 TiB", &image, "CorruptBuffer", "defects");
    image.set(at::PAYLOAD_SIZE, u64::MAX >> 17);
    check("more than can be mapped", &image, "CorruptBuffer", "defects");
    // A later minor version of protocol 1 is accepted.
    let mut image = Image::new(alive);
    image.block[5..8].fill(255);
    check("version 1.255.255", &image, "ok", "ok");
}

#[test]
fn failure_13_short_or_missing_semaphores_are_refused() {
    for (lengths, expected) in
        [([SEM, SEM - 1], "CorruptBuffer"), ([0, SEM], "CorruptBuffer"), ([SEM, 4096], "ok")]
    {
        let name = Name::new("short-sem");
        Image::new(std::process::id().into()).place(&name);
        assert_eq!(kind(Writer::connect(&name)), "BufferNotFound", "no semaphores");
        place_semaphores(&name, lengths);
        assert_eq!(kind(Writer::connect(&name)), expected, "{lengths:?}");
    }
}

#[test]
fn failure_13_a_reader_replaces_dead_buffers_only() {
    let config = || BufferConfig::default().payload_size(1024);
    // (reader's pid, semaphores there, a good block) -> result of a creation
    for (pid, semaphores, good, expected) in [
        (u64::from(std::process::id()), true, true, "ReaderAlreadyConnected"),
        (1, true, true, "ReaderAlreadyConnected"),
        (dead_pid(), true, true, "ok"),
        (dead_pid(), false, true, "ok"),
        (0, true, true, "ok"),
        // Any user can put semaphores beside another program's file.
        (dead_pid(), true, false, "IncompatibleProtocol"),
        (dead_pid(), false, false, "IncompatibleProtocol"),
    ] {
        let name = Name::new("standing");
        let mut image = Image::new(pid);
        if !good {
            image.block[0] = 77;
        }
        image.place(&name);
        if semaphores {
            place_semaphores(&name, [SEM, SEM]);
        }
        let what = format!("pid {pid}, semaphores: {semaphores}, good: {good}");
        let before = name.leftovers();
        assert_eq!(kind(Reader::create(&name, config())), expected, "{what}");
        if expected == "ok" {
            name.assert_nothing_left();
        } else {
            assert_eq!(name.leftovers(), before, "{what}: a refused creation left or removed something");
            assert_eq!(first_block(&name), image.block, "{what}");
        }
    }
}

#[test]
fn failure_13_nothing_but_regular_files_is_touched() {
    let target = Name::new("target");
    Image::new(dead_pid()).place(&target);
    place_semaphores(&target, [SEM, SEM]);
    type Make = fn(&Path, &Path);
    let things: [(&str, Make); 5] = [
        ("a directory", |path, _| fs::create_dir(path).unwrap()),
        ("a link", |path, target| symlink(target, path).unwrap()),
        ("a link to nothing", |path, _| symlink("/dev/shm/zbtest-no-such-thing", path).unwrap()),
        ("a fifo", |path, _| {
            use std::os::unix::ffi::OsStrExt;
            let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
            // SAFETY: `path` is a C string.
            assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        }),
        ("a socket", |path, _| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
    ];
    for (what, make) in things {
        let name = Name::new("thing");
        let [segment, ..] = name.paths();
        make(&segment, &target.paths()[0]);
        let before = segment.symlink_metadata().unwrap();
        assert_eq!(kind(Reader::create(&name, BufferConfig::default())), "IncompatibleProtocol", "{what}");
        assert_eq!(
            kind(KeptBuffer::create(&name, BufferConfig::default())),
            "IncompatibleProtocol",
            "{what}"
        );
        assert_eq!(kind(Writer::connect(&name)), "IncompatibleProtocol", "{what}");
        assert_eq!(kind(inspect::snapshot(&name)), "IncompatibleProtocol", "{what}");
        let after = segment.symlink_metadata().unwrap();
        assert_eq!(after.file_type(), before.file_type(), "{what} was replaced");
        assert_eq!(name.leftovers(), [&*segment], "{what}: something was left behind");
        if after.is_dir() {
            fs::remove_dir(&segment).unwrap();
        }
    }
    assert_eq!(
        fs::read(&target.paths()[0]).unwrap()[..128],
        Image::new(dead_pid()).block,
        "a link was followed"
    );
}

/// Tries every call that takes a name, while the name leads to an arbitrary file.
fn prober(arguments: &[String]) {
    let name = &arguments[0];
    while support::hear().is_some() {
        let mut said =
            kind(inspect::snapshot(name).map(|snapshot| (snapshot.utilisation(), snapshot.health())));
        for _ in 0..2 {
            let result = Writer::connect(name).and_then(|mut writer| {
                writer.set_write_timeout(Duration::ZERO);
                let _ = writer.set_metadata(b"probe");
                writer.write_frame(b"a frame")?;
                writer.write_frame(&vec![1; writer.max_frame_size().min(50_000)])
            });
            said = format!("{said} {}", kind(result));
        }
        said = format!("{said} {}", kind(Reader::create(name, BufferConfig::default().payload_size(100))));
        say(said);
    }
}

#[test]
fn failure_13_any_bytes_under_a_name_end_in_a_typed_error() {
    let number = prop_oneof![
        prop::sample::select(
            &[
                0,
                1,
                16,
                17,
                64,
                127,
                128,
                129,
                4096,
                Image::PAYLOAD,
                Image::PAYLOAD + 1,
                1 << 32,
                1 << 63,
                u64::MAX
            ][..]
        ),
        0..Image::PAYLOAD * 2,
        any::<u64>(),
    ];
    let strategy = (
        prop::collection::vec((0_u64..16, number), 0..5),
        prop_oneof![2 => Just(128 + Image::METADATA + Image::PAYLOAD), 1 => 0..Image::PAYLOAD * 2],
        prop::sample::select(vec![
            [SEM, SEM],
            [SEM, SEM],
            [SEM, SEM],
            [SEM, 0],
            [0, SEM],
            [SEM, SEM - 1],
            [SEM + 1, SEM],
        ]),
        prop_oneof![2 => Just((0, vec![])), 1 => (0_usize..128, prop::collection::vec(any::<u8>(), 0..64))],
    );
    let name = Name::new("any");
    let mut peer = Peer::start(role!(prober), &[&name]);
    let seen = std::cell::RefCell::new(std::collections::BTreeMap::<String, u32>::new());
    let peer_ref = std::cell::RefCell::new(&mut peer);
    let cases = if support::full() { 5000 } else { 300 };
    // Cases are not shrunk: a peer that died cannot try smaller ones.
    let max_shrink_iters = 0;
    TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters,
        failure_persistence: None,
        ..ProptestConfig::default()
    })
    .run(&strategy, |(words, len, semaphores, noise)| {
        let mut image = Image::new(std::process::id().into());
        for (index, value) in words {
            image.set(index * 8, value);
        }
        image.len = len;
        let (offset, noise) = noise;
        for (byte, noise) in image.block[offset..].iter_mut().zip(noise) {
            *byte = noise;
        }
        image.place(&name);
        place_semaphores(&name, semaphores);
        let mut peer = peer_ref.borrow_mut();
        peer.tell("probe");
        *seen.borrow_mut().entry(peer.hear()).or_default() += 1;
        for path in name.leftovers() {
            fs::remove_file(path).unwrap();
        }
        Ok(())
    })
    .unwrap();
    assert!(peer.wait().success());
    let seen = seen.into_inner();
    eprintln!("what any bytes came to: {seen:?}");
    assert!(
        seen.len() > 5 && seen.keys().any(|kinds| kinds.contains("CorruptBuffer")),
        "the cases did not vary"
    );
}

// ---- names ----

/// Names that no call may take.
fn bad_names() -> Vec<String> {
    let names = [
        "",
        ".",
        "..",
        "/",
        "a/b",
        "../zbtest",
        "/dev/shm/zbtest",
        "zbtest/",
        "sem.",
        "sem.sem-w-zbtest",
        "a\0b",
        "\0",
    ];
    let mut names: Vec<String> = names.map(str::to_owned).into();
    names.push("x".repeat(MAX_NAME_LEN + 1));
    names.push("x".repeat(4096));
    // 82 characters of 3 bytes each: what counts is bytes.
    names.push("\u{20ac}".repeat(82));
    names
}

/// Uses bad names where no file can be opened: a call that tries to open one gets another error than
/// InvalidName.
fn namer(_: &[String]) {
    confine::limit(libc::RLIMIT_NOFILE, 0);
    assert_eq!(kind(Writer::connect("zbtest-good")), "System");
    for name in bad_names() {
        for result in [
            kind(Reader::create(&name, BufferConfig::default())),
            kind(KeptBuffer::create(&name, BufferConfig::default())),
            kind(Writer::connect(&name)),
            kind(inspect::snapshot(&name)),
        ] {
            assert_eq!(result, "InvalidName", "{name:?}");
        }
    }
    say("all refused");
}

#[test]
fn failure_14_bad_names_are_refused_before_any_file_is_touched() {
    Peer::start(role!(namer), &[]).expect("all refused");
    let longest = Name::of_length("longest", MAX_NAME_LEN);
    let mut reader = Reader::create(&longest, BufferConfig::default()).unwrap();
    Writer::connect(&longest).unwrap().write_frame(b"long").unwrap();
    assert_eq!(&*reader.try_read_frame().unwrap().unwrap(), b"long");
    drop(reader);
    longest.assert_nothing_left();
    for odd in ["zbtest odd name", "zbtest-\u{fc}\u{20ac}", "-zbtest", ".zbtest", "zbtest\n"] {
        let odd = format!("{odd}{}", std::process::id());
        let mut reader = Reader::create(&odd, BufferConfig::default()).unwrap();
        Writer::connect(&odd).unwrap().write_frame(b"odd").unwrap();
        assert_eq!(&*reader.try_read_frame().unwrap().unwrap(), b"odd");
    }
}

#[test]
fn failure_14_links_in_the_place_of_our_files_are_not_followed() {
    for (index, what) in [(1, "semaphore"), (2, "semaphore"), (3, "lock")] {
        for existing in [true, false] {
            let (name, victim) = (Name::new("link"), Name::new("victim"));
            let (path, target) = (&name.paths()[index], &victim.paths()[0]);
            if existing {
                fs::write(target, b"somebody else's").unwrap();
            }
            // The directory of lock files must be there.
            drop(Reader::create(&name, BufferConfig::default()).unwrap());
            symlink(target, path).unwrap();
            let result = kind(Reader::create(&name, BufferConfig::default()));
            assert_eq!(result, if what == "lock" { "System" } else { "IncompatibleProtocol" }, "{what}");
            assert!(path.is_symlink(), "{what}: what is not provably a buffer's was removed");
            let content = fs::read(target).ok();
            assert_eq!(content.as_deref(), existing.then_some(&b"somebody else's"[..]), "{what}");
        }
    }
}

/// Creates the first buffer of a machine, in its own `/tmp`.
fn newcomer(arguments: &[String]) {
    let [name, outer, state] = arguments else { panic!("name, mount namespace, state") };
    confine::mount_tmpfs("/tmp", "size=1m,mode=1777", outer);
    let directory = Path::new("/tmp/zerobuffer");
    let set_mode = |mode| fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
    // SAFETY: plain system call.
    unsafe { libc::umask(0o077) };
    let expected = match state.as_str() {
        "missing" => "ok",
        // Made by a 1.x peer, with its umask.
        "narrow" => {
            fs::create_dir(directory).unwrap();
            set_mode(0o755);
            "ok"
        }
        "file" => {
            fs::write(directory, b"").unwrap();
            "System"
        }
        "link" => {
            fs::create_dir("/tmp/elsewhere").unwrap();
            symlink("/tmp/elsewhere", directory).unwrap();
            "System"
        }
        "another user's" => {
            fs::create_dir(directory).unwrap();
            set_mode(0o755);
            confine::become_nobody();
            "PermissionDenied"
        }
        _ => panic!("{state}?"),
    };
    let create = || kind(Reader::create(name, BufferConfig::default()));
    assert_eq!(create(), expected, "{state}");
    if expected == "ok" {
        let mode = directory.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o1777, "{state}: {mode:o}");
        if confine::is_root() {
            confine::become_nobody();
            assert_eq!(create(), "ok", "another user beside us");
        }
    } else if state == "link" {
        assert_eq!(fs::read_dir("/tmp/elsewhere").unwrap().count(), 0, "the link was followed");
    }
    say("done");
}

#[test]
fn failure_14_the_directory_of_lock_files_is_made_for_everybody() {
    confine::need_root("a /tmp of one's own");
    let wrapper = confine::unshare(&["--mount"]);
    for state in ["missing", "narrow", "file", "link", "another user's"] {
        let name = Name::new("newcomer");
        let arguments: [&str; 3] = [&name, &confine::mount_namespace(), state];
        let mut peer = Peer::start_through(&wrapper, role!(newcomer), &arguments, |_| {});
        peer.expect("done");
        assert!(peer.wait().success());
        name.assert_nothing_left();
    }
}
