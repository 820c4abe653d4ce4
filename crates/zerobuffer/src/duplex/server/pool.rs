//! The thread pool of a server: as many workers as processors, which take turns reading.
//!
//! One of them leads. It reads a request, passes the lead to another worker, and handles the request itself,
//! so no request goes from thread to thread. But waking the next leader takes as long as a short handler. So
//! while handlers are short, the leader keeps the lead and handles one request after the other. Another
//! worker, the watch, takes the lead if a handler takes long after all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::run::{Job, Reading, Run};
use crate::duplex::sync::{Condvar, Mutex, lock, wait};
use crate::error::{Error, ErrorKind, Result};

/// The most workers that a pool can have.
pub const MAX_POOL_SIZE: usize = 1024;

/// For handlers that take less, waking another thread does not pay: it costs 5 us on this processor, and 20
/// us pass until the other thread runs.
const SHORT: Duration = Duration::from_micros(20);

/// The average treats longer handlers as if they took this long.
const LONG: Duration = Duration::from_millis(1);

/// A worker whose handler was expected to be short, and has taken this long, loses the lead when the watch
/// looks next.
const TOO_LONG: Duration = Duration::from_micros(100);

/// How often the watch looks, while requests come.
const LOOK: Duration = Duration::from_millis(1);

/// The watch ends after this many looks without a new request.
const QUIET: u32 = 20;

/// Workers of a pool by default.
pub(crate) fn default_size() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).max(2)
}

/// Starts `size` workers.
pub(crate) fn start(run: &Arc<Run>, job: &Job, size: usize) -> Result<()> {
    if size > MAX_POOL_SIZE {
        let message = format!("a pool of {size} threads is too large: the most are {MAX_POOL_SIZE}");
        return Err(Error::channel(ErrorKind::InvalidConfig, run.channel(), message));
    }
    let team = Arc::new(Team::new(size));
    for worker in 0..size {
        let (team, job) = (Arc::clone(&team), Arc::clone(job));
        run.spawn(move |run| {
            let read = |reading: &mut Reading, crowded| run.read_one(reading, crowded);
            team.work(worker, read, |(request, to)| job(run, request, to));
        })?;
    }
    Ok(())
}

/// Ends the whole team when one worker ends, however that ends.
struct EndOfTeam<'a>(&'a Team);

impl Drop for EndOfTeam<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

struct Team {
    size: usize,
    /// Used by the leader only.
    reading: Mutex<Reading>,
    state: Mutex<State>,
    /// Signals that the lead is free, that a watch is needed, or that the run has ended.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    leader: Option<usize>,
    /// When the leader began to handle its request.
    busy_since: Option<Instant>,
    /// Requests so far.
    count: u64,
    /// A moving average of the time that handlers took.
    usual: Duration,
    wants_watch: bool,
    is_watched: bool,
    ended: bool,
}

impl Team {
    fn new(size: usize) -> Team {
        Team {
            size,
            reading: Mutex::default(),
            state: Mutex::new(State {
                leader: None,
                busy_since: None,
                count: 0,
                usual: LONG,
                wants_watch: false,
                is_watched: false,
                ended: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Reads and handles requests in turn with the other workers, until `read` returns `None`.
    fn work<T>(&self, worker: usize, read: impl Fn(&mut Reading, bool) -> Option<T>, handle: impl Fn(T)) {
        let _end = EndOfTeam(self);
        while self.lead(worker) {
            // The previous leader handles its request.
            let mut crowded = true;
            loop {
                // The lock is not held: reading calls `on_init` and `on_error`.
                let mut reading = *lock(&self.reading);
                let next = read(&mut reading, crowded);
                *lock(&self.reading) = reading;
                let Some(request) = next else { return };
                let start = Instant::now();
                self.begin(start);
                crowded = false;
                handle(request);
                if !self.finish(worker, start.elapsed()) {
                    break;
                }
            }
        }
    }

    /// Waits for the lead; `false` at the end.
    fn lead(&self, worker: usize) -> bool {
        let mut state = lock(&self.state);
        let mut quiet = 0;
        while !state.ended {
            if state.leader.is_none() {
                state.leader = Some(worker);
                return true;
            }
            if !state.wants_watch || state.is_watched {
                state = wait(&self.changed, state, Duration::MAX);
                continue;
            }
            let count = state.count;
            state.is_watched = true;
            state = wait(&self.changed, state, LOOK);
            state.is_watched = false;
            if state.busy_since.is_some_and(|since| since.elapsed() >= TOO_LONG) {
                (state.leader, state.busy_since) = (Some(worker), None);
                state.usual = LONG;
                return true;
            }
            quiet = if state.count == count { quiet + 1 } else { 0 };
            state.wants_watch = quiet < QUIET;
        }
        false
    }

    /// The leader has a request. It keeps the lead, or passes it to another worker.
    fn begin(&self, now: Instant) {
        let mut state = lock(&self.state);
        state.count += 1;
        if state.usual < SHORT || self.size == 1 {
            state.busy_since = Some(now);
            if state.is_watched || self.size == 1 {
                return;
            }
            state.wants_watch = true;
        } else {
            state.leader = None;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// A request has been handled. Returns whether its worker still leads.
    fn finish(&self, worker: usize, took: Duration) -> bool {
        let mut state = lock(&self.state);
        state.usual = (state.usual * 7 + took.min(LONG)) / 8;
        let leads = state.leader == Some(worker);
        if leads {
            state.busy_since = None;
        }
        leads
    }

    fn end(&self) {
        lock(&self.state).ended = true;
        self.changed.notify_all();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Handles `times` requests that each take `took`.
    fn handle(team: &Team, times: u32, took: Duration) {
        for _ in 0..times {
            team.begin(Instant::now());
            team.finish(0, took);
            lock(&team.state).leader = Some(0);
        }
    }

    #[test]
    fn the_lead_is_kept_while_handlers_are_short() {
        let team = Team::new(2);
        assert!(team.lead(0));
        team.begin(Instant::now());
        assert_eq!(lock(&team.state).leader, None, "nothing is known of the handler");
        assert!(!team.finish(0, Duration::ZERO));
        assert!(team.lead(0));
        handle(&team, 50, Duration::from_micros(5));
        team.begin(Instant::now());
        assert_eq!(lock(&team.state).leader, Some(0));
        assert!(lock(&team.state).wants_watch && team.finish(0, LONG));
        handle(&team, 10, LONG);
        team.begin(Instant::now());
        assert_eq!(lock(&team.state).leader, None, "they take long now");
    }

    #[test]
    fn the_watch_takes_the_lead_from_a_handler_that_takes_long() {
        let team = Team::new(2);
        assert!(team.lead(0));
        handle(&team, 50, Duration::ZERO);
        team.begin(Instant::now());
        // Returns when it leads.
        assert!(team.lead(1));
        assert!(!team.finish(0, LONG), "the lead is lost");
        team.end();
        assert!(!team.lead(0));
    }

    #[test]
    fn a_worker_that_sleeps_is_woken_to_watch_a_leader_that_keeps_the_lead() {
        let team = Arc::new(Team::new(2));
        assert!(team.lead(0));
        handle(&team, 50, Duration::ZERO);
        {
            let mut state = lock(&team.state);
            (state.wants_watch, state.busy_since) = (false, None);
        }
        let (tell, told) = std::sync::mpsc::channel();
        let watch = std::thread::spawn({
            let team = Arc::clone(&team);
            move || tell.send(team.lead(1)).expect("the test waits")
        });
        // Long enough for the thread to fall asleep. If it does not, it needs no waking, and the test proves nothing.
        std::thread::sleep(Duration::from_millis(50));
        team.begin(Instant::now());
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(true), "the watch sleeps");
        team.end();
        watch.join().expect("the watch");
    }

    #[test]
    fn a_leader_that_gets_no_requests_is_not_watched() {
        let team = Arc::new(Team::new(2));
        assert!(team.lead(0));
        handle(&team, 50, Duration::ZERO);
        let watch = std::thread::spawn({
            let team = Arc::clone(&team);
            move || team.lead(1)
        });
        let until = Instant::now() + Duration::from_secs(10);
        while lock(&team.state).wants_watch {
            assert!(Instant::now() < until, "still watched");
            std::thread::sleep(LOOK);
        }
        team.end();
        assert!(!watch.join().expect("the watch"));
    }
}

#[cfg(all(test, loom))]
mod model {
    use loom::thread;

    use super::*;
    use crate::sync::{AtomicU64, Ordering};

    /// Two workers handle three requests, and both end.
    #[test]
    fn loom_the_workers_of_a_pool_hand_each_other_the_lead_until_the_end() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let shared = Arc::new((Team::new(2), AtomicU64::new(0), AtomicU64::new(0)));
            let work = |worker| {
                let shared = Arc::clone(&shared);
                move || {
                    let (team, read, handled) = &*shared;
                    // Relaxed: only the leader reads.
                    let next = |_: &mut Reading, _| {
                        let number = read.load(Ordering::Relaxed);
                        read.store(number + 1, Ordering::Relaxed);
                        (number < 3).then_some(number)
                    };
                    team.work(worker, next, |_| _ = handled.fetch_add(1, Ordering::Relaxed));
                }
            };
            let other = thread::spawn(work(1));
            work(0)();
            other.join().unwrap();
            assert_eq!(shared.2.load(Ordering::Relaxed), 3);
        });
    }
}
