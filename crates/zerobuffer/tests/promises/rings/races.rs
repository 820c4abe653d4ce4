//! Races for one name: exactly one contender wins, and none removes another's files.

use super::support;

use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::support::ledger::Ledger;
use super::support::{Name, PATIENCE, Peer, Role, hear, role, say};
use zerobuffer::{ErrorKind, Reader, Writer};

/// Round that contenders may start; 0 = none yet.
const GO: usize = 0;
/// Contenders that are done with their attempt of this round.
const DONE: usize = 1;
/// Contenders that won this round.
const WON: usize = 2;
/// Contenders that have left this round.
const LEFT: usize = 3;
/// Contenders that believe themselves owners just now.
const OWNERS: usize = 4;

const END: u64 = u64::MAX;

support::peers!(create, connect, churn, victim, old_writer);

fn create(arguments: &[String]) {
    contend(arguments, Reader::create_small);
}

fn connect(arguments: &[String]) {
    contend(arguments, Writer::connect);
}

trait CreateSmall: Sized {
    fn create_small(name: &str) -> zerobuffer::Result<Self>;
}

impl CreateSmall for Reader {
    fn create_small(name: &str) -> zerobuffer::Result<Reader> {
        Reader::create(name, support::config().payload_size(4096))
    }
}

/// The winner's actions while the others still try.
trait Prize {
    fn check(&mut self, name: &str);
}

impl Prize for Reader {
    fn check(&mut self, name: &str) {
        let mut writer = Writer::connect(name).expect("the winner's own buffer");
        writer.write_frame(name.as_bytes()).unwrap();
        let frame = self.read_frame(PATIENCE).unwrap().expect("in time");
        assert_eq!(&*frame, name.as_bytes(), "the frame went to another buffer");
    }
}

impl Prize for Writer {
    fn check(&mut self, name: &str) {
        self.write_frame(name.as_bytes()).unwrap();
    }
}

/// Tries once a round, together with others; keeps what it won until all have tried.
fn contend<T: Prize>(arguments: &[String], attempt: impl Fn(&str) -> zerobuffer::Result<T>) {
    let [name, ledger, contenders] = arguments else { panic!("name, ledger, contenders") };
    let (ledger, contenders) = (Ledger::open(ledger), contenders.parse().unwrap());
    say("ready");
    for round in 1.. {
        ledger.wait(GO, |go| go >= round);
        if ledger.get(GO) == END {
            return;
        }
        let mut prize = match attempt(name) {
            Ok(prize) => Some(prize),
            Err(error) => {
                let kind = error.kind();
                let lost = [ErrorKind::ReaderAlreadyConnected, ErrorKind::WriterAlreadyConnected];
                assert!(lost.contains(&kind), "round {round}: {error}");
                None
            }
        };
        if prize.is_some() {
            ledger.word(WON).fetch_add(1, Ordering::SeqCst);
        }
        ledger.word(DONE).fetch_add(1, Ordering::SeqCst);
        ledger.wait(DONE, |done| done == contenders);
        if let Some(prize) = &mut prize {
            prize.check(name);
        }
        drop(prize);
        ledger.word(LEFT).fetch_add(1, Ordering::SeqCst);
    }
}

/// Starts a round and waits for its end. Returns the number of winners.
fn round(ledger: &Ledger, number: u64, contenders: u64) -> u64 {
    [DONE, WON, LEFT].iter().for_each(|&word| ledger.set(word, 0));
    ledger.set(GO, number);
    ledger.wait(LEFT, |left| left == contenders);
    ledger.get(WON)
}

fn start_contenders(role: Role, name: &Name, ledger: &Ledger, count: u64) -> Vec<Peer> {
    let mut peers: Vec<Peer> =
        (0..count).map(|_| Peer::start(role, &[name, ledger.path(), &count.to_string()])).collect();
    peers.iter_mut().for_each(|peer| peer.expect("ready"));
    peers
}

#[track_caller]
fn end(ledger: &Ledger, peers: Vec<Peer>) {
    ledger.set(GO, END);
    for mut peer in peers {
        assert!(peer.wait().success(), "a contender failed");
    }
}

#[test]
fn of_two_readers_racing_for_a_name_exactly_one_wins() {
    let name = Name::new("race-r");
    let ledger = Ledger::create();
    let peers = start_contenders(role!(create), &name, &ledger, 2);
    for number in 1..=1000 {
        assert_eq!(round(&ledger, number, 2), 1, "winners of round {number}");
        name.assert_nothing_left();
    }
    end(&ledger, peers);
}

#[test]
fn failure_04_of_two_writers_racing_for_a_buffer_exactly_one_wins() {
    let name = Name::new("race-w");
    let ledger = Ledger::create();
    let mut reader = Reader::create_small(&name).unwrap();
    let peers = start_contenders(role!(connect), &name, &ledger, 2);
    for number in 1..=1000 {
        assert_eq!(round(&ledger, number, 2), 1, "winners of round {number}");
        let frame = reader.read_frame(PATIENCE).unwrap().expect("the winner's frame");
        assert_eq!((&*frame, frame.sequence()), (name.as_bytes(), 1));
        drop(frame);
        assert_eq!(reader.read_frame(PATIENCE).unwrap_err().kind(), ErrorKind::WriterClosed);
    }
    end(&ledger, peers);
    drop(reader);
    name.assert_nothing_left();
}

/// Creates and closes again and again, without waiting for other contenders.
fn churn(arguments: &[String]) {
    let [name, ledger, rounds] = arguments else { panic!("name, ledger, rounds") };
    let ledger = Ledger::open(ledger);
    ledger.wait(GO, |go| go != 0);
    let mut wins = 0_u64;
    for _ in 0..rounds.parse().unwrap() {
        match Reader::create_small(name) {
            Ok(mut reader) => {
                assert_eq!(ledger.word(OWNERS).fetch_add(1, Ordering::SeqCst), 0, "two readers at once");
                reader.check(name);
                ledger.word(OWNERS).fetch_sub(1, Ordering::SeqCst);
                wins += 1;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::ReaderAlreadyConnected, "{error}"),
        }
    }
    say(wins);
}

#[test]
fn creations_racing_with_closings_never_own_a_name_together() {
    let name = Name::new("race-c");
    let ledger = Ledger::create();
    let rounds = if support::full() { "5000" } else { "1000" };
    let mut peers: Vec<Peer> =
        (0..3).map(|_| Peer::start(role!(churn), &[&name, ledger.path(), rounds])).collect();
    ledger.set(GO, 1);
    let wins: Vec<u64> = peers.iter_mut().map(|peer| peer.hear().parse().unwrap()).collect();
    eprintln!("creations of three that race: {wins:?}");
    // Not each of them: fairness is not promised to one that asks while another is held up as the owner.
    assert!(wins.iter().sum::<u64>() > 0, "none ever won");
    for mut peer in peers {
        assert!(peer.wait().success());
    }
    name.assert_nothing_left();
}

/// Creates, and waits for its death.
fn victim(arguments: &[String]) {
    let _reader = Reader::create_small(&arguments[0]).unwrap();
    say("created");
    hear();
}

/// Connects each round to a reader that is killed then, and closes, which cleans up, together with the contenders.
fn old_writer(arguments: &[String]) {
    let [name, ledger] = arguments else { panic!("name, ledger") };
    let ledger = Ledger::open(ledger);
    for round in 1.. {
        match hear().as_deref() {
            Some("connect") => {}
            _ => return,
        }
        let writer = Writer::connect(name).unwrap();
        say("connected");
        ledger.wait(GO, |go| go >= round);
        drop(writer);
        say("closed");
    }
}

#[test]
fn failure_08_clean_up_races_leave_one_winner_whose_names_all_stand() {
    let name = Name::new("race-s");
    let ledger = Ledger::create();
    let peers = start_contenders(role!(create), &name, &ledger, 3);
    let mut old = Peer::start(role!(old_writer), &[&name, ledger.path()]);
    for number in 1..=if support::full() { 1000 } else { 150 } {
        let mut victim = Peer::start(role!(victim), &[&name]);
        victim.expect("created");
        old.tell("connect");
        old.expect("connected");
        victim.kill();
        assert_eq!(name.leftovers().len(), 4, "a killed reader leaves its files");
        // The winner checks that a writer finds its buffer, after all have tried.
        assert_eq!(round(&ledger, number, 3), 1, "winners of round {number}");
        old.expect("closed");
        name.assert_nothing_left();
    }
    end(&ledger, peers);
    assert!(old.wait().success());
}

#[test]
fn a_name_that_is_refused_leaves_no_lock_file() {
    // Something that is no buffer stands in the way.
    let name = Name::new("alien");
    std::fs::write(&name.paths()[0], [0x55; 4096]).unwrap();
    let error = Reader::create_small(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IncompatibleProtocol);
    assert_eq!(name.leftovers(), [name.paths()[0].clone()]);
    // A buffer whose reader lives, but holds no native lock, as a 1.x C# reader's.
    let name = Name::new("lockless");
    let reader = Reader::create_small(&name).unwrap();
    std::fs::remove_file(&name.paths()[3]).unwrap();
    let error = Reader::create_small(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReaderAlreadyConnected);
    assert_eq!(name.leftovers().len(), 3, "{:?}", name.leftovers());
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn failure_08_a_reader_that_was_robbed_of_its_names_leaves_those_of_the_next_one() {
    let name = Name::new("robbed");
    let reader = Reader::create_small(&name).unwrap();
    let writer = Writer::connect(&name).unwrap();
    // Removes files like a 1.x reader that can see neither the native lock nor either process.
    name.paths().iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let mut next = Reader::create_small(&name).unwrap();
    drop(reader);
    drop(writer);
    assert_eq!(name.leftovers().len(), 4, "{:?}", name.leftovers());
    next.check(&name);
    drop(next);
    name.assert_nothing_left();
}

#[test]
fn failure_20_a_writer_cleans_up_although_a_tool_is_just_looking_at_the_lock() {
    let name = Name::new("looked-at");
    let mut victim = Peer::start(role!(victim), &[&name]);
    victim.expect("created");
    let writer = Writer::connect(&name).unwrap();
    victim.kill();
    // A tool finds out whether a lock is held by taking it for a moment (cleanup::leftovers).
    let lock = std::fs::File::open(&name.paths()[3]).unwrap();
    // SAFETY: plain system call on an open descriptor.
    assert_eq!(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }, 0);
    let look = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        drop(lock);
    });
    drop(writer);
    name.assert_nothing_left();
    look.join().unwrap();
}
