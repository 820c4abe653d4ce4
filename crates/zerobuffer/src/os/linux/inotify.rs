//! UNSAFE: what the kernel tells of open files: that a process closes one, and that one loses its name.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io::{Error, Result};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::time::Duration;

use super::files::{c_path, check, own, proc_path};
use super::fork;
use super::segment::Segment;
use crate::os::{FileEvent, WatchId};

/// What is wanted of each file. Roles are held through descriptors that were opened for writing, so a tool that only looks
/// causes no event.
const EVENTS: u32 = libc::IN_CLOSE_WRITE | libc::IN_ATTRIB | libc::IN_MOVE_SELF;

/// Room for many events, which have no names here.
const ROOM: usize = 4096;

/// An inotify instance. It is closed in forked children, which would share its queue with their parent.
pub(crate) struct FileWatch(fork::Slot);

impl FileWatch {
    /// A new instance. The number that a user may have is limited (`fs.inotify.max_user_instances`).
    pub(crate) fn new() -> Result<FileWatch> {
        let open = || {
            // SAFETY: the call takes no pointers.
            own(check(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })?)
        };
        fork::Slot::enter(open).map(FileWatch)
    }

    /// Watches the file of `segment`, whether it has a name or not, until `remove`; `opens`: also that it is opened. The same
    /// file has the same id, and loses no event that was asked for before.
    pub(crate) fn add(&self, segment: &Segment, opens: bool) -> Result<WatchId> {
        let path = c_path(&proc_path(segment.0.as_fd()))?;
        let events = EVENTS | libc::IN_MASK_ADD | if opens { libc::IN_OPEN } else { 0 };
        // SAFETY: `path` is a C string that outlives the call. A descriptor of -1 fails with EBADF.
        let id = check(unsafe { libc::inotify_add_watch(self.0.fd(), path.as_ptr(), events) })?;
        Ok(WatchId(id))
    }

    /// Ends a watch. Its file may have gone meanwhile.
    pub(crate) fn remove(&self, id: WatchId) {
        // SAFETY: the call takes no pointers. It fails if there is no such watch.
        unsafe { libc::inotify_rm_watch(self.0.fd(), id.0) };
    }

    /// Waits up to `limit` (`None`: without a limit) until there are events, and hands over those that are there. May return early.
    pub(crate) fn events(&self, limit: Option<Duration>, each: &mut dyn FnMut(FileEvent)) {
        let mut queue = libc::pollfd { fd: self.0.fd(), events: libc::POLLIN, revents: 0 };
        let time = limit.map(|limit| libc::timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let time = time.as_ref().map_or(std::ptr::null(), |time| &raw const *time);
        // SAFETY: `queue` is one pollfd; `time` is null or a valid timespec; a null mask changes no signal.
        if unsafe { libc::ppoll(&raw mut queue, 1, time, std::ptr::null()) } <= 0 {
            return;
        }
        let mut room = [MaybeUninit::<u8>::uninit(); ROOM];
        // SAFETY: the array is valid for writes of its length.
        let read = unsafe { libc::read(queue.fd, room.as_mut_ptr().cast(), ROOM) };
        let Ok(read) = usize::try_from(read) else { return };
        const HEAD: usize = size_of::<libc::inotify_event>();
        let mut at = 0;
        while at + HEAD <= read {
            // SAFETY: the kernel has filled in `read` bytes with whole events, of which one begins here.
            let event =
                unsafe { std::ptr::read_unaligned(room.as_ptr().add(at).cast::<libc::inotify_event>()) };
            at += HEAD + event.len as usize;
            let is = |bits: u32| event.mask & bits != 0;
            if is(libc::IN_Q_OVERFLOW) {
                each(FileEvent::Lost);
            } else if is(libc::IN_ATTRIB | libc::IN_MOVE_SELF) {
                each(FileEvent::Renamed(WatchId(event.wd)));
            } else if is(libc::IN_CLOSE_WRITE) {
                each(FileEvent::Closed(WatchId(event.wd)));
            } else if is(libc::IN_OPEN) {
                each(FileEvent::Opened(WatchId(event.wd)));
            }
        }
    }
}

/// Starts a thread of this library that lasts as long as the process, and takes none of its signals.
pub(crate) fn spawn_background(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    keep_code_loaded();
    let (mut all, mut before) = (MaybeUninit::<libc::sigset_t>::uninit(), MaybeUninit::uninit());
    // SAFETY: both have room for a set of signals; sigfillset fills in the first, pthread_sigmask the second.
    let blocked = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr())
    };
    if blocked != 0 {
        return Err(Error::from_raw_os_error(blocked));
    }
    // The thread begins with this thread's mask.
    let thread = spawn(name, 256 << 10, body);
    // SAFETY: `before` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    thread
}

/// Starts a thread of this library for any code of the program: it takes the signals that the calling thread takes, and its stack is
/// large.
pub(crate) fn spawn_for_callbacks(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    keep_code_loaded();
    spawn(name, 8 << 20, body)
}

fn spawn(name: &str, stack: usize, body: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name(name.into()).stack_size(stack).spawn(|| {
        // SAFETY: prctl takes no pointers here. Without it the timers of this thread are 50 us late.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000) };
        body();
    });
    thread.map(drop)
}

/// Keeps the code of this library in memory after a dlclose(3): a thread still runs it.
///
/// A program's own code stays in any case. Its name is not to be opened: it may lead to another file by now, even to a FIFO, if the program
/// was started by the number of a descriptor.
#[cfg(target_env = "gnu")]
fn keep_code_loaded() {
    /// The beginning of glibc's `struct link_map` (link.h).
    #[repr(C)]
    struct Object {
        address: usize,
        /// Empty for the program itself.
        name: *const libc::c_char,
    }
    const RTLD_DL_LINKMAP: c_int = 2;
    let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
    let mut object: *mut Object = std::ptr::null_mut();
    let here: fn() = keep_code_loaded;
    // SAFETY: `found` and `object` have room for the results. An object that is found lives as long as its code is loaded, which runs
    // here, and so does its name, a C string. NOLOAD opens no file whose name is that of a loaded object.
    unsafe {
        let place = (&raw mut object).cast::<*mut libc::c_void>();
        let known = libc::dladdr1(here as *const libc::c_void, found.as_mut_ptr(), place, RTLD_DL_LINKMAP);
        if known == 0 || object.is_null() || (*object).name.is_null() || *(*object).name == 0 {
            return;
        }
        libc::dlopen((*object).name, libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE);
    }
}

/// Other C libraries keep all code that was loaded.
#[cfg(not(target_env = "gnu"))]
fn keep_code_loaded() {}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Instant;

    use super::*;

    fn events_of(watch: &FileWatch) -> Vec<FileEvent> {
        let mut events = Vec::new();
        watch.events(Some(Duration::ZERO), &mut |event| events.push(event));
        events
    }

    #[test]
    fn a_close_after_writing_and_a_lost_name_are_told_and_a_look_is_not() {
        let name = format!("unit-inotify-{}", std::process::id());
        let segment = Segment::create_unnamed(0o600).unwrap();
        segment.link(&name).unwrap();
        let watch = FileWatch::new().unwrap();
        let id = watch.add(&segment, false).unwrap();
        assert_eq!(watch.add(&segment, false).unwrap(), id, "the file has one watch");
        drop(Segment::open(&name, false).unwrap());
        assert_eq!(events_of(&watch), [], "a tool that looks");
        drop(Segment::open(&name, true).unwrap());
        assert_eq!(events_of(&watch), [FileEvent::Closed(id)]);
        std::fs::remove_file(super::super::Folder::shared_memory().path_of(&name)).unwrap();
        assert_eq!(events_of(&watch), [FileEvent::Renamed(id)]);
        watch.remove(id);
        drop(segment.role_file().unwrap());
        assert_eq!(events_of(&watch), [], "after the watch has ended");
    }

    #[test]
    fn an_open_is_told_once_it_was_asked_for_whoever_watches_the_file_too() {
        let segment = Segment::create_unnamed(0o600).unwrap();
        let watch = FileWatch::new().unwrap();
        let id = watch.add(&segment, true).unwrap();
        for opens in [true, false] {
            assert_eq!(watch.add(&segment, opens).unwrap(), id);
            drop(segment.role_file().unwrap());
            assert_eq!(events_of(&watch), [FileEvent::Opened(id), FileEvent::Closed(id)]);
        }
    }

    #[test]
    fn a_wait_for_events_ends_with_its_limit_or_an_event() {
        let segment = Segment::create_unnamed(0o600).unwrap();
        let watch = FileWatch::new().unwrap();
        let id = watch.add(&segment, false).unwrap();
        let start = Instant::now();
        watch.events(Some(Duration::from_millis(20)), &mut |event| panic!("{event:?}"));
        assert!(start.elapsed() >= Duration::from_millis(20));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let mut seen = Vec::new();
                watch.events(None, &mut |event| seen.push(event));
                seen
            });
            std::thread::sleep(Duration::from_millis(20));
            drop(segment.role_file().unwrap());
            assert_eq!(waits.join().unwrap(), [FileEvent::Closed(id)]);
        });
    }

    #[test]
    fn a_background_thread_takes_no_signal() {
        let (tell, told) = std::sync::mpsc::channel();
        let body = move || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            tell.send(status).unwrap();
        };
        spawn_background("zb-unit", body).unwrap();
        let blocked = |status: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim();
            u64::from_str_radix(line, 16).unwrap()
        };
        let theirs = blocked(&told.recv().unwrap());
        // Two real-time signals are glibc's own; KILL and STOP cannot be blocked.
        let never = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1) | 0b11 << 31;
        assert_eq!(theirs | never, u64::MAX);
        let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert_eq!(blocked(&own), 0, "the mask of the thread that starts it is as before");
    }
}
