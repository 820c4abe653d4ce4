//! What other users of the machine can do to a buffer, and what they cannot (SECURITY.md).
//!
//! Each stage is a process in a mount namespace of its own, with a private `/dev/shm` and `/tmp`. There it plays the
//! victim, as root or as an ordinary user, and forks the attackers, who are another ordinary user.

mod support;

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use support::{Name, PATIENCE, Peer, confine, say};
use zerobuffer::{BufferConfig, ErrorKind, KeptBuffer, Reader, Writer, cleanup, inspect};

const LOCK_DIR: &str = "/tmp/zerobuffer";

/// The ordinary user that a stage can be: the attackers are `confine::NOBODY`.
const VICTIM: u32 = 1000;

#[test]
fn peer_main() {
    support::run_peer(&[
        ("forged-kept", forged_kept),
        ("wide-kept", wide_kept),
        ("forged-semaphores", forged_semaphores),
        ("lock-dir-link", lock_dir_link),
        ("lock-dir-race", lock_dir_race),
        ("lock-dir-modes", lock_dir_modes),
        ("foreign-files", foreign_files),
        ("foreign-semaphores", foreign_semaphores),
        ("shared-locks", shared_locks),
        ("failed-adoption", failed_adoption),
        ("held-lock", held_lock),
        ("private-tmp", private_tmp),
        ("cleaning-neighbour", cleaning_neighbour),
        ("writer", writer),
        ("reader", reader),
        ("keeper", keeper),
    ]);
}

fn config() -> BufferConfig {
    support::config().payload_size(1 << 16)
}

// ---- stages and attackers ----

/// Runs `role` as root with a private `/dev/shm` and `/tmp`.
#[track_caller]
fn stage(role: &str) {
    if !confine::is_root() {
        eprintln!("skipped: `{role}` plays two users, for which the tests must run as root");
        return;
    }
    let name = Name::new(role);
    let arguments = [&*name, &confine::mount_namespace()];
    let mut peer = Peer::start_through(&confine::unshare(&["--mount"]), role, &arguments, |_| {});
    let said = peer.hear();
    assert!(peer.wait().success(), "{role}: {said}");
    eprintln!("{role}: {said}");
    name.assert_nothing_left();
}

/// Makes the private folders that `stage` promised. Returns the buffer's name.
fn prepare(arguments: &[String]) -> &str {
    let [name, outer] = arguments else { panic!("name, mount namespace") };
    for folder in ["/dev/shm", "/tmp"] {
        confine::mount_tmpfs(folder, "mode=1777", outer);
    }
    name
}

fn paths(name: &str) -> [PathBuf; 4] {
    [
        format!("/dev/shm/{name}").into(),
        format!("/dev/shm/sem.sem-w-{name}").into(),
        format!("/dev/shm/sem.sem-r-{name}").into(),
        format!("{LOCK_DIR}/{name}.lock").into(),
    ]
}

/// A child of this process, as the user `user`. Killed when dropped.
struct Child(libc::pid_t);

impl Child {
    /// Runs `body` in a child and waits until it calls the function that it is given, or returns.
    fn start(user: u32, body: impl FnOnce(&dyn Fn())) -> Child {
        let mut pipe = [0; 2];
        // SAFETY: `pipe` has room for two descriptors.
        assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
        let [read, write] = pipe;
        // SAFETY: the child runs `body` and ends; these stages have one thread besides the test harness's.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                become_user(user);
                body(&|| {
                    // SAFETY: one byte of a live array, into the pipe.
                    unsafe { libc::write(write, [1_u8].as_ptr().cast(), 1) };
                });
            }));
            // SAFETY: ends this process without running what belongs to the parent.
            unsafe { libc::_exit(i32::from(result.is_err())) };
        }
        let mut byte = [0_u8];
        // SAFETY: plain system calls on the descriptors of the pipe; `byte` has room for the one byte.
        unsafe {
            libc::close(write);
            libc::read(read, byte.as_mut_ptr().cast(), 1);
            libc::close(read);
        }
        Child(pid)
    }

    /// Runs `body` to its end, which must be a good one.
    #[track_caller]
    fn run(user: u32, body: impl FnOnce()) {
        let mut child = Child::start(user, |_| body());
        assert_eq!(child.wait(), 0, "the child failed");
    }

    fn wait(&mut self) -> i32 {
        let (pid, mut status) = (std::mem::take(&mut self.0), 0);
        // SAFETY: `status` has room for the result; the child is this process's.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        status
    }

    fn kill(&mut self) {
        // SAFETY: plain system call; the child is this process's and not reaped.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        self.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.0 != 0 {
            self.kill();
        }
    }
}

fn become_user(user: u32) {
    // SAFETY: plain system calls; the pointer may be null when the count is 0. A change of user clears the signal that
    // ends a child together with its parent, so it is set again.
    unsafe {
        if user != 0 {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0, "setgroups");
            assert_eq!(libc::setgid(user), 0, "setgid");
            assert_eq!(libc::setuid(user), 0, "setuid");
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

/// Sleeps until killed.
fn stay() {
    loop {
        // SAFETY: plain system call.
        unsafe { libc::pause() };
    }
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Makes a file look as if it had stood there for a minute.
fn age(path: &Path) {
    let file = OpenOptions::new().read(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
}

fn clean_all() -> Vec<String> {
    let leftovers = cleanup::leftovers().unwrap();
    leftovers
        .iter()
        .filter(|leftover| matches!(leftover.remove(), Ok(true)))
        .map(|l| l.name().into())
        .collect()
}

// ---- peers that tests kill ----

fn writer(arguments: &[String]) {
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    writer.write_frame(b"frame").unwrap();
    say("connected");
    support::hear();
}

fn reader(arguments: &[String]) {
    let mode = u32::from_str_radix(&arguments[1], 8).unwrap();
    let _reader = Reader::create(&arguments[0], config().mode(mode)).unwrap();
    say("created");
    support::hear();
}

fn keeper(arguments: &[String]) {
    let _kept = KeptBuffer::create(&arguments[0], config()).unwrap();
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    writer.write_frame(b"kept frame").unwrap();
    say("kept");
    support::hear();
}

// ---- forged buffers ----

#[test]
fn a_buffer_that_another_user_keeps_is_not_taken_over() {
    stage("forged-kept");
}

fn forged_kept(arguments: &[String]) {
    let name = prepare(arguments);
    let mut attacker = Child::start(confine::NOBODY, |ready| {
        let _kept = KeptBuffer::create(name, config().mode(0o666)).unwrap();
        ready();
        stay();
    });
    for user in [0, VICTIM] {
        Child::run(user, || {
            for mode in [0o600, 0o666] {
                let error = Reader::create(name, config().mode(mode)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "user {user}: {error}");
                let message = error.to_string();
                assert!(message.contains("65534") && message.contains("another name"), "{message}");
            }
        });
    }
    assert!(inspect::snapshot(name).unwrap().kept, "the attacker's buffer is as it was");
    // Root's own buffers may be taken over by anyone whom their mode lets in.
    attacker.kill();
    say("refused");
}

#[test]
fn a_buffer_that_is_kept_with_a_wider_mode_than_asked_for_is_not_taken_over() {
    let name = Name::new("wide-kept");
    let mut peer = Peer::start("wide-kept", &[&name]);
    peer.expect("done");
    assert!(peer.wait().success());
    name.assert_nothing_left();
}

fn wide_kept(arguments: &[String]) {
    let name = arguments[0].as_str();
    let kept = KeptBuffer::create(name, config().mode(0o660)).unwrap();
    let error = Reader::create(name, config()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    assert!(error.to_string().contains("0o660"), "no way out told: {error}");
    // Its own mode, or one that lets more users in, is what the caller agreed to.
    let reader = Reader::create(name, config().mode(0o666)).unwrap();
    assert_eq!(fs::metadata(&paths(name)[0]).unwrap().permissions().mode() & 0o777, 0o660);
    drop((reader, kept));
    say("done");
}

#[test]
fn semaphores_of_a_stranger_are_not_used() {
    stage("forged-semaphores");
}

fn forged_semaphores(arguments: &[String]) {
    let name = prepare(arguments);
    let reader = Reader::create(name, config().mode(0o666)).unwrap();
    for which in [1, 2] {
        let path = &paths(name)[which];
        let genuine = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        Child::run(confine::NOBODY, || write_file(path, &genuine, 0o666));
        for user in [0, VICTIM] {
            Child::run(user, || {
                let error = Writer::connect(name).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
                assert!(error.to_string().contains("65534"), "{error}");
            });
        }
        fs::remove_file(path).unwrap();
        write_file(path, &genuine, 0o666);
        drop(Writer::connect(name).unwrap());
    }
    // The buffer of a keeper, with semaphores of a stranger.
    drop(reader);
    paths(name)[1..3].iter().for_each(|path| drop(fs::remove_file(path)));
    let kept = KeptBuffer::create(name, config()).unwrap();
    let path = &paths(name)[1];
    let genuine = fs::read(path).unwrap();
    fs::remove_file(path).unwrap();
    Child::run(confine::NOBODY, || write_file(path, &genuine, 0o666));
    assert_eq!(Reader::create(name, config()).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert!(inspect::snapshot(name).unwrap().kept);
    drop(kept);
    say("refused");
}

// ---- the folder of lock files ----

/// A folder of root's, and the names of what is in it.
const PRECIOUS: &str = "/tmp/root-only";

fn precious() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(PRECIOUS)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn make_precious() {
    fs::create_dir(PRECIOUS).unwrap();
    fs::set_permissions(PRECIOUS, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(format!("{PRECIOUS}/Cargo.lock"), "precious").unwrap();
    fs::write(format!("{PRECIOUS}/index.lock"), "").unwrap();
}

#[test]
fn a_link_in_the_place_of_the_lock_folder_leads_nowhere() {
    stage("lock-dir-link");
}

fn lock_dir_link(arguments: &[String]) {
    let name = prepare(arguments);
    make_precious();
    let before = precious();
    Child::run(confine::NOBODY, || symlink(PRECIOUS, LOCK_DIR).unwrap());
    let error = Reader::create(name, config()).unwrap_err();
    assert!(error.to_string().contains(LOCK_DIR) && error.to_string().contains("remove"), "{error}");
    // What the link leads to is neither listed nor changed.
    let error = cleanup::leftovers().unwrap_err();
    assert!(error.to_string().contains(LOCK_DIR), "{error}");
    assert_eq!(precious(), before);
    say("not followed");
}

#[test]
fn a_lock_folder_that_is_exchanged_with_a_link_leads_nowhere() {
    stage("lock-dir-race");
}

fn lock_dir_race(arguments: &[String]) {
    let name = prepare(arguments);
    make_precious();
    let before = precious();
    // The attacker was first, and made a folder that only root and its owner would use.
    Child::run(confine::NOBODY, || {
        fs::create_dir(LOCK_DIR).unwrap();
        fs::set_permissions(LOCK_DIR, fs::Permissions::from_mode(0o1777)).unwrap();
        symlink(PRECIOUS, "/tmp/link").unwrap();
        for lock in ["Cargo.lock", "index.lock"] {
            write_file(&Path::new(LOCK_DIR).join(lock), b"", 0o666);
        }
    });
    let flipper = Child::start(confine::NOBODY, |ready| {
        let [folder, link] = [LOCK_DIR, "/tmp/link"].map(|path| std::ffi::CString::new(path).unwrap());
        ready();
        loop {
            // SAFETY: both are C strings that outlive the call.
            let exchanged = unsafe {
                libc::renameat2(
                    libc::AT_FDCWD,
                    folder.as_ptr(),
                    libc::AT_FDCWD,
                    link.as_ptr(),
                    libc::RENAME_EXCHANGE,
                )
            };
            assert_eq!(exchanged, 0);
        }
    });
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < Duration::from_secs(2) {
        for leftover in cleanup::leftovers().unwrap_or_default() {
            let _ = leftover.remove();
        }
        drop(Reader::create(&format!("{name}-{rounds}"), config()));
        assert_eq!(precious(), before, "after {rounds} rounds");
        rounds += 1;
    }
    drop(flipper);
    assert_eq!(precious(), before);
    say(format!("nothing touched in {rounds} rounds"));
}

#[test]
fn a_lock_folder_is_used_only_where_others_cannot_change_its_files() {
    stage("lock-dir-modes");
}

fn lock_dir_modes(arguments: &[String]) {
    let name = prepare(arguments);
    for (mode, usable) in [(0o777, false), (0o755, false), (0o700, false), (0o1777, true)] {
        Child::run(confine::NOBODY, || {
            fs::create_dir(LOCK_DIR).unwrap();
            fs::set_permissions(LOCK_DIR, fs::Permissions::from_mode(mode)).unwrap();
        });
        for user in [0, VICTIM] {
            Child::run(user, || match Reader::create(name, config()) {
                Ok(_) => assert!(usable || user == 0, "{mode:o} {user}"),
                Err(error) => {
                    assert!(!usable, "{mode:o} {user}: {error}");
                    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{mode:o}: {error}");
                    assert!(
                        error.to_string().contains("chmod 1777 /tmp/zerobuffer"),
                        "no way out told: {error}"
                    );
                }
            });
        }
        if mode == 0o777 {
            // Any user could exchange the files of such a folder.
            assert_eq!(Reader::create(name, config()).unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
        // Its owner's next buffer mends the folder.
        Child::run(confine::NOBODY, || drop(Reader::create(name, config()).unwrap()));
        assert_eq!(fs::metadata(LOCK_DIR).unwrap().permissions().mode() & 0o7777, 0o1777, "after {mode:o}");
        fs::remove_dir(LOCK_DIR).unwrap();
    }
    say("used and refused");
}

// ---- files of other programs ----

#[test]
fn shared_memory_of_other_programs_stays_whatever_stands_beside_it() {
    stage("foreign-files");
}

fn foreign_files(arguments: &[String]) {
    let name = prepare(arguments);
    let foreign =
        [("random", vec![0xe7; 1 << 16]), ("zeros", vec![0; 4096]), ("short", vec![1; 7]), ("empty", vec![])];
    for (what, bytes) in &foreign {
        let path = PathBuf::from(format!("/dev/shm/{name}-{what}"));
        write_file(&path, bytes, 0o600);
        let id = fs::metadata(&path).unwrap().ino();
        Child::run(confine::NOBODY, || {
            for which in ["w", "r"] {
                let semaphore = PathBuf::from(format!("/dev/shm/sem.sem-{which}-{name}-{what}"));
                write_file(&semaphore, &[0; 32], 0o666);
                age(&semaphore);
            }
        });
        // A genuine semaphore of ZeroBuffer, made to name the foreign file as its own.
        Child::run(confine::NOBODY, || {
            let other = format!("{name}-other");
            let _kept = KeptBuffer::create(&other, config()).unwrap();
            let own = fs::metadata(format!("/dev/shm/{other}")).unwrap().ino();
            let mut genuine = fs::read(format!("/dev/shm/sem.sem-w-{other}")).unwrap();
            for at in 0..genuine.len() - 7 {
                if genuine[at..at + 8] == own.to_le_bytes() {
                    genuine[at..at + 8].copy_from_slice(&id.to_le_bytes());
                }
            }
            let semaphore = PathBuf::from(format!("/dev/shm/sem.sem-w-{name}-{what}"));
            write_file(&semaphore, &genuine, 0o666);
            age(&semaphore);
        });
        age(&path);
    }
    for user in [0, confine::NOBODY] {
        Child::run(user, || drop(clean_all()));
    }
    for (what, bytes) in &foreign {
        let buffer = format!("{name}-{what}");
        let error = Reader::create(&buffer, config()).unwrap_err();
        assert!(error.to_string().contains(&format!("/dev/shm/{buffer}")), "{error}");
        assert_eq!(&fs::read(format!("/dev/shm/{buffer}")).unwrap(), bytes, "{what}");
    }
    say("untouched");
}

#[test]
fn semaphores_of_other_programs_stay() {
    stage("foreign-semaphores");
}

fn foreign_semaphores(arguments: &[String]) {
    let name = prepare(arguments);
    // As another program's sem_open("/sem-r-...") makes it, and two that go together.
    let lone = PathBuf::from(format!("/dev/shm/sem.sem-r-{name}"));
    let pair = ["w", "r"].map(|which| PathBuf::from(format!("/dev/shm/sem.sem-{which}-{name}-pair")));
    for user in [0, VICTIM] {
        for path in [&lone].into_iter().chain(&pair) {
            Child::run(user, || write_file(path, &[0; 32], 0o600));
            age(path);
        }
        clean_all();
        assert!(lone.exists() && pair.iter().all(|path| path.exists()), "cleaned away");
        let error = Reader::create(name, config()).unwrap_err();
        assert!(error.to_string().contains(&*lone.to_string_lossy()), "{error}");
        assert!(lone.exists(), "the reader took another program's semaphore away");
        let buffer = format!("{name}-pair");
        if user != 0 {
            let error = Reader::create(&buffer, config()).unwrap_err();
            assert!(error.to_string().contains("sem.sem-w-"), "{error}");
            assert!(pair.iter().all(|path| path.exists()), "the reader took another user's semaphores away");
        }
        // The user's own two under the very names that the buffer needs are what 1.x readers leave behind.
        Child::run(user, || drop(Reader::create(&buffer, config()).unwrap()));
        assert!(pair.iter().all(|path| !path.exists()));
        fs::remove_file(&lone).unwrap();
    }
    say("untouched");
}

// ---- users who may only read ----

#[test]
fn users_who_may_only_read_cannot_hide_a_death() {
    stage("shared-locks");
}

/// Takes a shared lock on `len` bytes of a file at `start`, as anyone who may read it can. 0 bytes: up to its end.
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
    let mut dead_reader = Peer::start("reader", &[name, "644"]);
    dead_reader.expect("created");
    let mut live_writer = Peer::start("writer", &[name]);
    live_writer.expect("connected");
    dead_reader.kill();
    live_writer.kill();
    let attacker = Child::start(confine::NOBODY, locker(all, false));
    // The dead are dead, their files go, and the next reader comes at once.
    let snapshot = inspect::snapshot(name).unwrap();
    assert_eq!(snapshot.reader.presence, inspect::Presence::Dead);
    assert_eq!(snapshot.writer.presence, inspect::Presence::Dead);
    drop(Reader::create(name, config().mode(0o644)).unwrap());
    drop(attacker);

    let mut reader = Peer::start("reader", &[name, "644"]);
    reader.expect("created");
    reader.kill();
    let attacker = Child::start(confine::NOBODY, locker(all, false));
    assert_eq!(clean_all(), [name]);
    drop(attacker);

    // A reader learns of its writer's death, and the next writer is told what stands in its way.
    let mut reader = Reader::create(name, config().mode(0o644)).unwrap();
    let mut writer = Peer::start("writer", &[name]);
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

// ---- adoption ----

#[test]
fn an_adoption_that_fails_leaves_the_buffer_kept() {
    stage("failed-adoption");
}

fn failed_adoption(arguments: &[String]) {
    let name = prepare(arguments);
    fs::create_dir(LOCK_DIR).unwrap();
    fs::set_permissions(LOCK_DIR, fs::Permissions::from_mode(0o1777)).unwrap();
    let mut keeper = Peer::start_with("keeper", &[name], |_| {});
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
    stage("held-lock");
}

fn held_lock(arguments: &[String]) {
    let name = prepare(arguments);
    let mut delayed = 0;
    for round in 0..12 {
        let name = &format!("{name}-{round}");
        let mut keeper = Peer::start("keeper", &[name]);
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

// ---- two folders of lock files, one /dev/shm ----

#[test]
fn peers_with_another_tmp_do_not_take_each_others_files_away() {
    stage("private-tmp");
}

fn private_tmp(arguments: &[String]) {
    let name = prepare(arguments);
    let rounds = if support::full() { 20_000 } else { 2_000 };
    let outer = confine::mount_namespace();
    let wrapper = confine::unshare(&["--mount"]);
    let arguments = [name, outer.as_str(), &rounds.to_string()];
    let mut peers = [(); 2].map(|()| Peer::start_through(&wrapper, "cleaning-neighbour", &arguments, |_| {}));
    peers.iter_mut().for_each(|peer| peer.expect("here"));
    peers.iter_mut().for_each(|peer| peer.tell("go"));
    let said: Vec<String> = peers.iter_mut().map(Peer::hear).collect();
    assert!(peers.iter_mut().all(|peer| peer.wait().success()), "{said:?}");
    say(said.join("; "));
}

/// Creates, uses and removes a buffer whose name a neighbour with another `/tmp` uses, too.
fn cleaning_neighbour(arguments: &[String]) {
    let [name, outer, rounds] = arguments else { panic!("name, mount namespace, rounds") };
    confine::mount_tmpfs("/tmp", "mode=1777", outer);
    say("here");
    support::hear();
    let mut created = 0;
    for round in 0..rounds.parse::<u32>().unwrap() {
        match Reader::create(name, config()) {
            Ok(mut reader) => {
                let ids = || {
                    paths(name)[..3]
                        .iter()
                        .map(|path| fs::metadata(path).map(|found| found.ino()).ok())
                        .collect()
                };
                let before: Vec<Option<u64>> = ids();
                assert!(before.iter().all(Option::is_some), "round {round}: {before:?}");
                let mut writer = Writer::connect(name).unwrap();
                writer.write_frame(b"mine").unwrap();
                assert_eq!(&*reader.read_frame(PATIENCE).unwrap().unwrap(), b"mine");
                let after: Vec<Option<u64>> = ids();
                assert_eq!(before, after, "round {round}: files of a live buffer were replaced");
                created += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ReaderAlreadyConnected, "round {round}: {error}")
            }
        }
        if round % 7 == 0 {
            clean_all();
        }
    }
    say(format!("created {created} times"));
}
