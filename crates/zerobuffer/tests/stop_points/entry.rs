//! The way into the extended ring, crossed by a 1.x writer, which knows neither locks nor reserved words. Its steps are
//! forged one by one, at every halt, and after every kill, of a native writer that connects.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use zerobuffer::{ErrorKind, Reader, Writer};

use crate::support::forge::{Mapped, at};
use crate::support::{Name, PATIENCE, Peer, hear, role, say};
use crate::victim::{CAPACITY, Ring, config, run_all, wait_for};

const METADATA: usize = 256;
const RING: u64 = 128 + METADATA as u64;
const WRITTEN_COUNT: u64 = 0x40;
const DATA: &[u8; 104] = &[0x1f; 104];
const OURS: u64 = 3;

/// A 1.x writer of one frame. Each step is one look, or one store, of it.
struct Old {
    memory: Mapped,
    done: usize,
    pid: u64,
    /// It was refused: another writer is there, or no space.
    refused: bool,
}

/// Steps of [`Old`]; the last one is to close.
const STEPS: usize = 9;
/// With so many steps done it has only to close.
const COUNTED: usize = 8;
/// With this step done its frame is committed.
const COMMIT: usize = 7;

impl Old {
    fn new(name: &str) -> Old {
        Old { memory: Mapped::segment(name), done: 0, pid: u64::from(std::process::id()), refused: false }
    }

    fn get(&self, offset: u64) -> u64 {
        self.memory.word(offset).load(Ordering::SeqCst)
    }

    fn has_committed(&self) -> bool {
        self.done >= COMMIT
    }

    /// Goes on until `upto` steps are done, or it is refused, or has to wait for space.
    fn go(&mut self, upto: usize) {
        while self.done < upto && !self.refused {
            let memory = &self.memory;
            match self.done {
                0 => {
                    let pid = self.get(at::WRITER_PID);
                    let proc = format!("/proc/{pid}/stat");
                    let stat = std::fs::read_to_string(proc).unwrap_or_default();
                    // One that was killed, and not reaped, does not count.
                    self.refused = pid != 0 && !stat.is_empty() && !stat.contains(") Z ");
                }
                1 => memory.set(at::WRITER_PID, self.pid),
                2 if self.get(at::FREE_BYTES) < DATA.len() as u64 + 16 => return,
                2 => {}
                3 => {
                    memory.set(RING + 8, 1);
                    memory.set(RING, DATA.len() as u64);
                }
                4 => (0..DATA.len() as u64 / 8)
                    .for_each(|word| memory.set(RING + 16 + word * 8, 0x1f1f_1f1f_1f1f_1f1f)),
                5 => memory.set(at::WRITE_POS, DATA.len() as u64 + 16),
                6 => {
                    memory.word(at::FREE_BYTES).fetch_sub(DATA.len() as u64 + 16, Ordering::SeqCst);
                }
                7 => memory.set(WRITTEN_COUNT, 1),
                8 => self.close(),
                _ => unreachable!(),
            }
            self.done += 1;
        }
    }

    fn close(&self) {
        if self.get(at::WRITER_PID) == self.pid {
            self.memory.set(at::WRITER_PID, 0);
        }
    }
}

/// Connects, writes a few frames, waits to be told to close.
pub(crate) fn enterer(arguments: &[String]) {
    match Writer::connect(&arguments[0]) {
        Ok(mut writer) => {
            for number in 1..=OURS {
                writer.write_frame(&[number as u8; 50]).unwrap();
            }
            say("connected");
            hear();
        }
        Err(error) => say(error.kind().name()),
    }
}

/// The frames that the reader has got.
#[derive(Default, Debug)]
struct Had {
    old: u64,
    ours: u64,
    ends: Vec<ErrorKind>,
}

/// Reads until nothing comes for `quiet`.
fn read(reader: &mut Reader, old: &Old, had: &mut Had, quiet: Duration) {
    loop {
        match reader.read_frame(quiet) {
            Ok(None) => return,
            Ok(Some(frame)) if frame.len() == DATA.len() => {
                assert!(old.has_committed(), "a frame that was not committed");
                assert!(*frame == DATA[..] && frame.sequence() == 1);
                had.old += 1;
            }
            Ok(Some(frame)) => {
                had.ours = had.ours % OURS + 1;
                assert!(*frame == [had.ours as u8; 50] && frame.sequence() == had.ours);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WriterClosed | ErrorKind::WriterDead) => {
                had.ends.push(error.kind());
            }
            Err(error) => panic!("{error}"),
        }
    }
}

const MOMENT: Duration = Duration::from_millis(1);

/// The next message of `peer`, while the reader reads.
fn hear_and_read(peer: &mut Peer, reader: &mut Reader, old: &Old, had: &mut Had) -> String {
    let start = Instant::now();
    loop {
        if let Some(said) = peer.hear_within(MOMENT) {
            return said;
        }
        assert!(start.elapsed() < PATIENCE, "nothing is said");
        read(reader, old, had, Duration::ZERO);
    }
}

/// Whether the ring is extended; and whether a native writer is making it so, or died while doing that.
fn kind(memory: &Mapped) -> (bool, bool) {
    let word = memory.word(at::EXTENSION).load(Ordering::SeqCst);
    (word & 1 != 0, word & 2 != 0)
}

/// Halts the native writer at each of `points` in turn, while the 1.x writer has done so many steps; the
/// first number is for the steps before. Then the native writer continues or dies, and the 1.x writer
/// completes. The reader reads after every step, or only at the end.
fn crossing(points: &[&str], steps: &[usize], kill: bool, at_once: bool) {
    let name: Name = Ring::Extended.name("entry");
    let mut reader = Reader::create(&name, config(&name).metadata_size(METADATA)).unwrap();
    assert_eq!(CAPACITY % 64, 0);
    let mut old = Old::new(&name);
    let mut had = Had::default();
    old.go(steps[0]);
    let stops: Vec<String> = points.iter().map(|point| format!("halt:1:{point}")).collect();
    let mut ours = Peer::start_with(role!(enterer), &[&name], |command| {
        command.env("ZEROBUFFER_STOP", stops.join(","));
    });
    let mut came = true;
    for (index, _) in points.iter().enumerate() {
        wait_for("the halt", || ours.is_stopped() || ours.ended().is_some());
        came = ours.is_stopped();
        if !came {
            break;
        }
        for step in old.done..=steps[index + 1].max(old.done) {
            old.go(step);
            if at_once {
                read(&mut reader, &old, &mut had, Duration::ZERO);
            }
        }
        if index + 1 == points.len() && kill {
            ours.kill();
        } else {
            ours.signal(libc::SIGCONT);
        }
    }
    if !came {
        assert!(points.len() > 1 || steps[0] > 1, "the point was not passed");
    }
    let connected = if kill && came {
        // Longer than contradictions are tolerated.
        read(&mut reader, &old, &mut had, Duration::from_millis(120));
        false
    } else {
        let said = hear_and_read(&mut ours, &mut reader, &old, &mut had);
        assert!(["connected", "WriterAlreadyConnected"].contains(&said.as_str()), "{said}");
        said == "connected"
    };
    let memory = Mapped::segment(&name);
    let start = Instant::now();
    let one_after_the_other = old.done == STEPS;
    while old.done < STEPS && !old.refused && !(kind(&memory).0 || connected) {
        assert!(start.elapsed() < PATIENCE, "the 1.x writer waits without end");
        old.go(STEPS);
        read(&mut reader, &old, &mut had, MOMENT);
    }
    read(&mut reader, &old, &mut had, Duration::from_millis(if kill { 120 } else { 1 }));
    assert_eq!(had.old, u64::from(old.has_committed()), "frames of the 1.x writer: {had:?}");
    assert_eq!(had.ours, if connected { OURS } else { 0 }, "{had:?}");
    assert!(!(connected && old.has_committed()) || one_after_the_other, "two writers at once");
    assert!(connected || old.has_committed() || old.refused || kind(&memory).0, "neither got in");
    if !kind(&memory).0 {
        while kind(&memory).1 {
            assert!(start.elapsed() < PATIENCE, "the mark of an entry that came to nothing");
            read(&mut reader, &old, &mut had, MOMENT);
        }
        assert_eq!(memory.word(at::FREE_BYTES).load(Ordering::SeqCst), CAPACITY as u64, "space is lost");
    }
    // The 1.x writer closes, and a native writer comes: whatever has happened, what it writes arrives whole.
    old.close();
    if connected {
        drop(ours);
    } else if !kill || !came {
        ours.wait();
    }
    let mut next = Peer::start(role!(enterer), &[&name]);
    had.ours = 0;
    assert_eq!(hear_and_read(&mut next, &mut reader, &old, &mut had), "connected");
    let start = Instant::now();
    while had.ours < OURS {
        assert!(start.elapsed() < PATIENCE);
        read(&mut reader, &old, &mut had, MOMENT);
    }
    // The 1.x writer finds the buffer taken or full. No reader sees what it does from then on.
    let mut late = Old::new(&name);
    late.go(COUNTED);
    assert!(!late.has_committed(), "theirs got in beside ours");
    next.close_input();
    assert!(next.wait().success());
    read(&mut reader, &old, &mut had, MOMENT);
    drop(reader);
    drop(next);
    name.assert_nothing_left();
}

const POINTS: [&str; 11] = [
    "connect:role-lock",
    "connect:writer-word",
    "connect:writer-pid",
    "enter:mark",
    "enter:free",
    "enter:second-look",
    "enter:kind",
    "connect:show-taken",
    "connect:ring",
    "connect:post",
    "extended:head",
];

#[test]
fn a_1x_writer_that_crosses_the_entry_is_refused_or_makes_the_ring_classic() {
    let mut cases: Vec<(String, Box<dyn Fn() + Send + Sync>)> = Vec::new();
    for point in POINTS {
        for before in [0, 1] {
            for at in before..=STEPS {
                for kill in [false, true] {
                    // After the kill it is only the first and the last few steps that matter.
                    if kill && !crate::support::full() && ![before, 2, 3, COMMIT].contains(&at) {
                        continue;
                    }
                    let what = format!("{point}, {before} {at}, kill {kill}");
                    cases.push((what, Box::new(move || crossing(&[point], &[before, at], kill, true))));
                }
            }
        }
    }
    // It comes and goes between the native writer's word and pid.
    for before in [0, 1] {
        for kill in [false, true] {
            let points = ["connect:writer-pid", "connect:writer-word-again"];
            let what = format!("{points:?}, {before}, kill {kill}");
            cases.push((what, Box::new(move || crossing(&points, &[before, STEPS, STEPS], kill, true))));
        }
    }
    // It has committed just before the native writer takes all bytes, and that is unread.
    for done in [COMMIT, COUNTED, STEPS] {
        for kill in [false, true] {
            let what = format!("enter:free, unread, {done}, kill {kill}");
            let points = ["enter:free", "enter:second-look"];
            cases.push((what, Box::new(move || crossing(&points, &[1, done, done], kill, false))));
        }
    }
    // It has found the ring free just before the native writer takes all bytes, or has committed a frame that
    // has been read and given back by then. It continues while the native writer has taken them, stands
    // still, continues or dies.
    for second in
        ["enter:second-look", "enter:undo", "enter:mend", "enter:unmark", "connect:writer-word-back"]
    {
        for first in 2..=STEPS {
            for at in first..=STEPS {
                for kill in [false, true] {
                    // If the native writer withdraws before it takes any bytes, one case of each kind is
                    // enough.
                    if kill && !crate::support::full() && ![first, COMMIT, COUNTED].contains(&at) {
                        continue;
                    }
                    let what = format!("enter:free, {second}, {first} {at}, kill {kill}");
                    let steps = [1, first, at];
                    cases.push((
                        what,
                        Box::new(move || crossing(&["enter:free", second], &steps, kill, true)),
                    ));
                }
            }
        }
    }
    run_all(cases);
}

/// A 1.x writer comes while a native one has just found the ring unused, and does `steps`; the native one takes all bytes, and
/// dies.
fn take_and_die(reader: &mut Reader, old: &mut Old, had: &mut Had, name: &Name, steps: usize) {
    let mut ours = Peer::start_with(role!(enterer), &[name], |command| {
        command.env("ZEROBUFFER_STOP", "halt:1:enter:free,kill:1:enter:second-look");
    });
    wait_for("the halt", || ours.is_stopped());
    // It looked before the native writer stored its pid.
    old.done = 1;
    old.go(steps);
    read(reader, old, had, Duration::ZERO);
    ours.signal(libc::SIGCONT);
    ours.wait();
    assert_eq!(old.get(at::FREE_BYTES), 0, "all bytes are taken");
}

/// The reader, which has nothing to read, gives back the bytes that were taken. No frame is read twice, and
/// the 1.x writer continues.
#[test]
fn what_a_dead_writer_took_on_its_way_in_is_given_back() {
    // Nothing was ever written; a frame is half-way; it was read, and the 1.x writer is about to close, or
    // has closed.
    for steps in [2, 5, COUNTED, STEPS] {
        let name: Name = Ring::Extended.name("entry-dead");
        let mut reader = Reader::create(&name, config(&name).metadata_size(METADATA)).unwrap();
        let mut old = Old::new(&name);
        let mut had = Had::default();
        take_and_die(&mut reader, &mut old, &mut had, &name, steps);
        let start = Instant::now();
        while old.get(at::FREE_BYTES) == 0 {
            assert!(start.elapsed() < PATIENCE, "the bytes are not given back");
            read(&mut reader, &old, &mut had, MOMENT);
        }
        let waited = start.elapsed();
        assert!((steps == 2) == (waited < Duration::from_millis(90)), "{steps}: after {waited:?}");
        assert_eq!(old.get(at::FREE_BYTES), CAPACITY as u64);
        assert_eq!(kind(&old.memory), (false, false));
        old.go(STEPS);
        read(&mut reader, &old, &mut had, MOMENT);
        assert_eq!(had.old, 1, "theirs wrote one frame");
        drop(reader);
        name.assert_nothing_left();
    }
}

/// A native writer comes before the reader has looked: only the reader can tell that the ring is not full, so it waits for it.
#[test]
fn a_writer_that_finds_a_dead_ones_entry_waits_for_the_reader() {
    let name: Name = Ring::Extended.name("entry-later");
    let mut reader = Reader::create(&name, config(&name).metadata_size(METADATA)).unwrap();
    let mut old = Old::new(&name);
    let mut had = Had::default();
    take_and_die(&mut reader, &mut old, &mut had, &name, STEPS);
    let mut next = Peer::start(role!(enterer), &[&name]);
    assert_eq!(next.hear(), "InvalidState", "no reader looks");
    let mut next = Peer::start(role!(enterer), &[&name]);
    assert_eq!(hear_and_read(&mut next, &mut reader, &old, &mut had), "connected");
    read(&mut reader, &old, &mut had, MOMENT);
    assert_eq!((had.old, had.ours), (1, OURS));
    drop(next);
    drop(reader);
    name.assert_nothing_left();
}

/// A 1.x writer that had found space, and commits, is told how much there is by the native writer that gives way: no reader
/// looks.
#[test]
fn a_writer_that_gives_way_mends_the_count() {
    let name: Name = Ring::Extended.name("entry-way");
    let reader = Reader::create(&name, config(&name).metadata_size(METADATA)).unwrap();
    let mut old = Old::new(&name);
    // It looked before the native writer stored its pid.
    old.done = 1;
    let mut ours = Peer::start_with(role!(enterer), &[&name], |command| {
        command.env("ZEROBUFFER_STOP", "halt:1:enter:free,halt:1:enter:second-look");
    });
    for steps in [3, COMMIT] {
        wait_for("the halt", || ours.is_stopped());
        old.go(steps);
        ours.signal(libc::SIGCONT);
    }
    assert_eq!(ours.hear(), "WriterAlreadyConnected");
    assert_eq!(old.get(at::FREE_BYTES), (CAPACITY - DATA.len() - 16) as u64);
    assert_eq!(kind(&old.memory), (false, false));
    old.go(STEPS);
    assert!(ours.wait().success());
    drop(reader);
    name.assert_nothing_left();
}

/// A 1.x writer that no process sees, as it is in another pid namespace, commits just before the ring becomes an extended one.
#[test]
fn an_entry_whose_mark_was_taken_away_leaves_the_ring_classic() {
    let name: Name = Ring::Extended.name("entry-mark");
    let mut reader = Reader::create(&name, config(&name).metadata_size(METADATA)).unwrap();
    let mut old = Old::new(&name);
    let mut had = Had::default();
    old.pid = 1 << 30;
    old.go(3);
    let mut ours = Peer::start_with(role!(enterer), &[&name], |command| {
        command.env("ZEROBUFFER_STOP", "halt:1:enter:kind");
    });
    wait_for("the halt", || ours.is_stopped());
    old.go(COUNTED);
    read(&mut reader, &old, &mut had, MOMENT);
    assert_eq!((had.old, kind(&old.memory)), (1, (false, false)));
    ours.signal(libc::SIGCONT);
    ours.expect("connected");
    assert_eq!(kind(&old.memory), (false, false));
    ours.close_input();
    assert!(ours.wait().success());
    drop(reader);
    name.assert_nothing_left();
}

/// Creates, says so, then looks for frames until it is told to end.
pub(crate) fn looker(arguments: &[String]) {
    let mut reader = Reader::create(&arguments[0], config(&arguments[0]).metadata_size(METADATA)).unwrap();
    say("created");
    hear();
    let handle = reader.interrupt_handle();
    std::thread::spawn(move || {
        hear();
        handle.interrupt();
    });
    while !matches!(reader.read_frame(Duration::MAX), Err(error) if error.kind() == ErrorKind::Interrupted) {}
}

/// A reader that halts, or is killed, while it ends an entry has the writer's role: that is no writer.
#[test]
fn a_writer_that_comes_while_the_reader_ends_an_entry_is_not_refused() {
    for kill in [false, true] {
        for point in ["enter:give-back", "enter:unmark"] {
            let name: Name = Ring::Extended.name("entry-role");
            let mut reader = Peer::start_with(role!(looker), &[&name], |command| {
                command.env("ZEROBUFFER_STOP", format!("halt:1:{point}"));
            });
            reader.expect("created");
            let mut ours = Peer::start_with(role!(enterer), &[&name], |command| {
                command.env("ZEROBUFFER_STOP", "kill:1:enter:second-look");
            });
            ours.wait();
            reader.tell("look");
            wait_for("the halt", || reader.is_stopped());
            let mut next = Peer::start(role!(enterer), &[&name]);
            assert!(next.hear_within(Duration::from_millis(20)).is_none(), "it waits");
            if kill {
                reader.kill();
                assert_eq!(next.hear(), "ReaderDead");
                assert!(next.wait().success());
                drop(Reader::create(&name, config(&name)).unwrap());
            } else {
                reader.signal(libc::SIGCONT);
                next.expect("connected");
                next.close_input();
                assert!(next.wait().success());
                reader.close_input();
                assert!(reader.wait().success());
            }
            name.assert_nothing_left();
        }
    }
}

crate::support::peers!(enterer, looker);
