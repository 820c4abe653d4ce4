//! UNSAFE: processes and clocks.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::files::{check, open_path};
use crate::os::FileId;

unsafe extern "C" {
    // Not in the libc crate for Linux.
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

const PTHREAD_CANCEL_DISABLE: c_int = 1;

/// While this lives, a `pthread_cancel` of this thread waits: it would unwind through Rust code, which ends the process.
pub(crate) struct Uncancelled {
    old: c_int,
    /// The state is that of the thread.
    not_send: std::marker::PhantomData<*mut ()>,
}

impl Uncancelled {
    /// Turns cancellation of this thread off.
    pub(crate) fn new() -> Uncancelled {
        let mut old = 0;
        // SAFETY: `old` has room for the result; the state is one that pthread_setcancelstate(3) knows.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut old) };
        Uncancelled { old, not_send: std::marker::PhantomData }
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        let mut disabled = 0;
        // SAFETY: `disabled` has room for the result; the state is one that the function returned. It is no cancellation point.
        unsafe { pthread_setcancelstate(self.old, &raw mut disabled) };
    }
}

/// Whether a process with this pid lives, in this process's pid namespace. Another user's process counts too.
/// A process that has ended and waits to be reaped by its parent does not live.
pub(crate) fn process_exists(pid: u64) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    if pid <= 0 {
        return false;
    }
    // SAFETY: signal 0 sends nothing; the call takes no pointers.
    match check(unsafe { libc::kill(pid, 0) }) {
        Ok(_) => !is_zombie(pid),
        Err(error) => error.raw_os_error() != Some(libc::ESRCH),
    }
}

/// Whether all threads of a process have ended. In proc_pid_stat(5) field 3 is the state and field 20 the
/// number of threads; a process of which only the first thread has ended also shows state Z.
fn is_zombie(pid: libc::pid_t) -> bool {
    let path = format!("/proc/{pid}/stat");
    let stat =
        open_path(Path::new(&path), libc::O_RDONLY, 0).map(File::from).and_then(std::io::read_to_string);
    let Ok(stat) = stat else { return false };
    // The name in field 2 may contain anything, also `)`.
    let Some((_, fields)) = stat.rsplit_once(')') else { return false };
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next();
    let threads = fields.nth(16).and_then(|field| field.parse::<u32>().ok());
    matches!(state, Some("Z" | "X")) && threads.is_some_and(|threads| threads <= 1)
}

/// Whether a process has mapped a file; `None` if that cannot be told, as of another user's process. In proc_pid_maps(5) field 4
/// is the device and field 5 the inode number.
pub(crate) fn process_maps(pid: u64, file: FileId) -> Option<bool> {
    let path = format!("/proc/{pid}/maps");
    let mut maps = File::from(open_path(Path::new(&path), libc::O_RDONLY, 0).ok()?);
    let mut text = Vec::new();
    maps.read_to_end(&mut text).ok()?;
    let device = format!("{:02x}:{:02x}", libc::major(file.device), libc::minor(file.device));
    let inode = file.inode.to_string();
    Some(text.split(|byte| *byte == b'\n').any(|line| {
        // A path may contain anything, but stands behind these fields.
        let mut fields = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty()).skip(3);
        fields.next() == Some(device.as_bytes()) && fields.next() == Some(inode.as_bytes())
    }))
}

/// Returns nanoseconds instead of a `Duration`, whose arithmetic would take longer than reading the coarse
/// clock.
fn clock(id: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` has room for the result; the clocks asked for exist on every Linux.
    unsafe { libc::clock_gettime(id, &raw mut now) };
    // The clock counts from the start of the machine, so neither value is negative, and 64 bits last for 584
    // years.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The monotonic clock in nanoseconds: equal in all processes of one time namespace.
pub(crate) fn monotonic_now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// How far the monotonic clock of this process is ahead of the clock outside all time namespaces, in
/// nanoseconds.
pub(crate) fn monotonic_offset() -> i64 {
    // The file has the offsets of the children's namespace, which is also this process's namespace unless it
    // has just made a new one.
    let namespace = |name| std::fs::read_link(format!("/proc/self/ns/{name}")).ok();
    if namespace("time") != namespace("time_for_children") {
        return 0;
    }
    std::fs::read_to_string("/proc/self/timens_offsets").map_or(0, |text| offset_in(&text).unwrap_or(0))
}

/// The offset in a text like "monotonic 10 0" (seconds and nanoseconds), a clock a line.
fn offset_in(text: &str) -> Option<i64> {
    let mut fields = text.lines().find(|line| line.starts_with("monotonic"))?.split_ascii_whitespace();
    let (seconds, nanoseconds): (i64, i64) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// The monotonic clock to within a few milliseconds, read in a few nanoseconds.
pub(crate) fn coarse_now() -> u64 {
    clock(libc::CLOCK_MONOTONIC_COARSE)
}

/// Lets this thread run on one processor alone, the `nth` of those that it may run on. Returns whether there is one.
#[cfg(all(test, not(loom)))]
pub(crate) fn pin_thread(nth: usize) -> bool {
    // SAFETY: a set of processors is plain integers, and the kernel writes no more than its size.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        let size = size_of::<libc::cpu_set_t>();
        if libc::sched_getaffinity(0, size, &raw mut allowed) != 0 {
            return false;
        }
        let mut usable = (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &allowed));
        let Some(cpu) = usable.nth(nth) else { return false };
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut one);
        libc::sched_setaffinity(0, size, &raw const one) == 0
    }
}

/// Kills or halts this process; for stop points.
#[cfg(feature = "stop-points")]
pub(crate) fn stop_self(kill: bool) {
    let signal = if kill { libc::SIGKILL } else { libc::SIGSTOP };
    // Sends the signal to this thread. A signal to the process may stop another thread first, and this thread
    // only a few stores later.
    // SAFETY: raise takes no pointers. Both signals act on the whole process.
    unsafe { libc::raise(signal) };
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn clocks_count_nanoseconds() {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` has room for the result.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        let since_boot = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
        for clock in [monotonic_now(), coarse_now()] {
            let differs = Duration::from_nanos(clock).abs_diff(since_boot);
            assert!(differs < Duration::from_secs(10), "{clock} is not {since_boot:?}");
        }
    }

    #[test]
    fn the_offset_of_a_time_namespace_is_read() {
        assert_eq!(
            offset_in("monotonic     1000000         5\nboottime      7         0\n"),
            Some(1_000_000_000_000_005)
        );
        assert_eq!(offset_in("monotonic           -2         500000000\n"), Some(-1_500_000_000));
        for bad in [
            "",
            "boottime 1 0",
            "monotonic",
            "monotonic 1",
            "monotonic x 0",
            "monotonic 9223372036854775807 0",
        ] {
            assert_eq!(offset_in(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_mapped_file_is_found_among_the_mappings_of_its_process() {
        use crate::os::{Segment, map_shared, unmap};
        let own = std::process::id().into();
        let segment = Segment::create_unnamed(0o600).unwrap();
        segment.set_len(4096).unwrap();
        let file = segment.id().unwrap();
        assert_eq!(process_maps(own, file), Some(false));
        let base = map_shared(&segment, 4096, false).unwrap();
        assert_eq!(process_maps(own, file), Some(true));
        assert_eq!(process_maps(own, FileId { device: file.device ^ 1, ..file }), Some(false));
        assert_eq!(process_maps(own, FileId { inode: u64::MAX, ..file }), Some(false));
        // SAFETY: mapped above with this length, and not used.
        unsafe { unmap(base, 4096) };
        assert_eq!(process_maps(own, file), Some(false));
        assert_eq!(process_maps(u64::MAX, file), None);
    }

    #[test]
    fn a_process_that_ended_is_gone_before_it_is_reaped() {
        assert!(process_exists(std::process::id().into()));
        assert!(process_exists(1));
        assert!(!process_exists(0) && !process_exists(u64::MAX));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = u64::from(child.id());
        assert!(process_exists(pid));
        child.kill().unwrap();
        let start = std::time::Instant::now();
        while process_exists(pid) {
            assert!(start.elapsed() < Duration::from_secs(10), "a zombie counts as alive");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!process_exists(pid));
    }
}
