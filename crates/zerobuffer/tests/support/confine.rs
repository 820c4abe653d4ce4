//! Peers in namespaces of their own, as another user, under limits.

use std::time::Duration;

/// The other user that peers can become.
pub const NOBODY: u32 = 65534;

/// Whether this process is root.
pub fn is_root() -> bool {
    // SAFETY: plain system call.
    unsafe { libc::geteuid() == 0 }
}

/// Reports that a test is skipped because it needs root.
#[track_caller]
pub fn need_root(what: &str) {
    assert!(is_root(), "{what} needs root: run the tests as root, or in a container as its root");
}

/// A wrapper for `Peer::start_through` that starts a peer in new namespaces (`--pid`, `--mount`, `--time` ...). The peer
/// dies with the wrapper.
#[track_caller]
pub fn unshare(flags: &[&str]) -> Vec<String> {
    let path = "/usr/bin/unshare";
    assert!(std::path::Path::new(path).exists(), "{path} is missing: install the package util-linux");
    let mut wrapper = vec![path.to_owned(), "--fork".to_owned(), "--kill-child".to_owned()];
    if !is_root() {
        wrapper.extend(["--user", "--map-root-user"].map(str::to_owned));
    }
    wrapper.extend(flags.iter().map(|flag| (*flag).to_owned()));
    wrapper
}

/// The mount namespace of this process, to tell a peer which one it must not be in.
pub fn mount_namespace() -> String {
    let link = std::fs::read_link("/proc/self/ns/mnt").expect("/proc is mounted");
    link.into_os_string().into_string().expect("plain text")
}

/// Mounts a fresh tmpfs over `path`. Only for a peer in a mount namespace of its own (`unshare --mount`), which is not
/// `outer`, that of the test.
pub fn mount_tmpfs(path: &str, options: &str, outer: &str) {
    assert_ne!(mount_namespace(), outer, "this would hide the files of everybody else");
    let c = |text: &str| std::ffi::CString::new(text).expect("no zero byte");
    let (source, target, kind, options) = (c("tmpfs"), c(path), c("tmpfs"), c(options));
    // SAFETY: all four are C strings that outlive the call.
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            0,
            options.as_ptr().cast::<libc::c_void>(),
        )
    };
    assert_eq!(result, 0, "cannot mount a tmpfs on {path}: {}", std::io::Error::last_os_error());
}

/// Makes `path` read-only for all who open files there from now on. Only for a peer in a mount namespace of its own, which is not
/// `outer`, that of the test.
pub fn make_read_only(path: &std::ffi::CStr, outer: &str) {
    assert_ne!(mount_namespace(), outer, "this would keep everybody else from writing");
    for flags in [libc::MS_BIND, libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY] {
        let none = std::ptr::null();
        // SAFETY: the path is a C string that outlives the call; the others are not read by these kinds of mounting.
        let result =
            unsafe { libc::mount(path.as_ptr(), path.as_ptr(), none, flags, none.cast::<libc::c_void>()) };
        assert_eq!(result, 0, "cannot make {path:?} read-only: {}", std::io::Error::last_os_error());
    }
}

/// Lowers a resource limit of this process, permanently.
pub fn limit(resource: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` is a valid struct that outlives the call.
    let result = unsafe { libc::setrlimit(resource, &raw const limit) };
    assert_eq!(result, 0, "setrlimit: {}", std::io::Error::last_os_error());
}

/// Lets this process have as many descriptors as it may.
pub fn allow_many_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for both calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

/// Makes the kernel refuse a system call of this thread (EPERM), permanently.
pub fn refuse(system_call: libc::c_long) {
    let step = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let [load, compare, give] = [
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    ];
    // The number is the first word that a filter sees.
    let mut filter = [
        step(load, 0, 0, 0),
        step(compare, u32::try_from(system_call).expect("a number"), 0, 1),
        step(give, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
        step(give, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its steps outlive the calls, which copy them.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    assert_eq!(result, 0, "cannot set a filter: {}", std::io::Error::last_os_error());
}

/// Makes this process another user's, permanently.
pub fn become_nobody() {
    become_nobody_of(NOBODY);
}

/// Like [`become_nobody`], but with the group `group`.
pub fn become_nobody_of(group: libc::gid_t) {
    // SAFETY: plain system calls; the pointer may be null when the count is 0. A change of user clears the signal that
    // ends a peer together with its parent, so it is set again.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0, "setgroups");
        assert_eq!(libc::setgid(group), 0, "setgid");
        assert_eq!(libc::setuid(NOBODY), 0, "setuid");
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

/// Binds this thread to one core: 0 is the first that it may use, 1 the next one if there is one.
pub fn run_on_core(which: usize) {
    // SAFETY: a cpu_set_t is plain bits, for which zero is a value; it outlives the calls, which get its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &raw mut set), 0);
        let cores: Vec<usize> =
            (0..libc::CPU_SETSIZE as usize).filter(|core| libc::CPU_ISSET(*core, &set)).collect();
        libc::CPU_ZERO(&mut set);
        libc::CPU_SET(cores[which % cores.len()], &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set), 0);
    }
}

/// How often this thread has gone to sleep.
pub fn thread_sleeps() -> u64 {
    // SAFETY: a rusage is plain numbers, and `usage` has room for the result.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
        usage
    };
    usage.ru_nvcsw.cast_unsigned()
}

/// CPU time that this thread has used.
pub fn thread_cpu() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` has room for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec.try_into().expect("nanoseconds"))
}
