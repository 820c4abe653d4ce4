//! A lane of one stream: a reader and a writer, of which one or both are killed, replaced or closed, again and again.

use std::sync::atomic::Ordering::SeqCst;

use zerobuffer::cleanup;

use crate::lane::{Failure, Lane, Outcome, Peer, files};
use crate::ledger::{END_CLOSED, END_DEAD, READY, TOLD, Victim, add};
use crate::peers;

/// The peers that live now.
#[derive(Default)]
struct Pair {
    reader: Option<Peer>,
    writer: Option<Peer>,
    /// The writer may belong to a reader that is dead: look before anything is done to it.
    unsettled: bool,
    /// A writer died that may not have been connected yet. The reader may return its end separately, or
    /// together with the next writer's, as a death.
    untold: bool,
}

/// Runs until it is told to stop, or something is wrong.
pub(crate) fn run(lane: &mut Lane) -> Outcome {
    let mut pair = Pair::default();
    while !lane.totals.is_stopped() {
        round(lane, &mut pair)?;
    }
    settle(lane, &mut pair)?;
    orderly_end(lane, &mut pair)
}

fn start_reader(lane: &mut Lane) -> Peer {
    let (name, classic, seed) = (lane.name.clone(), lane.classic, lane.random.next());
    if let Some(peer) = lane.start_csharp(Victim::Reader, 0, seed) {
        return peer;
    }
    let (ledger, totals) = (lane.ledger, lane.totals);
    lane.start(Victim::Reader, move |seat| peers::reader(&name, classic, seed, seat, ledger, totals))
}

fn start_writer(lane: &mut Lane, reader: Option<&Peer>) -> Peer {
    let (name, seed, salt) = (lane.name.clone(), lane.random.next(), lane.next_salt());
    let (ledger, totals) = (lane.ledger, lane.totals);
    let mut peer = lane.start_csharp(Victim::Writer, salt, seed).unwrap_or_else(|| {
        lane.start(Victim::Writer, move |seat| peers::writer(&name, salt, seed, seat, ledger, totals))
    });
    peer.salt = salt;
    peer.ends_before = reader.map_or(0, |reader| reader.seat.ends.load(SeqCst));
    peer
}

fn is_ready(peer: Option<&Peer>) -> bool {
    peer.is_some_and(|peer| !peer.seat.is(crate::ledger::STARTED))
}

/// Starts the missing peers.
fn complete(lane: &mut Lane, pair: &mut Pair) {
    // Sometimes the writer starts first, and waits for its reader.
    if pair.writer.is_none() && lane.random.one_in(4) {
        pair.writer = Some(start_writer(lane, pair.reader.as_ref()));
    }
    if pair.reader.is_none() {
        pair.untold = false;
        pair.reader = Some(start_reader(lane));
    }
    if pair.writer.is_none() {
        pair.writer = Some(start_writer(lane, pair.reader.as_ref()));
    }
}

/// Waits until frames pass, with the writer replaced if it turns out to be a dead reader's.
fn settle(lane: &mut Lane, pair: &mut Pair) -> Outcome {
    loop {
        complete(lane, pair);
        let writer = pair.writer.as_ref().expect("complete");
        let (ledger, seat, salt) = (lane.ledger, writer.seat, writer.salt);
        let received = || ledger.received(salt).load(SeqCst) > 0;
        // If the reader has been killed since, the received frames prove nothing; the writer's report does.
        let unsettled = pair.unsettled;
        let count = ledger.received(salt).load(SeqCst);
        lane.wait("a frame is received", || {
            seat.is(TOLD) || if unsettled { ledger.received(salt).load(SeqCst) > count } else { received() }
        })?;
        pair.unsettled = false;
        if !seat.is(TOLD) {
            // When its first frame arrives, the reader has returned the ends of all earlier writers, or will
            // return them with this writer's.
            let ends = pair.reader.as_ref().expect("complete").seat.ends.load(SeqCst);
            let writer = pair.writer.as_mut().expect("complete");
            (writer.ends_before, writer.settled) = (ends, true);
            return Ok(());
        }
        lane.close(pair.writer.take().expect("complete"))?;
    }
}

fn round(lane: &mut Lane, pair: &mut Pair) -> Outcome {
    complete(lane, pair);
    let early = lane.random.one_in(4) && !pair.unsettled;
    if early {
        // While they create and connect.
        lane.moment(2000);
    } else {
        settle(lane, pair)?;
        lane.moment(3000);
    }
    match lane.random.between(0, 32) {
        0..14 => kill_writer(lane, pair),
        14..28 => kill_reader(lane, pair),
        28..30 => kill_both(lane, pair),
        30 => {
            settle(lane, pair)?;
            orderly_end(lane, pair)
        }
        _ => {
            settle(lane, pair)?;
            close_writer(lane, pair)
        }
    }
}

/// The reader got all committed frames of writer `salt`, and at most one more (whose commit had not
/// returned).
fn check_received(lane: &Lane, salt: u64, may_be_unread: bool) -> Outcome {
    let (committed, received) =
        (lane.ledger.committed(salt).load(SeqCst), lane.ledger.received(salt).load(SeqCst));
    if received > committed + 1 {
        return Err(Failure(format!("writer {salt}: {received} frames received, {committed} committed")));
    }
    if received < committed && !may_be_unread {
        add(&lane.totals.missing, committed - received);
        return Err(Failure(format!("writer {salt}: {committed} frames committed, {received} received")));
    }
    Ok(())
}

fn kill_writer(lane: &mut Lane, pair: &mut Pair) -> Outcome {
    let mut writer = pair.writer.take().expect("complete");
    let connected = writer.seat.is(READY);
    // Some are killed while they close.
    let closing = connected && lane.random.one_in(8);
    if closing {
        writer.seat.order_close();
        lane.moment(200);
    }
    let killed = lane.kill(&mut writer);
    let reader = pair.reader.as_ref().expect("complete").seat;
    if lane.random.one_in(2) {
        pair.writer = Some(start_writer(lane, pair.reader.as_ref()));
    }
    if !connected {
        pair.untold = true;
        return Ok(());
    }
    let (ledger, salt) = (lane.ledger, writer.salt);
    let what = format!("the reader has all of writer {salt}, and its end");
    let (committed, received) = (ledger.committed(salt), ledger.received(salt));
    let before = writer.ends_before;
    let has_all = || received.load(SeqCst) >= committed.load(SeqCst);
    // A reader that finds the next writer's frames may return the end of an earlier writer without frames
    // only when the next writer ends.
    let must_be_told = pair.writer.is_none() || committed.load(SeqCst) > 0;
    let waited = lane.wait(&what, || has_all() && (!must_be_told || reader.ends.load(SeqCst) > before));
    check_received(lane, salt, false)?;
    waited?;
    if !writer.settled || !must_be_told {
        // The end may have been another's.
        pair.untold = true;
        return Ok(());
    }
    let end = reader.last_end.load(SeqCst);
    if end != END_DEAD && !(closing && end == END_CLOSED) {
        return Err(Failure(format!("the end of the killed writer {salt} was told as {end}")));
    }
    pair.untold = false;
    lane.noticed(Victim::Reader, reader, killed.filter(|_| !closing));
    Ok(())
}

fn kill_reader(lane: &mut Lane, pair: &mut Pair) -> Outcome {
    let mut reader = pair.reader.take().expect("complete");
    let connected = is_ready(pair.writer.as_ref());
    let closing = lane.random.one_in(8);
    if closing {
        reader.seat.order_close();
        lane.moment(200);
    }
    let killed = lane.kill(&mut reader);
    if lane.random.one_in(2) {
        pair.reader = Some(start_reader(lane));
    }
    pair.untold = false;
    if !connected {
        // It connects to the next peer, or has connected to the dead one.
        pair.unsettled = true;
        return Ok(());
    }
    let mut writer = pair.writer.take().expect("complete");
    let seat = writer.seat;
    lane.wait("the writer knows of its reader's end", || seat.is(TOLD))?;
    lane.noticed(Victim::Writer, seat, killed.filter(|_| !closing));
    check_received(lane, writer.salt, true)?;
    if lane.random.one_in(8) {
        // It does not come to clean up.
        writer.seat.order_close();
        lane.moment(200);
        lane.kill(&mut writer);
        return Ok(());
    }
    lane.close(writer)?;
    match &pair.reader {
        None => lane.assert_nothing_left(std::slice::from_ref(&lane.name)),
        Some(reader) => {
            // The survivor must not treat the next reader's files as its own.
            let seat = reader.seat;
            lane.wait("the next reader has created the buffer", || !seat.is(crate::ledger::STARTED))?;
            let there = files(&lane.name);
            if there.len() != 4 {
                return Err(Failure(format!("of the next reader's files only {there:?} are there")));
            }
            Ok(())
        }
    }
}

fn kill_both(lane: &mut Lane, pair: &mut Pair) -> Outcome {
    let mut both = [pair.reader.take().expect("complete"), pair.writer.take().expect("complete")];
    let created = !both[0].seat.is(crate::ledger::STARTED);
    if lane.random.one_in(2) {
        both.reverse();
    }
    for peer in &mut both {
        lane.kill(peer);
    }
    pair.unsettled = false;
    if lane.random.one_in(2) {
        // The next reader finds what they left.
        return Ok(());
    }
    let (name, totals) = (lane.name.clone(), lane.totals);
    let mut cleaner = lane.start(Victim::Cleaner, move |_| {
        let left = cleanup::leftovers().expect("a list of leftovers");
        for one in left.iter().filter(|left| left.name() == name) {
            // What a dying creation left looks like a 1.x reader at work, for some seconds.
            // And another cleaner may be faster.
            if one.obstacle().is_none() && one.remove().expect("removed") {
                add(&totals.cleaned, 1);
            }
        }
    });
    if lane.random.one_in(2) {
        lane.moment(500);
        lane.kill(&mut cleaner);
        return Ok(());
    }
    lane.reap(&mut cleaner)?;
    if !created {
        return Ok(());
    }
    lane.assert_nothing_left(std::slice::from_ref(&lane.name))
}

/// The writer closes. The reader has all of its frames, and returns the close.
fn close_writer(lane: &mut Lane, pair: &mut Pair) -> Outcome {
    let writer = pair.writer.take().expect("complete");
    let (salt, before) = (writer.salt, writer.ends_before);
    lane.close(writer)?;
    let reader = pair.reader.as_ref().expect("complete").seat;
    lane.wait("the reader knows of its writer's close", || reader.ends.load(SeqCst) > before)?;
    check_received(lane, salt, false)?;
    if reader.last_end.load(SeqCst) != END_CLOSED && !pair.untold {
        return Err(Failure(format!("the close of writer {salt} was told as a death")));
    }
    add(&lane.totals.orderly, 1);
    Ok(())
}

fn orderly_end(lane: &mut Lane, pair: &mut Pair) -> Outcome {
    close_writer(lane, pair)?;
    lane.close(pair.reader.take().expect("complete"))?;
    lane.assert_nothing_left(std::slice::from_ref(&lane.name))
}
