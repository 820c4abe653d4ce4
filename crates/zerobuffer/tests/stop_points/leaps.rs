//! Leaps: the reader stalls just after its writer has ended a lap early. Only extended rings know them.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use zerobuffer::{BufferConfig, ErrorKind, Reader, Writer, WriterOptions};

use crate::cases::go_on_with_a_new_writer;
use crate::roles;
use crate::support::ledger::Ledger;
use crate::support::stream::{COMMITTED, RELEASED, Sink};
use crate::support::{PATIENCE, Peer, fill, role, say};
use crate::victim::{Action, Ring, Victim, config_of};

/// So large that a lap which ends as early as it may (1 MiB) is within the part that may be leapt over (1/10).
const PAYLOAD: usize = 32 << 20;
const LEN: usize = 64 << 10;
/// Frames that the writer is ahead of a reader that keeps up.
const AHEAD: u64 = 5;
/// A lap has been ended when so many are written.
const EARLY: u64 = 18;
/// The reader goes on when so many are written: the writer has leapt, at the latest at frame 30.
const LEAPT: u64 = 36;
/// All of a round: what follows the stall is read by a reader that keeps up, for two more laps.
const ROUND: u64 = 90;
const ROUNDS: u64 = 2;

/// How many frames may be written before the reader has released frame `sequence - AHEAD`.
fn follows(sequence: u64) -> bool {
    let at = sequence % ROUND;
    at <= EARLY || at > LEAPT
}

/// Writes its rounds, then closes.
pub(crate) fn leaper(arguments: &[String]) {
    let ledger = Ledger::open(&arguments[1]);
    let options = WriterOptions::default().connect_timeout(PATIENCE).write_timeout(PATIENCE);
    let mut writer = Writer::connect_with(&arguments[0], options).unwrap();
    let mut bytes = vec![0; LEN];
    for sequence in 1..=ROUNDS * ROUND {
        if follows(sequence) {
            ledger.wait(RELEASED, |released| released + AHEAD >= sequence);
        }
        fill(1 << 40 | sequence, &mut bytes);
        writer.write_frame(&bytes).unwrap();
        ledger.set(COMMITTED, sequence);
    }
    drop(writer);
    say("closed");
}

/// Reads until the writer's end, stalling where the writer is to leap. Returns how the writer ended, or
/// `None` if it never began.
fn read_rounds(
    reader: &mut Reader,
    sink: &mut Sink,
    ledger: &Ledger,
    alive: &mut dyn FnMut() -> bool,
) -> Option<ErrorKind> {
    let start = Instant::now();
    let mut dead_since: Option<Instant> = None;
    loop {
        assert!(start.elapsed() < PATIENCE, "hangs at frame {}", sink.received);
        if !alive() {
            dead_since.get_or_insert_with(Instant::now);
        }
        let at = sink.received % ROUND;
        let stalls = (EARLY - AHEAD..LEAPT - AHEAD).contains(&at) && dead_since.is_none();
        let round = sink.received - at;
        if stalls && ledger.get(COMMITTED) < round + LEAPT {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        match reader.read_frame(Duration::from_millis(2)) {
            Ok(Some(frame)) => sink.take(frame, ledger),
            Ok(None) if dead_since.is_some_and(|at| at.elapsed() > Duration::from_millis(300)) => {
                return None;
            }
            Ok(None) => {}
            Err(error) => return Some(error.kind()),
        }
    }
}

fn buffer(ring: Ring) -> (crate::support::Name, Reader, Ledger) {
    let name = ring.name("leap");
    let reader = Reader::create(&name, config_of(&name, PAYLOAD)).unwrap();
    (name, reader, Ledger::create())
}

/// A writer that suffers `action` in an early lap, a leap, or what follows.
pub(crate) fn leaping_writer_case(action: &Action, ring: Ring) -> bool {
    let (name, mut reader, ledger) = buffer(ring);
    let mut victim = Victim::start(action, role!(leaper), &[&name, ledger.path()]);
    let mut sink = Sink::new(1, 0);
    let end = read_rounds(&mut reader, &mut sink, &ledger, &mut || victim.tend());
    if !victim.suffered() {
        return false;
    }
    let (committed, received) = (ledger.get(COMMITTED), sink.received);
    match action {
        Action::Kill(..) => {
            assert!(
                received == committed || received == committed + 1,
                "{committed} committed, {received} received"
            );
        }
        _ => {
            assert_eq!(end, Some(ErrorKind::WriterClosed));
            assert_eq!((committed, received), (ROUNDS * ROUND, ROUNDS * ROUND));
        }
    }
    go_on_with_a_new_writer(&name, &mut reader, &mut sink, &ledger);
    drop(reader);
    name.assert_nothing_left();
    true
}

/// The place of a point among those of its name, counted in the trace of a whole run: the first one behind `behind`.
fn nth_behind(trace: &str, point: &str, behind: &str) -> u64 {
    let mut count = 0;
    let mut begun = false;
    for line in trace.lines() {
        begun |= line == behind;
        if line == point {
            count += 1;
            if begun {
                return count;
            }
        }
    }
    panic!("no {point} behind {behind}");
}

#[test]
fn a_leap_that_was_not_committed_was_not_made() {
    let trace = {
        let (name, mut reader, ledger) = buffer(Ring::Extended);
        let mut victim = Victim::start(&Action::Trace, role!(leaper), &[&name, ledger.path()]);
        read_rounds(&mut reader, &mut Sink::new(1, 0), &ledger, &mut || victim.tend());
        assert!(victim.suffered());
        let path = crate::victim::trace_path(&name);
        let trace = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        trace
    };
    for point in ["extended:leap-to", "extended:leap-from", "extended:lap-end", "extended:no-leap"] {
        assert!(trace.lines().any(|line| line == point), "{point} is not passed");
    }
    // The commit of the first leap; of the first lap behind one; of the lap in which its words are used again.
    let moments = [
        ("extended:leap-to", "extended:leap-to"),
        ("extended:leap-from", "extended:leap-from"),
        ("extended:head", "extended:leap-from"),
        ("extended:lap-end", "extended:leap-from"),
        ("extended:head", "extended:no-leap"),
    ];
    for (point, behind) in moments {
        for second in [None, Some("connect:leap"), Some("connect:writer-word"), Some("connect:ring")] {
            let uncommitted = (point, behind) == ("extended:head", "extended:leap-from");
            if second == Some("connect:leap") && !uncommitted {
                continue;
            }
            let nth = nth_behind(&trace, point, behind);
            uncommitted_case(point, nth, second);
        }
    }
}

/// A writer is killed, then one that connects; the third goes on, with the ring as the first one left it, unread.
fn uncommitted_case(point: &str, nth: u64, second: Option<&str>) {
    let what = format!("{point} {nth}, {second:?}");
    let (name, mut reader, ledger) = buffer(Ring::Extended);
    let action = Action::Kill(point.to_owned(), nth);
    let mut victim = Victim::start(&action, role!(leaper), &[&name, ledger.path()]);
    let mut sink = Sink::new(1, 0);
    let mut dead = 0;
    // The reader reads nothing of what was written while it stalled before the third writer is there.
    let start = Instant::now();
    while victim.tend() {
        assert!(start.elapsed() < PATIENCE, "{what}: not reached");
        let at = sink.received % ROUND;
        let stalls = (EARLY - AHEAD..LEAPT - AHEAD).contains(&at);
        if stalls && ledger.get(COMMITTED) < sink.received - at + LEAPT {
            std::thread::sleep(Duration::from_micros(200));
        } else {
            match reader.try_read_frame() {
                Ok(Some(frame)) => sink.take(frame, &ledger),
                Ok(None) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WriterDead, "{what}: {error}");
                    dead += 1;
                    break;
                }
            }
        }
    }
    assert!(victim.suffered(), "{what}: not passed");
    let committed = ledger.get(COMMITTED);
    if let Some(second) = second {
        let mut next = Peer::start_with(role!(roles::connector), &[&name], |command| {
            command.env("ZEROBUFFER_STOP", format!("kill:1:{second}"));
        });
        assert_eq!(next.wait().signal(), Some(libc::SIGKILL), "{what}: not passed");
    }
    let options = WriterOptions::default().write_timeout(Duration::ZERO);
    let mut writer = Writer::connect_with(&name, options).expect("a third writer");
    // The third one fills the ring, before anything is read, and again while it is.
    let mut bytes = vec![0; LEN];
    let mut written = 0;
    if dead > 0 {
        sink.next_writer(2, &ledger);
    }
    loop {
        fill(2 << 40 | (written + 1), &mut bytes);
        if written < 3 * ROUND && writer.try_write_frame(&bytes).unwrap().is_some() {
            written += 1;
            continue;
        }
        match reader.read_frame(Duration::from_millis(200)) {
            Ok(Some(frame)) => sink.take(frame, &ledger),
            Ok(None) => break,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WriterDead, "{what}: {error}");
                if dead > 0 {
                    // The second one wrote nothing, and its death is told before the frames of the third one.
                    assert!(second.is_some() && dead == 1 && sink.received == 0, "{what}: told again");
                    dead += 1;
                    continue;
                }
                let received = sink.received;
                assert!(
                    received == committed || received == committed + 1,
                    "{what}: {committed}, {received}"
                );
                dead += 1;
                sink.next_writer(2, &ledger);
            }
        }
    }
    assert_eq!((sink.received, sink.salt), (3 * ROUND, 2), "{what}");
    assert!(dead > 0, "{what}: no death is told");
    drop(writer);
    assert_eq!(reader.read_frame(PATIENCE).unwrap_err().kind(), ErrorKind::WriterClosed, "{what}");
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn the_config_of_these_tests_is_the_default_but_for_its_size() {
    // This checks that the killed code is the code that all programs use.
    let name = Ring::Extended.name("default");
    assert_eq!(
        format!("{:?}", config_of(&name, 1024)),
        format!("{:?}", BufferConfig::default().payload_size(1024))
    );
}

crate::support::peers!(leaper);
