//! A writer, or a reader, that suffers at its ordinary work.

use std::time::{Duration, Instant};

use zerobuffer::{BufferConfig, ErrorKind, Reader, WaitStrategy, Writer, WriterOptions};

use crate::roles;
use crate::support::ledger::Ledger;
use crate::support::stream::{COMMITTED, RECEIVED, RELEASED, Sink, Source};
use crate::support::{Name, PATIENCE, Peer, role};
use crate::victim::{Action, DRAIN, FRAMES, MAX, NOTICE, Ring, Victim, WRITER_PID, config, poke};

/// Where a writer's role is free already.
const CLOSED: [&str; 2] = ["close:post-sem-w", "close:ring-reader"];

/// A writer that suffers `action` at its work with a reader in this process. `false`: it did not come to it.
pub(crate) fn writer_case(action: &Action, ring: Ring, drain: &str) -> bool {
    let name = ring.name("stop-w");
    let ledger = Ledger::create();
    let mut reader = Reader::create(&name, config(&name)).unwrap();
    let mut victim = Victim::start(action, role!(roles::writer), &[&name, ledger.path(), drain]);
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
                let closed = action.is_at(&CLOSED);
                assert!(closed || !victim.is_halted(), "told of the end of a stopped writer: {error}");
                break Some(error.kind());
            }
        }
        if victim.is_halted() && sink.received > 0 && !action.is_at(&CLOSED) {
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
        Action::Kill(..) if !action.is_at(&["close:writer-unlock"]) && !action.is_at(&CLOSED) => {
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
pub(crate) fn go_on_with_a_new_writer(name: &Name, reader: &mut Reader, sink: &mut Sink, ledger: &Ledger) {
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
pub(crate) fn reader_case(action: &Action, ring: Ring, over_leftovers: bool, succeed_first: bool) -> bool {
    reader_of_case(action, ring, over_leftovers, succeed_first, "all")
}

/// As `reader_case`, with a reader of the newest frames.
pub(crate) fn latest_reader_case(action: &Action, ring: Ring) -> bool {
    reader_of_case(action, ring, false, false, "latest")
}

fn reader_of_case(
    action: &Action,
    ring: Ring,
    over_leftovers: bool,
    succeed_first: bool,
    which: &str,
) -> bool {
    let name = ring.name("stop-r");
    let ledger = Ledger::create();
    if over_leftovers {
        leave_leftovers(&name);
    }
    let mut victim = Victim::start(action, role!(roles::reader), &[&name, ledger.path(), which]);
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
pub(crate) fn write_until_the_end(mut writer: Writer, victim: &mut Victim, ledger: &Ledger) -> Writer {
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
                if source.sequence.is_multiple_of(3) && source.sequence < FRAMES {
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
                let closed = victim.action.is_at(&["close:post-sem-r", "close:ring-writer", "lock:remove"]);
                assert!(closed || !victim.is_halted(), "a stopped reader was taken for dead");
                break;
            }
        }
    }
    assert!(ledger.get(RECEIVED) <= source.sequence);
    writer
}

/// A reader that suffers `action` while its writer, in this process, sleeps for space now and then.
pub(crate) fn sleeping_writer_case(action: &Action, ring: Ring) -> bool {
    let name = ring.name("stop-s");
    let ledger = Ledger::create();
    let mut victim = Victim::start(action, role!(roles::slow_reader), &[&name, ledger.path()]);
    let options = || {
        WriterOptions::default()
            .write_timeout(Duration::from_millis(50))
            .connect_timeout(Duration::from_millis(5))
            .wait_strategy(WaitStrategy::Block)
    };
    let start = Instant::now();
    let writer = loop {
        match Writer::connect_with(&name, options()) {
            Ok(writer) => break Some(writer),
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        if !victim.tend() {
            break None;
        }
    };
    let Some(mut writer) = writer else {
        // It was killed before it had a buffer.
        return victim.suffered();
    };
    let mut source = Source::new(1, MAX);
    loop {
        assert!(start.elapsed() < PATIENCE, "the survivor hangs at frame {}", source.sequence);
        victim.tend();
        let before = source.random.clone();
        let result = if source.sequence < FRAMES {
            source.write(&mut writer, &ledger)
        } else {
            writer.acquire_frame(MAX as usize).map(drop)
        };
        match result {
            Ok(()) if source.sequence == FRAMES => std::thread::sleep(Duration::from_millis(1)),
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BufferFull => {
                assert!(victim.is_halted() || victim.ended_at.is_none(), "full, and the victim has ended");
                source.random = before;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ReaderDead, "{error}");
                break;
            }
        }
    }
    let suffered = victim.suffered();
    drop(writer);
    name.assert_nothing_left();
    suffered
}

pub(crate) fn leave_leftovers(name: &Name) {
    let mut dead = Peer::start(role!(roles::plain_reader), &[name]);
    dead.expect("created");
    dead.kill();
    assert_eq!(name.leftovers().len(), 4);
}

/// The new reader's buffer works, and leaves nothing.
pub(crate) fn use_and_close(name: &Name, mut reader: Reader) {
    let ledger = Ledger::create();
    go_on_with_a_new_writer(name, &mut reader, &mut Sink::new(100, 2), &ledger);
    drop(reader);
    name.assert_nothing_left();
}
