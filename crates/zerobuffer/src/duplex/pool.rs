//! The thread pool of a server: as many workers as processors, which take turns reading.
//!
//! One of them leads: it reads a request, lets another one lead, and handles the request itself, so that none goes from
//! thread to thread. But to wake the next leader costs as much as a short handler takes. So while handlers are short, a
//! leader keeps the lead and handles one request after the other; another worker keeps watch, and takes the lead if a
//! handler takes long after all.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::run::{Job, Reading, Run};
use super::{lock, wait};
use crate::error::Result;

/// Handlers that take less are not worth waking another thread for: 5 us on the processor of who wakes, and 20 until the
/// other one runs.
const SHORT: Duration = Duration::from_micros(20);

/// Handlers that take longer are all alike.
const LONG: Duration = Duration::from_millis(1);

/// A handler that was to be short and takes so much loses the lead when the watch looks next.
const TOO_LONG: Duration = Duration::from_micros(100);

/// How often the watch looks, while requests come.
const LOOK: Duration = Duration::from_millis(1);

/// Looks without a new request after which nobody watches any more.
const QUIET: u32 = 20;

/// Workers of a pool where nothing else was said.
pub(crate) fn default_size() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).max(2)
}

/// Starts `size` workers.
pub(crate) fn start(run: &Arc<Run>, job: &Job, size: usize) -> Result<()> {
    let team = Arc::new(Team::new(size));
    for worker in 0..size {
        let (team, job) = (Arc::clone(&team), Arc::clone(job));
        run.spawn(move |run| team.work(worker, run, &job))?;
    }
    Ok(())
}

struct Team {
    size: usize,
    /// Locked by the leader while it reads.
    reading: Mutex<Reading>,
    state: Mutex<State>,
    /// The lead is free, a watch is wanted, or it is all over.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    leader: Option<usize>,
    /// When the leader began with the request that it handles.
    busy_since: Option<Instant>,
    /// Requests so far.
    count: u64,
    /// A moving average of what they took.
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

    fn work(&self, worker: usize, run: &Run, job: &Job) {
        while self.lead(worker) {
            // Who led before handles its request.
            let mut crowded = true;
            loop {
                let next = run.read_one(&mut lock(&self.reading), crowded);
                let Some((request, to)) = next else { return self.end() };
                let start = Instant::now();
                self.begin(start);
                crowded = false;
                job(run, request, to);
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

    /// The leader has a request: keeps the lead, or lets another one have it.
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

    /// A request has been handled. Says whether its worker still leads.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// So many requests that each take `took`.
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
    fn nobody_watches_a_leader_that_gets_no_requests() {
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
