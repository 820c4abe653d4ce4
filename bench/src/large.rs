//! Frames of 16 and 64 MB from a fresh buffer, against memcpy between two processes: the first lap, whose pages the kernel has yet to
//! make, and later laps.
//!
//! A lap is as many frames as 256 MiB hold. Each rate is that of the receiver, which copies every frame out; the first lap begins
//! when the sender begins to copy.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zerobuffer::{BufferConfig, Reader, Writer, WriterOptions};

use crate::machine::{self, Machine};
use crate::record::Record;
use crate::role::{FILLING, mark, marks};
use crate::run::{Runner, human};
use crate::stats::median;
use crate::transport::{Channel, PATIENCE, Program, Spin, until};

/// Bytes of a lap, and of the memory that memcpy gets.
const LAP: usize = zerobuffer::DEFAULT_PAYLOAD_SIZE;

/// What is measured, the first lap included.
const LAPS: usize = 4;

const SIZES: [usize; 2] = [16 << 20, 64 << 20];

/// Bytes before the frames in memcpy's file.
const WORDS: usize = 4096;

/// Who copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Who {
    /// Two processes with one file in /dev/shm, and a word each.
    Memcpy,
    /// The library, with its defaults.
    Ours,
    /// The library, with huge pages.
    OursHuge,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Who::Memcpy => "memcpy",
            Who::Ours => "ours",
            Who::OursHuge => "ours, huge pages",
        }
    }
}

/// The job of one process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    who: Who,
    receives: bool,
    size: usize,
    cpu: Option<usize>,
    channel: Channel,
}

/// GB/s of the receiver.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct Rates {
    first_frame: f64,
    first_lap: f64,
    later_laps: f64,
}

impl Job {
    fn lap(&self) -> usize {
        LAP / self.size
    }

    fn frames(&self) -> usize {
        LAPS * self.lap()
    }

    /// The data to send, or the place to copy to, in memory that has been touched.
    fn data(&self) -> Vec<u8> {
        vec![FILLING; self.size]
    }

    fn rates(&self, began: u64, times: &[u64]) -> Result<Rates> {
        let lap = self.lap();
        ensure!(times.len() == self.frames() && lap > 1, "{} frames came", times.len());
        let rate = |frames: usize, from: u64, to: u64| {
            (frames * self.size) as f64 / to.saturating_sub(from).max(1) as f64
        };
        Ok(Rates {
            first_frame: rate(1, began, times[0]),
            first_lap: rate(lap, began, times[lap - 1]),
            later_laps: rate(times.len() - lap, times[lap - 1], times[times.len() - 1]),
        })
    }
}

/// The clock that all processes share, in nanoseconds.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists, and `time` has room for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Plays one side; the sender has no rates.
pub fn play(job: &Job) -> Result<Rates> {
    if let Some(cpu) = job.cpu {
        machine::pin(cpu)?;
    }
    match (job.who, job.receives) {
        (Who::Memcpy, true) => receive_by_memcpy(job),
        (Who::Memcpy, false) => send_by_memcpy(job),
        (_, true) => receive(job),
        (_, false) => send(job),
    }
}

/// When the sender began, from its first frame.
fn stamp(frame: &[u8]) -> u64 {
    u64::from_le_bytes(frame[8..16].try_into().unwrap_or_default())
}

fn send_each(job: &Job, mut send: impl FnMut(&[u8]) -> Result<()>) -> Result<Rates> {
    let mut data = job.data();
    data[8..16].copy_from_slice(&now().to_le_bytes());
    for index in 0..job.frames() {
        mark(&mut data, index as u64);
        send(&data)?;
    }
    Ok(Rates::default())
}

fn receive_each(job: &Job, mut receive: impl FnMut(&mut [u8]) -> Result<()>) -> Result<Rates> {
    let mut data = job.data();
    let (mut times, mut began) = (Vec::with_capacity(job.frames()), 0);
    for index in 0..job.frames() as u64 {
        receive(&mut data)?;
        times.push(now());
        ensure!(marks(&data) == (index, index), "frame {index} is not what was sent");
        if index == 0 {
            began = stamp(&data);
        }
    }
    job.rates(began, &times)
}

fn receive(job: &Job) -> Result<Rates> {
    let config = BufferConfig::default().huge_pages(job.who == Who::OursHuge);
    let mut reader = Reader::create(&job.channel.name, config)?;
    ensure!(reader.wait_for_writer(PATIENCE)?, "no writer came");
    receive_each(job, |data| {
        let frame = reader.read_frame_ref(PATIENCE)?.context("no frame came")?;
        ensure!(frame.len() == data.len(), "a frame of {} bytes", frame.len());
        frame.copy_to(data);
        frame.release();
        Ok(())
    })
}

fn send(job: &Job) -> Result<Rates> {
    let options = WriterOptions::default().connect_timeout(PATIENCE);
    let mut writer = Writer::connect_with(&job.channel.name, options)?;
    let rates = send_each(job, |data| Ok(writer.write_frame(data).map(drop)?))?;
    Ok(rates)
}

/// The file of memcpy: the count of frames written, that of frames read, and room for a lap. Its pages are fresh.
struct Shared {
    base: NonNull<u8>,
    size: usize,
}

#[repr(C, align(128))]
struct Word(AtomicU64);

impl Shared {
    fn map(job: &Job, new: bool) -> Result<Shared> {
        let path = format!("/dev/shm/{}", job.channel.name);
        let file = OpenOptions::new().read(true).write(true).create_new(new).open(path)?;
        let len = WORDS + LAP;
        if new {
            file.set_len(len as u64)?;
        } else {
            ensure!(file.metadata()?.len() == len as u64, "the file is not made yet");
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of an open file, at an address of the kernel's choice.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        ensure!(base != libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        Ok(Shared { base: NonNull::new(base.cast()).context("mapped at 0")?, size: job.size })
    }

    /// Frames written, frames read, and whether the sender is there.
    fn words(&self) -> &[Word; 3] {
        // SAFETY: the file begins with them, on a page; they are atomics, which zeroes are a value of.
        unsafe { self.base.cast::<[Word; 3]>().as_ref() }
    }

    fn slot(&self, index: usize) -> *mut u8 {
        let slots = LAP / self.size;
        // SAFETY: within the mapping, as there are so many slots of that size.
        unsafe { self.base.as_ptr().add(WORDS + index % slots * self.size) }
    }

    fn await_word(word: &Word, least: usize) -> Result<()> {
        let mut spin = Spin::default();
        while word.0.load(Ordering::Acquire) < least as u64 {
            spin.turn()?;
        }
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made; no slice of it is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), WORDS + LAP) };
    }
}

fn receive_by_memcpy(job: &Job) -> Result<Rates> {
    let shared = Shared::map(job, true)?;
    let [written, read, ready] = shared.words();
    until("a sender", || Ok((ready.0.load(Ordering::Acquire) == 1).then_some(())))?;
    let index = Cell::new(0_usize);
    receive_each(job, |data| {
        Shared::await_word(written, index.get() + 1)?;
        // SAFETY: the sender has written the slot, and leaves it alone until `read` says that it was copied.
        unsafe { std::ptr::copy_nonoverlapping(shared.slot(index.get()), data.as_mut_ptr(), data.len()) };
        index.set(index.get() + 1);
        read.0.store(index.get() as u64, Ordering::Release);
        Ok(())
    })
}

fn send_by_memcpy(job: &Job) -> Result<Rates> {
    let shared = until("a receiver", || Ok(Shared::map(job, false).ok()))?;
    let [written, read, ready] = shared.words();
    ready.0.store(1, Ordering::Release);
    let index = Cell::new(0_usize);
    send_each(job, |data| {
        Shared::await_word(read, (index.get() + 1).saturating_sub(job.lap()))?;
        // SAFETY: the receiver has copied what was in the slot, and looks at it again only behind the store of `written`.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), shared.slot(index.get()), data.len()) };
        index.set(index.get() + 1);
        written.0.store(index.get() as u64, Ordering::Release);
        Ok(())
    })
}

/// Measures all in turns and prints the medians.
pub fn compare(runner: &Runner, runs: usize, record: &mut Record) -> Result<()> {
    println!("{} | {runs} runs", Machine::describe().line());
    println!("GB/s, copied in and out: {:12} first frame  first lap  later laps", "");
    for size in SIZES {
        let mut all = [Who::Memcpy, Who::Ours, Who::OursHuge].map(|who| (who, Vec::new()));
        for run in 0..runs {
            for (who, rates) in &mut all {
                let found = once(runner, *who, size)?;
                record.line(&json!({ "scenario": { "kind": "large", "size": size }, "who": *who, "run": run, "rates": found }))?;
                rates.push(found);
            }
        }
        let mut bar = None;
        for (who, rates) in all {
            let of = |rate: fn(&Rates) -> f64| {
                median(&mut rates.iter().map(rate).collect::<Vec<_>>()).unwrap_or(f64::NAN)
            };
            let row =
                [of(|rates| rates.first_frame), of(|rates| rates.first_lap), of(|rates| rates.later_laps)];
            let bar = *bar.get_or_insert(row);
            let shown = row.iter().zip(bar).map(|(rate, bar)| format!("{rate:6.2} ({:.2})", rate / bar));
            println!("  {:8} {:18} {}", human(size), who.name(), shown.collect::<Vec<_>>().join("  "));
        }
    }
    Ok(())
}

fn once(runner: &Runner, who: Who, size: usize) -> Result<Rates> {
    let channels = runner.channels(size, LAP);
    let start = |receives: bool| {
        let cpu = runner.cpus.map(|cpus| cpus[usize::from(receives)]);
        let job = Job { who, receives, size, cpu, channel: channels.forth.clone() };
        let name = if receives { "receiver" } else { "sender" };
        runner.start(name, Program::Own, &["play-large", &serde_json::to_string(&job)?])
    };
    let players = vec![start(true)?, start(false)?];
    runner.wait::<Rates>(players)?.into_iter().next().context("no process reported")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lap_is_told_apart_from_later_ones() {
        let channel = Channel::new(std::path::Path::new("/nowhere"), "large", 1, SIZES[0], LAP);
        let job = Job { who: Who::Ours, receives: true, size: SIZES[0], cpu: None, channel };
        let lap = job.lap() as u64;
        // Two bytes a nanosecond, then eight.
        let slow = SIZES[0] as u64 / 2;
        let times: Vec<u64> = (1..=LAPS as u64 * lap)
            .map(|frame| 100 + frame.min(lap) * slow + frame.saturating_sub(lap) * slow / 4)
            .collect();
        let rates = job.rates(100, &times).unwrap();
        assert_eq!((rates.first_frame, rates.first_lap, rates.later_laps), (2.0, 2.0, 8.0));
        assert!(job.rates(100, &times[1..]).is_err());
    }
}
