//! The thread pool of a server: as many workers as processors, fed in order.

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};

use super::lock;
use super::request::Request;
use super::responses::Address;
use super::run::{Job, Run};
use crate::error::Result;

type Work = (Request, Address);

/// Workers of a pool where nothing else was said.
pub(crate) fn default_size() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).max(2)
}

/// Starts `size` workers and the thread that reads for them.
pub(crate) fn start(run: &Arc<Run>, job: &Job, size: usize) -> Result<()> {
    // Few wait beside those that run: a request that has not been handed on can still be withdrawn, and its space is the
    // client's limit.
    let (sender, receiver) = sync_channel::<Work>(size);
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..size {
        let (receiver, job) = (Arc::clone(&receiver), Arc::clone(job));
        run.spawn(move |run| work(run, &receiver, &job))?;
    }
    run.spawn(move |run| {
        // Fails only if all workers are gone, which they are after the end of this thread.
        run.read(|request, to| drop(sender.send((request, to))));
    })
}

fn work(run: &Run, receiver: &Mutex<Receiver<Work>>, job: &Job) {
    loop {
        // Whoever has the lock waits for work, the others for the lock.
        let next = lock(receiver).recv();
        let Ok((request, to)) = next else { return };
        job(run, request, to);
    }
}
