//! A server in the test's own process: waiting for its end, its limits, and code that runs, or objects that
//! are dropped, without a lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use zerobuffer::duplex::{
    DuplexChannelFactory, ImmutableDuplexServer, MAX_POOL_SIZE, ProcessingMode, Reply, Request,
};
use zerobuffer::{BufferConfig, ErrorKind};

use super::Channel;
use crate::support::PATIENCE;
use crate::support::forge::{Forge, at};

fn server(channel: &Channel) -> Arc<ImmutableDuplexServer> {
    let config = BufferConfig::default().payload_size(1 << 16);
    Arc::new(DuplexChannelFactory::new().create_immutable_server(&channel.name, config).unwrap())
}

fn echo(request: &Request) -> Result<Reply<'_>, zerobuffer::duplex::HandlerError> {
    Ok((&**request).into())
}

#[test]
fn waiting_for_a_server_ends_with_its_stop() {
    for mode in [ProcessingMode::SingleThread, ProcessingMode::ThreadPool] {
        let channel = Channel::new("wait");
        let server = server(&channel);
        assert!(server.wait(Duration::MAX), "it was not started");
        let (go, told) = channel_of_one();
        let (enter, entered) = mpsc::channel();
        let own = Arc::clone(&server);
        let handler = move |request: &Request| {
            if **request == *b"wait" {
                assert!(!own.wait(Duration::MAX), "a thread of the server cannot wait for itself");
            }
            if **request == *b"hold" {
                enter.send(())?;
                told.lock().unwrap().recv()?;
            }
            Ok(request.to_vec().into())
        };
        server.start(move |request| handler(request), mode).unwrap();
        let client = channel.client();
        assert_eq!(*client.call(b"wait", PATIENCE).unwrap(), *b"wait");
        assert!(!server.wait(Duration::ZERO) && !server.wait(Duration::from_millis(5)), "it runs");
        client.send_request(b"hold").unwrap();
        entered.recv_timeout(PATIENCE).unwrap();
        thread::scope(|scope| {
            let (begin, began) = mpsc::channel();
            let waiter = scope.spawn({
                let server = &server;
                move || {
                    begin.send(()).unwrap();
                    server.wait(Duration::MAX)
                }
            });
            began.recv_timeout(PATIENCE).unwrap();
            // Long enough for the other thread to begin its wait.
            thread::sleep(Duration::from_millis(20));
            assert_eq!(server.stop().unwrap_err().kind(), ErrorKind::HandlerBusy);
            assert!(!waiter.is_finished(), "a handler still runs");
            assert!(
                !server.wait(Duration::ZERO),
                "a wait that begins after the stop is for that handler too"
            );
            go.send(()).unwrap();
            assert!(waiter.join().unwrap());
        });
        drop(client);
        channel.assert_nothing_left();
    }
}

fn channel_of_one() -> (Sender<()>, Mutex<Receiver<()>>) {
    let (sender, receiver) = mpsc::channel();
    (sender, Mutex::new(receiver))
}

#[test]
fn a_pool_has_a_largest_size() {
    let channel = Channel::new("large-pool");
    let server = server(&channel);
    for size in [MAX_POOL_SIZE + 1, usize::MAX] {
        server.set_pool_size(size);
        let error = server.start(echo, ProcessingMode::ThreadPool).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains(&MAX_POOL_SIZE.to_string()), "{error}");
    }
    server.set_pool_size(0);
    server.start(echo, ProcessingMode::ThreadPool).unwrap();
    assert_eq!(*channel.client().call(b"one thread", PATIENCE).unwrap(), *b"one thread");
    server.stop().unwrap();
}

/// Calls a function when it is dropped.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn callbacks_and_handlers_may_use_their_server_when_they_are_dropped() {
    let channel = Channel::new("drop");
    let server = server(&channel);
    let (tell, told) = channel_of_words();
    // A weak one: a server that owns itself is never dropped.
    let uses_server = |what: &'static str| {
        let (weak, tell) = (Arc::downgrade(&server), tell.clone());
        OnDrop(move || {
            let Some(server) = weak.upgrade() else { return };
            let _ = (server.is_running(), server.set_pool_size(1));
            // Recursion ends here: the replaced callback has none of these.
            server.on_error(|_| {});
            server.on_init(|_| {});
            tell.send(what).unwrap();
        })
    };
    let on_error = uses_server("on_error");
    server.on_error(move |_| _ = &on_error);
    let on_init = uses_server("on_init");
    server.on_init(move |_| _ = &on_init);
    let next = |what: &str| told.recv_timeout(PATIENCE).expect(what);
    let ends = |what: &str| assert_eq!(next(what), what);
    let other = Arc::clone(&server);
    thread::spawn(move || {
        other.on_error(|_| {});
        other.on_init(|_| {});
    });
    let mut dropped = [next("the first"), next("the second")];
    dropped.sort_unstable();
    assert_eq!(dropped, ["on_error", "on_init"]);

    // A handler that is refused.
    server.start(echo, ProcessingMode::SingleThread).unwrap();
    let other = Arc::clone(&server);
    let handler = uses_server("refused");
    thread::spawn(move || {
        let handler = move |request: &Request| {
            let _ = &handler;
            Ok(request.to_vec().into())
        };
        let refused = other.start(move |request| handler(request), ProcessingMode::SingleThread);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidState);
    });
    ends("refused");
    server.stop().unwrap();

    // One whose threads cannot be started.
    server.set_pool_size(usize::MAX);
    let other = Arc::clone(&server);
    let handler = uses_server("too many threads");
    thread::spawn(move || {
        let handler = move |request: &Request| {
            let _ = &handler;
            Ok(request.to_vec().into())
        };
        other.start(move |request| handler(request), ProcessingMode::ThreadPool).unwrap_err();
    });
    ends("too many threads");
}

fn channel_of_words() -> (Sender<&'static str>, Receiver<&'static str>) {
    mpsc::channel()
}

#[test]
fn callbacks_of_a_pool_run_without_a_lock_that_its_other_threads_need() {
    let channel = Channel::new("init-lock");
    let server = server(&channel);
    let (go, told) = channel_of_one();
    let ended = Arc::new(AtomicBool::new(false));
    let (end, own) = (Arc::clone(&ended), Arc::clone(&server));
    server.on_init(move |_| {
        // Another thread stops the server meanwhile.
        let _ = told.lock().unwrap().recv();
        assert!(own.stop().is_ok());
        end.store(true, Ordering::SeqCst);
    });
    server.set_pool_size(3);
    server.start(echo, ProcessingMode::ThreadPool).unwrap();
    let client = channel.client();
    client.set_metadata(b"a client").unwrap();
    client.send_request(b"x").unwrap();
    thread::sleep(Duration::from_millis(20));
    assert_eq!(server.stop().unwrap_err().kind(), ErrorKind::HandlerBusy);
    go.send(()).unwrap();
    let start = std::time::Instant::now();
    while !ended.load(Ordering::SeqCst) {
        assert!(start.elapsed() < PATIENCE);
        thread::yield_now();
    }
}

#[test]
fn a_client_without_a_server_is_told_of_the_channel() {
    let channel = Channel::new("none");
    let factory = DuplexChannelFactory::new();
    let is_about_the_channel = |error: &zerobuffer::Error| {
        let text = error.to_string();
        assert_eq!(error.buffer(), &*channel.name, "{text}");
        for word in ["reader", "writer", "_request", "_response"] {
            assert!(!text.contains(word), "{text}");
        }
        assert!(text.contains("server") && text.contains("start"), "{text}");
    };
    let none = factory.create_client(&channel.name).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::BufferNotFound);
    is_about_the_channel(&none);
    channel.assert_nothing_left();
    let mut server = channel.server(&[]);
    server.kill();
    let dead = factory.create_client(&channel.name).unwrap_err();
    assert_eq!(dead.kind(), ErrorKind::ReaderDead);
    is_about_the_channel(&dead);
}

#[test]
fn a_client_knows_the_largest_request() {
    let channel = Channel::new("largest");
    let server = server(&channel);
    server.start(echo, ProcessingMode::SingleThread).unwrap();
    let client = channel.client();
    let largest = client.max_request_size();
    assert_eq!(client.call(&vec![1; largest], PATIENCE).unwrap().len(), largest);
    assert_eq!(client.call(&vec![1; largest + 1], PATIENCE).unwrap_err().kind(), ErrorKind::FrameTooLarge);
    let refused = client.acquire_request_buffer(usize::MAX).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FrameTooLarge, "before any memory is taken");
}

#[test]
fn a_server_whose_request_buffer_was_spoiled_makes_another_one() {
    let channel = Channel::new("spoiled");
    let config = BufferConfig::default().classic(true);
    let server = DuplexChannelFactory::new().create_immutable_server(&channel.name, config).unwrap();
    let (told, errors) = std::sync::mpsc::channel();
    server.on_error(move |error| _ = told.send(error.kind()));
    server.start(echo, ProcessingMode::SingleThread).unwrap();
    let client = channel.client();
    assert_eq!(*client.call(b"before", PATIENCE).unwrap(), *b"before");
    Forge::segment(&channel.buffers[0]).set(at::FREE_BYTES, u64::MAX / 2);
    assert_eq!(errors.recv_timeout(PATIENCE), Ok(ErrorKind::CorruptBuffer));
    drop(client);
    assert_eq!(*channel.client().call(b"after", PATIENCE).unwrap(), *b"after");
    server.stop().unwrap();
}

#[test]
fn an_early_answer_that_is_too_large_fails_before_its_turn_comes() {
    let channel = Channel::new("early-large");
    let mut server = channel.server(&["pool", "threads=2", "classic"]);
    let client = channel.client_with(BufferConfig::default().classic(true).payload_size(1 << 16));
    client.send_request(b"!wait").unwrap();
    server.expect("waiting 1");
    client.send_request(b"!large 200000").unwrap();
    let told = server.hear();
    assert!(told.starts_with("error FrameTooLarge Some(2)"), "before the first one is answered: {told}");
    server.tell("stop");
    drop(client);
}

#[test]
fn an_early_answer_of_the_largest_size_waits_for_its_turn() {
    let channel = Channel::new("early-largest");
    let mut server = channel.server(&["pool", "threads=2", "classic"]);
    let client = channel.client_with(BufferConfig::default().classic(true).payload_size(1 << 16));
    client.send_request(b"!hold 200").unwrap();
    client.send_request(b"!large 65520").unwrap();
    for _ in 0..2 {
        let response = client.receive_response(PATIENCE).unwrap().expect("in time");
        assert!(response.sequence() == 1 || response.len() == 65_520);
    }
    server.tell("stop");
    drop(client);
}
