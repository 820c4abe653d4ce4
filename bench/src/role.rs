//! The two processes of a run: a producer and a consumer of a stream, or the two ends of round trips.
//!
//! Every frame carries its index in its first and last 8 bytes, and is checked; in a verifying run every byte is.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::machine;
use crate::stats::{Meter, Outcome, latencies};
use crate::transport::{
    Channel, OurSink, OurSource, PipeSink, PipeSource, Sink, SocketSink, SocketSource, Source, Transport,
};

/// Smallest frame that has room for the index at both ends.
pub const MIN_SIZE: usize = 16;

/// The index of the frame that ends a stream; 1.x peers have no other sign of a good end.
const END: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Produce,
    Consume,
    /// Starts round trips and measures them.
    Ping,
    /// Sends back what it gets.
    Echo,
    /// Waits for a frame that does not come.
    Idle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Each byte is copied once at each end.
    Copy,
    /// Frames are acquired, committed and taken where they lie, untouched.
    InPlace,
    /// A given number of frames, each byte made up by the producer and checked by the consumer.
    Verify,
}

/// What one process is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub role: Role,
    pub transport: Transport,
    pub mode: Mode,
    pub cpu: Option<usize>,
    pub size: usize,
    pub seconds: f64,
    pub warm_up: f64,
    /// Frames of a verifying run.
    pub count: u64,
    /// Round trips a second; 0 = as many as possible.
    pub pace: u64,
    pub forth: Channel,
    pub back: Channel,
}

/// Plays the role and gives what was measured (nothing by producers and echoes but the processor time).
pub fn play(job: &Job) -> Result<Outcome> {
    if let Some(cpu) = job.cpu {
        machine::pin(cpu)?;
    }
    match job.transport {
        Transport::Ours => play_with::<OurSink, OurSource>(job),
        Transport::UnixSocket => play_with::<SocketSink, SocketSource>(job),
        Transport::Pipe => play_with::<PipeSink, PipeSource>(job),
        Transport::Python1x => anyhow::bail!("peers/zerobuffer_1x.py plays this one"),
    }
}

fn play_with<K: Sink, S: Source>(job: &Job) -> Result<Outcome> {
    let wall = Instant::now();
    let cpu = machine::cpu_seconds();
    let outcome = match job.role {
        Role::Produce => produce(&mut K::connect(&job.forth)?, job).map(|()| Outcome::default()),
        Role::Consume => {
            let mut source = S::listen(&job.forth)?;
            source.accept()?;
            consume(&mut source, job)
        }
        Role::Ping => {
            let mut source = S::listen(&job.back)?;
            let mut sink = K::connect(&job.forth)?;
            source.accept()?;
            ping(&mut sink, &mut source, job)
        }
        Role::Echo => {
            let mut source = S::listen(&job.forth)?;
            let mut sink = K::connect(&job.back)?;
            source.accept()?;
            echo(&mut sink, &mut source, job).map(|()| Outcome::default())
        }
        Role::Idle => idle(job),
    }?;
    let cpu_percent = (machine::cpu_seconds() - cpu) / wall.elapsed().as_secs_f64() * 100.0;
    Ok(Outcome { cpu_percent, ..outcome })
}

/// Writes `index` at both ends.
#[inline]
fn mark(data: &mut [u8], index: u64) {
    let len = data.len();
    data[..8].copy_from_slice(&index.to_le_bytes());
    data[len - 8..].copy_from_slice(&index.to_le_bytes());
}

#[inline]
fn marks(data: &[u8]) -> (u64, u64) {
    let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
    (word(&data[..8]), word(&data[data.len() - 8..]))
}

/// The bytes of frame `index`: SplitMix64 (Steele, Lea, Flood 2014), seeded with it.
fn words(index: u64) -> impl Iterator<Item = [u8; 8]> {
    let mut state = index;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    })
}

fn fill(index: u64, data: &mut [u8]) {
    data.chunks_mut(8)
        .zip(words(index))
        .for_each(|(chunk, word)| chunk.copy_from_slice(&word[..chunk.len()]));
}

fn is_filled(index: u64, data: &[u8]) -> bool {
    data.chunks(8).zip(words(index)).all(|(chunk, word)| *chunk == word[..chunk.len()])
}

fn produce(sink: &mut impl Sink, job: &Job) -> Result<()> {
    let mut data = vec![0x5a; job.size];
    let end = Instant::now() + Duration::from_secs_f64(job.seconds + job.warm_up);
    // As in Meter: small frames look at the clock now and then only.
    let stride = if job.size <= 4096 { 64 } else { 1 };
    let mut index = 0;
    match job.mode {
        Mode::Verify => {
            for index in 0..job.count {
                fill(index, &mut data);
                sink.send(&data)?;
            }
        }
        Mode::Copy => {
            while index % stride != 0 || Instant::now() < end {
                mark(&mut data, index);
                sink.send(&data)?;
                index += 1;
            }
        }
        Mode::InPlace => {
            while index % stride != 0 || Instant::now() < end {
                sink.send_in_place(job.size)?;
                index += 1;
            }
            return Ok(());
        }
    }
    mark(&mut data, END);
    sink.send(&data)
}

fn consume(source: &mut impl Source, job: &Job) -> Result<Outcome> {
    let mut data = vec![0; job.size];
    let mut meter = Meter::new(job.size, Duration::from_secs_f64(job.warm_up));
    let mut index = 0;
    loop {
        match job.mode {
            Mode::InPlace => {
                if !source.receive_in_place(job.size)? {
                    break;
                }
            }
            Mode::Copy | Mode::Verify => {
                ensure!(source.receive(&mut data)?, "the stream ended without its last frame");
                let marks = marks(&data);
                if marks == (END, END) {
                    break;
                }
                if job.mode == Mode::Copy {
                    ensure!(marks == (index, index), "frame {index} bears the marks {marks:?}");
                } else {
                    ensure!(is_filled(index, &data), "frame {index} is not what was sent");
                }
            }
        }
        index += 1;
        meter.frame();
    }
    ensure!(job.mode != Mode::Verify || index == job.count, "{index} of {} frames came", job.count);
    Ok(meter.finish())
}

fn ping(sink: &mut impl Sink, source: &mut impl Source, job: &Job) -> Result<Outcome> {
    let mut data = vec![0x5a; job.size];
    let mut answer = vec![0; job.size];
    let start = Instant::now();
    let warm_at = start + Duration::from_secs_f64(job.warm_up);
    let end = warm_at + Duration::from_secs_f64(job.seconds);
    let mut samples = Vec::with_capacity(1 << 20);
    let mut index = 0;
    loop {
        if let Some(interval) = 1_000_000_000_u64.checked_div(job.pace) {
            let due = start + Duration::from_nanos(interval * index);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        mark(&mut data, index);
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        sink.send(&data)?;
        ensure!(source.receive(&mut answer)?, "the echo ended");
        let back = Instant::now();
        ensure!(answer == data, "the answer to frame {index} is another one");
        if sent >= warm_at {
            samples.push((back - sent).as_nanos() as u64);
        }
        index += 1;
    }
    mark(&mut data, END);
    sink.send(&data)?;
    Ok(latencies(samples))
}

fn echo(sink: &mut impl Sink, source: &mut impl Source, job: &Job) -> Result<()> {
    let mut data = vec![0; job.size];
    while source.receive(&mut data)? && marks(&data).0 != END {
        sink.send(&data)?;
    }
    Ok(())
}

/// A reader with a live writer, asleep: what does waiting cost?
fn idle(job: &Job) -> Result<Outcome> {
    use zerobuffer::{BufferConfig, Reader, Writer};
    let mut reader = Reader::create(&job.forth.name, BufferConfig::default())?;
    let _writer = Writer::connect(&job.forth.name)?;
    ensure!(reader.read_frame(Duration::from_secs_f64(job.seconds))?.is_none(), "a frame from nowhere");
    Ok(Outcome::default())
}

/// Times to create a buffer of 256 MiB, and bytes of resident memory that the largest of them cost.
pub fn creations(name: &str, rounds: usize) -> Result<(Outcome, u64)> {
    use zerobuffer::{BufferConfig, Reader};
    let mut samples = Vec::new();
    let mut largest = 0;
    for _ in 0..rounds {
        let before = resident()?;
        let start = Instant::now();
        let reader = Reader::create(name, BufferConfig::default())?;
        samples.push(start.elapsed().as_nanos() as u64);
        largest = largest.max(resident()?.saturating_sub(before));
        drop(reader);
    }
    Ok((latencies(samples), largest))
}

/// Resident memory of this process, in bytes.
fn resident() -> Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).unwrap_or_default().parse()?;
    // SAFETY: plain system call.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Ok(pages * u64::try_from(page)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        for len in [16, 63, 64] {
            let mut data = vec![0; len];
            fill(7, &mut data);
            assert!(is_filled(7, &data) && !is_filled(8, &data));
            for at in 0..len {
                data[at] ^= 1;
                assert!(!is_filled(7, &data));
                data[at] ^= 1;
            }
        }
        let mut data = [0; 16];
        mark(&mut data, 3);
        assert_eq!(marks(&data), (3, 3));
    }
}
