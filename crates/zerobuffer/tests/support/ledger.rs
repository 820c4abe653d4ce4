//! Words that the processes of one test share outside any buffer: a writer's committed frames, the time of a
//! kill, barriers. Also a witness that measures how long the machine itself stood still.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::time::{Duration, Instant};

use super::{PATIENCE, Peer};

const WORDS: usize = 64;

/// A small file, mapped by every process of a test; removed by the one that made it.
pub struct Ledger {
    path: PathBuf,
    words: *const [AtomicU64; WORDS],
    mine: bool,
}

// SAFETY: the mapping is atomics only, and lives as long as the ledger.
unsafe impl Send for Ledger {}
// SAFETY: the mapping is atomics only, which threads may share, and lives as long as the ledger.
unsafe impl Sync for Ledger {}

impl Ledger {
    pub fn create() -> Ledger {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("zbtest-ledger-{}-{count}", std::process::id()));
        Ledger::map(&path, true)
    }

    pub fn open(path: &str) -> Ledger {
        Ledger::map(Path::new(path), false)
    }

    fn map(path: &Path, mine: bool) -> Ledger {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(mine)
            .truncate(mine)
            .open(path)
            .expect("the ledger's file");
        let len = WORDS * 8;
        file.set_len(len as u64).expect("the ledger's length");
        // SAFETY: a new shared mapping of a file that is as long; the kernel chooses the address.
        let base = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(base, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Ledger { path: path.to_owned(), words: base.cast(), mine }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().expect("a path in UTF-8")
    }

    pub fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: mapped, page-aligned, atomics only, alive as long as `self`.
        unsafe { &(*self.words)[index] }
    }

    pub fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::SeqCst)
    }

    pub fn set(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::SeqCst);
    }

    /// Waits until word `index` fulfils `ready`.
    #[track_caller]
    pub fn wait(&self, index: usize, ready: impl Fn(u64) -> bool) {
        let start = Instant::now();
        while !ready(self.get(index)) {
            assert!(start.elapsed() < PATIENCE, "word {index} stays at {}", self.get(index));
            std::thread::yield_now();
        }
    }

    pub fn clear(&self) {
        (0..WORDS).for_each(|index| self.set(index, 0));
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // SAFETY: base and length of the one mapping made in `map`, unused from here on.
        unsafe { libc::munmap(self.words.cast_mut().cast(), WORDS * 8) };
        if self.mine {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Nanoseconds on the clock that all processes share.
pub fn now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` has room for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Watches how late each processor wakes a sleeper, so that the machine's stalls are not held against the library: a host
/// that takes one processor away for a while lets the others go on, where nothing is seen of it.
pub struct StallWatch {
    stop: Arc<AtomicBool>,
    worst: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl StallWatch {
    pub fn start() -> StallWatch {
        let (stop, worst) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let watch = |processor| {
            let (stop, worst) = (Arc::clone(&stop), Arc::clone(&worst));
            std::thread::spawn(move || {
                stay_on(processor);
                while !stop.load(Ordering::Relaxed) {
                    let before = Instant::now();
                    std::thread::sleep(Duration::from_millis(5));
                    let late = before.elapsed().saturating_sub(Duration::from_millis(5));
                    worst.fetch_max(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
                }
            })
        };
        let threads = processors().into_iter().map(watch).collect();
        StallWatch { stop, worst, threads }
    }

    /// Kills `peer`. Returns the time. The kernel's time from there to the death counts as a stall: the
    /// kernel lets a process finish system calls that no signal ends, and a busy machine may delay them.
    pub fn kill(&self, peer: &mut Peer) -> u64 {
        let killed = now();
        peer.kill();
        self.worst.fetch_max(now() - killed, Ordering::Relaxed);
        killed
    }

    /// The longest stall seen.
    pub fn worst(&self) -> Duration {
        Duration::from_nanos(self.worst.load(Ordering::Relaxed))
    }
}

impl Drop for StallWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| _ = thread.join());
    }
}

/// How late each processor has woken the witness so far, in nanoseconds, and how often it has slept.
struct Witness {
    late: AtomicU64,
    rounds: AtomicU64,
}

/// A witness for each processor, for as long as this process lives.
fn witnesses() -> &'static [Witness] {
    static ALL: OnceLock<Vec<Witness>> = OnceLock::new();
    static STARTED: Once = Once::new();
    let processors = processors();
    let all =
        ALL.get_or_init(|| processors.iter().map(|_| Witness { late: 0.into(), rounds: 0.into() }).collect());
    STARTED.call_once(|| {
        for (witness, processor) in all.iter().zip(processors) {
            std::thread::spawn(move || {
                stay_on(processor);
                loop {
                    let before = Instant::now();
                    std::thread::sleep(WITNESS_SLEEP);
                    let late = before.elapsed().saturating_sub(WITNESS_SLEEP);
                    witness
                        .late
                        .fetch_add(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
                    witness.rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    all
}

const WITNESS_SLEEP: Duration = Duration::from_millis(5);

/// Measures how long something takes, and how long the machine kept this process waiting meanwhile.
pub struct Stopwatch {
    begun: Instant,
    /// Of each witness.
    late: Vec<u64>,
}

impl Stopwatch {
    pub fn start() -> Stopwatch {
        let late = witnesses().iter().map(|witness| witness.late.load(Ordering::Relaxed)).collect();
        Stopwatch { begun: Instant::now(), late }
    }

    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Asserts that no more than `limit` has passed, not counting what the machine kept this process waiting.
    #[track_caller]
    pub fn assert_within(&self, limit: Duration) {
        self.assert_took(self.elapsed(), limit);
    }

    /// Asserts that something which was measured elsewhere, since the start, took no more than `limit`; see
    /// [`Stopwatch::assert_within`].
    #[track_caller]
    pub fn assert_took(&self, took: Duration, limit: Duration) {
        if took < limit {
            return;
        }
        // A stall shows when it is over.
        for witness in witnesses() {
            let rounds = witness.rounds.load(Ordering::Relaxed);
            while witness.rounds.load(Ordering::Relaxed) < rounds + 2 {
                std::thread::sleep(WITNESS_SLEEP);
            }
        }
        let late = witnesses().iter().zip(&self.late);
        let late = late.map(|(witness, before)| witness.late.load(Ordering::Relaxed) - before).max();
        let stalls = Duration::from_nanos(late.unwrap_or(0));
        assert!(took < limit + stalls, "{took:?}, more than {limit:?} and {stalls:?} of stalls");
    }
}

/// The processors that this process may run on.
fn processors() -> Vec<usize> {
    // SAFETY: a set of processors is plain bits, for which zero is a value; sched_getaffinity fills it in, and every number
    // below CPU_SETSIZE has its bit there.
    let numbers: Vec<usize> = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set);
        (0..libc::CPU_SETSIZE as usize).filter(|number| libc::CPU_ISSET(*number, &set)).collect()
    };
    assert!(!numbers.is_empty(), "no processor: {}", std::io::Error::last_os_error());
    numbers
}

/// Keeps the calling thread on one processor.
fn stay_on(processor: usize) {
    // SAFETY: `processors` returned the number, so it is within the set; 0 is the calling thread.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    assert_eq!(done, 0, "processor {processor}: {}", std::io::Error::last_os_error());
}

/// Prints the median and the worst of `times`, and checks the library's promise: 20 ms in the median, 100 ms
/// at worst, not counting the machine's stalls.
#[track_caller]
pub fn assert_times(what: &str, times: &mut [Duration], stalls: &StallWatch) {
    assert!(!times.is_empty(), "{what}: nothing was measured");
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    let stall = stalls.worst();
    eprintln!(
        "{what}: median {median:.1?}, worst {worst:.1?} of {} (longest stall {stall:.1?})",
        times.len()
    );
    assert!(median < Duration::from_millis(20), "{what}: median {median:?}");
    assert!(worst < Duration::from_millis(100) + stall, "{what}: worst {worst:?}, longest stall {stall:?}");
}

#[test]
#[should_panic(expected = "of stalls")]
fn a_stopwatch_lets_nothing_pass_but_stalls() {
    // A busy machine may stand still for a second, but not every time.
    for _ in 0..20 {
        let watch = Stopwatch::start();
        std::thread::sleep(Duration::from_secs(1));
        watch.assert_within(Duration::from_millis(100));
    }
}
