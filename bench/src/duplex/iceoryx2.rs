//! iceoryx2's request-response of byte slices. Both sides poll; threads that share a processor yield it between two looks.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, ensure};
use iceoryx2::pending_response::PendingResponse;
use iceoryx2::port::client::Client;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::request_response::PortFactory;

use super::Job;
use super::drive::{Call, Pipeline, either, is_end};
use crate::role::measured;
use crate::stats::Outcome;
use crate::transport::iceoryx2::{Service, error, node};
use crate::transport::{Spin, until};

fn service(node: &Node<Service>, job: &Job) -> Result<PortFactory<Service, [u8], (), [u8], ()>> {
    node.service_builder(&job.forth.name.as_str().try_into().map_err(error)?)
        .request_response::<[u8], [u8]>()
        .enable_safe_overflow_for_requests(false)
        .enable_safe_overflow_for_responses(false)
        .max_active_requests_per_client(job.callers + 1)
        .max_response_buffer_size(1)
        .max_borrowed_responses_per_pending_response(1)
        .max_servers(1)
        .max_clients(job.callers + 1)
        .max_nodes(job.callers + 2)
        .open_or_create()
        .map_err(error)
}

pub fn serve(job: &Job) -> Result<Outcome> {
    let node = node(&job.forth)?;
    let server = service(&node, job)?
        .server_builder()
        .initial_max_slice_len(job.size)
        .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
        .create()
        .map_err(error)?;
    std::fs::write(&job.forth.path, [])?;
    let outcome = measured(|| {
        loop {
            let mut spin = Spin::default();
            let request = loop {
                match server.receive().map_err(error)? {
                    Some(request) => break request,
                    None => spin.turn()?,
                }
            };
            let response = request.loan_slice_uninit(request.payload().len()).map_err(error)?;
            response.write_from_slice(request.payload()).send().map_err(error)?;
            if is_end(request.payload()) {
                return Ok(Outcome::default());
            }
        }
    })?;
    // What a server has sent goes with it, unless it has been fetched.
    std::thread::sleep(Duration::from_millis(50));
    Ok(outcome)
}

pub fn call(job: &Job) -> Result<Outcome> {
    until("a server", || Ok(job.forth.path.exists().then_some(())))?;
    either(job, || {
        let node = node(&job.forth)?;
        let service = service(&node, job)?;
        let client = service
            .client_builder()
            .initial_max_slice_len(job.size)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .map_err(error)?;
        Ok(Caller { client, pending: VecDeque::new(), yields: job.callers > 1, _node: node })
    })
}

type Pending = PendingResponse<Service, [u8], (), [u8], ()>;

struct Caller {
    client: Client<Service, [u8], (), [u8], ()>,
    /// Requests under way; the server answers them in this order.
    pending: VecDeque<Pending>,
    yields: bool,
    _node: Node<Service>,
}

impl Pipeline for Caller {
    fn send(&mut self, request: &[u8]) -> Result<()> {
        let loan = self.client.loan_slice_uninit(request.len()).map_err(error)?;
        let pending = loan.write_from_slice(request).send().map_err(error)?;
        ensure!(pending.number_of_server_connections() == 1, "the request reached no server");
        self.pending.push_back(pending);
        Ok(())
    }

    fn receive(&mut self, response: &mut [u8]) -> Result<()> {
        let Some(pending) = self.pending.pop_front() else { anyhow::bail!("no request is under way") };
        let mut spin = Spin::default();
        loop {
            if let Some(found) = pending.receive().map_err(error)? {
                ensure!(
                    found.payload().len() == response.len(),
                    "a response of {} bytes",
                    found.payload().len()
                );
                response.copy_from_slice(found.payload());
                return Ok(());
            }
            spin.turn()?;
            if self.yields {
                std::thread::yield_now();
            }
        }
    }
}

impl Call for Caller {
    fn call(&mut self, request: &[u8], response: &mut [u8]) -> Result<()> {
        self.send(request)?;
        self.receive(response)
    }
}
