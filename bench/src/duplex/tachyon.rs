//! Tachyon's RPC: two rings, requests and responses with numbers that belong together. Both sides poll.

use std::collections::VecDeque;

use anyhow::{Result, ensure};
use tachyon_ipc::{RpcBus, TachyonError};

use super::Job;
use super::drive::{Pipeline, is_end, pipeline};
use crate::role::measured;
use crate::stats::Outcome;
use crate::transport::tachyon::{SPINS, capacity, error, path};
use crate::transport::{Spin, until};

/// Tries again while the ring is full.
fn retry<T>(mut send: impl FnMut() -> Result<T, TachyonError>) -> Result<T> {
    let mut spin = Spin::default();
    loop {
        match send() {
            Ok(sent) => return Ok(sent),
            Err(TachyonError::BufferFull) => spin.turn()?,
            Err(other) => return Err(error(other)),
        }
    }
}

/// Room for all requests under way.
fn ring(job: &Job) -> usize {
    capacity(job.size * job.callers)
}

pub fn serve(job: &Job) -> Result<Outcome> {
    let bus = RpcBus::listen(path(&job.forth)?, ring(job), ring(job)).map_err(error)?;
    bus.set_polling_mode(true);
    let mut copy = vec![0; job.size];
    let outcome = measured(|| {
        loop {
            // The crate asks for a request to be given back before its reply is acquired, so there is a copy between.
            let request = bus.serve(SPINS).map_err(error)?;
            let number = request.correlation_id;
            ensure!(request.data().len() == copy.len(), "a request of {} bytes", request.data().len());
            copy.copy_from_slice(request.data());
            request.commit().map_err(error)?;
            retry(|| bus.reply(number, &copy, 2))?;
            if is_end(&copy) {
                return Ok(Outcome::default());
            }
        }
    })?;
    // What a server has sent goes with it, unless it has been fetched.
    std::thread::sleep(std::time::Duration::from_millis(50));
    Ok(outcome)
}

pub fn call(job: &Job) -> Result<Outcome> {
    // A server accepts one client, which plays all of the run: the last request too.
    let path = path(&job.forth)?;
    let bus = until("a server", || Ok(RpcBus::connect(path).ok()))?;
    bus.set_polling_mode(true);
    let mut caller = Caller { bus, pending: VecDeque::new() };
    pipeline(job, &mut caller)
}

struct Caller {
    bus: RpcBus,
    /// Requests under way; the server answers them in this order.
    pending: VecDeque<u64>,
}

impl Pipeline for Caller {
    fn send(&mut self, request: &[u8]) -> Result<()> {
        let number = retry(|| self.bus.call(request, 1))?;
        self.pending.push_back(number);
        Ok(())
    }

    fn receive(&mut self, response: &mut [u8]) -> Result<()> {
        let Some(number) = self.pending.pop_front() else { anyhow::bail!("no request is under way") };
        let found = self.bus.wait(number, SPINS).map_err(error)?;
        ensure!(found.data().len() == response.len(), "a response of {} bytes", found.data().len());
        response.copy_from_slice(found.data());
        found.commit().map_err(error)
    }
}
