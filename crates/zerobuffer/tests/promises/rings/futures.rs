//! Futures, streams, notifications and wait sets.

use super::support;

use std::future::Future;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::{FutureExt, StreamExt};

use super::support::{Name, PATIENCE, Peer, role, say};
use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
use zerobuffer::{BufferConfig, ErrorKind, Reader, WaitSet, Writer, WriterOptions};

support::peers!(echo, linger);

/// What does not come within this time is lost.
const LOST: Duration = Duration::from_secs(10);

fn small() -> BufferConfig {
    support::config().payload_size(4096)
}

fn connect(name: &str) -> Writer {
    let options = WriterOptions::default().connect_timeout(PATIENCE).write_timeout(PATIENCE);
    Writer::connect_with(name, options).unwrap()
}

/// Sends back what comes, with futures; ends when its writer does.
fn echo(arguments: &[String]) {
    let mut requests = Reader::create(&arguments[0], small()).unwrap();
    say("created");
    let mut responses = connect(&arguments[1]);
    block_on(async {
        let mut frames = requests.frames_async();
        while let Some(frame) = frames.next().await {
            responses.write_frame_async(frame.unwrap()).await.unwrap();
        }
    });
}

/// Lets a callback wait for another one, on threads that the program has asked for.
fn linger(arguments: &[String]) {
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim_end() == "zb-notify").count()
    };
    for round in 0..3 {
        assert!(zerobuffer::set_callback_threads(2));
        let readers = [0, 1, 2, 3].map(|number| Reader::create(&arguments[number], small()).unwrap());
        let gate = Arc::new(Barrier::new(3));
        let busy = Arc::new(AtomicU32::new(0));
        for reader in &readers[..2] {
            let (gate, busy) = (Arc::clone(&gate), Arc::clone(&busy));
            reader
                .notify(move || {
                    busy.fetch_add(1, Ordering::SeqCst);
                    gate.wait();
                })
                .unwrap();
        }
        while busy.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        // Both threads are busy, and find two more callbacks when they are free.
        let ((sender, receiver), (done, ends)) = (channel(), channel());
        readers[2]
            .notify(move || {
                // A stack of 256 KiB has no room for this.
                let room = std::hint::black_box([1_u8; 1 << 20]);
                receiver.recv_timeout(LOST).unwrap();
                done.send(room.len()).unwrap();
            })
            .unwrap();
        readers[3].notify(move || sender.send(()).unwrap()).unwrap();
        gate.wait();
        assert_eq!(ends.recv_timeout(LOST), Ok(1 << 20), "round {round}");
        assert_eq!(threads(), 2, "round {round}");
        drop(readers);
        let start = Instant::now();
        while threads() != 0 {
            assert!(start.elapsed() < LOST, "{} threads outlive all handles", threads());
            std::thread::yield_now();
        }
    }
    say("lingered");
}

/// Counts how often a task was woken.
#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Count>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    #[track_caller]
    fn becomes(&self, count: u32) {
        let start = Instant::now();
        while self.0.load(Ordering::SeqCst) < count {
            assert!(start.elapsed() < LOST, "the task is not woken");
            std::thread::yield_now();
        }
    }
}

#[test]
fn frames_go_there_and_back_through_futures() {
    let (requests, responses) = (Name::new("future-ask"), Name::new("future-answer"));
    let mut reader = Reader::create(&responses, small()).unwrap();
    let mut peer = Peer::start(role!(echo), &[&requests, &responses]);
    peer.expect("created");
    let mut writer = connect(&requests);
    let rounds = if support::full() { 100_000 } else { 1000_u64 };
    block_on(async {
        for number in 0..rounds {
            // More than the ring holds at once, now and then.
            let count = if number % 100 == 0 { 8 } else { 1 };
            let write = async {
                for _ in 0..count {
                    writer.write_frame_async(vec![number as u8; 1000]).await.unwrap();
                }
            };
            let read = async {
                for _ in 0..count {
                    let frame = reader.read_frame_async().await.unwrap();
                    assert_eq!(*frame, [number as u8; 1000]);
                }
            };
            futures::future::join(write, read).await;
        }
    });
    writer.close().unwrap();
    assert!(peer.wait().success());
}

#[test]
fn a_dropped_future_loses_no_frame_and_writes_none() {
    let name = Name::new("future-dropped");
    let mut reader = Reader::create(&name, small()).unwrap();
    let mut writer = connect(&name);
    for number in 1..200_u64 {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        {
            let mut future = pin!(reader.read_frame_async());
            assert!(matches!(future.as_mut().poll(&mut context), Poll::Pending), "there is no frame");
            writer.write_frame(&number.to_le_bytes()).unwrap();
            if number % 2 == 0 {
                count.becomes(1);
            }
        }
        assert_eq!(*block_on(reader.read_frame_async()).unwrap(), number.to_le_bytes());
    }
    while writer.try_write_frame(&[0; 1000]).unwrap().is_some() {}
    let written = writer.frames_written();
    assert!(writer.write_frame_async([1; 1000]).now_or_never().is_none(), "there is no space");
    while reader.try_read_frame().unwrap().is_some() {}
    assert_eq!(writer.frames_written(), written);
    assert_eq!(block_on(writer.write_frame_async([1; 1000])).unwrap(), written + 1);
}

#[test]
fn a_stream_ends_with_its_writer_and_goes_on_with_the_next_one() {
    let name = Name::new("future-stream");
    let mut reader = Reader::create(&name, small()).unwrap();
    for _ in 0..3 {
        let other = name.to_string();
        let thread = std::thread::spawn(move || {
            let mut writer = connect(&other);
            for _ in 0..10 {
                writer.write_frame(&[1; 1000]).unwrap();
            }
        });
        // Each frame goes before the next one is read: the ring holds four.
        let sizes: Vec<_> = block_on(reader.frames_async().map(|frame| frame.unwrap().len()).collect());
        assert_eq!(sizes, [1000; 10]);
        thread.join().unwrap();
    }
}

#[test]
fn a_reader_that_dies_ends_a_write_that_waits() {
    let name = Name::new("future-end");
    let mut reader = Some(Reader::create(&name, small()).unwrap());
    let mut writer = connect(&name);
    while writer.try_write_frame(&[0; 1000]).unwrap().is_some() {}
    let thread =
        std::thread::spawn(move || block_on(writer.write_frame_async([1; 1000])).unwrap_err().kind());
    std::thread::sleep(Duration::from_millis(20));
    drop(reader.take());
    assert_eq!(thread.join().unwrap(), ErrorKind::ReaderDead);
}

// ---- notifications ----

#[test]
fn callbacks_may_wait_for_one_another_on_two_threads() {
    let names = [0, 1, 2, 3].map(|number| Name::new(&format!("linger-{number}")));
    let names = names.each_ref().map(|name| &**name);
    let mut peer = Peer::start(role!(linger), &names);
    peer.expect("lingered");
}

#[test]
fn a_notification_comes_once_and_may_be_called_off() {
    let name = Name::new("notify");
    let mut reader = Reader::create(&name, small()).unwrap();
    let mut writer = connect(&name);
    assert!(reader.descriptor().is_ok());
    while reader.try_read_frame().unwrap().is_some() {}
    let (sender, news) = channel();
    let notify = |reader: &Reader, what: u32| {
        let sender = sender.clone();
        reader.notify(move || sender.send(what).unwrap()).unwrap();
    };
    notify(&reader, 1);
    notify(&reader, 2);
    writer.write_frame(b"frame").unwrap();
    assert_eq!(news.recv_timeout(LOST), Ok(2), "the second one replaces the first");
    assert!(!reader.cancel_notify());
    notify(&reader, 3);
    assert_eq!(news.recv_timeout(LOST), Ok(3), "it is still ready");
    read_all(&mut reader);
    notify(&reader, 4);
    assert!(reader.cancel_notify());
    writer.write_frame(b"frame").unwrap();
    notify(&reader, 5);
    assert_eq!(news.recv_timeout(LOST), Ok(5));
    // A callback that panics harms none of the others.
    reader.notify(|| panic!("expected")).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    notify(&reader, 6);
    assert_eq!(news.recv_timeout(LOST), Ok(6));
    // A callback may use the library.
    read_all(&mut reader);
    let other = Name::new("notify-other");
    let (done, created) = channel();
    reader.notify(move || done.send(Reader::create(&other, small()).is_ok()).unwrap()).unwrap();
    writer.write_frame(b"frame").unwrap();
    assert_eq!(created.recv_timeout(LOST), Ok(true));
    // What waits when the reader goes is dropped.
    read_all(&mut reader);
    notify(&reader, 7);
    drop(reader);
    drop(sender);
    assert_eq!(news.recv_timeout(LOST), Err(RecvTimeoutError::Disconnected), "it is dropped uncalled");
}

fn read_all(reader: &mut Reader) {
    while reader.try_read_frame().unwrap().is_some() {}
}

// ---- wait sets ----

#[test]
fn a_wait_set_waits_for_readers_writers_clients_and_foreign_descriptors() {
    let names: Vec<Name> = (0..3).map(|_| Name::new("set")).collect();
    let channel_name = Name::new("set-duplex");
    let factory = DuplexChannelFactory::new();
    let server = factory.create_immutable_server(&channel_name, small()).unwrap();
    server.start(|request| Ok(request.repeat(2).into()), ProcessingMode::SingleThread).unwrap();
    let client = factory.create_client(&channel_name).unwrap();
    let mut readers: Vec<Reader> = names.iter().map(|name| Reader::create(name, small()).unwrap()).collect();
    let mut writers: Vec<Writer> = names.iter().map(|name| connect(name)).collect();
    let (socket, mut other) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut set = WaitSet::new().unwrap();
    for (reader, key) in readers.iter().zip(0..) {
        set.add_reader(reader, key).unwrap();
    }
    set.add_writer(&writers[2], 10).unwrap();
    set.add_client(&client, 20).unwrap();
    set.add_fd(socket.as_fd(), 30).unwrap();
    assert!(set.add_reader(&readers[0], 99).is_err(), "it is in the set already");
    // Everything is looked at once.
    while writers[2].try_write_frame(&[2; 1000]).unwrap().is_some() {}
    readers[..2].iter_mut().for_each(read_all);
    assert!(client.receive_response(Duration::ZERO).unwrap().is_none());
    let ready = |set: &mut WaitSet, limit| {
        let mut keys = set.wait(limit).unwrap().to_vec();
        keys.sort_unstable();
        keys
    };
    assert_eq!(ready(&mut set, LOST), [2], "there are frames, and no space");
    set.remove_reader(&readers[2]);
    let start = Instant::now();
    assert!(ready(&mut set, Duration::from_millis(30)).is_empty());
    assert!(start.elapsed() >= Duration::from_millis(30));
    writers[1].write_frame(b"frame").unwrap();
    assert_eq!(ready(&mut set, LOST), [1]);
    read_all(&mut readers[1]);
    client.send_request(b"ab").unwrap();
    assert_eq!(ready(&mut set, LOST), [20]);
    let response = loop {
        if let Some(response) = client.receive_response(Duration::ZERO).unwrap() {
            break response;
        }
        assert_eq!(ready(&mut set, LOST), [20]);
    };
    assert_eq!(&*response, b"abab");
    assert!(client.receive_response(Duration::ZERO).unwrap().is_none());
    std::io::Write::write_all(&mut other, b"x").unwrap();
    // Ready means: look. The server stores a response first, and then looks at the doorbell. If the client has taken the response and
    // armed again in between, that look meets the new arming, and rings for what has been read.
    let keys = ready(&mut set, LOST);
    assert!(keys == [30] || keys == [20, 30], "{keys:?}");
    assert!(client.receive_response(Duration::ZERO).unwrap().is_none());
    set.remove_fd(socket.as_fd());
    read_all(&mut readers[2]);
    assert_eq!(ready(&mut set, LOST), [10]);
    assert!(writers[2].try_write_frame(&[2; 1000]).unwrap().is_some());
    // A handle leaves the set when it goes.
    drop(writers.pop());
    assert!(ready(&mut set, Duration::ZERO).is_empty());
    drop(response);
    server.stop().unwrap();
    assert_eq!(ready(&mut set, LOST), [20], "the channel's end");
    let start = Instant::now();
    while client.receive_response(Duration::ZERO).is_ok() {
        assert!(start.elapsed() < LOST);
    }
    client.close();
}

#[test]
fn an_event_loop_receives_while_other_threads_call() {
    let channel_name = Name::new("set-calls");
    let factory = DuplexChannelFactory::new();
    let server = factory.create_immutable_server(&channel_name, small()).unwrap();
    server.start(|request| Ok((&**request).into()), ProcessingMode::SingleThread).unwrap();
    let client = factory.create_client(&channel_name).unwrap();
    let rounds = if support::full() { 100_000 } else { 2000_u32 };
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            for number in 0..rounds {
                let bytes = number.to_le_bytes();
                assert_eq!(*client.call(&bytes, LOST).unwrap(), bytes);
            }
        });
        let mut set = WaitSet::new().unwrap();
        set.add_client(&client, 1).unwrap();
        for number in 0..rounds {
            let sequence = client.send_request(&number.to_be_bytes()).unwrap();
            let response = loop {
                match client.receive_response(Duration::ZERO).unwrap() {
                    Some(response) => break response,
                    None => assert!(!set.wait(LOST).unwrap().is_empty(), "response {sequence} is lost"),
                }
            };
            assert_eq!((response.sequence(), &*response), (sequence, &number.to_be_bytes()[..]));
        }
        caller.join().unwrap();
    });
    client.close();
    server.stop().unwrap();
}
