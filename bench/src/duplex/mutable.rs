//! Calls of a server that changes requests in place: the client fills them in place and reads the responses where they lie, so
//! nothing but the ends of a large request is touched.

use std::sync::atomic::{Ordering, fence};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use zerobuffer::BufferConfig;
use zerobuffer::duplex::{ClientOptions, DuplexChannelFactory, ProcessingMode};

use super::drive::{is_end, last_request};
use super::{Case, Job, Peer, Row, Way, run};
use crate::compare::Plan;
use crate::musts::PICTURE;
use crate::record::Record;
use crate::role::{fill, mark, marks, measured};
use crate::run::{Runner, human};
use crate::stats::{Outcome, latencies, median};
use crate::transport::{PATIENCE, Transport};

/// A large call may take so many times a small one and the handler's time together.
const BOUND: f64 = 1.10;

const SMALL: usize = 64;

/// One of so many requests has its handler timed, so that the clock costs the calls next to nothing.
const TIMED: u64 = 16;

/// Requests of a run that checks every byte.
const CHECKED: u64 = 20;

/// The handler's work: reads and changes the first and last 8 bytes. The fence waits until they are there, so that the time this
/// takes is the handler's, not that of what comes next.
fn touch(data: &mut [u8]) {
    let (first, last) = marks(data);
    let at = data.len() - 8;
    data[..8].copy_from_slice(&first.wrapping_add(1).to_le_bytes());
    data[at..].copy_from_slice(&last.wrapping_add(1).to_le_bytes());
    fence(Ordering::SeqCst);
}

/// What two looks at the clock, one after the other, differ by, in microseconds.
fn clock() -> f64 {
    let look = |_| Instant::now().elapsed().as_nanos() as u64;
    latencies((0..1000).map(look).collect()).p50_us
}

/// Measures how long the handler takes.
pub fn serve(job: &Job) -> Result<Outcome> {
    let server =
        DuplexChannelFactory::new().create_mutable_server(&job.forth.run, BufferConfig::default())?;
    let (sender, receiver) = channel();
    let times = Arc::new(Mutex::new(Vec::with_capacity(1 << 18)));
    let of_handler = Arc::clone(&times);
    server.start(
        move |request| {
            if is_end(request) {
                sender.send(())?;
            } else if request.sequence() % TIMED == 0 {
                let start = Instant::now();
                touch(request);
                let took = start.elapsed().as_nanos() as u64;
                of_handler.lock().unwrap_or_else(PoisonError::into_inner).push(took);
            } else {
                touch(request);
            }
            Ok(())
        },
        ProcessingMode::SingleThread,
    )?;
    let outcome = measured(|| Ok(receiver.recv().map(|()| Outcome::default())?))?;
    server.stop()?;
    let times = std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner));
    let handler = latencies(times);
    let p50_us = (handler.p50_us - clock()).max(0.0);
    Ok(Outcome { p50_us, cpu_percent: outcome.cpu_percent, resident_kib: outcome.resident_kib, ..handler })
}

pub fn call(job: &Job) -> Result<Outcome> {
    let options = ClientOptions::default().connect_timeout(PATIENCE);
    let client = DuplexChannelFactory::new().create_client_with(&job.forth.run, options)?;
    // Three times are taken.
    let looks = (3.0 * clock() * 1000.0) as u64;
    let mut expected = vec![0; if job.verify { job.size } else { 0 }];
    let outcome = measured(|| {
        let warm_at = Instant::now() + Duration::from_secs_f64(job.warm_up);
        let end = warm_at + Duration::from_secs_f64(job.seconds);
        let mut samples = Vec::with_capacity(1 << 20);
        for index in 0.. {
            let sent = Instant::now();
            if if job.verify { index == CHECKED } else { sent >= end } {
                break;
            }
            let mut request = client.acquire_request_buffer(job.size)?;
            let acquired = Instant::now();
            if job.verify {
                fill(index, &mut request);
                expected.copy_from_slice(&request);
                touch(&mut expected);
            } else {
                mark(&mut request, index);
            }
            // As in `touch`: the time that the bytes take is the caller's.
            fence(Ordering::SeqCst);
            let filled = Instant::now();
            let response = request.call(PATIENCE)?;
            let answered = Instant::now();
            ensure!(response.len() == job.size, "a response of {} bytes", response.len());
            let good =
                if job.verify { *response == *expected } else { marks(&response) == (index + 1, index + 1) };
            let checked = Instant::now();
            drop(response);
            let back = Instant::now();
            ensure!(good, "the response to request {index} is another one");
            if sent >= warm_at && back <= end {
                let in_calls = (acquired - sent) + (answered - filled) + (back - checked);
                samples.push((in_calls.as_nanos() as u64).saturating_sub(looks));
            }
        }
        let wall_rate = samples.len() as f64 / job.seconds;
        Ok(Outcome { wall_rate, ..latencies(samples) })
    })?;
    // The server may be gone before it has answered.
    let _ = client.call(&last_request(job), PATIENCE);
    Ok(outcome)
}

/// Measures large and small calls, interleaved, and judges the large ones.
pub fn compare(plan: &Plan<'_>, runner: &Runner, record: &mut Record) -> Result<()> {
    if plan.streams || !plan.wants("mutable call") || !plan.transports.contains(&Transport::Ours) {
        return Ok(());
    }
    let mut rows = [SMALL, PICTURE].map(|size| {
        let case = Case { size, callers: 1, way: Way::Threads };
        Row { case, peer: Peer::OursMutable, runs: Vec::new(), failure: None }
    });
    // The first turn is not counted: every byte is checked.
    for turn in 0..=plan.runs {
        for row in &mut rows {
            let what = || format!("mutable call {}", human(row.case.size));
            let measured = run(runner, row, turn == 0).with_context(what)?;
            if turn > 0 {
                record.line(&json!({
                    "scenario": { "kind": "mutable-call", "size": row.case.size }, "run": turn - 1,
                    "line_ns": measured.line_ns, "outcome": measured.outcome, "other": measured.other,
                }))?;
                row.runs.push(measured);
            }
        }
    }
    println!("\nmutable call   (calls/s; p50, p90, p99 in us; the handler's p50 in us)");
    for row in &rows {
        let shown = |field| row.of(field).unwrap_or(f64::NAN);
        println!(
            "  {:12} {:10.0} {:9.2} {:9.2} {:9.2}  {:9.3}",
            human(row.case.size),
            shown(|o| o.wall_rate),
            shown(|o| o.p50_us),
            shown(|o| o.p90_us),
            shown(|o| o.p99_us),
            handler(row),
        );
    }
    let [small, large] = rows;
    let p50 = |row: &Row| row.of(|o| o.p50_us).unwrap_or(f64::NAN);
    let times = p50(&large) / (p50(&small) + handler(&large));
    let verdict = if times <= BOUND { "reached" } else { "MISSED" };
    let (size, than) = (human(PICTURE), human(SMALL));
    println!("  {size:12} {verdict:7} {times:.2} times a call of {than} and the handler (must: {BOUND:.2})");
    Ok(())
}

/// The median time of a row's handler, in microseconds.
fn handler(row: &Row) -> f64 {
    median(&mut row.runs.iter().map(|run| run.other.p50_us).collect::<Vec<_>>()).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touched_request_differs_from_the_one_before_in_both_ends() {
        let mut data = [0; 24];
        mark(&mut data, 7);
        touch(&mut data);
        assert_eq!((marks(&data), &data[8..16]), ((8, 8), &[0; 8][..]));
    }
}
