//! Duplex channels with futures: calls that are awaited, handlers that await.

use crate::support;
use crate::support::ledger::Stopwatch;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::support::{Name, PATIENCE, Peer, Role, fill, hear, is_filled, role, say};
use futures::channel::oneshot;
use futures::executor::{ThreadPool, block_on};
use futures::future::{FutureExt, join_all, select};
use zerobuffer::duplex::{
    ClientOptions, DuplexChannelFactory, DuplexClient, HandlerError, ProcessingMode, Reply, Request, Task,
};
use zerobuffer::{BufferConfig, ErrorKind};

support::peers!(server, async_server);

struct Channel {
    name: Name,
    buffers: [Name; 2],
}

impl Channel {
    fn new() -> Channel {
        let name = Name::new("async");
        let buffers = [name.suffixed("_request"), name.suffixed("_response")];
        Channel { name, buffers }
    }

    #[track_caller]
    fn server(&self, role: Role, payload: usize) -> Peer {
        let mut server = Peer::start(role, &[&self.name, &payload.to_string()]);
        server.expect("running");
        server
    }

    #[track_caller]
    fn client(&self) -> DuplexClient {
        let options = ClientOptions::default().connect_timeout(PATIENCE);
        DuplexChannelFactory::new().create_client_with(&self.name, options).unwrap()
    }
}

fn config(arguments: &[String]) -> BufferConfig {
    BufferConfig::default().payload_size(arguments[1].parse().unwrap())
}

/// Whether requests may pass the server's gate.
static OPEN: AtomicBool = AtomicBool::new(false);

/// Echoes. `!hold` takes 400 ms for it, `!gate` waits until the test says `open`, `!wait` until it is cancelled, and
/// says so.
fn server(arguments: &[String]) {
    let server =
        DuplexChannelFactory::new().create_immutable_server(&arguments[0], config(arguments)).unwrap();
    let handler = |request: &Request| -> Result<Reply<'static>, HandlerError> {
        if **request == *b"!hold" {
            std::thread::sleep(Duration::from_millis(400));
        }
        if **request == *b"!gate" {
            let start = Instant::now();
            while !OPEN.load(Ordering::SeqCst) {
                assert!(start.elapsed() < PATIENCE, "never opened");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        if **request == *b"!wait" {
            say("waiting");
            while !request.is_cancelled() {
                std::thread::sleep(Duration::from_millis(1));
            }
            say("cancelled");
        }
        Ok(request.to_vec().into())
    };
    server.start(move |request| handler(request), ProcessingMode::ThreadPool).unwrap();
    say("running");
    if hear().as_deref() == Some("open") {
        OPEN.store(true, Ordering::SeqCst);
        hear();
    }
    server.stop().unwrap();
}

/// Echoes, but for `!fail`, `!panic`, `!drop` (its task is dropped) and `!hold`: each `!release` lets the last of those be
/// answered.
fn async_server(arguments: &[String]) {
    let server =
        DuplexChannelFactory::new().create_immutable_server(&arguments[0], config(arguments)).unwrap();
    let executor = ThreadPool::builder().pool_size(2).create().unwrap();
    static HELD: Mutex<Vec<oneshot::Sender<()>>> = Mutex::new(vec![]);
    let handler = |request: Request| async move {
        match &*request {
            b"!hold" => {
                let (sender, receiver) = oneshot::channel();
                HELD.lock().unwrap().push(sender);
                receiver.await?;
            }
            b"!release" => {
                let last = HELD.lock().unwrap().pop();
                last.expect("a request is held").send(()).expect("it waits");
            }
            b"!fail" => return Err("as asked".into()),
            b"!panic" => panic!("as asked"),
            b"!drop" => std::future::pending().await,
            _ => {}
        }
        Ok(request.to_vec().into())
    };
    let spawn = move |mut task: Task| {
        // An executor that drops a task that will never end.
        let waker = Waker::noop();
        if let Poll::Ready(()) = task.poll_unpin(&mut Context::from_waker(waker)) {
            return;
        }
        if HELD.lock().unwrap().is_empty() {
            drop(task);
        } else {
            executor.spawn_ok(task);
        }
    };
    server.start_async(handler, spawn).unwrap();
    say("running");
    hear();
    server.stop().unwrap();
}

#[test]
fn a_thousand_calls_awaited_at_once_get_each_its_own_response_although_the_buffer_is_small() {
    let channel = Channel::new();
    let _server = channel.server(role!(server), 16 << 10);
    let client = channel.client();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for part in 0..2_u64 {
            let client = &client;
            scope.spawn(move || {
                let calls = (0..500).map(|index| async move {
                    let index = part * 500 + index;
                    let mut request = vec![0; 8 + (index * 7 % 2000) as usize];
                    fill(index, &mut request);
                    let response = client.call_async(request, PATIENCE).await.unwrap();
                    assert!(is_filled(index, &response), "another's response");
                });
                block_on(join_all(calls));
            });
        }
        // Threads that block take their turns.
        for _ in 0..2 {
            scope.spawn(|| {
                (0..500).for_each(|_| assert_eq!(*client.call(b"thread", PATIENCE).unwrap(), *b"thread"))
            });
        }
    });
    eprintln!("1,000 calls of tasks and 1,000 of threads in {:?}", start.elapsed());
}

#[test]
fn a_call_that_is_dropped_is_withdrawn_and_one_out_of_time_is_told() {
    let channel = Channel::new();
    let mut server = channel.server(role!(server), 1 << 20);
    let client = channel.client();
    let call = client.call_async("!wait", PATIENCE);
    let (sender, receiver) = oneshot::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            server.expect("waiting");
            sender.send(()).unwrap();
        });
        // Whichever comes first, the other is dropped.
        block_on(select(call, receiver));
    });
    server.expect("cancelled");

    let start = Stopwatch::start();
    let error = block_on(client.call_async("!hold", Duration::from_millis(40))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(start.elapsed() > Duration::from_millis(35));
    start.assert_within(Duration::from_millis(350));
    assert_eq!(*block_on(client.call_async("on", PATIENCE)).unwrap(), *b"on");
}

#[test]
fn calls_awaited_end_with_the_channel() {
    let channel = Channel::new();
    let mut server = channel.server(role!(server), 1 << 20);
    let client = channel.client();
    let calls: Vec<_> = (0..3).map(|_| client.call_async("!wait", PATIENCE)).collect();
    let (sender, receiver) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        for result in block_on(join_all(calls)) {
            sender.send(result.unwrap_err().kind()).unwrap();
        }
    });
    server.expect("waiting");
    server.kill();
    let killed = Stopwatch::start();
    for _ in 0..3 {
        let kind = receiver.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(kind, ErrorKind::WriterDead | ErrorKind::ReaderDead), "{kind}");
    }
    killed.assert_within(Duration::from_millis(500));
    waiter.join().unwrap();
    drop(client);
    channel.buffers.iter().for_each(Name::assert_nothing_left);

    let channel = Channel::new();
    let mut server = channel.server(role!(server), 1 << 20);
    let client = channel.client();
    let call = client.call_async("!wait", PATIENCE);
    let waiter = std::thread::spawn(move || block_on(call).unwrap_err().kind());
    server.expect("waiting");
    client.close();
    assert_eq!(waiter.join().unwrap(), ErrorKind::Closed);
    assert_eq!(block_on(client.call_async("x", PATIENCE)).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn async_handlers_answer_in_their_own_time_fail_and_are_dropped() {
    let channel = Channel::new();
    let _server = channel.server(role!(async_server), 1 << 20);
    let client = channel.client();
    assert_eq!(*client.call(b"at once", PATIENCE).unwrap(), *b"at once");
    for (request, words) in [(b"!fail", "as asked"), (b"!drop", "dropped")] {
        let error = client.call(request, PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RequestFailed);
        assert!(error.to_string().contains(words), "{error}");
    }
    let error = client.call(b"!panic", PATIENCE).unwrap_err();
    assert!(error.kind() == ErrorKind::RequestFailed && error.to_string().contains("as asked"), "{error}");
    let held: Vec<u64> = (0..5).map(|_| client.send_request(b"!hold").unwrap()).collect();
    for expected in held.into_iter().rev() {
        let release = client.send_request(b"!release").unwrap();
        let outcome = || client.receive_response(PATIENCE).unwrap().expect("in time").sequence();
        let mut arrived = [outcome(), outcome()];
        arrived.sort_unstable();
        assert_eq!(arrived, [expected, release]);
    }
}

#[test]
fn clients_with_tasks_leave_no_threads_behind() {
    let channel = Channel::new();
    let _server = channel.server(role!(server), 1 << 20);
    for _ in 0..20 {
        let client = channel.client();
        assert_eq!(*block_on(client.call_async("x", PATIENCE)).unwrap(), *b"x");
    }
    // Other tests have such threads too, a few at a time; 20 that never end would show.
    let start = Instant::now();
    let names = || -> Vec<String> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok()).collect()
    };
    while names().iter().filter(|name| name.starts_with("zb-duplex-tasks")).count() >= 10 {
        assert!(start.elapsed() < PATIENCE, "{:?}", names());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_call_goes_on_when_the_last_task_beside_it_has_ended() {
    let channel = Channel::new();
    let factory = DuplexChannelFactory::new();
    let server = factory.create_immutable_server(&channel.name, BufferConfig::default()).unwrap();
    server.set_pool_size(4);
    let wait = |request: &[u8]| {
        let micros = u64::from_le_bytes(request[..8].try_into().expect("eight bytes"));
        std::thread::sleep(Duration::from_micros(micros));
    };
    server
        .start(
            move |request| {
                wait(request);
                Ok(vec![1].into())
            },
            ProcessingMode::ThreadPool,
        )
        .unwrap();
    let client = channel.client();
    let (call, limit) = (|micros: u64| client.call(&micros.to_le_bytes(), PATIENCE), PATIENCE / 10);
    for round in 0..10 {
        // The first one reads; the task's thread and then the long one wait to read, and the task ends before the first.
        std::thread::scope(|scope| {
            scope.spawn(|| call(3500).unwrap());
            scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(300));
                block_on(client.call_async(2500_u64.to_le_bytes(), PATIENCE)).unwrap();
            });
            let long = scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(1));
                let start = Instant::now();
                call(20_000).unwrap();
                start.elapsed()
            });
            let took = long.join().unwrap();
            assert!(took < limit, "round {round}: 20 ms took {took:?}");
        });
    }
    client.close();
    server.stop().unwrap();
}

/// Closes the client when it is woken, and reports that.
struct Closer(DuplexClient, std::sync::mpsc::Sender<()>);

impl std::task::Wake for Closer {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.close();
        self.1.send(()).unwrap();
    }
}

#[test]
fn a_waker_may_close_its_client() {
    let channel = Channel::new();
    let mut server = channel.server(role!(server), 1 << 16);
    let (tell, told) = std::sync::mpsc::channel();
    let closer = std::sync::Arc::new(Closer(channel.client(), tell));
    let mut call = closer.0.call_async(b"!gate", PATIENCE);
    let waker = Waker::from(std::sync::Arc::clone(&closer));
    assert!(call.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    server.tell("open");
    told.recv_timeout(PATIENCE).expect("the close ends");
    // The channel is free, although the old client has not been dropped.
    assert_eq!(*channel.client().call(b"the next", PATIENCE).unwrap(), *b"the next");
}

#[test]
fn an_executor_that_takes_no_task_fails_that_request_alone() {
    let channel = Channel::new();
    let server =
        DuplexChannelFactory::new().create_immutable_server(&channel.name, BufferConfig::default()).unwrap();
    let executor = ThreadPool::new().unwrap();
    let number = std::sync::atomic::AtomicU64::new(0);
    let spawn = move |task: Task| {
        assert_ne!(number.fetch_add(1, Ordering::SeqCst), 0, "closed");
        executor.spawn_ok(task);
    };
    server.start_async(|request: Request| async move { Ok(request.to_vec().into()) }, spawn).unwrap();
    let client = channel.client();
    assert_eq!(client.call(b"first", PATIENCE).unwrap_err().kind(), ErrorKind::RequestFailed);
    assert_eq!(*client.call(b"second", PATIENCE).unwrap(), *b"second");
    assert!(server.is_running());
    drop(client);
    server.stop().unwrap();
}

#[test]
fn answers_that_are_not_fetched_do_not_pile_up() {
    const REQUESTS: u64 = 3000;
    const ANSWER: usize = 20_000;
    let channel = Channel::new();
    let server =
        DuplexChannelFactory::new().create_immutable_server(&channel.name, BufferConfig::default()).unwrap();
    let executor = ThreadPool::new().unwrap();
    let handled = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = std::sync::Arc::clone(&handled);
    let handler = move |_: Request| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok(vec![1; ANSWER].into()) }
    };
    server.start_async(handler, move |task| executor.spawn_ok(task)).unwrap();
    let small = BufferConfig::default().payload_size(1 << 20);
    let options = ClientOptions::default().connect_timeout(PATIENCE).response_config(small);
    let client = DuplexChannelFactory::new().create_client_with(&channel.name, options).unwrap();
    for _ in 0..REQUESTS {
        client.send_request(b"give").unwrap();
    }
    // Until no more are read.
    let mut before = 0;
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let now = handled.load(Ordering::SeqCst);
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    assert!(before < 1024 + 100, "{before} requests were handled");
    for _ in 0..REQUESTS {
        assert_eq!(client.receive_response(PATIENCE).unwrap().expect("in time").len(), ANSWER);
    }
    drop(client);
    server.stop().unwrap();
}

/// Bytes of a request that ends the channel just as they are asked for, which is between the look for the end and the sending.
struct EndsTheChannel<F>(F);

impl<F: Fn()> AsRef<[u8]> for EndsTheChannel<F> {
    fn as_ref(&self) -> &[u8] {
        (self.0)();
        b"ping"
    }
}

#[test]
fn a_call_ends_although_the_channel_ends_while_it_is_being_sent() {
    for _ in 0..20 {
        let channel = Channel::new();
        let factory = DuplexChannelFactory::new();
        let server = factory.create_immutable_server(&channel.name, BufferConfig::default()).unwrap();
        server.start(|request| Ok((&**request).into()), ProcessingMode::SingleThread).unwrap();
        let client = channel.client();
        assert_eq!(*client.call(b"first", PATIENCE).unwrap(), *b"first");
        let data = EndsTheChannel(|| {
            server.stop().unwrap();
            client.receive_response(PATIENCE).unwrap_err();
        });
        let mut call = Box::pin(client.call_async(data, PATIENCE));
        let (tell, told) = std::sync::mpsc::channel();
        let waker = Waker::from(std::sync::Arc::new(Teller(tell)));
        let mut result = call.poll_unpin(&mut Context::from_waker(&waker));
        if result.is_pending() {
            told.recv_timeout(Duration::from_secs(5)).expect("the call is never woken");
            result = call.poll_unpin(&mut Context::from_waker(&waker));
        }
        let Poll::Ready(Err(error)) = result else { panic!("{result:?}") };
        assert!(matches!(error.kind(), ErrorKind::ReaderDead | ErrorKind::WriterDead), "{error}");
    }
}

#[test]
fn a_call_whose_response_another_thread_has_fetched_ends() {
    let channel = Channel::new();
    let mut server = channel.server(role!(server), 1 << 16);
    let client = channel.client();
    let (tell, told) = std::sync::mpsc::channel();
    let waker = Waker::from(std::sync::Arc::new(Teller(tell)));
    let mut call = client.call_async(b"!wait", PATIENCE);
    assert!(call.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    server.expect("waiting");
    assert!(client.cancel_request(1).unwrap());
    told.recv_timeout(PATIENCE).expect("the call is woken");
    assert_eq!(client.receive_response_to(1, PATIENCE).unwrap_err().kind(), ErrorKind::Cancelled);
    let result = call.poll_unpin(&mut Context::from_waker(&waker));
    let Poll::Ready(Err(error)) = result else { panic!("{result:?}") };
    assert_eq!((error.kind(), error.sequence()), (ErrorKind::InvalidState, Some(1)));
}

/// Reports when it is woken.
struct Teller(std::sync::mpsc::Sender<()>);

impl std::task::Wake for Teller {
    fn wake(self: std::sync::Arc<Self>) {
        let _ = self.0.send(());
    }
}

/// Has another thread close the client when it is woken, and waits for that.
struct CloserElsewhere(std::sync::Arc<DuplexClient>, std::sync::mpsc::Sender<Duration>);

impl std::task::Wake for CloserElsewhere {
    fn wake(self: std::sync::Arc<Self>) {
        let (client, start) = (std::sync::Arc::clone(&self.0), Instant::now());
        std::thread::spawn(move || client.close()).join().unwrap();
        let _ = self.1.send(start.elapsed());
    }
}

#[test]
fn a_waker_may_wait_for_another_thread_that_closes_its_client() {
    // Woken by the client's own thread, and by a thread that calls.
    for by_caller in [false, true] {
        let channel = Channel::new();
        let mut server = channel.server(role!(server), 1 << 16);
        let client = std::sync::Arc::new(channel.client());
        let (tell, told) = std::sync::mpsc::channel();
        let waker = Waker::from(std::sync::Arc::new(CloserElsewhere(std::sync::Arc::clone(&client), tell)));
        let request = if by_caller { "!wait" } else { "!gate" };
        let mut call = client.call_async(request, PATIENCE);
        assert!(call.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        if by_caller {
            server.expect("waiting");
            assert!(client.cancel_request(1).unwrap(), "wakes on this thread");
        } else {
            server.tell("open");
        }
        let took = told.recv_timeout(PATIENCE).expect("the close ends");
        assert!(took < Duration::from_millis(500), "it waited for the thread that wakes: {took:?}");
        assert_eq!(*channel.client().call(b"the next", PATIENCE).unwrap(), *b"the next");
    }
}

/// Panics when it is woken, after it has reported that.
struct Panics(std::sync::mpsc::Sender<()>);

impl std::task::Wake for Panics {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.send(()).unwrap();
        panic!("a waker that panics");
    }
}

#[test]
fn a_waker_that_panics_harms_no_other_call() {
    let channel = Channel::new();
    let mut server = channel.server(role!(server), 1 << 16);
    let client = channel.client();
    let (tell, told) = std::sync::mpsc::channel();
    let waker = Waker::from(std::sync::Arc::new(Panics(tell)));
    let mut call = client.call_async("!gate", PATIENCE);
    assert!(call.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    server.tell("open");
    told.recv_timeout(PATIENCE).expect("woken");
    assert_eq!(*block_on(client.call_async("good", PATIENCE)).unwrap(), *b"good");
    assert_eq!(*client.call(b"good", PATIENCE).unwrap(), *b"good");
    let Poll::Ready(Ok(response)) = call.poll_unpin(&mut Context::from_waker(Waker::noop())) else {
        panic!()
    };
    assert_eq!(*response, *b"!gate");
}
