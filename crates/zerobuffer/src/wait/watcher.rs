//! The watcher: one thread of a process that learns from the kernel when a peer may have gone, so that all its sleepers can sleep
//! without a limit.
//!
//! The kernel tells of a file that is being closed *before* it drops the file's locks, in the same breath as a rule. So the
//! watcher looks at the peer's role at once, then after 20 us, 40 us ... 20 ms, and rings for the sleeper as soon as the role is
//! free. One second after the event it rings in any case, and lets the sleeper look for itself: whatever befell the
//! peer, and whatever process took its place, it is seen then (docs/PROTOCOL.md, "Watching a role").
//!
//! The thread starts with the first sleep that needs it, and lasts as long as the process. While nothing happens it does not wake.

use std::collections::HashMap;
use std::io::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::os::{self, FileEvent, WatchId};

/// What the watcher does for one handle.
pub(crate) trait Watched: Send + Sync {
    /// Looks at the peer.
    fn look(&self) -> PeerLook;
    /// Tells the handle that there is news, and wakes what sleeps for it. `names`: its file may have lost its name.
    fn tell(&self, names: bool);
}

/// What a look finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerLook {
    /// No process has the peer's role.
    Gone,
    /// The peer's role is held, and the process that held it last may have died just as it woke this side.
    Unsettled,
    /// There is no news.
    Quiet,
}

/// After the look at an event, the first of the next ones.
const FIRST_PAUSE: Duration = Duration::from_micros(20);
/// Each pause is twice the one before, up to this one.
const LAST_PAUSE: Duration = Duration::from_millis(20);
/// How long after an event the sleeper is woken in any case.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// While events bring no news, they are read this rarely: at first, and in the end.
const FIRST_REST: Duration = Duration::from_millis(1);
const LONGEST_REST: Duration = Duration::from_millis(20);
/// After one that did.
const SHORT_REST: Duration = Duration::from_micros(100);

/// The looks that follow an event.
struct Looks {
    began: Instant,
    due: Instant,
    /// Before the look after the next one; `None`: the next one is the last.
    pause: Option<Duration>,
}

impl Looks {
    fn begin(now: Instant) -> Looks {
        Looks { began: now, due: now, pause: Some(FIRST_PAUSE) }
    }

    /// Plans the look after the one that was just made.
    fn next(&mut self, now: Instant) {
        match self.pause {
            Some(pause) if pause <= LAST_PAUSE => {
                self.due = now + pause;
                self.pause = Some(pause * 2);
            }
            _ => {
                self.due = self.began + LAST_LOOK;
                self.pause = None;
            }
        }
    }

    fn is_last(&self) -> bool {
        self.pause.is_none()
    }
}

type Handles = HashMap<WatchId, Vec<Weak<dyn Watched>>>;

/// The watcher of this process.
struct Watcher {
    files: os::FileWatch,
    handles: Mutex<Handles>,
    started: AtomicBool,
}

static WATCHER: os::OfProcess<Watcher> = os::OfProcess::new();

impl Watcher {
    fn of_process() -> Result<&'static Watcher> {
        let make = || {
            let started = AtomicBool::new(false);
            Ok(Watcher { files: os::FileWatch::new()?, handles: Mutex::default(), started })
        };
        let watcher = WATCHER.get_or_make(make)?;
        // Relaxed: it only tells one thread from the others.
        if !watcher.started.load(Ordering::Relaxed) && !watcher.started.swap(true, Ordering::Relaxed) {
            os::spawn_background("zb-watcher", || watcher.run())
                .inspect_err(|_| watcher.started.store(false, Ordering::Relaxed))?;
        }
        Ok(watcher)
    }

    fn handles(&self) -> MutexGuard<'_, Handles> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handles that watch the file of `id`; all handles if there is none.
    fn those_of(&self, id: Option<WatchId>) -> Vec<Arc<dyn Watched>> {
        let handles = self.handles();
        let live = |list: &Vec<Weak<dyn Watched>>| list.iter().filter_map(Weak::upgrade).collect();
        match id {
            Some(id) => handles.get(&id).map(live).unwrap_or_default(),
            None => handles.values().flat_map(live).collect(),
        }
    }

    /// The thread.
    fn run(&self) {
        let mut looks: HashMap<WatchId, Looks> = HashMap::new();
        let mut rest = Duration::ZERO;
        let mut read_at = Instant::now();
        loop {
            let due = looks.values().map(|looks| looks.due).min();
            let now = Instant::now();
            if now < read_at {
                std::thread::sleep(
                    due.map_or(read_at, |due| due.min(read_at)).saturating_duration_since(now),
                );
            } else {
                let limit = due.map(|due| due.saturating_duration_since(now));
                let mut any = false;
                self.files.events(limit, &mut |event| {
                    any = true;
                    self.note(event, &mut looks);
                });
                if any {
                    // One that comes after a long silence is read at once.
                    let calm = now.duration_since(read_at) > LONGEST_REST;
                    rest = if calm { FIRST_REST } else { (rest * 2).clamp(FIRST_REST, LONGEST_REST) };
                    read_at = Instant::now() + rest;
                }
            }
            if self.look(&mut looks) {
                // The other peers of a process that died are about to go too.
                (rest, read_at) = (Duration::ZERO, read_at.min(Instant::now() + SHORT_REST));
            }
        }
    }

    fn note(&self, event: FileEvent, looks: &mut HashMap<WatchId, Looks>) {
        match event {
            FileEvent::Closed(id) => _ = looks.insert(id, Looks::begin(Instant::now())),
            FileEvent::Renamed(id) => self.those_of(Some(id)).iter().for_each(|handle| handle.tell(true)),
            FileEvent::Lost => {
                self.those_of(None).iter().for_each(|handle| handle.tell(true));
                let all: Vec<WatchId> = self.handles().keys().copied().collect();
                looks.extend(all.into_iter().map(|id| (id, Looks::begin(Instant::now()))));
            }
        }
    }

    /// Makes the looks that are due. Returns whether a peer was found gone.
    fn look(&self, looks: &mut HashMap<WatchId, Looks>) -> bool {
        let mut gone = false;
        looks.retain(|id, looks| {
            let now = Instant::now();
            if now < looks.due {
                return true;
            }
            let handles = self.those_of(Some(*id));
            let mut settled = true;
            for handle in &handles {
                let found = handle.look();
                if found != PeerLook::Quiet || looks.is_last() {
                    handle.tell(false);
                }
                gone |= found == PeerLook::Gone;
                settled &= found == PeerLook::Gone;
            }
            if settled || looks.is_last() {
                return false;
            }
            looks.next(now);
            true
        });
        gone
    }
}

/// A handle that the watcher knows, until this is dropped.
pub(crate) struct Registration {
    watcher: &'static Watcher,
    id: WatchId,
    handle: Arc<dyn Watched>,
    /// The fork generation of the process that made it.
    generation: u64,
}

impl Registration {
    /// Watches the file of `segment` for `handle`.
    pub(crate) fn new(segment: &os::Segment, handle: Arc<dyn Watched>) -> Result<Registration> {
        let watcher = Watcher::of_process()?;
        // Under the lock, as another handle of the same file may just be ending its watch.
        let mut handles = watcher.handles();
        let id = watcher.files.add(segment)?;
        handles.entry(id).or_default().push(Arc::downgrade(&handle));
        drop(handles);
        Ok(Registration { watcher, id, handle, generation: os::fork_generation() })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.generation != os::fork_generation() {
            // A forked child: the watcher is the parent's, and another thread may have held its lock at the fork.
            return;
        }
        let mut handles = self.watcher.handles();
        let Some(list) = handles.get_mut(&self.id) else { return };
        let own = Arc::downgrade(&self.handle);
        list.retain(|handle| !handle.ptr_eq(&own));
        if list.is_empty() {
            handles.remove(&self.id);
            self.watcher.files.remove(self.id);
        }
    }
}
