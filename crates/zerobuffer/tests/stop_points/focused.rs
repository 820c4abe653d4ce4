//! Single moments that matter, and the recovery of a dead writer's successor.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use zerobuffer::{BufferConfig, ErrorKind, Reader, Writer, WriterOptions};

use crate::cases::{go_on_with_a_new_writer, use_and_close};
use crate::roles;
use crate::support::forge::{Forge, Mapped, at};
use crate::support::ledger::Ledger;
use crate::support::stream::{COMMITTED, Sink, Source};
use crate::support::{Name, PATIENCE, Peer, role};
use crate::victim::{FRAMES, HALT, MAX, Ring, config, config_of, run_all, wait_for};

/// Two writers are killed one after the other, the second one while it connects; the third one goes on.
fn recovery_case(ring: Ring, first: &str, nth: u64, second: Option<&str>) {
    let name = ring.name("recover");
    let ledger = Ledger::create();
    let mut reader = Reader::create(&name, config(&name)).unwrap();
    // A ring is rewound only when it is empty; all else happens while frames are held, and others unread.
    let rewind = first.starts_with("write:rewind");
    let drain = if rewind { "always" } else { "" };
    let mut sink = Sink::new(1, if rewind { 0 } else { 2 });
    let unread = if rewind { 0 } else { 3 };
    let mut victim = Peer::start_with(role!(roles::writer), &[&name, ledger.path(), drain], |command| {
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
        let mut victim = Peer::start_with(role!(roles::connector), &[&name], |command| {
            command.env("ZEROBUFFER_STOP", format!("kill:1:{second}"));
        });
        let signal = victim.wait().signal();
        // Only in an empty ring is the tail corrected.
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
        // The data of an in-place frame has no stop point, and a ring is wrapped or rewound now and then only.
        for nth in if first.contains("wrap") || first.contains("rewind") { [1, 2] } else { [2, 17] } {
            for second in connects {
                let what = format!("{first} {nth}, {second:?}");
                cases.push((what, Box::new(move || recovery_case(Ring::Classic, first, nth, second))));
            }
        }
    }
    let stores = ["write:data", "extended:header", "extended:lap-end", "extended:head"];
    let connects = [
        None,
        Some("connect:writer-word"),
        Some("connect:show-taken"),
        Some("connect:ring"),
        Some("connect:post"),
    ];
    for first in stores {
        for nth in if first == "extended:lap-end" { [1, 2] } else { [2, 17] } {
            for second in connects {
                let what = format!("{first} {nth}, {second:?}");
                cases.push((what, Box::new(move || recovery_case(Ring::Extended, first, nth, second))));
            }
        }
    }
    run_all(cases);
}

/// A frame that would fill the ring to the last byte is announced in payload_write_pos, which then says "empty", but
/// not committed; the frame before it is.
fn exact_fill_case(action: &str) {
    let name = Ring::Classic.name("exact");
    let ledger = Ledger::create();
    let mut reader = Reader::create(&name, config(&name)).unwrap();
    let sizes = [700 - 16, 100 - 16, 300 - 16, 500 - 16].map(|size: usize| size.to_string());
    let mut arguments: Vec<&str> = vec![&name, ledger.path()];
    arguments.extend(sizes.iter().map(String::as_str));
    let mut writer = Peer::start_with(role!(roles::exact_writer), &arguments, |command| {
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

#[test]
fn failure_07_frames_committed_between_a_look_at_the_ring_and_one_at_the_writer_are_delivered() {
    late_case(Ring::Extended);
    late_case(Ring::Classic);
}

fn late_case(ring: Ring) {
    let name = ring.name("late");
    let ledger = Ledger::create();
    let mut reader = Peer::start_with(role!(roles::careful_reader), &[&name], |command| {
        command.env("ZEROBUFFER_STOP", "halt:1:read:judge");
    });
    reader.expect("created");
    // It has found the ring empty, and is about to look at the writer.
    wait_for("the halt", || reader.is_stopped());
    let mut writer = Peer::start(role!(roles::exact_writer), &[&name, ledger.path(), "10", "20"]);
    writer.expect("written");
    writer.kill();
    reader.signal(libc::SIGCONT);
    reader.expect("frame 1");
    reader.expect("frame 2");
    reader.expect("WriterDead");
    assert!(reader.wait().success());
    name.assert_nothing_left();
}

/// A reader that is stopped at `point`, while another reader wants its name. Returns whether the other one
/// got it.
fn stopped_owner_case(point: &str) -> bool {
    let name = Name::new("stopped");
    let mut owner = Peer::start_with(role!(roles::plain_reader), &[&name], |command| {
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
            owner.expect("ReaderAlreadyConnected");
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

/// The lock of a name does not keep all processes out: 1.x C# readers have their lock elsewhere, and a
/// container has its own /tmp.
#[test]
fn a_cleaner_removes_nothing_that_came_in_the_place_of_what_it_judged() {
    let name = Name::new("replaced");
    let mut dead = Peer::start(role!(roles::plain_reader), &[&name]);
    dead.expect("created");
    dead.kill();
    let mut cleaner = Peer::start_with(role!(roles::cleaner), &[&name], |command| {
        command.env("ZEROBUFFER_STOP", "halt:1:clean:unlink-shm");
    });
    wait_for("the cleaner halts", || cleaner.is_stopped());
    let [segment, semaphores @ .., _] = &name.paths();
    for path in [segment].into_iter().chain(semaphores) {
        let other = path.with_extension("other");
        std::fs::copy(path, &other).unwrap();
        std::fs::rename(&other, path).unwrap();
    }
    cleaner.signal(libc::SIGCONT);
    assert!(cleaner.wait().success());
    let left = name.leftovers();
    assert!([segment].into_iter().chain(semaphores).all(|path| left.contains(path)), "only {left:?} is left");
}

#[test]
fn a_close_that_falls_between_the_last_look_and_the_sleep_is_told_at_once() {
    for ring in [Ring::Extended, Ring::Classic] {
        let name = ring.name("late-close");
        let ledger = Ledger::create();
        let mut reader = Peer::start_with(role!(roles::late_reader), &[&name], |command| {
            command.env("ZEROBUFFER_STOP", "halt:1:read:wait");
        });
        reader.expect("created");
        let mut writer = Peer::start(role!(roles::exact_writer), &[&name, ledger.path(), "10", "20"]);
        writer.expect("written");
        reader.tell("read");
        reader.expect("frame 1");
        reader.expect("frame 2");
        // It has found the ring empty and the writer alive, and is about to sleep.
        wait_for("the halt", || reader.is_stopped());
        writer.close_input();
        writer.wait();
        let start = std::time::Instant::now();
        reader.signal(libc::SIGCONT);
        reader.expect("WriterClosed");
        // Built with `--cfg long_slices`, a sleep that missed the close lasts longer than that.
        assert!(start.elapsed() < std::time::Duration::from_secs(5), "told after {:?}", start.elapsed());
        assert!(reader.wait().success());
        name.assert_nothing_left();
    }
}

#[test]
fn a_writer_that_halts_before_its_last_ring_has_closed() {
    for (ring, point) in [(Ring::Extended, "close:ring-reader"), (Ring::Classic, "close:post-sem-w")] {
        let name = ring.name("last-ring");
        let ledger = Ledger::create();
        let mut reader = Reader::create(&name, config_of(&name, 4096)).unwrap();
        let mut writer =
            Peer::start_with(role!(roles::exact_writer), &[&name, ledger.path(), "10", "20"], |command| {
                command.env("ZEROBUFFER_STOP", format!("halt:1:{point}"));
            });
        writer.expect("written");
        writer.close_input();
        wait_for("the halt", || writer.is_stopped());
        let end = loop {
            match reader.read_frame(PATIENCE) {
                Ok(frame) => drop(frame.expect("it has given up its role")),
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(end, ErrorKind::WriterClosed);
        writer.signal(libc::SIGCONT);
        assert!(writer.wait().success());
        drop(reader);
        name.assert_nothing_left();
    }
}

/// A writer that closes towards a 1.x reader that stands still: it posts a token, and takes it back.
#[test]
fn a_writer_killed_or_halted_while_it_tells_a_1x_reader_of_its_close_has_closed() {
    for (point, kills) in [
        ("close:tell-reader", true),
        ("close:tell-reader", false),
        ("close:take-back", true),
        ("close:take-back", false),
    ] {
        let name = Ring::Classic.name("farewell");
        let ledger = Ledger::create();
        let mut reader = Reader::create(&name, config(&name)).unwrap();
        let (segment, tokens) = (Forge::segment(&name), Forge::semaphore(&name, 'w'));
        let word = segment.get(at::READER_WORD);
        segment.set(at::READER_WORD, 0);
        let mut writer = Peer::start_with(role!(roles::connector), &[&name], |command| {
            let action = if kills { "kill" } else { "halt" };
            command.env("ZEROBUFFER_STOP", format!("{action}:1:{point}"));
        });
        writer.hear();
        tokens.set_waiters(1);
        writer.close_input();
        if kills {
            assert_eq!(writer.wait().signal(), Some(libc::SIGKILL), "{point} was not passed");
        } else {
            wait_for("the halt", || writer.is_stopped());
            let error = Writer::connect(&name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WriterAlreadyConnected, "{point}: {error}");
            writer.signal(libc::SIGCONT);
            assert!(writer.wait().success());
            assert_eq!(tokens.tokens(), 0, "{point}: a token without a frame");
        }
        tokens.set_waiters(0);
        segment.set(at::READER_WORD, word);
        assert_eq!(reader.read_frame(PATIENCE).unwrap_err().kind(), ErrorKind::WriterClosed, "{point}");
        go_on_with_a_new_writer(&name, &mut reader, &mut Sink::new(100, 2), &ledger);
        drop(reader);
        name.assert_nothing_left();
    }
}

/// Writes a frame of 8 bytes as a 1.x writer does.
fn write_as_1x(segment: &Forge, position: u64, sequence: u64) {
    let start = 128 + segment.get(at::METADATA_SIZE).next_multiple_of(64) + position;
    [8, sequence, sequence]
        .into_iter()
        .zip(0..)
        .for_each(|(word, index)| segment.set(start + 8 * index, word));
    segment.set(at::WRITE_POS, position + 24);
    segment.set(at::FREE_BYTES, segment.get(at::FREE_BYTES) - 24);
}

#[test]
fn a_reader_killed_or_halted_while_it_puts_a_pid_back_leaves_no_wrong_one() {
    for kills in [true, false] {
        let name = Ring::Classic.name("put-back");
        let mut reader = Peer::start_with(role!(roles::careful_reader), &[&name], |command| {
            let action = if kills { "kill" } else { "halt" };
            command.env("ZEROBUFFER_STOP", format!("{action}:1:read:writer-pid"));
        });
        reader.expect("created");
        let segment = Forge::segment(&name);
        // A process that has not mapped the segment cannot be its writer.
        let _mapped = Mapped::segment(&name);
        let own = u64::from(std::process::id());
        segment.set(at::WRITER_PID, own);
        write_as_1x(&segment, 0, 1);
        reader.expect("frame 1");
        // As a 1.x writer that is refused does. The reader looks every 20 ms.
        segment.set(at::WRITER_PID, 0);
        std::thread::sleep(HALT);
        write_as_1x(&segment, 24, 2);
        if kills {
            assert_eq!(reader.wait().signal(), Some(libc::SIGKILL), "the point was not passed");
            assert_eq!(segment.get(at::WRITER_PID), 0);
            use_and_close(
                &name,
                Reader::create(&name, BufferConfig::default()).expect("a new reader at once"),
            );
            continue;
        }
        wait_for("the halt", || reader.is_stopped());
        assert_eq!(segment.get(at::WRITER_PID), 0);
        reader.signal(libc::SIGCONT);
        reader.expect("frame 2");
        assert_eq!(segment.get(at::WRITER_PID), own);
        segment.set(at::WRITER_PID, 0);
        reader.expect("WriterClosed");
        assert!(reader.wait().success());
        name.assert_nothing_left();
    }
}
