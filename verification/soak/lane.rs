//! The part that lanes of streams and of duplex channels share: peers in processes, waits for them, and
//! files.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::account;
use crate::content::Random;
use crate::ledger::{CLOSED, Ledger, SALTS, Seat, Totals, Victim, add, count_time};
use crate::process::{self, Child, fork};

/// Longest wait for anything that must happen, in time that the soak was not stopped.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// As often as that the wait goes on for a process that only the kernel is still at work on. What it gives back may have to wait for
/// all processors, and for what else ends; nothing of the library runs there.
const PATIENCE_WITH_THE_KERNEL: u32 = 20;

/// One peer in so many is a program in C#, where there is one. It takes as long to start as a hundred others.
const CSHARP_SHARE: u64 = 24;

/// A violation; the lane restarts after it.
pub(crate) struct Failure(pub(crate) String);

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

pub(crate) struct Lane {
    pub(crate) name: String,
    pub(crate) classic: bool,
    pub(crate) random: Random,
    pub(crate) ledger: &'static Ledger,
    pub(crate) totals: &'static Totals,
    /// Number of the last writer, or client.
    pub(crate) salt: u64,
    /// A lane of cleaners is at work beside this one.
    pub(crate) has_cleaner: bool,
    /// The command of the peer in C#; empty without one.
    pub(crate) csharp: &'static [String],
}

/// A process with a role.
pub(crate) struct Peer {
    pub(crate) victim: Victim,
    pub(crate) child: Child,
    pub(crate) seat: &'static Seat,
    pub(crate) salt: u64,
    /// The number of ends that the reader had returned when this writer was started.
    pub(crate) ends_before: u32,
    /// Frames of this writer have been received, so the reader has returned all earlier ends.
    pub(crate) settled: bool,
    is_csharp: bool,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill();
        self.seat.free();
    }
}

impl Lane {
    pub(crate) fn new(
        name: String,
        classic: bool,
        seed: u64,
        ledger: &'static Ledger,
        totals: &'static Totals,
    ) -> Lane {
        let random = Random(seed);
        Lane { name, classic, random, ledger, totals, salt: 0, has_cleaner: false, csharp: &[] }
    }

    /// Starts a peer that runs `work` with its seat.
    pub(crate) fn start(&mut self, victim: Victim, work: impl FnOnce(&'static Seat)) -> Peer {
        let seat = self.ledger.take_seat();
        let (name, totals) = (self.name.clone(), self.totals);
        let child = fork(|| {
            std::panic::set_hook(Box::new(move |panic| {
                totals.fail(&format!("{name}: {victim:?} {}: {panic}", std::process::id()));
            }));
            work(seat);
        });
        Peer { victim, child, seat, salt: 0, ends_before: 0, settled: false, is_csharp: false }
    }

    /// Starts a peer in C#, now and then; `None` where `start` is to start one.
    pub(crate) fn start_csharp(&mut self, victim: Victim, salt: u64, seed: u64) -> Option<Peer> {
        let (first, others) = self.csharp.split_first()?;
        if !self.random.one_in(CSHARP_SHARE) {
            return None;
        }
        let seat = self.ledger.take_seat();
        let mut program = Command::new(first);
        program.args(others).arg(format!("{victim:?}").to_lowercase());
        program.arg(format!("name={}", self.name)).arg(format!("classic={}", self.classic));
        program.arg(format!("salt={salt}")).arg(format!("salts={SALTS}")).arg(format!("seed={seed}"));
        for (name, place) in self.ledger.places(seat, salt).into_iter().chain(self.totals.places()) {
            program.arg(format!("{name}={place}"));
        }
        let totals = self.totals;
        let child = fork(|| {
            let error = program.exec();
            totals.fail(&format!("cannot start the peer in C#: {error}"));
        });
        Some(Peer { victim, child, seat, salt: 0, ends_before: 0, settled: false, is_csharp: true })
    }

    /// A unique number for a writer or client.
    pub(crate) fn next_salt(&mut self) -> u64 {
        self.salt += 1;
        self.ledger.committed(self.salt).store(0, SeqCst);
        self.ledger.received(self.salt).store(0, SeqCst);
        self.salt
    }

    /// Waits until `ready`, which must happen.
    pub(crate) fn wait(&self, what: &str, ready: impl FnMut() -> bool) -> Outcome {
        if self.ledger.wait(PATIENCE, ready) {
            return Ok(());
        }
        Err(Failure(format!("waited {PATIENCE:?} in vain until {what}\n{}", account::of_children())))
    }

    /// Lets the peers work for a random time of at most `micros`.
    pub(crate) fn moment(&mut self, micros: u64) {
        let micros = self.random.between(0, micros);
        let before = process::now();
        std::thread::sleep(Duration::from_micros(micros));
        count_time(&self.totals.late, (process::now() - before).saturating_sub(micros * 1000));
    }

    /// Sends SIGKILL. Returns the moment before it, or `None` if the peer had ended already.
    pub(crate) fn kill(&self, peer: &mut Peer) -> Option<u64> {
        let now = process::now();
        let killed = peer.child.kill();
        if killed {
            add(&self.totals.kills[peer.victim as usize][usize::from(self.classic)], 1);
            add(&self.totals.csharp_kills, u64::from(peer.is_csharp));
        }
        killed.then_some(now)
    }

    /// Counts how soon `side` knew of what happened at `then`.
    pub(crate) fn noticed(&self, side: Victim, seat: &Seat, then: Option<u64>) {
        let at = seat.noticed_at.load(SeqCst);
        if let Some(then) = then
            && at > then
        {
            count_time(&self.totals.noticed[side as usize], at - then);
        }
    }

    /// Asks a peer to close, and waits until it has ended.
    pub(crate) fn close(&self, mut peer: Peer) -> Outcome {
        peer.seat.order_close();
        let seat = peer.seat;
        self.wait(&format!("{:?} {} closed", peer.victim, peer.child.pid()), || seat.is(CLOSED))?;
        self.reap(&mut peer)
    }

    /// Waits until a peer that is about to end has ended.
    pub(crate) fn reap(&self, peer: &mut Peer) -> Outcome {
        for _ in 0..PATIENCE_WITH_THE_KERNEL {
            match peer.child.await_end(PATIENCE) {
                Some(process::End::Exit(0)) => return Ok(()),
                Some(end) => return Err(Failure(format!("{:?} ended with {end:?}", peer.victim))),
                None if account::is_ending(peer.child.pid()) => {
                    add(&self.totals.late_ends, 1);
                    eprintln!("{:?} is late, in the kernel: {}", peer.victim, account::of(peer.child.pid()));
                }
                None => break,
            }
        }
        Err(Failure(format!("{:?} does not end: {}", peer.victim, account::of(peer.child.pid()))))
    }

    /// Checks that no files of these buffers are left. A cleaner may still be running, or may have been
    /// killed; the next one finishes.
    pub(crate) fn assert_nothing_left(&self, buffers: &[String]) -> Outcome {
        let left = || -> Vec<PathBuf> { buffers.iter().flat_map(|name| files(name)).collect() };
        add(&self.totals.tidy, 1);
        if left().is_empty() || self.has_cleaner && self.ledger.wait(PATIENCE, || left().is_empty()) {
            return Ok(());
        }
        let left = left();
        add(&self.totals.left_behind, left.len() as u64);
        Err(Failure(format!("left behind: {left:?}")))
    }
}

/// Files of a buffer that exist.
pub(crate) fn files(name: &str) -> Vec<PathBuf> {
    let paths = [
        format!("/dev/shm/{name}"),
        format!("/dev/shm/sem.sem-w-{name}"),
        format!("/dev/shm/sem.sem-r-{name}"),
        format!("/tmp/zerobuffer/{name}.lock"),
    ];
    paths.into_iter().map(PathBuf::from).filter(|path| path.symlink_metadata().is_ok()).collect()
}

/// After a failure, removes the files of its buffers, so that they do not disturb the next round.
pub(crate) fn remove_files(buffers: &[String]) {
    for path in buffers.iter().flat_map(|name| files(name)) {
        let _ = std::fs::remove_file(path);
    }
}
