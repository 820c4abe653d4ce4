//! A kill, and a halt, at every stop point of the protocol (src/stop.rs): the survivor, its next partner, and what is
//! left behind. Needs the feature `stop-points`.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use support::ledger::Ledger;
use support::stream::{COMMITTED, RECEIVED, RELEASED, Sink, Source};
use support::{Name, PATIENCE, Peer, hear, say};
use zerobuffer::{BufferConfig, ErrorKind, KeptBuffer, Reader, Writer, WriterOptions, cleanup};

const CAPACITY: usize = 1024;
const MAX: u64 = CAPACITY as u64 / 8 - 16;
/// Frames that a script writes or reads.
const FRAMES: u64 = 60;
/// Ledger word, not 0: the writer waits until everything is released, so that it finds the ring empty.
const DRAIN: usize = 10;

/// Longer than a contradiction between words is borne (100 ms), and than several looks at the peer take.
const HALT: Duration = Duration::from_millis(140);
/// What a survivor may take to notice, on a machine with other work.
const NOTICE: Duration = Duration::from_secs(2);

#[test]
fn peer_main() {
    support::run_peer(&[
        ("reader", reader),
        ("writer", writer),
        ("connector", connector),
        ("exact-writer", exact_writer),
        ("plain-reader", plain_reader),
        ("careful-reader", careful_reader),
        ("adopter", adopter),
        ("keeper", keeper),
        ("cleaner", cleaner),
    ]);
}

/// Reads as many frames as the script has, then closes.
fn reader(arguments: &[String]) {
    let [name, ledger] = arguments else { panic!("name, ledger") };
    let ledger = Ledger::open(ledger);
    let mut reader = match Reader::create(name, BufferConfig::default().payload_size(CAPACITY)) {
        Ok(reader) => reader,
        Err(error) => return say(format!("{:?}", error.kind())),
    };
    say("created");
    let mut sink = Sink::new(1, 2);
    while sink.received < FRAMES {
        match reader.read_frame(Duration::from_millis(2)) {
            Ok(Some(frame)) => sink.take(frame, &ledger),
            Ok(None) if ledger.get(DRAIN) != 0 => sink.release_all(&ledger),
            Ok(None) => {}
            Err(error) => {
                say(format!("{:?}", error.kind()));
                break;
            }
        }
    }
    sink.release_all(&ledger);
    drop(reader);
    say("closed");
}

/// Creates, and waits to be killed or told to close.
fn plain_reader(arguments: &[String]) {
    let reader = Reader::create(&arguments[0], BufferConfig::default().payload_size(CAPACITY)).unwrap();
    say("created");
    hear();
    drop(reader);
}

/// Writes the frames of the script, then closes. With "drain" it waits now and then until the ring is empty, with
/// "always" before every frame.
fn writer(arguments: &[String]) {
    let [name, ledger, drain] = arguments else { panic!("name, ledger, drain") };
    let ledger = Ledger::open(ledger);
    let options = WriterOptions::default().connect_timeout(PATIENCE).write_timeout(PATIENCE);
    let mut writer = match Writer::connect_with(name, options) {
        Ok(writer) => writer,
        Err(error) => return say(format!("{:?}", error.kind())),
    };
    say("connected");
    writer.set_metadata(b"metadata").unwrap();
    let mut source = Source::new(1, MAX);
    while source.sequence < FRAMES {
        let result = source.write(&mut writer, &ledger);
        if let Err(error) = result {
            say(format!("{:?}", error.kind()));
            break;
        }
        if drain == "always" || drain == "drain" && source.sequence % 3 == 0 {
            wait_until_drained(&ledger, source.sequence);
        }
        if source.sequence == FRAMES / 2 {
            // Long enough for the next write to look at its reader.
            std::thread::sleep(Duration::from_millis(15));
        }
    }
    drop(writer);
    say("closed");
}

fn wait_until_drained(ledger: &Ledger, sequence: u64) {
    ledger.set(DRAIN, 1);
    let start = Instant::now();
    while ledger.get(RELEASED) < sequence && start.elapsed() < NOTICE {
        std::thread::yield_now();
    }
    ledger.set(DRAIN, 0);
}

/// Only connects.
fn connector(arguments: &[String]) {
    let writer = Writer::connect(&arguments[0]).unwrap();
    say("connected");
    hear();
    drop(writer);
}

/// Writes frames whose sizes are given.
fn exact_writer(arguments: &[String]) {
    let ledger = Ledger::open(&arguments[1]);
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    for (index, size) in arguments[2..].iter().enumerate() {
        let byte = u8::try_from(index + 1).unwrap();
        writer.write_frame(&vec![byte; size.parse().unwrap()]).unwrap();
        ledger.set(COMMITTED, index as u64 + 1);
    }
    say("written");
    hear();
}

// ---- cases ----

/// What is done to the victim.
#[derive(Debug, Clone)]
enum Action {
    /// Nothing; the points that it passes are written down.
    Trace,
    Kill(String, u64),
    Halt(String, u64),
}

impl Action {
    fn start(&self, role: &str, arguments: &[&str]) -> Peer {
        Peer::start_with(role, arguments, |command| {
            match self {
                Action::Trace => command.env("ZEROBUFFER_STOP_TRACE", trace_path(arguments[0])),
                Action::Kill(point, nth) => command.env("ZEROBUFFER_STOP", format!("kill:{nth}:{point}")),
                Action::Halt(point, nth) => command.env("ZEROBUFFER_STOP", format!("halt:{nth}:{point}")),
            };
        })
    }

    fn is_at(&self, points: &[&str]) -> bool {
        matches!(self, Action::Kill(point, _) | Action::Halt(point, _) if points.contains(&point.as_str()))
    }
}

fn trace_path(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("{name}.trace"))
}

/// A victim, and how far it is with what it has to suffer.
struct Victim {
    peer: Peer,
    action: Action,
    stopped_at: Option<Instant>,
    over: bool,
    ended_at: Option<Instant>,
}

impl Victim {
    fn start(action: &Action, role: &str, arguments: &[&str]) -> Victim {
        let peer = action.start(role, arguments);
        Victim { peer, action: action.clone(), stopped_at: None, over: false, ended_at: None }
    }

    /// To be called all the time: ends a halt that has lasted long enough, notes the end. Says whether the victim lives.
    fn tend(&mut self) -> bool {
        if matches!(self.action, Action::Halt(..)) && !self.over {
            match self.stopped_at {
                None if self.peer.is_stopped() => self.stopped_at = Some(Instant::now()),
                Some(at) if at.elapsed() > HALT => {
                    self.over = true;
                    self.peer.signal(libc::SIGCONT);
                }
                _ => {}
            }
        }
        if self.ended_at.is_none() && self.peer.ended().is_some() {
            self.ended_at = Some(Instant::now());
        }
        self.ended_at.is_none()
    }

    fn is_halted(&self) -> bool {
        self.stopped_at.is_some() && !self.over
    }

    /// Makes sure that what was to happen did happen. `false`: the point was not passed that often this time.
    fn suffered(&mut self) -> bool {
        let start = Instant::now();
        while self.tend() && start.elapsed() < NOTICE {
            std::thread::sleep(Duration::from_millis(1));
        }
        let status = self.peer.wait();
        match &self.action {
            Action::Trace => assert!(status.success(), "{status}"),
            Action::Kill(..) if status.signal() == Some(libc::SIGKILL) => {}
            Action::Halt(..) if self.over => assert!(status.success(), "{status}"),
            Action::Kill(_, nth) | Action::Halt(_, nth) => {
                assert!(status.success() && *nth > 1, "the point was not passed ({status})");
                return false;
            }
        }
        true
    }
}

/// A writer that suffers `action` at its work with a reader in this process. `false`: it did not come to it.
fn writer_case(action: &Action, drain: &str) -> bool {
    let name = Name::new("stop-w");
    let ledger = Ledger::create();
    let mut reader = Reader::create(&name, BufferConfig::default().payload_size(CAPACITY)).unwrap();
    let mut victim = Victim::start(action, "writer", &[&name, ledger.path(), drain]);
    let mut sink = Sink::new(1, 2);
    let mut pid_taken = false;
    let start = Instant::now();
    let end = loop {
        let alive = victim.tend();
        assert!(start.elapsed() < PATIENCE, "the survivor hangs at frame {}", sink.received);
        match reader.read_frame(Duration::from_millis(1)) {
            Ok(Some(frame)) => {
                sink.take(frame, &ledger);
                if sink.received % 8 == 5 {
                    // So that the ring runs full now and then.
                    std::thread::sleep(Duration::from_millis(1));
                }
                if sink.received >= FRAMES / 4 && !std::mem::replace(&mut pid_taken, true) {
                    // As a 1.x reader does that cannot see the writer's process.
                    poke(&name, WRITER_PID, 0);
                }
            }
            Ok(None) if ledger.get(DRAIN) != 0 => sink.release_all(&ledger),
            Ok(None) => {}
            Err(error) => {
                let closed = action.is_at(&["close:post-sem-w"]);
                assert!(closed || !victim.is_halted(), "told of the end of a stopped writer: {error}");
                break Some(error.kind());
            }
        }
        if victim.is_halted() && sink.received > 0 && !action.is_at(&["close:post-sem-w"]) {
            assert!(reader.is_writer_connected(), "a stopped writer counts as connected");
        }
        if !alive && victim.ended_at.is_some_and(|at| at.elapsed() > Duration::from_millis(200)) {
            break None;
        }
    };
    if let (Some(_), Some(at)) = (end, victim.ended_at) {
        assert!(at.elapsed() < NOTICE, "noticed only after {:?}", at.elapsed());
    }
    if !victim.suffered() {
        return false;
    }
    let unseen = [
        "connect:open",
        "connect:sem-open",
        "connect:same-name",
        "connect:map",
        "connect:role-open",
        "connect:role-lock",
        "connect:dead-pid",
        "connect:writer-word",
    ];
    let expected = match action {
        Action::Kill(..) if action.is_at(&unseen) => None,
        Action::Kill(..) if !action.is_at(&["close:writer-unlock", "close:post-sem-w"]) => {
            Some(ErrorKind::WriterDead)
        }
        _ => Some(ErrorKind::WriterClosed),
    };
    assert_eq!(end, expected);
    let (committed, received) = (ledger.get(COMMITTED), sink.received);
    match action {
        Action::Kill(..) => assert!(
            received == committed || received == committed + 1,
            "{committed} frames were committed for sure, {received} received"
        ),
        _ => assert_eq!((committed, received), (FRAMES, FRAMES)),
    }
    go_on_with_a_new_writer(&name, &mut reader, &mut sink, &ledger);
    sink.release_all(&ledger);
    drop(reader);
    name.assert_nothing_left();
    true
}

/// A new writer on the same buffer; frames of the old one may be held.
fn go_on_with_a_new_writer(name: &Name, reader: &mut Reader, sink: &mut Sink, ledger: &Ledger) {
    let salt = sink.salt + 1;
    sink.next_writer(salt, ledger);
    let options = WriterOptions::default().write_timeout(Duration::ZERO);
    let mut writer = Writer::connect_with(name, options).expect("a new writer");
    if writer.set_metadata(b"metadata").is_err() {
        assert_eq!(reader.metadata().unwrap().as_deref(), Some(&b"metadata"[..]));
    }
    let mut source = Source::new(salt, MAX);
    for _ in 0..FRAMES {
        source.write(&mut writer, ledger).expect("space for a frame");
        let frame = reader.read_frame(PATIENCE).expect("the new writer's frame").expect("in time");
        sink.take(frame, ledger);
    }
    drop(writer);
    assert_eq!(reader.read_frame(PATIENCE).unwrap_err().kind(), ErrorKind::WriterClosed);
}

/// A reader that suffers `action` at its work with a writer in this process. `over_leftovers`: it finds those of a
/// reader that was killed. `succeed_first`: the next reader comes before the survivor closes.
fn reader_case(action: &Action, over_leftovers: bool, succeed_first: bool) -> bool {
    let name = Name::new("stop-r");
    let ledger = Ledger::create();
    if over_leftovers {
        leave_leftovers(&name);
    }
    let mut victim = Victim::start(action, "reader", &[&name, ledger.path()]);
    let options = || WriterOptions::default().write_timeout(Duration::from_millis(1));
    let start = Instant::now();
    let writer = loop {
        assert!(start.elapsed() < PATIENCE, "connecting hangs");
        match Writer::connect_with(&name, options()) {
            Ok(writer) => break Some(writer),
            Err(error) if matches!(error.kind(), ErrorKind::BufferNotFound | ErrorKind::ReaderDead) => {}
            Err(error) => panic!("connecting: {error}"),
        }
        if !victim.tend() {
            break None;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    if let Some(writer) = writer {
        let mut writer = write_until_the_end(writer, &mut victim, &ledger);
        if !victim.suffered() {
            return false;
        }
        let again = writer.try_write_frame(b"into the void").unwrap_err();
        assert_eq!(again.kind(), ErrorKind::ReaderDead, "a dead reader does not come back");
        if !succeed_first {
            drop(writer);
            name.assert_nothing_left();
            return true;
        }
        let next = Reader::create(&name, BufferConfig::default()).expect("a new reader at once");
        drop(writer);
        assert_eq!(name.leftovers().len(), 4, "the survivor removed names of the next reader");
        use_and_close(&name, next);
    } else {
        if !victim.suffered() {
            return false;
        }
        let next = Reader::create(&name, BufferConfig::default()).expect("a new reader at once");
        use_and_close(&name, next);
    }
    true
}

/// Writes the frames of the script, and then more, until the reader has ended.
fn write_until_the_end(mut writer: Writer, victim: &mut Victim, ledger: &Ledger) -> Writer {
    let mut source = Source::new(1, MAX);
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "the survivor hangs at frame {}", source.sequence);
        let alive = victim.tend();
        if !alive && victim.ended_at.is_some_and(|at| at.elapsed() > NOTICE) {
            panic!("the end of the reader goes unnoticed");
        }
        // Behind the script's frames, only a look: the reader would not read more.
        let result = if source.sequence < FRAMES {
            let before = source.random.clone();
            source.write(&mut writer, ledger).inspect_err(|_| source.random = before)
        } else {
            std::thread::sleep(Duration::from_millis(1));
            writer.acquire_frame(MAX as usize).map(drop)
        };
        match result {
            Ok(()) => {
                if source.sequence % 3 == 0 && source.sequence < FRAMES {
                    ledger.set(DRAIN, 1);
                    while ledger.get(RELEASED) < source.sequence && victim.tend() {
                        std::thread::yield_now();
                    }
                    ledger.set(DRAIN, 0);
                }
            }
            Err(error) if error.kind() == ErrorKind::BufferFull => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ReaderDead, "{error}");
                // Behind its unlocking it has closed.
                let closed = victim.action.is_at(&["close:post-sem-r", "lock:remove"]);
                assert!(closed || !victim.is_halted(), "a stopped reader was taken for dead");
                break;
            }
        }
    }
    assert!(ledger.get(RECEIVED) <= source.sequence);
    writer
}

fn leave_leftovers(name: &Name) {
    let mut dead = Peer::start("plain-reader", &[name]);
    dead.expect("created");
    dead.kill();
    assert_eq!(name.leftovers().len(), 4);
}

/// The new reader's buffer works, and leaves nothing.
fn use_and_close(name: &Name, mut reader: Reader) {
    let ledger = Ledger::create();
    go_on_with_a_new_writer(name, &mut reader, &mut Sink::new(100, 2), &ledger);
    drop(reader);
    name.assert_nothing_left();
}

/// A writer that suffers `action` as it closes and cleans up after its dead reader.
fn clean_up_case(action: &Action) -> bool {
    let name = Name::new("stop-c");
    let mut reader = Peer::start("plain-reader", &[&name]);
    reader.expect("created");
    let mut victim = Victim::start(action, "connector", &[&name]);
    while victim.tend() && victim.peer.hear_within(Duration::from_millis(5)).is_none() {}
    reader.kill();
    // Closing its input tells it to close.
    while victim.tend() {
        victim.peer.close_input();
        std::thread::sleep(Duration::from_millis(1));
    }
    if !victim.suffered() {
        return false;
    }
    if !matches!(action, Action::Kill(..)) {
        name.assert_nothing_left();
    }
    let next = Reader::create(&name, BufferConfig::default()).expect("a new reader at once");
    use_and_close(&name, next);
    true
}

/// A reader that suffers `action` at what only 1.x writers make it do.
fn foreign_writer_case(action: &Action) -> bool {
    let name = Name::new("stop-f");
    let ledger = Ledger::create();
    let mut victim = Victim::start(action, "reader", &[&name, ledger.path()]);
    victim.peer.expect("created");
    poke(&name, WRITER_PID, u64::from(std::process::id()));
    // A lost update: bytes missing from the count, though nothing was written.
    poke(&name, FREE_BYTES, CAPACITY as u64 - 100);
    let start = Instant::now();
    while victim.tend() && peek(&name, FREE_BYTES) != CAPACITY as u64 {
        assert!(start.elapsed() < PATIENCE, "the count is not repaired");
        std::thread::sleep(Duration::from_millis(1));
    }
    poke(&name, WRITER_PID, 0);
    if !matches!(action, Action::Kill(..)) {
        while victim.tend() {
            if let Some(message) = victim.peer.hear_within(Duration::from_millis(5)) {
                assert!(["WriterClosed", "closed"].contains(&message.as_str()), "{message}");
            }
        }
    }
    if !victim.suffered() {
        return false;
    }
    let next = Reader::create(&name, BufferConfig::default()).expect("a new reader at once");
    use_and_close(&name, next);
    true
}

/// A writer into whose connecting a 1.x writer bursts, which takes no notice of locks.
fn overtaken_writer_case(action: &Action) -> bool {
    let name = Name::new("stop-o");
    let mut reader = Reader::create(&name, BufferConfig::default().payload_size(CAPACITY)).unwrap();
    let ledger = Ledger::create();
    let stops = match action {
        Action::Trace => String::new(),
        Action::Kill(point, nth) => format!(",kill:{nth}:{point}"),
        Action::Halt(point, nth) => format!(",halt:{nth}:{point}"),
    };
    let mut peer = Peer::start_with("writer", &[&name, ledger.path(), ""], |command| {
        command.env("ZEROBUFFER_STOP", format!("halt:1:connect:writer-pid{stops}"));
        command.env("ZEROBUFFER_STOP_TRACE", trace_path(&name));
    });
    wait_for("the halt", || peer.is_stopped());
    poke(&name, WRITER_PID, u64::from(std::process::id()));
    peer.signal(libc::SIGCONT);
    match action {
        Action::Kill(..) => assert_eq!(peer.wait().signal(), Some(libc::SIGKILL)),
        Action::Halt(..) => {
            wait_for("the second halt", || peer.is_stopped());
            peer.signal(libc::SIGCONT);
            peer.expect("WriterAlreadyConnected");
        }
        Action::Trace => peer.expect("WriterAlreadyConnected"),
    }
    // The 1.x writer, this process, is alive; then it closes.
    assert!(reader.is_writer_connected());
    assert_eq!(Writer::connect(&name).unwrap_err().kind(), ErrorKind::WriterAlreadyConnected);
    assert!(reader.read_frame(Duration::from_millis(30)).unwrap().is_none());
    poke(&name, WRITER_PID, 0);
    // What the reader says of it depends on who else was there; it says it once.
    let end = reader.read_frame(Duration::from_millis(100));
    assert!(matches!(end.map_err(|e| e.kind()), Err(ErrorKind::WriterClosed | ErrorKind::WriterDead)));
    go_on_with_a_new_writer(&name, &mut reader, &mut Sink::new(100, 2), &ledger);
    drop(reader);
    name.assert_nothing_left();
    true
}

/// Takes over a kept buffer, reads what is in it, and closes when it is told to.
fn adopter(arguments: &[String]) {
    let ledger = Ledger::open(&arguments[1]);
    let mut reader = Reader::create(&arguments[0], BufferConfig::default()).unwrap();
    say("created");
    let mut sink = Sink::new(1, 0);
    while sink.received < KEPT {
        sink.take(reader.read_frame(PATIENCE).unwrap().expect("in time"), &ledger);
    }
    hear();
}

/// Frames in a kept buffer.
const KEPT: u64 = 3;

/// A reader that suffers `action` while it takes over a buffer that this process keeps, and writes to.
fn adopter_case(action: &Action) -> bool {
    let name = Name::new("stop-a");
    let ledger = Ledger::create();
    let config = BufferConfig::default().payload_size(CAPACITY);
    let mut kept = KeptBuffer::create(&name, config).unwrap();
    let options = WriterOptions::default().write_timeout(Duration::ZERO);
    let mut writer = Writer::connect_with(&name, options).unwrap();
    let mut source = Source::new(1, MAX);
    (0..KEPT).for_each(|_| source.write(&mut writer, &ledger).unwrap());
    let mut victim = Victim::start(action, "adopter", &[&name, ledger.path()]);
    while victim.tend() {
        if let Err(error) = writer.acquire_frame(1)
            && victim.tend()
        {
            assert!(ledger.get(RECEIVED) == KEPT, "the reader lives, or else the keeper does: {error}");
        }
        if ledger.get(RECEIVED) == KEPT {
            victim.peer.close_input();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if !victim.suffered() {
        return false;
    }
    if !kept.is_adopted() {
        // As if the victim had never been.
        let mut reader = Reader::create(&name, BufferConfig::default()).expect("the kept buffer");
        let mut sink = Sink::new(1, 0);
        while sink.received < KEPT {
            sink.take(reader.read_frame(PATIENCE).unwrap().expect("in time"), &ledger);
        }
        drop(writer);
        assert_eq!(reader.read_frame(PATIENCE).unwrap_err().kind(), ErrorKind::WriterClosed);
        go_on_with_a_new_writer(&name, &mut reader, &mut sink, &ledger);
        drop(reader);
        assert!(kept.close().unwrap());
        name.assert_nothing_left();
        return true;
    }
    wait_for("the writer's error", || writer.acquire_frame(1).is_err());
    assert_eq!(writer.acquire_frame(1).unwrap_err().kind(), ErrorKind::ReaderDead);
    if matches!(action, Action::Kill(..)) {
        let next = Reader::create(&name, BufferConfig::default()).expect("a new reader at once");
        drop(writer);
        use_and_close(&name, next);
    } else {
        drop(writer);
    }
    assert!(kept.close().unwrap());
    name.assert_nothing_left();
    true
}

/// Keeps a buffer until it is told to end.
fn keeper(arguments: &[String]) {
    let config = BufferConfig::default().payload_size(CAPACITY);
    let kept = KeptBuffer::create(&arguments[0], config).unwrap();
    say("kept");
    hear();
    assert!(!kept.close().unwrap());
}

/// A keeper that suffers `action` as it ends, with a writer in this process.
fn keeper_case(action: &Action) -> bool {
    let name = Name::new("stop-k");
    let mut victim = Victim::start(action, "keeper", &[&name]);
    while victim.tend() && victim.peer.hear_within(Duration::from_millis(5)).is_none() {}
    let mut writer = Writer::connect(&name).unwrap();
    writer.write_frame(b"nobody will read this").unwrap();
    while victim.tend() {
        victim.peer.close_input();
        std::thread::sleep(Duration::from_millis(1));
    }
    if !victim.suffered() {
        return false;
    }
    wait_for("the writer's error", || writer.acquire_frame(1).is_err());
    assert_eq!(writer.acquire_frame(1).unwrap_err().kind(), ErrorKind::ReaderDead);
    let next = Reader::create(&name, BufferConfig::default()).expect("a new reader at once");
    drop(writer);
    use_and_close(&name, next);
    true
}

/// Removes what is left of one buffer.
fn cleaner(arguments: &[String]) {
    let left = cleanup::leftovers().unwrap();
    let mine = left.iter().find(|left| left.name() == arguments[0]).expect("leftovers");
    assert!(mine.remove().unwrap());
}

/// A process that suffers `action` as it removes what a killed reader left.
fn cleaner_case(action: &Action) -> bool {
    let name = Name::new("stop-l");
    leave_leftovers(&name);
    let mut victim = Victim::start(action, "cleaner", &[&name]);
    if !victim.suffered() {
        return false;
    }
    if !matches!(action, Action::Kill(..)) {
        name.assert_nothing_left();
    }
    let next = Reader::create(&name, BufferConfig::default()).expect("a new reader at once");
    use_and_close(&name, next);
    true
}

/// A writer that follows a dead one, is refused for a count that cannot be true, and suffers `action` on its way back.
fn refused_writer_case(action: &Action) -> bool {
    let name = Name::new("stop-u");
    let ledger = Ledger::create();
    let mut reader = Reader::create(&name, BufferConfig::default().payload_size(CAPACITY)).unwrap();
    let mut dead = Peer::start("connector", &[&name]);
    dead.expect("connected");
    dead.kill();
    poke(&name, FREE_BYTES, CAPACITY as u64 + 5);
    let mut victim = Victim::start(action, "writer", &[&name, ledger.path(), ""]);
    if !victim.suffered() {
        return false;
    }
    if !matches!(action, Action::Kill(..)) {
        victim.peer.expect("CorruptBuffer");
    }
    poke(&name, FREE_BYTES, CAPACITY as u64);
    assert_eq!(reader.read_frame(PATIENCE).unwrap_err().kind(), ErrorKind::WriterDead);
    assert!(reader.read_frame(Duration::from_millis(30)).unwrap().is_none(), "told twice");
    go_on_with_a_new_writer(&name, &mut reader, &mut Sink::new(100, 2), &ledger);
    drop(reader);
    name.assert_nothing_left();
    true
}

/// A reader that suffers `action` after its writer has been killed.
fn bereaved_reader_case(action: &Action) -> bool {
    let name = Name::new("stop-b");
    let ledger = Ledger::create();
    let mut victim = Victim::start(action, "careful-reader", &[&name]);
    victim.peer.expect("created");
    let mut writer = Peer::start_with("exact-writer", &[&name, ledger.path(), "10", "20"], |command| {
        command.env("ZEROBUFFER_STOP", "kill:2:write:free-bytes");
    });
    assert_eq!(writer.wait().signal(), Some(libc::SIGKILL));
    if !victim.suffered() {
        return false;
    }
    victim.peer.expect("frame 1");
    if matches!(action, Action::Kill(..)) {
        use_and_close(&name, Reader::create(&name, BufferConfig::default()).expect("a new reader at once"));
    } else {
        victim.peer.expect("WriterDead");
        name.assert_nothing_left();
    }
    true
}

const FREE_BYTES: u64 = 0x28;
const WRITER_PID: u64 = 0x50;

fn poke(name: &str, offset: u64, value: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(format!("/dev/shm/{name}"));
    if let Ok(file) = file {
        file.write_all_at(&value.to_le_bytes(), offset).unwrap();
    }
}

fn peek(name: &str, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    if let Ok(file) = std::fs::File::open(format!("/dev/shm/{name}")) {
        file.read_exact_at(&mut bytes, offset).unwrap();
    }
    u64::from_le_bytes(bytes)
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(Duration::from_micros(200));
    }
}

// ---- every point ----

#[derive(PartialEq, Clone, Copy)]
enum Points {
    All,
    /// Those that no scenario before passed.
    New,
}

type Scenario = (&'static str, fn(&Action) -> bool, Points);

const SCENARIOS: [Scenario; 13] = [
    ("writer, drained", |action| writer_case(action, "drain"), Points::All),
    ("writer, full", |action| writer_case(action, ""), Points::New),
    ("reader, survivor closes", |action| reader_case(action, false, false), Points::All),
    ("reader, successor first", |action| reader_case(action, false, true), Points::All),
    ("reader over leftovers", |action| reader_case(action, true, false), Points::New),
    ("clean-up", clean_up_case, Points::New),
    ("1.x writer", foreign_writer_case, Points::New),
    ("overtaken", overtaken_writer_case, Points::New),
    ("adopter", adopter_case, Points::New),
    ("keeper", keeper_case, Points::New),
    ("cleaner", cleaner_case, Points::New),
    ("refused writer", refused_writer_case, Points::New),
    ("reader of a dead writer", bereaved_reader_case, Points::New),
];

/// Points that the scenarios here do not come to; the test named does.
const ELSEWHERE: [(&str, &str); 3] = [
    ("connect:dead-pid", "a_successor_goes_on_exactly_wherever_its_predecessors_were_killed"),
    ("connect:tail", "a_successor_goes_on_exactly_wherever_its_predecessors_were_killed"),
    ("connect:write-pos", "a_successor_goes_on_exactly_wherever_its_predecessors_were_killed"),
];

/// How often a scenario passes each point.
fn trace(scenario: fn(&Action) -> bool) -> BTreeMap<String, u64> {
    // A trace bears the name of its case's buffer, which only the case knows.
    let before = traces();
    assert!(scenario(&Action::Trace));
    let mut points = BTreeMap::new();
    for path in traces().difference(&before) {
        for point in std::fs::read_to_string(path).unwrap().lines() {
            *points.entry(point.to_owned()).or_insert(0) += 1;
        }
        std::fs::remove_file(path).unwrap();
    }
    points
}

fn traces() -> BTreeSet<std::path::PathBuf> {
    let mine = format!("-{}-", std::process::id());
    let entries = std::fs::read_dir(std::env::temp_dir()).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".trace") && name.contains(&mine)
        })
        .collect()
}

/// The points in the sources.
fn points_in_sources() -> BTreeSet<String> {
    fn collect(dir: &std::path::Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for part in text.split("stop_point!(\"").skip(1) {
                found.insert(part.split('"').next().unwrap().to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found
}

/// Runs all cases, a few at a time, and fails with all that failed.
fn run_all(cases: Vec<(String, Box<dyn Fn() + Send + Sync>)>) {
    let count = cases.len();
    let queue = Mutex::new(cases);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((what, case)) = queue.lock().unwrap().pop() else { return };
                    if catch_unwind(AssertUnwindSafe(case)).is_err() {
                        failures.lock().unwrap().push(what);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    eprintln!("{count} cases, {} failed", failures.len());
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn every_stop_point_is_survived_killed_or_halted() {
    let mut cases: Vec<(String, Box<dyn Fn() + Send + Sync>)> = Vec::new();
    let mut seen = BTreeSet::new();
    for (what, scenario, points) in SCENARIOS {
        for (point, times) in trace(scenario) {
            let is_new = seen.insert(point.clone());
            if points == Points::New && !is_new {
                continue;
            }
            let passes = if times > 2 { vec![1, times / 2] } else { vec![1] };
            for nth in passes {
                for action in [Action::Kill(point.clone(), nth), Action::Halt(point.clone(), nth)] {
                    let name = format!("{what}: {action:?}");
                    cases.push((name, Box::new(move || come_to_it(scenario, &action))));
                }
            }
        }
    }
    let mut known: BTreeSet<String> = seen;
    known.extend(ELSEWHERE.iter().map(|(point, _)| (*point).to_owned()));
    assert_eq!(known, points_in_sources(), "points without a test, or tests without a point");
    run_all(cases);
}

/// Runs the case; where the victim does not pass the point that often this time, with a smaller number.
fn come_to_it(scenario: fn(&Action) -> bool, action: &Action) {
    let mut action = action.clone();
    while !scenario(&action) {
        let (Action::Kill(_, nth) | Action::Halt(_, nth)) = &mut action else { unreachable!() };
        *nth = (*nth / 2).max(1);
    }
}

// ---- focused tests ----

/// Two writers are killed one after the other, the second one while it connects; the third one goes on.
fn recovery_case(first: &str, nth: u64, second: Option<&str>) {
    let name = Name::new("recover");
    let ledger = Ledger::create();
    let mut reader = Reader::create(&name, BufferConfig::default().payload_size(CAPACITY)).unwrap();
    // A ring is rewound only when it is empty; all else happens while frames are held, and others unread.
    let rewind = first.starts_with("write:rewind");
    let drain = if rewind { "always" } else { "" };
    let mut sink = Sink::new(1, if rewind { 0 } else { 2 });
    let unread = if rewind { 0 } else { 3 };
    let mut victim = Peer::start_with("writer", &[&name, ledger.path(), drain], |command| {
        command.env("ZEROBUFFER_STOP", format!("kill:{nth}:{first}"));
    });
    let start = Instant::now();
    while victim.ended().is_none() {
        assert!(start.elapsed() < PATIENCE, "{first} is not reached");
        if ledger.get(COMMITTED) > sink.received + unread
            && let Some(frame) = reader.try_read_frame().unwrap_or_else(|error| panic!("{error}"))
        {
            sink.take(frame, &ledger);
        }
    }
    assert_eq!(victim.wait().signal(), Some(libc::SIGKILL), "{first} was not passed {nth} times");
    let committed = ledger.get(COMMITTED);
    if let Some(second) = second {
        let mut victim = Peer::start_with("connector", &[&name], |command| {
            command.env("ZEROBUFFER_STOP", format!("kill:1:{second}"));
        });
        let signal = victim.wait().signal();
        // An empty ring alone has the tail mended.
        assert!(signal == Some(libc::SIGKILL) || second == "connect:tail", "{second} was not passed");
    }

    // The third one writes behind what is there, while what is there is read.
    let options = WriterOptions::default().write_timeout(Duration::ZERO);
    let mut writer = Writer::connect_with(&name, options).expect("a third writer");
    let mut source = Source::new(2, MAX);
    let mut deaths = 0;
    while sink.salt == 1 || sink.received < FRAMES {
        if source.sequence < FRAMES {
            let before = source.random.clone();
            match source.write(&mut writer, &ledger) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::BufferFull, "{error}");
                    source.random = before;
                }
            }
        }
        match reader.read_frame(PATIENCE) {
            Ok(frame) => sink.take(frame.expect("in time"), &ledger),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WriterDead, "after frame {}: {error}", sink.received);
                assert!(deaths == 0, "reported twice");
                deaths += 1;
                let received = sink.received;
                assert!(
                    received == committed || received == committed + 1,
                    "{committed} were committed for sure, {received} received"
                );
                sink.next_writer(2, &ledger);
            }
        }
    }
    drop(writer);
    assert_eq!(reader.read_frame(PATIENCE).unwrap_err().kind(), ErrorKind::WriterClosed);
    sink.release_all(&ledger);
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn a_successor_goes_on_exactly_wherever_its_predecessors_were_killed() {
    let stores = [
        "write:data",
        "write:wrap-marker",
        "write:header",
        "write:write-pos",
        "write:free-bytes",
        "write:written-count",
        "write:rewind-tail",
        "write:rewind-read-pos",
        "write:rewind-write-pos",
    ];
    let connects = [
        None,
        Some("connect:dead-pid"),
        Some("connect:writer-word"),
        Some("connect:writer-pid"),
        Some("connect:tail"),
        Some("connect:write-pos"),
        Some("connect:post"),
    ];
    let mut cases: Vec<(String, Box<dyn Fn() + Send + Sync>)> = Vec::new();
    for first in stores {
        // The data of an in-place frame has no point of ours, and a ring is wrapped or rewound now and then only.
        for nth in if first.contains("wrap") || first.contains("rewind") { [1, 2] } else { [2, 17] } {
            for second in connects {
                let what = format!("{first} {nth}, {second:?}");
                cases.push((what, Box::new(move || recovery_case(first, nth, second))));
            }
        }
    }
    run_all(cases);
}

/// A frame that would fill the ring to the last byte is announced in payload_write_pos, which then says "empty", but
/// not committed; the frame before it is.
fn exact_fill_case(action: &str) {
    let name = Name::new("exact");
    let ledger = Ledger::create();
    let mut reader = Reader::create(&name, BufferConfig::default().payload_size(CAPACITY)).unwrap();
    let sizes = [700 - 16, 100 - 16, 300 - 16, 500 - 16].map(|size: usize| size.to_string());
    let mut arguments: Vec<&str> = vec![&name, ledger.path()];
    arguments.extend(sizes.iter().map(String::as_str));
    let mut writer = Peer::start_with("exact-writer", &arguments, |command| {
        command.env("ZEROBUFFER_STOP", format!("{action}:4:write:free-bytes"));
    });
    let first = reader.read_frame(PATIENCE).unwrap().expect("the first frame");
    let second = reader.read_frame(PATIENCE).unwrap().expect("the second frame");
    drop(first);
    // The third frame wraps, the fourth one ends where the third one's wrap marker is.
    ledger.wait(COMMITTED, |count| count == 3);
    drop(second);
    wait_for("the stop", || writer.is_stopped() || writer.ended().is_some());
    let third = reader.read_frame(PATIENCE).expect("the third frame").expect("in time");
    assert!(third.len() == 284 && third.iter().all(|byte| *byte == 3));
    assert_eq!(reader.read_frame(HALT).is_err(), action == "kill");
    if action == "halt" {
        writer.signal(libc::SIGCONT);
        let fourth = reader.read_frame(PATIENCE).unwrap().expect("the fourth frame");
        assert!(fourth.len() == 484 && fourth.iter().all(|byte| *byte == 4));
        return;
    }
    let mut sink = Sink::new(2, 1);
    drop(third);
    go_on_with_a_new_writer(&name, &mut reader, &mut sink, &ledger);
}

#[test]
fn failure_07_a_frame_committed_before_one_that_would_fill_the_ring_is_delivered() {
    exact_fill_case("kill");
    exact_fill_case("halt");
}

/// Reads one frame, then the end of its writer.
fn careful_reader(arguments: &[String]) {
    let mut reader = Reader::create(&arguments[0], BufferConfig::default().payload_size(CAPACITY)).unwrap();
    say("created");
    loop {
        match reader.read_frame(PATIENCE) {
            Ok(frame) => say(format!("frame {}", frame.expect("in time").sequence())),
            Err(error) => return say(format!("{:?}", error.kind())),
        }
    }
}

#[test]
fn failure_07_frames_committed_between_a_look_at_the_ring_and_one_at_the_writer_are_delivered() {
    let name = Name::new("late");
    let ledger = Ledger::create();
    let mut reader = Peer::start_with("careful-reader", &[&name], |command| {
        command.env("ZEROBUFFER_STOP", "halt:1:read:judge");
    });
    reader.expect("created");
    // It has found the ring empty, and is about to look at the writer.
    wait_for("the halt", || reader.is_stopped());
    let mut writer = Peer::start("exact-writer", &[&name, ledger.path(), "10", "20"]);
    writer.expect("written");
    writer.kill();
    reader.signal(libc::SIGCONT);
    reader.expect("frame 1");
    reader.expect("frame 2");
    reader.expect("WriterDead");
    assert!(reader.wait().success());
    name.assert_nothing_left();
}

/// A reader that is stopped at `point`; meanwhile another one wants its name. Says whether the other one got it.
fn stopped_owner_case(point: &str) -> bool {
    let name = Name::new("stopped");
    let mut owner = Peer::start_with("plain-reader", &[&name], |command| {
        command.env("ZEROBUFFER_STOP", format!("halt:1:{point}"));
    });
    if point.starts_with("close") || point == "lock:remove" {
        owner.expect("created");
        owner.close_input();
    }
    wait_for("the halt", || owner.is_stopped());
    let other = Reader::create(&name, BufferConfig::default());
    owner.signal(libc::SIGCONT);
    let won = match other {
        Ok(reader) => {
            // The one that was stopped has to do without, and touches nothing.
            assert!(!owner.wait().success());
            use_and_close(&name, reader);
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ReaderAlreadyConnected, "{error}");
            owner.close_input();
            assert!(owner.wait().success());
            let reader = Reader::create(&name, BufferConfig::default()).expect("a free name");
            use_and_close(&name, reader);
            false
        }
    };
    name.assert_nothing_left();
    won
}

#[test]
fn failure_08_a_stopped_owner_of_a_name_is_not_robbed() {
    // Without the lock it owns nothing yet; with it, all.
    let points = ["lock:open", "lock:flock", "create:segment", "create:sem-r", "create:link"];
    let closing = ["close:reader-pid", "close:unlink-sem", "close:role-unlock", "lock:remove"];
    let mut cases: Vec<(String, Box<dyn Fn() + Send + Sync>)> = Vec::new();
    for point in points.into_iter().chain(closing) {
        let owns = !["lock:open", "lock:flock"].contains(&point);
        cases.push((point.to_owned(), Box::new(move || assert_eq!(stopped_owner_case(point), !owns))));
    }
    run_all(cases);
}
