//! The way into the extended ring, crossed by a 1.x writer, which knows neither locks nor reserved words. Its steps are
//! forged one by one, at every halt, and after every kill, of a writer of ours that connects.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use zerobuffer::{ErrorKind, Reader, Writer};

use crate::support::forge::{Mapped, at};
use crate::support::{Name, PATIENCE, Peer, hear, say};
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

/// Steps of [`Old`].
const STEPS: usize = 8;
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

/// What the reader has had.
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

/// Ours is halted at each of `points` in turn, while theirs has done so many steps; the first number is for before.
/// Then ours goes on, or dies, and theirs completes.
fn crossing(points: &[&str], steps: &[usize], kill: bool) {
    let name: Name = Ring::Extended.name("entry");
    let mut reader = Reader::create(&name, config(&name).metadata_size(METADATA)).unwrap();
    assert_eq!(CAPACITY % 64, 0);
    let mut old = Old::new(&name);
    let mut had = Had::default();
    old.go(steps[0]);
    let stops: Vec<String> = points.iter().map(|point| format!("halt:1:{point}")).collect();
    let mut ours = Peer::start_with("enterer", &[&name], |command| {
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
            read(&mut reader, &old, &mut had, Duration::ZERO);
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
        // Longer than contradictions are borne.
        read(&mut reader, &old, &mut had, Duration::from_millis(120));
        false
    } else {
        let said = ours.hear();
        assert!(["connected", "WriterAlreadyConnected"].contains(&said.as_str()), "{said}");
        said == "connected"
    };
    old.go(STEPS);
    read(&mut reader, &old, &mut had, Duration::from_millis(if kill { 120 } else { 1 }));
    assert_eq!(had.old, u64::from(old.has_committed()), "frames of theirs: {had:?}");
    assert_eq!(had.ours, if connected { OURS } else { 0 }, "{had:?}");
    assert!(!(connected && old.has_committed()), "two writers at once");
    assert!(kill || connected || old.has_committed(), "neither got in");
    // Theirs closes, and one of ours comes, whatever has happened: what it writes comes whole.
    old.close();
    if connected {
        drop(ours);
    } else if !kill || !came {
        ours.wait();
    }
    let mut next = Peer::start("enterer", &[&name]);
    next.expect("connected");
    had.ours = 0;
    let start = Instant::now();
    while had.ours < OURS {
        assert!(start.elapsed() < PATIENCE);
        read(&mut reader, &old, &mut had, MOMENT);
    }
    // Theirs finds it taken, or full; nothing that it does then is seen.
    let mut late = Old::new(&name);
    late.go(STEPS);
    assert!(!late.has_committed(), "theirs got in beside ours");
    next.close_input();
    assert!(next.wait().success());
    read(&mut reader, &old, &mut had, MOMENT);
    drop(reader);
    drop(next);
    name.assert_nothing_left();
}

const POINTS: [&str; 10] = [
    "connect:role-lock",
    "connect:writer-word",
    "connect:writer-pid",
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
                    cases.push((what, Box::new(move || crossing(&[point], &[before, at], kill))));
                }
            }
        }
    }
    // It has found the ring free just before ours takes all bytes, and goes on while ours has taken them. (If it also
    // commits before ours takes them, and ours then stands still, having taken them, while the reader, which has read that
    // frame, looks: see docs/PROTOCOL.md.)
    for second in ["enter:second-look", "enter:undo", "connect:writer-word-back"] {
        for first in 2..COMMIT {
            for at in first..=STEPS {
                let what = format!("enter:free, {second}, {first} {at}");
                cases.push((
                    what,
                    Box::new(move || crossing(&["enter:free", second], &[1, first, at], false)),
                ));
            }
        }
    }
    run_all(cases);
}
