//! Steps of duplex channels.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Map;
use zerobuffer::BufferConfig;
use zerobuffer::duplex::{
    ClientOptions, DuplexChannelFactory, DuplexClient, HandlerError, ImmutableDuplexServer,
    MutableDuplexServer, ProcessingMode, Reply, Request, ResponseWriter,
};

use crate::steps::{Answer, Step, described, fields, told};

enum Server {
    Immutable(ImmutableDuplexServer),
    Mutable(MutableDuplexServer),
}

#[derive(Default)]
pub(crate) struct Channels {
    server: Option<Server>,
    client: Option<DuplexClient>,
    events: Arc<Events>,
}

/// Counters of handlers and callbacks.
#[derive(Default)]
struct Events {
    count: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Default, Clone)]
struct Counts {
    started: u64,
    ended: u64,
    failed: u64,
    init: Vec<u8>,
}

impl Events {
    fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.count.lock().expect("not poisoned"));
        self.changed.notify_all();
    }
}

fn missing(what: &str) -> (String, String) {
    ("BadStep".to_owned(), format!("there is no {what}"))
}

fn done() -> Answer {
    Ok(Map::new())
}

/// Whether the request is the order `order`.
fn is_order(request: &[u8], order: &str) -> bool {
    request.strip_prefix(b"!").is_some_and(|rest| rest == order.as_bytes())
}

/// Orders, which handlers of both kinds carry out. verification/conformance/README.md lists them.
fn obey(request: &[u8], is_cancelled: impl Fn() -> bool, events: &Events) -> Result<(), HandlerError> {
    events.change(|counts| counts.started += 1);
    let end = Ended(events);
    if is_order(request, "wait") {
        // Waits until the request is cancelled. A handler is not told; it must check.
        let limit = Instant::now() + Duration::from_secs(20);
        while !is_cancelled() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    drop(end);
    if is_order(request, "fail") {
        return Err("as ordered".into());
    }
    if is_order(request, "die") {
        // SAFETY: plain system call; ends this process.
        unsafe { libc::raise(libc::SIGKILL) };
    }
    Ok(())
}

struct Ended<'a>(&'a Events);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.change(|counts| counts.ended += 1);
    }
}

fn answer<'a>(request: &'a Request, events: &Events) -> Result<Reply<'a>, HandlerError> {
    obey(request, || request.is_cancelled(), events)?;
    if is_order(request, "empty") {
        return Ok(Reply::Borrowed(&[]));
    }
    Ok(request.iter().rev().copied().collect::<Vec<u8>>().into())
}

impl Channels {
    pub(crate) fn reset(&mut self) {
        if let Some(Server::Immutable(server)) = &self.server {
            let _ = server.stop();
        }
        if let Some(Server::Mutable(server)) = &self.server {
            let _ = server.stop();
        }
        (self.server, self.client) = (None, None);
        self.events = Arc::default();
    }

    pub(crate) fn play(&mut self, verb: &str, step: &Step) -> Option<Answer> {
        Some(match verb {
            "serve" => self.serve(step),
            "stop" => self.stop(),
            "running" => self.running(),
            "handled" => self.handled(step),
            "dial" => self.dial(step),
            "call" => self.call(step),
            "request" => self.request(step),
            "response" => self.response(step),
            "cancel" => self.cancel(step),
            "server_connected" => self.server_connected(),
            "describe" => self.describe(step),
            "hang_up" => self.hang_up(),
            _ => return None,
        })
    }

    fn client(&self) -> Result<&DuplexClient, (String, String)> {
        self.client.as_ref().ok_or_else(|| missing("client"))
    }

    fn serve(&mut self, step: &Step) -> Answer {
        let mut config = BufferConfig::default().classic(step.flag("classic"));
        if step.has("payload") {
            config = config.payload_size(step.size("payload", 0));
        }
        let mode = if step.flag("pool") { ProcessingMode::ThreadPool } else { ProcessingMode::SingleThread };
        let (name, factory) = (step.text("channel")?, DuplexChannelFactory::new());
        let events = Arc::clone(&self.events);
        if step.flag("mutable") {
            let server = factory.create_mutable_server(name, config).map_err(told)?;
            let handler = move |frame: &mut zerobuffer::duplex::MutableFrame| {
                obey(frame, || frame.is_cancelled(), &events)?;
                frame.iter_mut().for_each(|byte| *byte = !*byte);
                Ok(())
            };
            server.start(handler, mode).map_err(told)?;
            self.server = Some(Server::Mutable(server));
            return done();
        }
        let server = factory.create_immutable_server(name, config).map_err(told)?;
        let (failures, inits) = (Arc::clone(&events), Arc::clone(&events));
        server.on_error(move |_| failures.change(|counts| counts.failed += 1));
        server.on_init(move |metadata| inits.change(|counts| counts.init = metadata.to_vec()));
        if step.has("threads") {
            server.set_pool_size(step.size("threads", 2));
        }
        if step.flag("in_place") {
            let handler = move |request: &Request, response: &mut ResponseWriter<'_>| {
                let mut bytes = response.acquire(request.len())?;
                obey(request, || request.is_cancelled(), &events)?;
                bytes.iter_mut().zip(request.iter().rev()).for_each(|(new, old)| *new = *old);
                match &**request {
                    b"!forget" => return Ok(()),
                    b"!empty" => bytes.commit_len(0)?,
                    _ => bytes.commit()?,
                }
                Ok(())
            };
            server.start_in_place(handler, mode).map_err(told)?;
        } else {
            server.start(move |request| answer(request, &events), mode).map_err(told)?;
        }
        self.server = Some(Server::Immutable(server));
        done()
    }

    fn stop(&mut self) -> Answer {
        match &self.server {
            Some(Server::Immutable(server)) => server.stop().map_err(told)?,
            Some(Server::Mutable(server)) => server.stop().map_err(told)?,
            None => return Err(missing("server")),
        }
        done()
    }

    fn running(&mut self) -> Answer {
        let running = match &self.server {
            Some(Server::Immutable(server)) => server.is_running(),
            Some(Server::Mutable(server)) => server.is_running(),
            None => return Err(missing("server")),
        };
        fields([("running", running.into())])
    }

    /// Waits until so many handlers were started, ended, failed, or a client has described itself.
    fn handled(&mut self, step: &Step) -> Answer {
        let reached = |counts: &mut Counts| {
            !(counts.started >= step.number("started", 0)
                && counts.ended >= step.number("ended", 0)
                && counts.failed >= step.number("failed", 0)
                && (!step.flag("init") || !counts.init.is_empty()))
        };
        let guard = self.events.count.lock().expect("not poisoned");
        let (counts, result) = self
            .events
            .changed
            .wait_timeout_while(guard, step.timeout("timeout_ms"), reached)
            .expect("not poisoned");
        if result.timed_out() {
            let text =
                format!("{} started, {} ended, {} failed", counts.started, counts.ended, counts.failed);
            return Err(("TooFew".to_owned(), text));
        }
        described(&counts.init, 0)
    }

    fn dial(&mut self, step: &Step) -> Answer {
        let mut config = BufferConfig::default().classic(step.flag("classic"));
        if step.has("payload") {
            config = config.payload_size(step.size("payload", 0));
        }
        let mut options = ClientOptions::default().response_config(config);
        if step.has("connect_timeout_ms") {
            options = options.connect_timeout(step.timeout("connect_timeout_ms"));
        }
        let factory = DuplexChannelFactory::new();
        self.client = Some(factory.create_client_with(step.text("channel")?, options).map_err(told)?);
        done()
    }

    fn call(&mut self, step: &Step) -> Answer {
        let response = self.client()?.call(&step.bytes(), step.timeout("timeout_ms")).map_err(told)?;
        described(&response, response.sequence())
    }

    fn request(&mut self, step: &Step) -> Answer {
        let client = self.client()?;
        let bytes = step.bytes();
        let sequence = if step.flag("in_place") {
            let mut request = client.acquire_request_buffer(bytes.len()).map_err(told)?;
            request.copy_from_slice(&bytes);
            request.commit().map_err(told)?
        } else {
            client.send_request(&bytes).map_err(told)?
        };
        fields([("sequence", sequence.into())])
    }

    fn response(&mut self, step: &Step) -> Answer {
        let timeout = step.timeout("timeout_ms");
        let response = if step.has("to") {
            self.client()?.receive_response_to(step.number("to", 0), timeout).map_err(told)?
        } else {
            self.client()?.receive_response(timeout).map_err(told)?
        };
        match response {
            Some(response) => described(&response, response.sequence()),
            None => fields([("none", true.into())]),
        }
    }

    fn cancel(&mut self, step: &Step) -> Answer {
        let cancelled = self.client()?.cancel_request(step.number("sequence", 0)).map_err(told)?;
        fields([("cancelled", cancelled.into())])
    }

    fn server_connected(&mut self) -> Answer {
        fields([("connected", self.client()?.is_server_connected().into())])
    }

    fn describe(&mut self, step: &Step) -> Answer {
        self.client()?.set_metadata(&step.bytes()).map_err(told)?;
        done()
    }

    fn hang_up(&mut self) -> Answer {
        if let Some(client) = self.client.take() {
            client.close();
        }
        done()
    }
}
