//! Drives a ZeroBuffer 1.x peer (`zerobuffer-ipc` from PyPI) through `peer.py`, and looks at a buffer's raw words.
#![allow(dead_code, unreachable_pub)]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use zerobuffer::{Reader, Writer};

use crate::support::{Peer, fill};

/// Names the Python interpreter that has the 1.x package.
const PYTHON: &str = "ZEROBUFFER_PEER_PYTHON";

fn python() -> PathBuf {
    if let Some(path) = std::env::var_os(PYTHON) {
        return path.into();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target/peer-venv/bin/python");
    assert!(
        path.exists(),
        "there is no ZeroBuffer 1.x peer to test against: `cargo xtask test` makes {} with the packages of \
         tests/peers/requirements.txt; or let {PYTHON} name an interpreter that has them",
        path.display()
    );
    path
}

/// A process of the 1.x package. Killed when dropped.
pub struct Old(Peer);

impl Old {
    pub fn start() -> Old {
        let mut command = Command::new(python());
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/peer.py"));
        Old(Peer::start_command(command))
    }

    /// Starts a peer that reads `name`.
    #[track_caller]
    pub fn reader(name: &str, payload_size: usize) -> Old {
        let mut old = Old::start();
        old.ok(&format!("create {name} 256 {payload_size}"));
        old
    }

    /// Starts a peer that writes to `name`.
    #[track_caller]
    pub fn writer(name: &str) -> Old {
        let mut old = Old::start();
        old.ok(&format!("connect {name}"));
        old
    }

    /// Sends a command, whose answer must be fetched.
    pub fn tell(&mut self, command: &str) {
        self.0.tell(command);
    }

    /// The answer: `ok ...` or `error ...`.
    #[track_caller]
    pub fn answer(&mut self) -> String {
        self.0.hear()
    }

    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    /// Fetches the answer to a command that must have succeeded. Returns the text behind `ok`.
    #[track_caller]
    pub fn answer_ok(&mut self) -> String {
        let answer = self.answer();
        match answer.strip_prefix("ok") {
            Some(rest) => rest.trim().to_owned(),
            None => panic!("the 1.x peer answers `{answer}`"),
        }
    }

    #[track_caller]
    pub fn ok(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer_ok()
    }

    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Sends SIGKILL. Returns the moment before it.
    pub fn kill(&mut self) -> Instant {
        let now = Instant::now();
        self.0.kill();
        now
    }
}

/// Bytes in the form that the commands of `peer.py` take.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The frames of a stream, equal to those of `Content` in `peer.py`: slices of one pseudo-random block.
#[derive(Debug, Clone, Copy)]
pub struct Content {
    pub seed: u64,
    /// Sizes lie in `low..high`.
    pub low: u64,
    pub high: u64,
}

impl Content {
    /// A prime larger than any stream is long, so that no two frames of a stream start at the same place.
    const SPREAD: u64 = 1_000_003;
    const LARGEST: u64 = 1 << 17;

    fn block() -> &'static [u8] {
        static BLOCK: OnceLock<Vec<u8>> = OnceLock::new();
        BLOCK.get_or_init(|| {
            let mut block = vec![0; ((Self::SPREAD + Self::LARGEST) / 8 + 1) as usize * 8];
            fill(1, &mut block);
            block
        })
    }

    pub fn frame(&self, index: u64) -> &'static [u8] {
        let mut mixed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.seed);
        mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let size = self.low + (mixed >> 32) % (self.high - self.low);
        let start = index * 7919 % Self::SPREAD;
        &Self::block()[start as usize..(start + size) as usize]
    }

    /// The arguments of the peer's `send` and `receive` for `count` frames.
    pub fn arguments(&self, first: u64, count: u64) -> String {
        format!("{first} {count} {} {} {}", self.seed, self.low, self.high)
    }

    /// Reads frames `first..first + count` and checks every byte.
    #[track_caller]
    pub fn receive(&self, reader: &mut Reader, first: u64, count: u64) {
        for index in first..first + count {
            let frame = reader.read_frame(Duration::from_secs(20)).unwrap().expect("a frame within 20 s");
            assert_eq!(frame.sequence(), index + 1);
            assert!(
                *frame == *self.frame(index),
                "frame {index} ({} bytes) is not what was written",
                frame.len()
            );
        }
    }

    /// Writes frames `first..first + count`, alternately copied and in place.
    #[track_caller]
    pub fn send(&self, writer: &mut Writer, first: u64, count: u64) {
        for index in first..first + count {
            let data = self.frame(index);
            if index % 2 == 0 {
                writer.write_frame(data).unwrap();
            } else {
                let mut frame = writer.acquire_frame(data.len()).unwrap();
                frame.copy_from_slice(data);
                frame.commit().unwrap();
            }
        }
    }
}

/// The words of a buffer, seen and forged from outside.
pub struct Raw(File);

#[derive(Debug, Clone, Copy)]
pub enum Word {
    FreeBytes = 0x28,
    WritePos = 0x30,
    ReadPos = 0x38,
    WrittenCount = 0x40,
    ReadCount = 0x48,
    WriterPid = 0x50,
    ReaderPid = 0x58,
}

impl Raw {
    pub fn of(name: &str) -> Raw {
        Raw::open(format!("/dev/shm/{name}"))
    }

    fn open(path: String) -> Raw {
        Raw(OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap_or_else(|error| panic!("{path}: {error}")))
    }

    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    pub fn put(&self, at: u64, bytes: &[u8]) {
        self.0.write_all_at(bytes, at).unwrap();
    }

    pub fn get(&self, word: Word) -> u64 {
        u64::from_le_bytes(self.bytes(word as u64, 8).try_into().unwrap())
    }

    pub fn set(&self, word: Word, value: u64) {
        self.put(word as u64, &value.to_le_bytes());
    }
}

/// The count of a named semaphore (`sem-w-...`, `sem-r-...`): the first 32 bits of glibc's sem_t on 64-bit machines.
pub fn semaphore(which: &str, name: &str) -> u32 {
    u32::from_le_bytes(Raw::open(format!("/dev/shm/sem.{which}-{name}")).bytes(0, 4).try_into().unwrap())
}

/// Sets that count; no other thread may use the semaphore meanwhile.
pub fn forge_semaphore(which: &str, name: &str, count: u32) {
    Raw::open(format!("/dev/shm/sem.{which}-{name}")).put(0, &count.to_le_bytes());
}
