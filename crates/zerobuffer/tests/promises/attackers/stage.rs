//! The stage, and the users on it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use zerobuffer::{BufferConfig, cleanup};

use crate::support::{self, Name, Peer, Role, confine};

pub(crate) const LOCK_DIR: &str = "/tmp/zerobuffer";

/// The ordinary user of a stage; the attackers are `confine::NOBODY`.
pub(crate) const VICTIM: u32 = 1000;

pub(crate) fn config() -> BufferConfig {
    support::config().payload_size(1 << 16)
}

/// Runs `role` as root with a private `/dev/shm` and `/tmp`.
#[track_caller]
pub(crate) fn stage(role: Role) {
    if !confine::is_root() {
        eprintln!("skipped: `{}` plays two users, for which the tests must run as root", role.name());
        return;
    }
    let name = Name::new(role.name());
    let arguments = [&*name, &confine::mount_namespace()];
    let mut peer = Peer::start_through(&confine::unshare(&["--mount"]), role, &arguments, |_| {});
    let said = peer.hear();
    assert!(peer.wait().success(), "{}: {said}", role.name());
    eprintln!("{}: {said}", role.name());
    name.assert_nothing_left();
}

/// Makes the private folders that `stage` promised. Returns the buffer's name.
pub(crate) fn prepare(arguments: &[String]) -> &str {
    let [name, outer] = arguments else { panic!("name, mount namespace") };
    for folder in ["/dev/shm", "/tmp"] {
        confine::mount_tmpfs(folder, "mode=1777", outer);
    }
    name
}

pub(crate) fn paths(name: &str) -> [PathBuf; 4] {
    [
        format!("/dev/shm/{name}").into(),
        format!("/dev/shm/sem.sem-w-{name}").into(),
        format!("/dev/shm/sem.sem-r-{name}").into(),
        format!("{LOCK_DIR}/{name}.lock").into(),
    ]
}

/// A child of this process, as the user `user`. Killed when dropped.
pub(crate) struct Child(libc::pid_t);

impl Child {
    /// Runs `body` in a child and waits until it calls the function that it is given, or returns.
    pub(crate) fn start(user: u32, body: impl FnOnce(&dyn Fn())) -> Child {
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

    /// Runs `body` to its end, which must be a success.
    #[track_caller]
    pub(crate) fn run(user: u32, body: impl FnOnce()) {
        let mut child = Child::start(user, |_| body());
        assert_eq!(child.wait(), 0, "the child failed");
    }

    fn wait(&mut self) -> i32 {
        let (pid, mut status) = (std::mem::take(&mut self.0), 0);
        // SAFETY: `status` has room for the result; the child is this process's.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        status
    }

    pub(crate) fn kill(&mut self) {
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

pub(crate) fn become_user(user: u32) {
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
pub(crate) fn stay() {
    loop {
        // SAFETY: plain system call.
        unsafe { libc::pause() };
    }
}

pub(crate) fn write_file(path: &Path, bytes: &[u8], mode: u32) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Makes a file look a minute old.
pub(crate) fn age(path: &Path) {
    let file = OpenOptions::new().read(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
}

pub(crate) fn clean_all() -> Vec<String> {
    let leftovers = cleanup::leftovers().unwrap();
    leftovers
        .iter()
        .filter(|leftover| matches!(leftover.remove(), Ok(true)))
        .map(|l| l.name().into())
        .collect()
}
