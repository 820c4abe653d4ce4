//! ZeroMQ: a REP socket serves a REQ socket for each thread, or a DEALER socket that has several requests under way.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::drive::{Call, Pipeline, is_end, pipeline, threads};
use super::{Job, Way};
use crate::role::measured;
use crate::stats::Outcome;
use crate::transport::{PATIENCE, until};

fn address(job: &Job) -> Result<String> {
    Ok(format!("ipc://{}", job.forth.path.with_extension("zmq").to_str().context("not a UTF-8 path")?))
}

fn socket(context: &zmq::Context, kind: zmq::SocketType) -> Result<zmq::Socket> {
    let socket = context.socket(kind)?;
    socket.set_sndtimeo(PATIENCE.as_millis() as i32)?;
    socket.set_rcvtimeo(PATIENCE.as_millis() as i32)?;
    socket.set_linger(Duration::from_secs(1).as_millis() as i32)?;
    Ok(socket)
}

pub fn serve(job: &Job) -> Result<Outcome> {
    let socket = socket(&zmq::Context::new(), zmq::REP)?;
    socket.bind(&address(job)?)?;
    std::fs::write(&job.forth.path, [])?;
    measured(|| {
        loop {
            let request = socket.recv_msg(0)?;
            let end = is_end(&request);
            // The message itself goes back: no copy of its bytes between socket and socket.
            socket.send(request, 0)?;
            if end {
                return Ok(Outcome::default());
            }
        }
    })
}

pub fn call(job: &Job) -> Result<Outcome> {
    let context = zmq::Context::new();
    let connect = |kind| -> Result<zmq::Socket> {
        let socket = socket(&context, kind)?;
        // If it tried before the other side listens, the next try would take long.
        until("a server", || Ok(job.forth.path.exists().then_some(())))?;
        socket.connect(&address(job)?)?;
        Ok(socket)
    };
    match job.way {
        Way::Threads => threads(job, || Ok(Requester(connect(zmq::REQ)?))),
        Way::Pipeline => pipeline(job, &mut Dealer(connect(zmq::DEALER)?)),
    }
}

struct Requester(zmq::Socket);

impl Call for Requester {
    fn call(&mut self, request: &[u8], response: &mut [u8]) -> Result<()> {
        self.0.send(request, 0)?;
        let len = self.0.recv_into(response, 0)?;
        ensure!(len == response.len(), "a response of {len} bytes");
        Ok(())
    }
}

struct Dealer(zmq::Socket);

impl Pipeline for Dealer {
    fn send(&mut self, request: &[u8]) -> Result<()> {
        self.0.send(&[][..], zmq::SNDMORE)?;
        Ok(self.0.send(request, 0)?)
    }

    fn receive(&mut self, response: &mut [u8]) -> Result<()> {
        ensure!(self.0.recv_into(&mut [], 0)? == 0, "no empty part before the response");
        let len = self.0.recv_into(response, 0)?;
        ensure!(len == response.len(), "a response of {len} bytes");
        Ok(())
    }
}
