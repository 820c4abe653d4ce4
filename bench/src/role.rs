//! The processes of a run: a producer and a consumer of a stream, the two ends of round trips, the three of a relay.
//!
//! Every frame that is copied carries its index in its first and last 8 bytes, and is checked; in a verifying run every
//! byte is. Frames that stay untouched in place are counted.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use zerobuffer::{Forwarded, Reader, Writer, WriterOptions};

use crate::machine::{self, Usage};
use crate::stats::{Meter, Outcome, first_us, latencies};
#[cfg(feature = "aeron")]
use crate::transport::aeron::{AeronSink, AeronSource};
use crate::transport::bare::{BareSink, BareSource};
#[cfg(feature = "iceoryx2")]
use crate::transport::iceoryx2::{Iceoryx2Sink, Iceoryx2Source};
#[cfg(feature = "ipc-channel")]
use crate::transport::ipc_channel::{IpcChannelSink, IpcChannelSource};
use crate::transport::ours::{OurSink, OurSource};
#[cfg(feature = "shmem-ipc")]
use crate::transport::shmem_ipc::{ShmemIpcSink, ShmemIpcSource};
use crate::transport::streams::{PipeSink, PipeSource, SocketSink, SocketSource};
#[cfg(feature = "tachyon")]
use crate::transport::tachyon::{TachyonSink, TachyonSource};
#[cfg(feature = "zeromq")]
use crate::transport::zeromq::{ZeromqSink, ZeromqSource};
use crate::transport::{Channel, Next, PATIENCE, Sink, Source, Transport};

/// Smallest frame that has room for the index at both ends.
pub const MIN_SIZE: usize = 16;

/// The index of the frame that ends a stream; some transports have no other sign of a good end.
pub const END: u64 = u64::MAX;

/// Length of the frame that ends a stream of untouched frames; it holds their number.
const END_LEN: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Produce,
    Consume,
    /// Starts round trips and measures them.
    Ping,
    /// Sends back what it gets.
    Echo,
    /// Sends frames at a pace, with the time in them.
    Camera,
    /// Passes frames on from one channel to the other: copies them, unless its transport lends.
    Relay,
    /// Measures how old the camera's frames are.
    Display,
    /// Aeron's media driver.
    MediaDriver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Each byte is copied once at each end.
    Copy,
    /// The producer copies, the consumer reads the first and last 8 bytes where they lie.
    CopyIn,
    /// Frames are acquired, committed and taken where they lie, untouched.
    InPlace,
    /// In place, with the first and last 8 bytes written and read.
    Marked,
    /// The producer copies, the consumer reads every byte (where it lies, if it can).
    Checksum,
    /// A given number of frames, copied at both ends, as the first ones of their channel.
    Fresh,
    /// A given number of frames, each byte made up by the producer and checked by the consumer.
    Verify,
    /// No frame but the last one: the consumer waits all the time.
    Idle,
}

/// The job of one process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub role: Role,
    pub transport: Transport,
    pub mode: Mode,
    pub cpu: Option<usize>,
    pub size: usize,
    pub seconds: f64,
    pub warm_up: f64,
    /// Frames of a run that has a given number of them.
    pub count: u64,
    /// Round trips or frames a second; 0 = as many as possible.
    pub pace: u64,
    /// Milliseconds for which a display works on each frame before it gives it back.
    pub work: u64,
    /// Frames that the consumer keeps, giving back the oldest (ZeroBuffer only); it then reads frames that it
    /// may keep.
    pub held: Option<usize>,
    pub forth: Channel,
    pub back: Channel,
}

/// Plays the role and returns the measurements (producers and echoes: processor time and memory only).
pub fn play(job: &Job) -> Result<Outcome> {
    if let Some(cpu) = job.cpu {
        machine::pin(cpu)?;
    }
    match job.transport {
        #[cfg(feature = "aeron")]
        Transport::Aeron if job.role == Role::MediaDriver => {
            crate::transport::aeron::drive(&job.forth).map(|()| Outcome::default())
        }
        Transport::Ours if job.role == Role::Consume && job.held.is_some() => hold(job),
        Transport::Ours | Transport::OursSmall => play_with::<OurSink, OurSource>(job),
        Transport::OursClassic => play_with::<OurSink, OurSource<true>>(job),
        Transport::OursShared if job.role == Role::Relay => lend(job),
        Transport::OursShared => play_with::<OurSink, OurSource<false, true>>(job),
        Transport::Bare => play_with::<BareSink<false>, BareSource<false>>(job),
        Transport::BareAway => play_with::<BareSink<false>, BareSource<true>>(job),
        Transport::BareAhead => play_with::<BareSink<true>, BareSource<false>>(job),
        Transport::BareAwayAhead => play_with::<BareSink<true>, BareSource<true>>(job),
        Transport::BareLarge => play_with::<BareSink<false>, BareSource<false, true>>(job),
        Transport::UnixSocket => play_with::<SocketSink, SocketSource>(job),
        Transport::Pipe => play_with::<PipeSink, PipeSource>(job),
        #[cfg(feature = "aeron")]
        Transport::Aeron => play_with::<AeronSink, AeronSource>(job),
        #[cfg(feature = "iceoryx2")]
        Transport::Iceoryx2 => play_with::<Iceoryx2Sink<false>, Iceoryx2Source<false>>(job),
        #[cfg(feature = "iceoryx2")]
        Transport::Iceoryx2Events => play_with::<Iceoryx2Sink<true>, Iceoryx2Source<true>>(job),
        #[cfg(feature = "shmem-ipc")]
        Transport::ShmemIpc => play_with::<ShmemIpcSink<false>, ShmemIpcSource<false>>(job),
        #[cfg(feature = "shmem-ipc")]
        Transport::ShmemIpcEvents => play_with::<ShmemIpcSink<true>, ShmemIpcSource<true>>(job),
        #[cfg(feature = "tachyon")]
        Transport::Tachyon => play_with::<TachyonSink<true>, TachyonSource<true>>(job),
        #[cfg(feature = "tachyon")]
        Transport::TachyonBatched => play_with::<TachyonSink<false>, TachyonSource<false>>(job),
        #[cfg(feature = "zeromq")]
        Transport::Zeromq => play_with::<ZeromqSink, ZeromqSource>(job),
        #[cfg(feature = "ipc-channel")]
        Transport::IpcChannel => play_with::<IpcChannelSink, IpcChannelSource>(job),
        #[allow(unreachable_patterns)]
        other => bail!("{} is not part of this program", other.name()),
    }
}

fn play_with<K: Sink, S: Source>(job: &Job) -> Result<Outcome> {
    let listen = |channel| S::listen(channel);
    match job.role {
        Role::Produce => {
            let mut data = vec![FILLING; job.size];
            let mut sink = K::connect(&job.forth)?;
            let outcome = measured(|| produce(&mut sink, &mut data, job))?;
            sink.finish()?;
            Ok(outcome)
        }
        Role::Consume => {
            // Filled, so that no page of it is new when frames come.
            let mut data = vec![FILLING; job.size];
            let mut source = listen(&job.forth)?;
            source.accept()?;
            measured(|| consume(&mut source, &mut data, job))
        }
        Role::Ping | Role::Display => {
            let mut source = listen(&job.back)?;
            if job.role == Role::Display {
                source.accept()?;
                return measured(|| display(&mut source, job));
            }
            let mut sink = K::connect(&job.forth)?;
            source.accept()?;
            let outcome = measured(|| ping(&mut sink, &mut source, job))?;
            sink.finish()?;
            Ok(outcome)
        }
        Role::Echo | Role::Relay => {
            let mut source = listen(&job.forth)?;
            source.accept()?;
            let mut sink = K::connect(&job.back)?;
            if job.role == Role::Relay {
                let outcome = measured(|| relay(&mut sink, &mut source, job))?;
                sink.finish()?;
                return Ok(outcome);
            }
            measured(|| echo(&mut sink, &mut source, job))
        }
        Role::Camera => {
            let mut sink = K::connect(&job.forth)?;
            let outcome = measured(|| camera(&mut sink, job))?;
            sink.finish()?;
            Ok(outcome)
        }
        Role::MediaDriver => bail!("only Aeron has one"),
    }
}

/// Adds processor time and memory; the connection stands already.
pub fn measured(work: impl FnOnce() -> Result<Outcome>) -> Result<Outcome> {
    let before = Usage::now();
    let outcome = work()?;
    let after = Usage::now();
    Ok(Outcome {
        cpu_percent: after.cpu_percent_since(&before),
        resident_kib: machine::peak_resident_kib()?,
        ..outcome
    })
}

/// Writes `index` at both ends.
#[inline]
pub fn mark(data: &mut [u8], index: u64) {
    let len = data.len();
    data[..8].copy_from_slice(&index.to_le_bytes());
    data[len - 8..].copy_from_slice(&index.to_le_bytes());
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    bytes.try_into().map(u64::from_le_bytes).unwrap_or_default()
}

#[inline]
pub fn marks(data: &[u8]) -> (u64, u64) {
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

pub fn fill(index: u64, data: &mut [u8]) {
    data.chunks_mut(8)
        .zip(words(index))
        .for_each(|(chunk, word)| chunk.copy_from_slice(&word[..chunk.len()]));
}

pub fn is_filled(index: u64, data: &[u8]) -> bool {
    data.chunks(8).zip(words(index)).all(|(chunk, word)| *chunk == word[..chunk.len()])
}

/// A sum that every byte is part of, as fast as memory can be read.
pub fn sum(data: &[u8]) -> u64 {
    let (words, rest) = data.as_chunks::<8>();
    let sum = words.iter().fold(0_u64, |sum, &word| sum.wrapping_add(u64::from_le_bytes(word)));
    rest.iter().fold(sum, |sum, &byte| sum.wrapping_add(u64::from(byte)))
}

pub const FILLING: u8 = 0x5a;

/// The result of `sum` for frame `index` of `size` bytes.
fn sums(size: usize) -> impl Fn(u64) -> u64 {
    let mut data = vec![FILLING; size];
    mark(&mut data, 0);
    let base = sum(&data);
    move |index| {
        if size.is_multiple_of(8) {
            return base.wrapping_add(index).wrapping_add(index);
        }
        // The last mark is spread over two words.
        let mut data = vec![FILLING; size];
        mark(&mut data, index);
        sum(&data)
    }
}

/// Checks that frames come one after the other.
#[derive(Default)]
struct Order {
    index: u64,
}

impl Order {
    #[inline]
    fn next(&mut self, frame: &[u8], good: impl FnOnce(u64, (u64, u64)) -> bool) -> Next {
        let found = marks(frame);
        if found == (END, END) {
            return Ok(ControlFlow::Break(()));
        }
        ensure!(good(self.index, found), "frame {} is not what was sent; its marks: {found:?}", self.index);
        self.index += 1;
        Ok(ControlFlow::Continue(()))
    }

    #[inline]
    fn marked(&mut self, frame: &[u8]) -> Next {
        self.next(frame, |index, found| found == (index, index))
    }
}

fn produce(sink: &mut impl Sink, data: &mut [u8], job: &Job) -> Result<Outcome> {
    let length = Duration::from_secs_f64(job.seconds + job.warm_up);
    let end = Instant::now() + length;
    // For small frames the clock is read only now and then, for the reason given at Meter.
    let stride = if job.size <= 4096 { 64 } else { 1 };
    let mut index = 0;
    match job.mode {
        Mode::Verify => {
            for index in 0..job.count {
                fill(index, data);
                sink.send(data)?;
            }
        }
        Mode::Fresh => {
            for index in 0..job.count {
                stamp(data, index);
                sink.send(data)?;
            }
        }
        Mode::Copy | Mode::CopyIn | Mode::Checksum => {
            while index % stride != 0 || Instant::now() < end {
                mark(data, index);
                sink.send(data)?;
                index += 1;
            }
        }
        Mode::Marked => {
            while index % stride != 0 || Instant::now() < end {
                sink.send_in_place(job.size, |data| mark(data, index))?;
                index += 1;
            }
            sink.send_in_place(job.size, |data| mark(data, END))?;
            return Ok(Outcome::default());
        }
        Mode::InPlace => {
            while index % stride != 0 || Instant::now() < end {
                sink.send_in_place(job.size, |_| ())?;
                index += 1;
            }
            sink.send_in_place(END_LEN, |data| data.copy_from_slice(&index.to_le_bytes()))?;
            return Ok(Outcome::default());
        }
        Mode::Idle => std::thread::sleep(length),
    }
    mark(data, END);
    sink.send(data)?;
    Ok(Outcome::default())
}

fn consume(source: &mut impl Source, data: &mut [u8], job: &Job) -> Result<Outcome> {
    let mut meter = Meter::new(job.size, Duration::from_secs_f64(job.warm_up));
    let mut order = Order::default();
    let in_place = job.transport.in_place(job.size);
    let marked = |frame: &[u8]| {
        let next = order.marked(frame);
        meter.frame();
        next
    };
    match job.mode {
        Mode::Copy | Mode::Idle => source.receive_each(data, marked)?,
        Mode::CopyIn | Mode::Marked => source.receive_each_in_place(marked)?,
        Mode::InPlace => {
            let mut count = 0_u64;
            source.receive_each_in_place(|frame| {
                if frame.len() == job.size {
                    count += 1;
                    meter.frame();
                    return Ok(ControlFlow::Continue(()));
                }
                ensure!(frame.len() == END_LEN, "a frame of {} bytes", frame.len());
                ensure!(word(frame) == count, "{count} of {} frames came", word(frame));
                Ok(ControlFlow::Break(()))
            })?;
        }
        Mode::Checksum => {
            let expected = sums(job.size);
            let look = |frame: &[u8]| {
                let sum = sum(frame);
                let next = order.next(frame, |index, _| sum == expected(index));
                meter.frame();
                next
            };
            if in_place {
                source.receive_each_in_place(look)?;
            } else {
                source.receive_each(data, look)?;
            }
        }
        Mode::Fresh => {
            let mut sent = None;
            source.receive_each(data, |frame| {
                sent.get_or_insert(word(&frame[8..16]));
                order.marked(frame)
            })?;
            let time = now().saturating_sub(sent.unwrap_or_default());
            let wall_rate = order.index as f64 * 1e9 / time as f64;
            return Ok(Outcome { frames: order.index, wall_rate, ..Outcome::default() });
        }
        Mode::Verify => {
            source.receive_each(data, |frame| order.next(frame, |index, _| is_filled(index, frame)))?;
            ensure!(order.index == job.count, "{} of {} frames came", order.index, job.count);
        }
    }
    Ok(meter.finish())
}

fn ping(sink: &mut impl Sink, source: &mut impl Source, job: &Job) -> Result<Outcome> {
    let mut data = vec![FILLING; job.size];
    let mut answer = vec![0; job.size];
    // One trip before the time starts: some connect only then.
    sink.send(&data)?;
    source.receive(&mut answer, |_| ())?;
    let start = Instant::now();
    let warm_at = start + Duration::from_secs_f64(job.warm_up);
    let end = warm_at + Duration::from_secs_f64(job.seconds);
    let (mut samples, mut warming) = (Vec::with_capacity(1 << 20), Vec::with_capacity(1 << 16));
    let mut index = 0;
    loop {
        pace(start, index, job.pace);
        mark(&mut data, index);
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        sink.send(&data)?;
        let (back, good) = source.receive(&mut answer, |answer| (Instant::now(), *answer == *data))?;
        ensure!(good, "the answer to frame {index} is another one");
        let times = if sent >= warm_at { &mut samples } else { &mut warming };
        times.push((back - sent).as_nanos() as u64);
        index += 1;
    }
    mark(&mut data, END);
    sink.send(&data)?;
    Ok(Outcome { first_us: first_us(&warming), ..latencies(samples) })
}

/// Waits until frame `index` is due.
pub fn pace(start: Instant, index: u64, pace: u64) {
    if let Some(interval) = 1_000_000_000_u64.checked_div(pace) {
        let due = start + Duration::from_nanos(interval * index);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn echo(sink: &mut impl Sink, source: &mut impl Source, job: &Job) -> Result<Outcome> {
    let mut data = vec![0; job.size];
    while source
        .receive(&mut data, |frame| (marks(frame).0 != END).then(|| sink.send(frame)))?
        .transpose()?
        .is_some()
    {}
    Ok(Outcome::default())
}

/// Nanoseconds of the clock that all processes share.
fn now() -> u64 {
    machine::monotonic_nanoseconds()
}

/// A camera's frame: the marks at its ends, and the time in between.
pub fn stamp(data: &mut [u8], index: u64) {
    mark(data, index);
    data[8..16].copy_from_slice(&now().to_le_bytes());
}

/// How old a camera's frame is, in nanoseconds.
pub fn age(frame: &[u8]) -> u64 {
    now().saturating_sub(word(&frame[8..16]))
}

fn camera(sink: &mut impl Sink, job: &Job) -> Result<Outcome> {
    let mut data = vec![FILLING; job.size];
    let in_place = job.transport.in_place(job.size);
    let frames = ((job.seconds + job.warm_up) * job.pace as f64) as u64;
    let start = Instant::now();
    for index in (0..frames).chain([END]) {
        if index != END {
            pace(start, index, job.pace);
        }
        if in_place {
            // The picture is made in place; the time starts when it is there.
            sink.send_in_place(job.size, |target| {
                target.copy_from_slice(&data);
                stamp(target, index);
            })?;
        } else {
            stamp(&mut data, index);
            sink.send(&data)?;
        }
    }
    Ok(Outcome::default())
}

fn relay(sink: &mut impl Sink, source: &mut impl Source, job: &Job) -> Result<Outcome> {
    let mut data = vec![0; job.size];
    let in_place = job.transport.in_place(job.size);
    loop {
        let last = if in_place {
            source.receive_in_place(|frame| {
                sink.send_in_place(frame.len(), |target| target.copy_from_slice(frame))?;
                anyhow::Ok(ends(frame, job))
            })
        } else {
            source.receive(&mut data, |frame| {
                sink.send(frame)?;
                Ok(ends(frame, job))
            })
        };
        if last?? {
            return Ok(Outcome::default());
        }
    }
}

/// Whether a relay ends with `frame`. It does not touch a frame in place.
fn ends(frame: &[u8], job: &Job) -> bool {
    if job.mode == Mode::InPlace { frame.len() != job.size } else { marks(frame).0 == END }
}

/// A relay that lends its frames to the next reader.
fn lend(job: &Job) -> Result<Outcome> {
    let config = crate::transport::ours::config(&job.forth, false).allow_payload_sharing(true);
    let mut source = Reader::create(&job.forth.name, config)?;
    ensure!(source.wait_for_writer(PATIENCE)?, "no writer came");
    let options = WriterOptions::default().connect_timeout(PATIENCE).request_payload_sharing(true);
    let mut sink = Writer::connect_with(&job.back.name, options)?;
    // The first frames are copied, until the next reader has seen the offer.
    let (mut lent, mut copied) = (0_u64, 0_u64);
    let outcome = measured(|| {
        loop {
            let Some(frame) = source.read_frame(PATIENCE)? else { bail!("no frame came") };
            let last = ends(&frame, job);
            match sink.forward(frame).map_err(|(error, _)| error)? {
                Forwarded::Shared => lent += 1,
                Forwarded::Copied => copied += u64::from(lent > 0),
            }
            if last {
                return Ok(Outcome::default());
            }
        }
    })?;
    ensure!(lent > copied.saturating_mul(10), "{lent} frames were lent, and then {copied} copied");
    Ok(outcome)
}

fn display(source: &mut impl Source, job: &Job) -> Result<Outcome> {
    let mut data = vec![0; job.size];
    let warm = (job.warm_up * job.pace as f64) as u64;
    let mut samples = Vec::new();
    let mut order = Order::default();
    let work = Duration::from_millis(job.work);
    let look = |frame: &[u8]| {
        let (age, came) = (age(frame), Instant::now());
        let next = order.marked(frame)?;
        while came.elapsed() < work {
            std::hint::spin_loop();
        }
        if next.is_continue() && order.index > warm {
            samples.push(age);
        }
        Ok(next)
    };
    if job.transport.in_place(job.size) {
        source.receive_each_in_place(look)?;
    } else {
        source.receive_each(&mut data, look)?;
    }
    Ok(latencies(samples))
}

/// A stream whose consumer keeps the last `held` frames.
fn hold(job: &Job) -> Result<Outcome> {
    let keep = job.held.unwrap_or_default();
    let mut reader = Reader::create(&job.forth.name, crate::transport::ours::config(&job.forth, false))?;
    ensure!(reader.wait_for_writer(PATIENCE)?, "no writer came");
    let mut data = vec![0; job.size];
    let mut held = VecDeque::with_capacity(keep + 1);
    let mut meter = Meter::new(job.size, Duration::from_secs_f64(job.warm_up));
    measured(|| {
        let mut order = Order::default();
        loop {
            let Some(frame) = reader.read_frame(PATIENCE)? else { bail!("no frame came") };
            frame.copy_to(&mut data);
            if order.marked(&data)?.is_break() {
                return Ok(meter.finish());
            }
            held.push_back(frame);
            if held.len() > keep {
                held.pop_front();
            }
            meter.frame();
        }
    })
}

/// Times to create a buffer of 256 MiB, and the largest resident memory of such a buffer, in bytes.
pub fn creations(name: &str, rounds: usize) -> Result<(Outcome, u64)> {
    use zerobuffer::BufferConfig;
    let mut samples = Vec::new();
    let mut largest = 0;
    for _ in 0..rounds {
        let before = machine::resident_kib()?;
        let start = Instant::now();
        let reader = Reader::create(name, BufferConfig::default())?;
        samples.push(start.elapsed().as_nanos() as u64);
        largest = largest.max(machine::resident_kib()?.saturating_sub(before));
        drop(reader);
    }
    Ok((latencies(samples), largest))
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

    #[test]
    fn sums_are_those_of_the_marked_frames() {
        for len in [16, 64, 1001] {
            let expected = sums(len);
            let mut data = vec![FILLING; len];
            for index in [0, 1, 77, 1 << 40] {
                mark(&mut data, index);
                assert_eq!(sum(&data), expected(index));
                data[len / 2] ^= 1;
                assert_ne!(sum(&data), expected(index));
                data[len / 2] ^= 1;
            }
        }
    }
}
