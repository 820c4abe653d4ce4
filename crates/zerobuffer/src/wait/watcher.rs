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
    /// Looks at the peer. `close` is the number of the close that the look follows; 0: a process has opened the file, and none has
    /// closed it since the last looks ended.
    fn look(&self, close: u64) -> PeerLook;
    /// Whether a peer may come without waking this side, as a 1.x peer does.
    fn awaits_strangers(&self) -> bool;
    /// Tells the handle that there is news, and wakes what sleeps for it. `names`: its file may have lost its name.
    fn tell(&self, names: bool);
}

/// What a look finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerLook {
    /// No process has the peer's role, and none takes it without waking this side.
    Gone,
    /// No process has the peer's role. A peer may come without waking this side. Said once for each close.
    Left,
    /// A peer has come that does not wake this side. Said once.
    Came,
    /// The peer's role is held, and the process that held it last may have died just as it woke this side.
    Unsettled,
    /// There is no news.
    Quiet,
}

/// After the look at an event, the first of the next ones.
const FIRST_PAUSE: Duration = Duration::from_micros(20);
/// Each pause is twice the one before, up to this one.
const LAST_PAUSE: Duration = Duration::from_millis(20);
/// As long as that where a peer is awaited that wakes no sleeper: it is seen after as much time as it took, at most.
const LAST_PAUSE_FOR_STRANGERS: Duration = Duration::from_millis(400);
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
    /// The number of the close that they follow, if it was one.
    close: u64,
}

impl Looks {
    fn begin(close: u64) -> Looks {
        let now = Instant::now();
        Looks { began: now, due: now, pause: Some(FIRST_PAUSE), close }
    }

    /// Plans the look after the one that was just made. `strangers`: a peer may come that wakes no sleeper.
    fn next(&mut self, now: Instant, strangers: bool) {
        let longest = if strangers { LAST_PAUSE_FOR_STRANGERS } else { LAST_PAUSE };
        match self.pause {
            Some(pause) if pause <= longest => {
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
        let mut events = 0;
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
                    events += 1;
                    self.note(event, events, &mut looks);
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

    /// `number`: how many events there have been.
    fn note(&self, event: FileEvent, number: u64, looks: &mut HashMap<WatchId, Looks>) {
        match event {
            FileEvent::Closed(id) => _ = looks.insert(id, Looks::begin(number)),
            FileEvent::Opened(id) => {
                if self.those_of(Some(id)).iter().any(|handle| handle.awaits_strangers()) {
                    let close = looks.get(&id).map_or(0, |looks| looks.close);
                    looks.insert(id, Looks::begin(close));
                }
            }
            FileEvent::Renamed(id) => self.those_of(Some(id)).iter().for_each(|handle| handle.tell(true)),
            FileEvent::Lost => {
                self.those_of(None).iter().for_each(|handle| handle.tell(true));
                let all: Vec<WatchId> = self.handles().keys().copied().collect();
                looks.extend(all.into_iter().map(|id| (id, Looks::begin(number))));
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
            let (mut settled, mut strangers) = (true, false);
            for handle in &handles {
                let found = handle.look(looks.close);
                if found != PeerLook::Quiet || looks.is_last() {
                    handle.tell(false);
                }
                gone |= matches!(found, PeerLook::Gone | PeerLook::Left);
                settled &= found == PeerLook::Gone;
                strangers |= handle.awaits_strangers();
            }
            if settled || looks.is_last() {
                return false;
            }
            looks.next(now, strangers);
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
        let opens = handle.awaits_strangers();
        let watcher = Watcher::of_process()?;
        // Under the lock, as another handle of the same file may just be ending its watch.
        let mut handles = watcher.handles();
        let id = watcher.files.add(segment, opens)?;
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
