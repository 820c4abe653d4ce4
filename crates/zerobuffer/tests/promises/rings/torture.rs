//! Real sleeps by the thousand (`--full`: by the million) in every way to wait, in both processes. Nothing looks by the clock, so a
//! wake-up that is lost shows.

use super::support;

use std::future::Future;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::support::confine::thread_sleeps;
use super::support::{Name, PATIENCE, Peer, Random, poll, role, say};
use zerobuffer::{BufferConfig, ErrorKind, Frame, Reader, WaitSet, WaitStrategy, Writer, WriterOptions};

support::peers!(echo, taker);

/// What does not come within this time is lost.
const LOST: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Call,
    Notification,
    Future,
    WaitSet,
    /// The descriptor, which only the listener can make ready: the writer cannot open the FIFO.
    Listener,
}

const WAYS: [Way; 5] = [Way::Call, Way::Notification, Way::Future, Way::WaitSet, Way::Listener];

/// A reader that waits for its frames in one way.
struct Waiting {
    reader: Reader,
    way: Way,
    set: WaitSet,
    bell: (Sender<()>, Receiver<()>),
    waker: Waker,
}

/// Wakes a thread that is parked.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

impl Waiting {
    fn new(name: &str, way: Way) -> Waiting {
        let config: BufferConfig = support::config().payload_size(4096).wait_strategy(WaitStrategy::Block);
        let reader = Reader::create(name, config).unwrap();
        let mut set = WaitSet::new().unwrap();
        if way == Way::WaitSet {
            set.add_reader(&reader, 7).unwrap();
        }
        if way == Way::Listener {
            let fd = reader.descriptor().unwrap().as_raw_fd();
            let path = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
            if path.starts_with("/dev/shm") {
                std::fs::remove_file(path).unwrap();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        Waiting { reader, way, set, bell: channel(), waker }
    }

    /// The next frame; `None` at the writer's close.
    fn next(&mut self) -> Option<Frame> {
        let result = match self.way {
            Way::Call => self.reader.read_frame(LOST).map(|frame| frame.expect("a frame is lost")),
            Way::Future => self.await_frame(),
            Way::Notification | Way::WaitSet | Way::Listener => loop {
                match self.reader.try_read_frame() {
                    Ok(Some(frame)) => break Ok(frame),
                    Ok(None) => self.sleep(),
                    Err(error) => break Err(error),
                }
            },
        };
        match result {
            Ok(frame) => Some(frame),
            Err(error) if error.kind() == ErrorKind::WriterClosed => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn sleep(&mut self) {
        if self.way == Way::Listener {
            assert!(poll(self.reader.descriptor().unwrap(), LOST), "a frame is lost");
            return;
        }
        if self.way == Way::WaitSet {
            assert_eq!(self.set.wait(LOST).unwrap(), [7], "a frame is lost");
            return;
        }
        let tell = self.bell.0.clone();
        self.reader.notify(move || tell.send(()).unwrap()).unwrap();
        self.bell.1.recv_timeout(LOST).expect("a frame is lost");
    }

    fn await_frame(&mut self) -> zerobuffer::Result<Frame> {
        let mut context = Context::from_waker(&self.waker);
        let mut frame = pin!(self.reader.read_frame_async());
        loop {
            if let Poll::Ready(result) = frame.as_mut().poll(&mut context) {
                return result;
            }
            let start = Instant::now();
            std::thread::park_timeout(LOST);
            assert!(start.elapsed() < LOST, "a frame is lost");
        }
    }
}

fn connect(name: &str) -> Writer {
    let options = WriterOptions::default()
        .connect_timeout(PATIENCE)
        .write_timeout(LOST)
        .wait_strategy(WaitStrategy::Block);
    Writer::connect_with(name, options).unwrap()
}

/// Sends back what comes; ends with its writer. Arguments: two buffers, the way to wait.
fn echo(arguments: &[String]) {
    let way = WAYS.into_iter().find(|way| format!("{way:?}") == arguments[2]).unwrap();
    let mut requests = Waiting::new(&arguments[0], way);
    say("created");
    let mut responses = connect(&arguments[1]);
    let before = thread_sleeps();
    while let Some(frame) = requests.next() {
        responses.write_frame(&frame).unwrap();
    }
    say(thread_sleeps() - before);
}

/// Sends frames to an echo in another process for a while. Returns how often both went to sleep.
fn talk(way: Way, limit: Duration) -> u64 {
    let (requests, responses) = (Name::new("torture-ask"), Name::new("torture-answer"));
    let mut answers = Waiting::new(&responses, way);
    let mut peer = Peer::start(role!(echo), &[&requests, &responses, &format!("{way:?}")]);
    peer.expect("created");
    let mut writer = connect(&requests);
    let (start, before) = (Instant::now(), thread_sleeps());
    let mut random = Random(11);
    let mut number = 0_u64;
    while start.elapsed() < limit {
        // Several frames now and then, and pauses about as long as it takes to fall asleep, so that wake-ups meet armings in all orders.
        let batch = random.between(1, 4);
        for frame in number..number + batch {
            writer.write_frame(&frame.to_le_bytes()).unwrap();
            let pause = Duration::from_nanos(random.between(0, 30_000));
            let written = Instant::now();
            while written.elapsed() < pause {
                std::hint::spin_loop();
            }
        }
        for frame in number..number + batch {
            assert_eq!(*answers.next().expect("the echo lives"), frame.to_le_bytes());
        }
        number += batch;
    }
    let own = thread_sleeps() - before;
    writer.close().unwrap();
    let other: u64 = peer.hear().parse().unwrap();
    assert!(peer.wait().success());
    own + other
}

#[test]
fn no_wake_up_is_lost_in_any_way_to_wait() {
    let limit = Duration::from_millis(if support::full() { 60_000 } else { 500 });
    for way in WAYS {
        let sleeps = talk(way, limit);
        eprintln!("{way:?}: {sleeps} sleeps");
        assert!(sleeps > 100, "{way:?}: {sleeps} sleeps");
    }
}

/// Takes all frames, with pauses, so that the ring is full now and then. Arguments: the buffer.
fn taker(arguments: &[String]) {
    let mut frames = Waiting::new(&arguments[0], Way::Call);
    say("created");
    let before = thread_sleeps();
    let mut random = Random(13);
    let mut number = 0_u64;
    while let Some(frame) = frames.next() {
        assert_eq!(frame[..8], number.to_le_bytes());
        number += 1;
        drop(frame);
        let pause = Duration::from_nanos(random.between(0, 30_000));
        let taken = Instant::now();
        while taken.elapsed() < pause {
            std::hint::spin_loop();
        }
    }
    say(thread_sleeps() - before);
    say(number);
}

/// A writer that waits for space, in a call or by its descriptor.
#[test]
fn no_space_is_lost_for_a_writer_that_waits_for_it() {
    let limit = Duration::from_millis(if support::full() { 60_000 } else { 500 });
    for by_descriptor in [false, true] {
        let name = Name::new("torture-space");
        let mut peer = Peer::start(role!(taker), &[&name]);
        peer.expect("created");
        let mut writer = connect(&name);
        let (start, before) = (Instant::now(), thread_sleeps());
        let mut random = Random(17);
        let mut number = 0_u64;
        while start.elapsed() < limit {
            // A third of the ring, and more.
            let mut frame = vec![1; random.between(1300, 3000) as usize];
            frame[..8].copy_from_slice(&number.to_le_bytes());
            if by_descriptor {
                while writer.try_write_frame(&frame).unwrap().is_none() {
                    assert!(poll(writer.descriptor().unwrap(), LOST), "space is lost");
                }
            } else {
                writer.write_frame(&frame).unwrap();
            }
            number += 1;
        }
        let own = thread_sleeps() - before;
        writer.close().unwrap();
        let [other, read] = [peer.hear(), peer.hear()].map(|text| text.parse::<u64>().unwrap());
        assert_eq!(read, number);
        assert!(peer.wait().success());
        eprintln!("space, by_descriptor {by_descriptor}: {own} sleeps for space, {other} for frames");
        assert!(own > 100, "{own} sleeps");
    }
}
