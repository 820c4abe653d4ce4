//! Callers and servers of one run: what they send and check, and what they measure.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Job, Way};
use crate::role::{END, FILLING, fill, is_filled, mark, marks, measured};
use crate::stats::{Outcome, latencies};

/// Requests of a run that checks every byte, of each caller.
const CHECKED: u64 = 20;

/// A client that waits for the response to each request before the next one.
pub trait Call {
    /// Sends `request`, and copies its response, of the same length, to `response`.
    fn call(&mut self, request: &[u8], response: &mut [u8]) -> Result<()>;
}

/// A client that has several requests under way.
pub trait Pipeline {
    fn send(&mut self, request: &[u8]) -> Result<()>;
    /// Copies the next response to `response`, whichever request it is to.
    fn receive(&mut self, response: &mut [u8]) -> Result<()>;
}

/// Whether a request asks the server to answer it and end.
pub fn is_end(request: &[u8]) -> bool {
    marks(request) == (END, END)
}

pub fn last_request(job: &Job) -> Vec<u8> {
    let mut request = vec![FILLING; job.size];
    mark(&mut request, END);
    request
}

/// One request after the other, each checked and timed: one of several under way at once.
pub struct Caller {
    number: u64,
    count: u64,
    limit: u64,
    fills: bool,
    sent: Instant,
    warm_at: Instant,
    end: Instant,
    samples: Vec<u64>,
}

impl Caller {
    pub fn new(job: &Job, number: usize, start: Instant) -> Caller {
        let warm_at = start + Duration::from_secs_f64(job.warm_up);
        Caller {
            number: number as u64,
            count: 0,
            limit: if job.verify { CHECKED } else { u64::MAX },
            fills: job.verify,
            sent: start,
            warm_at,
            end: warm_at + Duration::from_secs_f64(job.seconds),
            samples: Vec::with_capacity(1 << 18),
        }
    }

    /// What the request carries, and its response.
    fn index(&self) -> u64 {
        self.count << 8 | self.number
    }

    /// Makes the next request in `data`, unless the time is over.
    pub fn next(&mut self, data: &mut [u8]) -> bool {
        if self.count == self.limit {
            return false;
        }
        let index = self.index();
        if self.fills {
            fill(index, data);
        } else {
            mark(data, index);
        }
        self.sent = Instant::now();
        self.fills || self.sent < self.end
    }

    pub fn answered(&mut self, response: &[u8]) -> Result<()> {
        let (back, index) = (Instant::now(), self.index());
        let good = if self.fills { is_filled(index, response) } else { marks(response) == (index, index) };
        ensure!(good, "the response to request {index} is another one: {:?}", marks(response));
        if self.sent >= self.warm_at && back <= self.end {
            self.samples.push((back - self.sent).as_nanos() as u64);
        }
        self.count += 1;
        Ok(())
    }
}

/// Where each caller's bytes begin, in every language: a copy from elsewhere than the start of half a cache line takes 3 to 4 % longer,
/// and each language's allocator has places of its own.
const PAGE: usize = 4096;

/// Memory for `size` bytes from the start of a page.
fn with_page(size: usize, filling: u8) -> Vec<u8> {
    vec![filling; size + PAGE]
}

/// The bytes from the start of a page of [`with_page`].
fn at_page(memory: &mut [u8], size: usize) -> &mut [u8] {
    let start = memory.as_ptr().align_offset(PAGE);
    &mut memory[start..start + size]
}

/// What all callers together measured.
pub fn summary(job: &Job, callers: impl IntoIterator<Item = Caller>) -> Outcome {
    let samples: Vec<u64> = callers.into_iter().flat_map(|caller| caller.samples).collect();
    let wall_rate = samples.len() as f64 / job.seconds;
    Outcome { wall_rate, ..latencies(samples) }
}

/// Runs a client made by `connect` on each thread, then tells the server to end.
pub fn threads<C: Call>(job: &Job, connect: impl Fn() -> Result<C> + Sync) -> Result<Outcome> {
    let mut last = connect()?;
    let outcome = measured(|| {
        let start = Instant::now();
        let callers = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..job.callers)
                .map(|number| {
                    let connect = &connect;
                    scope.spawn(move || -> Result<Caller> {
                        let mut client = connect()?;
                        let mut caller = Caller::new(job, number, start);
                        let (mut data, mut response) = (with_page(job.size, FILLING), with_page(job.size, 0));
                        let (data, response) =
                            (at_page(&mut data, job.size), at_page(&mut response, job.size));
                        while caller.next(data) {
                            client.call(data, response)?;
                            caller.answered(response)?;
                        }
                        Ok(caller)
                    })
                })
                .collect();
            let results = threads.into_iter().map(|thread| thread.join());
            results
                .map(|result| result.unwrap_or_else(|_| anyhow::bail!("a caller panicked")))
                .collect::<Result<Vec<_>>>()
        })?;
        Ok(summary(job, callers))
    })?;
    // The server may be gone before it has answered.
    let _ = last.call(&last_request(job), &mut vec![0; job.size]);
    Ok(outcome)
}

/// Runs the client as one thread with `job.callers` requests under way, then tells the server to end.
pub fn pipeline(job: &Job, client: &mut impl Pipeline) -> Result<Outcome> {
    let (mut data, mut response) = (vec![FILLING; job.size], vec![0; job.size]);
    let outcome = measured(|| {
        let start = Instant::now();
        let mut callers: Vec<Caller> =
            (0..job.callers).map(|number| Caller::new(job, number, start)).collect();
        let mut under_way = 0;
        for caller in &mut callers {
            if caller.next(&mut data) {
                client.send(&data)?;
                under_way += 1;
            }
        }
        while under_way > 0 {
            client.receive(&mut response)?;
            let number = (marks(&response).0 & 0xff) as usize;
            let number = if job.verify { filled_by(&callers, &response)? } else { number };
            let Some(caller) = callers.get_mut(number) else {
                anyhow::bail!("a response that belongs to no caller")
            };
            caller.answered(&response)?;
            if caller.next(&mut data) {
                client.send(&data)?;
            } else {
                under_way -= 1;
            }
        }
        Ok(summary(job, callers))
    })?;
    let _ = client.send(&last_request(job));
    let _ = client.receive(&mut response);
    Ok(outcome)
}

/// The caller whose request has these bytes.
fn filled_by(callers: &[Caller], response: &[u8]) -> Result<usize> {
    let found = callers.iter().position(|caller| is_filled(caller.index(), response));
    found.ok_or_else(|| anyhow::anyhow!("a response whose bytes are not those of a request under way"))
}

/// Runs the client of a transport whose use does not depend on the number of requests under way.
pub fn either<C: Call + Pipeline>(job: &Job, connect: impl Fn() -> Result<C> + Sync) -> Result<Outcome> {
    match job.way {
        Way::Threads => threads(job, connect),
        Way::Pipeline => pipeline(job, &mut connect()?),
    }
}
