//! Peers that suffer at rare work: cleaning up, keeping and taking over, and reactions to other peers.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use zerobuffer::{BufferConfig, ErrorKind, KeptBuffer, Reader, Writer, WriterOptions};

use crate::cases::{go_on_with_a_new_writer, leave_leftovers, use_and_close};
use crate::roles;
use crate::support::ledger::Ledger;
use crate::support::stream::{RECEIVED, Sink, Source};
use crate::support::{PATIENCE, Peer, role};
use crate::victim::{
    Action, CAPACITY, EXTENSION, FREE_BYTES, KEPT, MAX, Ring, Victim, WRITER_PID, config, peek, poke,
    trace_path, wait_for,
};

/// A writer that suffers `action` as it closes and cleans up after its dead reader.
pub(crate) fn clean_up_case(action: &Action, ring: Ring) -> bool {
    let name = ring.name("stop-c");
    let mut reader = Peer::start(role!(roles::plain_reader), &[&name]);
    reader.expect("created");
    let mut victim = Victim::start(action, role!(roles::connector), &[&name]);
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

/// A reader that suffers `action` during work that only 1.x writers cause.
pub(crate) fn foreign_writer_case(action: &Action, ring: Ring) -> bool {
    let name = ring.name("stop-f");
    let ledger = Ledger::create();
    let mut victim = Victim::start(action, role!(roles::reader), &[&name, ledger.path(), "all"]);
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

/// A writer into whose connecting, at `moment`, a 1.x writer bursts, which takes no notice of locks.
pub(crate) fn overtaken_writer_case(action: &Action, ring: Ring, moment: &str) -> bool {
    let name = ring.name("stop-o");
    let mut reader = Reader::create(&name, config(&name)).unwrap();
    let ledger = Ledger::create();
    let stops = match action {
        Action::Trace => String::new(),
        Action::Kill(point, nth) => format!(",kill:{nth}:{point}"),
        Action::Halt(point, nth) => format!(",halt:{nth}:{point}"),
    };
    let mut peer = Peer::start_with(role!(roles::writer), &[&name, ledger.path(), ""], |command| {
        command.env("ZEROBUFFER_STOP", format!("halt:1:{moment}{stops}"));
        if matches!(action, Action::Trace) {
            command.env("ZEROBUFFER_STOP_TRACE", trace_path(&name));
        }
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
    // The reader's report depends on the other peers; it comes once. This process lives on, so a missing pid alone is believed late.
    let end = reader.read_frame(PATIENCE);
    assert!(matches!(end.map_err(|e| e.kind()), Err(ErrorKind::WriterClosed | ErrorKind::WriterDead)));
    go_on_with_a_new_writer(&name, &mut reader, &mut Sink::new(100, 2), &ledger);
    drop(reader);
    name.assert_nothing_left();
    true
}

/// A reader that suffers `action` while it makes a buffer in huge pages, on a NUMA node.
pub(crate) fn huge_creator_case(action: &Action, ring: Ring) -> bool {
    let name = ring.name("stop-huge");
    let mut victim = Victim::start(action, role!(roles::plain_reader), &[&name]);
    while victim.tend() {
        if let Some(message) = victim.peer.hear_within(Duration::from_millis(5)) {
            assert_eq!(message, "created");
            victim.peer.close_input();
        }
    }
    if !victim.suffered() {
        return false;
    }
    let next = Reader::create(&name, BufferConfig::default()).expect("a new reader at once");
    use_and_close(&name, next);
    true
}

/// A reader that suffers `action` while it takes over a buffer that this process keeps, and writes to.
pub(crate) fn adopter_case(action: &Action, ring: Ring, what: &str) -> bool {
    let name = ring.name(what);
    let ledger = Ledger::create();
    let mut kept = KeptBuffer::create(&name, config(&name)).unwrap();
    let options = WriterOptions::default().write_timeout(Duration::ZERO);
    let mut writer = Writer::connect_with(&name, options).unwrap();
    let mut source = Source::new(1, MAX);
    (0..KEPT).for_each(|_| source.write(&mut writer, &ledger).unwrap());
    let mut victim = Victim::start(action, role!(roles::adopter), &[&name, ledger.path()]);
    while victim.tend() {
        if let Err(error) = writer.acquire_frame(1) {
            // The kernel releases a killed process's locks before its parent can see the death.
            let cause =
                format!("what alone may end the buffer with `{error}`, the death or end of its reader,");
            wait_for(&cause, || ledger.get(RECEIVED) == KEPT || !victim.tend());
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

/// A keeper that suffers `action` as it ends, with a writer in this process.
pub(crate) fn keeper_case(action: &Action, ring: Ring) -> bool {
    let name = ring.name("stop-k");
    let mut victim = Victim::start(action, role!(roles::keeper), &[&name]);
    while victim.tend() && victim.peer.hear_within(Duration::from_millis(5)).is_none() {}
    let mut writer = Writer::connect(&name).unwrap();
    writer.write_frame(b"never read").unwrap();
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

/// A process that suffers `action` as it removes what a killed reader left.
pub(crate) fn cleaner_case(action: &Action, ring: Ring) -> bool {
    let name = ring.name("stop-l");
    leave_leftovers(&name);
    let mut victim = Victim::start(action, role!(roles::cleaner), &[&name]);
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
pub(crate) fn refused_writer_case(action: &Action, ring: Ring) -> bool {
    let name = ring.name("stop-u");
    let ledger = Ledger::create();
    let mut reader = Reader::create(&name, config(&name)).unwrap();
    let mut dead = Peer::start(role!(roles::connector), &[&name]);
    dead.expect("connected");
    dead.kill();
    // Its ring is of one kind or the other by now.
    let (word, wrong, right) = match ring {
        Ring::Classic => (FREE_BYTES, CAPACITY as u64 + 5, CAPACITY as u64),
        Ring::Extended => (peek(&name, EXTENSION) & ((1 << 48) - 128), CAPACITY as u64, 0),
    };
    poke(&name, word, wrong);
    let mut victim = Victim::start(action, role!(roles::writer), &[&name, ledger.path(), ""]);
    if !victim.suffered() {
        return false;
    }
    if !matches!(action, Action::Kill(..)) {
        victim.peer.expect("CorruptBuffer");
    }
    poke(&name, word, right);
    assert_eq!(reader.read_frame(PATIENCE).unwrap_err().kind(), ErrorKind::WriterDead);
    assert!(reader.read_frame(Duration::from_millis(30)).unwrap().is_none(), "told twice");
    go_on_with_a_new_writer(&name, &mut reader, &mut Sink::new(100, 2), &ledger);
    drop(reader);
    name.assert_nothing_left();
    true
}

/// A reader that suffers `action` after its writer has been killed.
pub(crate) fn bereaved_reader_case(action: &Action, ring: Ring) -> bool {
    let name = ring.name("stop-b");
    let ledger = Ledger::create();
    let mut victim = Victim::start(action, role!(roles::careful_reader), &[&name]);
    victim.peer.expect("created");
    let mut writer =
        Peer::start_with(role!(roles::exact_writer), &[&name, ledger.path(), "10", "20"], |command| {
            let commit = if ring == Ring::Classic { "write:free-bytes" } else { "extended:head" };
            command.env("ZEROBUFFER_STOP", format!("kill:2:{commit}"));
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
