//! ZeroBuffer's duplex channel, and the round trip over two plain streams as its yardstick.

use std::sync::Arc;
use std::sync::mpsc::channel;

use anyhow::{Result, bail, ensure};
use zerobuffer::duplex::{ClientOptions, DuplexChannelFactory, DuplexClient, ProcessingMode, Reply};
use zerobuffer::{BufferConfig, Reader, Writer, WriterOptions};

use super::Job;
use super::drive::{Call, Pipeline, either, is_end};
use crate::role::measured;
use crate::stats::Outcome;
use crate::transport::PATIENCE;

pub fn serve(job: &Job, mode: ProcessingMode) -> Result<Outcome> {
    let factory = DuplexChannelFactory::new();
    let server = factory.create_immutable_server(&job.forth.run, BufferConfig::default())?;
    let (sender, receiver) = channel();
    server.start(
        move |request| {
            if is_end(request) {
                sender.send(())?;
            }
            Ok(Reply::Borrowed(request))
        },
        mode,
    )?;
    let outcome = measured(|| Ok(receiver.recv().map(|()| Outcome::default())?))?;
    server.stop()?;
    Ok(outcome)
}

pub fn call(job: &Job) -> Result<Outcome> {
    let options = ClientOptions::default().connect_timeout(PATIENCE);
    let client = DuplexChannelFactory::new().create_client_with(&job.forth.run, options)?;
    let client = Arc::new(client);
    either(job, || Ok(Client(Arc::clone(&client))))
}

struct Client(Arc<DuplexClient>);

impl Call for Client {
    fn call(&mut self, request: &[u8], response: &mut [u8]) -> Result<()> {
        let frame = self.0.call(request, PATIENCE)?;
        ensure!(frame.len() == response.len(), "a response of {} bytes", frame.len());
        response.copy_from_slice(&frame);
        Ok(())
    }
}

impl Pipeline for Client {
    fn send(&mut self, request: &[u8]) -> Result<()> {
        self.0.send_request(request)?;
        Ok(())
    }

    fn receive(&mut self, response: &mut [u8]) -> Result<()> {
        let Some(frame) = self.0.receive_response(PATIENCE)? else { bail!("no response came") };
        ensure!(frame.len() == response.len(), "a response of {} bytes", frame.len());
        response.copy_from_slice(&frame);
        Ok(())
    }
}

/// Two streams, one each way; an echo copies from the one to the other.
pub fn serve_streams(job: &Job) -> Result<Outcome> {
    let mut requests = Reader::create(&job.forth.name, BufferConfig::default())?;
    ensure!(requests.wait_for_writer(PATIENCE)?, "no writer came");
    let mut responses = connect(&job.back.name)?;
    measured(|| {
        loop {
            let Some(frame) = requests.read_frame_ref(PATIENCE)? else { bail!("no request came") };
            responses.write_frame(&frame)?;
            if is_end(&frame) {
                return Ok(Outcome::default());
            }
        }
    })
}

fn connect(name: &str) -> Result<Writer> {
    Ok(Writer::connect_with(name, WriterOptions::default().connect_timeout(PATIENCE))?)
}

pub fn call_streams(job: &Job) -> Result<Outcome> {
    let responses = Reader::create(&job.back.name, BufferConfig::default())?;
    let requests = connect(&job.forth.name)?;
    let mut streams = Streams { requests, responses };
    super::drive::pipeline(job, &mut streams)
}

struct Streams {
    requests: Writer,
    responses: Reader,
}

impl Pipeline for Streams {
    fn send(&mut self, request: &[u8]) -> Result<()> {
        self.requests.write_frame(request)?;
        Ok(())
    }

    fn receive(&mut self, response: &mut [u8]) -> Result<()> {
        let Some(frame) = self.responses.read_frame_ref(PATIENCE)? else { bail!("no response came") };
        ensure!(frame.len() == response.len(), "a response of {} bytes", frame.len());
        response.copy_from_slice(&frame);
        Ok(())
    }
}
