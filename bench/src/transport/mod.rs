//! Transports: a transport moves frames of one size in one direction, from a [`Sink`] to a [`Source`].
//!
//! A new rival is a variant of [`Transport`] and a module with a pair of types. One that is not a Rust library is a program
//! that plays the roles of `role.rs` itself; see `peers/`.

#[cfg(feature = "aeron")]
pub mod aeron;
pub mod bare;
#[cfg(feature = "iceoryx2")]
pub mod iceoryx2;
#[cfg(feature = "ipc-channel")]
pub mod ipc_channel;
pub mod ours;
#[cfg(feature = "shmem-ipc")]
pub mod shmem_ipc;
pub mod streams;
#[cfg(feature = "tachyon")]
pub mod tachyon;
#[cfg(feature = "zeromq")]
pub mod zeromq;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Longest wait for the other side; a side that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Names the program that `peers/ours.cpp` was made into.
pub const CPP_PEER: &str = "ZEROBUFFER_BENCH_CPP";

/// Names the program that `peers/csharp` was made into.
pub const CSHARP_PEER: &str = "ZEROBUFFER_BENCH_CSHARP";

/// Names a Python that has the 1.x package.
pub const PEER_PYTHON: &str = "ZEROBUFFER_PEER_PYTHON";

/// Names a Python that has this library's package, NumPy, and perhaps the rivals.
pub const BENCH_PYTHON: &str = "ZEROBUFFER_BENCH_PYTHON";

/// Which program and which library stand on a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// This library, with its defaults: a buffer of 256 MiB (less beside a 1.x peer, see `Runner::payload`).
    Ours,
    /// This library, with a buffer of 4 MiB, or four frames.
    OursSmall,
    /// This library, held to the ring that 1.x peers know.
    OursClassic,
    /// This library, where a relay lends its frames to the next reader: relays only.
    OursShared,
    /// This library through its C++ API, with its defaults.
    OursCpp,
    /// This library's C# package, with its defaults.
    OursCsharp,
    /// A bare ring, without checks, as a limit to compare with; both sides poll.
    Bare,
    /// The bare ring, with a receiver that stays away for a moment after it has found nothing.
    BareAway,
    /// The bare ring, with a sender that asks for the cache lines of frames to come.
    BareAhead,
    /// The bare ring with both.
    BareAwayAhead,
    /// The bare ring of 4 MiB.
    BareLarge,
    /// iceoryx2, the receiver polls.
    Iceoryx2,
    /// iceoryx2, the receiver sleeps until an event comes.
    Iceoryx2Events,
    /// Aeron's IPC channel, both sides poll; its media driver is a third process.
    Aeron,
    /// shmem-ipc, both sides poll.
    ShmemIpc,
    /// shmem-ipc, both sides sleep on its eventfds.
    ShmemIpcEvents,
    /// Tachyon, both sides poll, each frame is published by a flush.
    Tachyon,
    /// Tachyon, both sides poll, frames are published 32 at a time: streams only.
    TachyonBatched,
    /// ZeroMQ, PUSH and PULL over a Unix socket.
    Zeromq,
    /// Servo's ipc-channel, its channel of bytes.
    IpcChannel,
    /// A Unix stream socket, as the kernel sets it up.
    UnixSocket,
    /// A named pipe, enlarged to 1 MiB.
    Pipe,
    /// gRPC over a Unix socket: requests and responses only.
    Grpc,
    /// The `zerobuffer-ipc` package that `$ZEROBUFFER_PEER_PYTHON` imports.
    #[value(name = "python-1x")]
    #[serde(rename = "python-1x")]
    Python1x,
    /// This library's Python package, with its defaults.
    OursPython,
    /// multiprocessing.Pipe, one way.
    PythonPipe,
    /// multiprocessing.Queue of a few items.
    PythonQueue,
    /// multiprocessing.shared_memory as a ring, with semaphores.
    PythonSharedMemory,
    /// iceoryx2's Python package, the receiver polls.
    Iceoryx2Python,
    /// pyzmq, PUSH and PULL over a Unix socket.
    ZeromqPython,
}

/// The program that plays the roles for a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// This program.
    Own,
    /// The program that an environment variable names.
    Named(&'static str),
    /// A script in `peers/`, and the environment variable that names the Python to run it with.
    Script(&'static str, &'static str),
}

impl Transport {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub fn is_ours(self) -> bool {
        matches!(
            self,
            Transport::Ours
                | Transport::OursSmall
                | Transport::OursClassic
                | Transport::OursShared
                | Transport::OursCpp
                | Transport::OursCsharp
                | Transport::OursPython
        )
    }

    /// Whether it is one of the bare rings.
    pub fn is_bare(self) -> bool {
        matches!(
            self,
            Transport::Bare
                | Transport::BareAway
                | Transport::BareAhead
                | Transport::BareAwayAhead
                | Transport::BareLarge
        )
    }

    /// Whether it is only there for others to be compared with.
    pub fn is_yardstick(self) -> bool {
        self.is_bare() || self == Transport::OursSmall
    }

    pub fn program(self) -> Program {
        let script = match self {
            Transport::OursCpp => return Program::Named(CPP_PEER),
            Transport::OursCsharp => return Program::Named(CSHARP_PEER),
            Transport::Python1x => return Program::Script("zerobuffer_1x.py", PEER_PYTHON),
            Transport::OursPython => "ours_python.py",
            Transport::PythonPipe => "python_pipe.py",
            Transport::PythonQueue => "python_queue.py",
            Transport::PythonSharedMemory => "python_shared_memory.py",
            Transport::Iceoryx2Python => "iceoryx2_python.py",
            Transport::ZeromqPython => "zeromq_python.py",
            _ => return Program::Own,
        };
        Program::Script(script, BENCH_PYTHON)
    }

    /// Whether it moves frames one way, too.
    pub fn streams(self) -> bool {
        self != Transport::Grpc
    }

    /// Whether each frame is published when it is sent, so that the other side may answer it.
    pub fn publishes_each(self) -> bool {
        self != Transport::TachyonBatched
    }

    /// Why this program cannot run it, if it cannot.
    pub fn missing(self) -> Option<&'static str> {
        let (there, why) = match self {
            Transport::Iceoryx2 | Transport::Iceoryx2Events => {
                (cfg!(feature = "iceoryx2"), "feature iceoryx2")
            }
            Transport::Aeron => (cfg!(feature = "aeron"), "feature aeron"),
            Transport::ShmemIpc | Transport::ShmemIpcEvents => {
                (cfg!(feature = "shmem-ipc"), "feature shmem-ipc")
            }
            Transport::Tachyon | Transport::TachyonBatched => (cfg!(feature = "tachyon"), "feature tachyon"),
            Transport::Zeromq => (cfg!(feature = "zeromq"), "feature zeromq"),
            Transport::IpcChannel => (cfg!(feature = "ipc-channel"), "feature ipc-channel"),
            Transport::Grpc => (cfg!(feature = "grpc"), "feature grpc"),
            _ => match self.program() {
                Program::Named(variable) | Program::Script(_, variable) => {
                    (std::env::var_os(variable).is_some(), variable)
                }
                Program::Own => (true, ""),
            },
        };
        (!there).then_some(why)
    }

    /// Whether frames of `size` bytes can be written and read where they lie.
    pub fn in_place(self, size: usize) -> bool {
        match self {
            transport if transport.is_ours() || transport.is_bare() => true,
            Transport::Iceoryx2 | Transport::Iceoryx2Events => true,
            Transport::Tachyon | Transport::TachyonBatched => true,
            Transport::PythonSharedMemory | Transport::Iceoryx2Python => true,
            // Larger frames come in pieces.
            Transport::Aeron => size <= AERON_WHOLE,
            _ => false,
        }
    }
}

/// Largest message that Aeron's IPC channel carries in one piece: the largest MTU less its header.
pub const AERON_WHOLE: usize = 65_504 - 32;

/// The sending end.
pub trait Sink: Sized {
    /// Waits until the other side is there, and nothing sent from then on is lost.
    fn connect(channel: &Channel) -> Result<Self>;
    /// Copies `data` in as one frame.
    fn send(&mut self, data: &[u8]) -> Result<()>;
    /// Lets `write` write a frame of `len` bytes where it will lie, and sends it.
    fn send_in_place(&mut self, _len: usize, _write: impl FnOnce(&mut [u8])) -> Result<()> {
        bail!("this transport only copies")
    }
    /// Waits until everything has arrived, where a good close is not enough for that.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The receiving end; `listen` must not wait for the sender, so that two directions can be set up in any order.
pub trait Source: Sized {
    fn listen(channel: &Channel) -> Result<Self>;
    /// Waits for the sender, where that is an event of its own.
    fn accept(&mut self) -> Result<()>;
    /// Shows the next frame to `look`, copied out of the transport: to `target`, which has exactly its size,
    /// or to the memory to which the transport's API copies it.
    fn receive<R>(&mut self, target: &mut [u8], look: impl FnOnce(&[u8]) -> R) -> Result<R>;
    /// Shows the next frame where it lies.
    fn receive_in_place<R>(&mut self, _look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        bail!("this transport only copies")
    }
    /// `receive` until `look` breaks; of its own where a transport hands out several frames at a time.
    fn receive_each(&mut self, target: &mut [u8], mut look: impl FnMut(&[u8]) -> Next) -> Result<()> {
        while self.receive(target, &mut look)??.is_continue() {}
        Ok(())
    }
    /// `receive_in_place` until `look` breaks.
    fn receive_each_in_place(&mut self, mut look: impl FnMut(&[u8]) -> Next) -> Result<()> {
        while self.receive_in_place(&mut look)??.is_continue() {}
        Ok(())
    }
}

/// Whether another frame is wanted.
pub type Next = Result<ControlFlow<()>>;

/// One direction between two processes, and what the various transports need to know of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Channel {
    pub name: String,
    /// A path that no other run uses; does not exist.
    pub path: PathBuf,
    /// Begins the names of all that belongs to both directions of this run.
    pub run: String,
    /// 1 for the way forth, 2 for the way back.
    pub way: i32,
    /// Bytes of the largest frame.
    pub size: usize,
    /// Payload bytes of a ZeroBuffer of this name.
    pub payload: usize,
}

impl Channel {
    pub fn new(directory: &Path, run: &str, way: i32, size: usize, payload: usize) -> Channel {
        let name = format!("{run}-{way}");
        Channel { path: directory.join(&name), name, run: run.to_owned(), way, size, payload }
    }

    /// Where an Aeron media driver of this run keeps its files; Aeron's own default is a folder in /dev/shm, too.
    #[cfg_attr(not(feature = "aeron"), expect(dead_code))]
    pub fn aeron_directory(&self) -> String {
        format!("/dev/shm/{}-aeron", self.run)
    }

    /// Removes what a 1.x peer, a rival, or one that was killed, leaves behind.
    pub fn clean(&self) {
        let _ = std::fs::remove_file(&self.path);
        for folder in ["/dev/shm", "/tmp/zerobuffer"] {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            for path in entries.filter(|entry| self.owns(&entry.file_name())).map(|entry| entry.path()) {
                let _ = std::fs::remove_file(&path);
                let _ = std::fs::remove_dir_all(&path);
            }
        }
    }

    /// Whether a file of this name was made in this run: `run` itself ends with a number, so what follows must not go on
    /// with one.
    fn owns(&self, file: &std::ffi::OsStr) -> bool {
        let file = file.to_string_lossy();
        let rest = file.split_once(&self.run).map(|(_, rest)| rest);
        rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
    }
}

/// A wait by polling, with an end.
#[derive(Default)]
pub struct Spin {
    turns: u32,
    since: Option<Instant>,
}

impl Spin {
    #[inline]
    pub fn turn(&mut self) -> Result<()> {
        std::hint::spin_loop();
        self.turns = self.turns.wrapping_add(1);
        if self.turns & 0xffff == 0 {
            return self.look();
        }
        Ok(())
    }

    #[cold]
    fn look(&mut self) -> Result<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        ensure!(since.elapsed() < PATIENCE, "the other side does nothing");
        Ok(())
    }
}

/// Polls every few milliseconds until `ready` returns a value.
pub fn until<T>(what: &str, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = ready()? {
            return Ok(found);
        }
        ensure!(start.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_up_takes_only_the_own_run() {
        let channel = Channel::new(Path::new("/nowhere"), "zbbench-12-3", 1, 64, 64);
        for own in
            ["zbbench-12-3-1", "sem.sem-w-zbbench-12-3-2", "zbbench-12-3_abc.data", "zbbench-12-3-aeron"]
        {
            assert!(channel.owns(own.as_ref()), "{own}");
        }
        for other in ["zbbench-12-30-1", "zbbench-1-3-1", "iox2_abc"] {
            assert!(!channel.owns(other.as_ref()), "{other}");
        }
    }
}
