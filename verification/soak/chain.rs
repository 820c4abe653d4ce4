//! A lane of one chain with payload sharing: camera, relay and viewer, of which some are killed, replaced or closed, again and
//! again. In some lanes the relay is a tee, with two onlookers, which it does not wait for. After each kill the viewers compare every
//! frame that they hold.

use std::sync::atomic::Ordering::SeqCst;

use crate::lane::{Failure, Lane, Outcome, Peer};
use crate::ledger::{STARTED, TOLD, Victim, add};
use crate::links;

/// The peers that live now.
#[derive(Default)]
struct Chain {
    camera: Option<Peer>,
    relay: Option<Peer>,
    viewer: Option<Peer>,
    has_tee: bool,
    /// The viewers of the tee's drop outputs.
    onlookers: [Option<Peer>; 2],
}

/// Shared frames that must pass before the next thing happens.
const PASSING: u64 = 3;

/// Runs until it is told to stop, or something is wrong.
pub(crate) fn run(lane: &mut Lane, has_tee: bool) -> Outcome {
    let mut chain = Chain { has_tee, ..Chain::default() };
    while !lane.totals.is_stopped() {
        round(lane, &mut chain)?;
    }
    settle(lane, &mut chain)?;
    orderly_end(lane, &mut chain)
}

/// Starts the missing peers, in any order.
fn complete(lane: &mut Lane, chain: &mut Chain) {
    let count = if chain.has_tee { 5 } else { 3 };
    let first = lane.random.between(0, count);
    for who in first..first + count {
        let (names, seed) = (links::names(&lane.name), lane.random.next());
        let (ledger, totals) = (lane.ledger, lane.totals);
        match who % count {
            0 if chain.viewer.is_none() => {
                let work = move |seat| links::viewer(&names[1], false, seed, seat, ledger, totals);
                chain.viewer = Some(lane.start(Victim::Viewer, work));
            }
            1 if chain.relay.is_none() => {
                chain.relay = Some(if chain.has_tee {
                    lane.start(Victim::Tee, move |seat| links::tee(&names, seed, seat, ledger))
                } else {
                    lane.start(Victim::Relay, move |seat| links::relay(&names, seed, seat, ledger))
                });
            }
            2 if chain.camera.is_none() => {
                let salt = lane.next_salt();
                let work = move |seat| links::camera(&names[0], salt, seed, seat, ledger);
                chain.camera = Some(lane.start(Victim::Camera, work));
            }
            who @ (3 | 4) if chain.onlookers[who as usize - 3].is_none() => {
                let work =
                    move |seat| links::viewer(&names[who as usize - 1], true, seed, seat, ledger, totals);
                chain.onlookers[who as usize - 3] = Some(lane.start(Victim::Onlooker, work));
            }
            _ => {}
        }
    }
}

/// Waits until shared frames pass, with the camera replaced if it turns out to be a dead relay's.
fn settle(lane: &mut Lane, chain: &mut Chain) -> Outcome {
    loop {
        complete(lane, chain);
        let viewers: Vec<_> = chain.viewers().map(|viewer| viewer.seat).collect();
        let camera = chain.camera.as_ref().expect("complete").seat;
        let before: Vec<u64> = viewers.iter().map(|seat| seat.progress.load(SeqCst)).collect();
        let passes = || {
            viewers.iter().zip(&before).all(|(seat, before)| seat.progress.load(SeqCst) >= before + PASSING)
        };
        lane.wait("shared frames pass", || passes() || camera.is(TOLD))?;
        if passes() {
            return Ok(());
        }
        lane.close(chain.camera.take().expect("complete"))?;
    }
}

fn round(lane: &mut Lane, chain: &mut Chain) -> Outcome {
    complete(lane, chain);
    if lane.random.one_in(4) {
        // While they create, connect, offer and accept.
        lane.moment(2000);
    } else {
        settle(lane, chain)?;
        lane.moment(3000);
    }
    match lane.random.between(0, 32) {
        0..8 => kill(lane, chain, &[Victim::Camera])?,
        8..16 => kill(lane, chain, &[Victim::Relay])?,
        16..20 if chain.has_tee => kill(lane, chain, &[Victim::Onlooker])?,
        16..24 => kill(lane, chain, &[Victim::Viewer])?,
        24 | 25 => kill(lane, chain, &[Victim::Relay, Victim::Viewer])?,
        26 | 27 => kill(lane, chain, &[Victim::Camera, Victim::Relay])?,
        28 => kill(lane, chain, &[Victim::Viewer, Victim::Relay, Victim::Camera])?,
        29 if !chain.has_tee || lane.random.one_in(2) => {
            settle(lane, chain)?;
            close_one(lane, chain)?;
        }
        30 => {
            settle(lane, chain)?;
            return orderly_end(lane, chain);
        }
        _ if chain.has_tee => kill(lane, chain, &[Victim::Onlooker; 2])?,
        _ => lane.moment(20_000),
    }
    compare(lane, chain)
}

impl Chain {
    fn place(&mut self, who: Victim) -> &mut Option<Peer> {
        match who {
            Victim::Camera => &mut self.camera,
            Victim::Relay => &mut self.relay,
            Victim::Viewer => &mut self.viewer,
            _ => {
                let first = usize::from(self.onlookers[0].is_none());
                &mut self.onlookers[first]
            }
        }
    }

    fn viewers(&self) -> impl Iterator<Item = &Peer> {
        self.viewer.iter().chain(self.onlookers.iter().flatten())
    }
}

fn kill(lane: &mut Lane, chain: &mut Chain, victims: &[Victim]) -> Outcome {
    // A camera whose relay is about to die knows of it, if it was connected.
    let connected = chain.camera.as_ref().is_some_and(|camera| !camera.seat.is(STARTED));
    for who in victims {
        let mut peer = chain.place(*who).take().expect("complete");
        if lane.random.one_in(8) {
            // Some are killed while they close.
            peer.seat.order_close();
            lane.moment(200);
        }
        lane.kill(&mut peer);
        // Some of the others work with the rest of the chain for a while.
        let long = lane.random.one_in(4);
        lane.moment(if long { 5000 } else { 50 });
    }
    if victims.contains(&Victim::Relay)
        && let Some(camera) = chain.camera.take()
    {
        if connected {
            lane.wait("the camera knows of its relay's end", || camera.seat.is(TOLD))?;
            return lane.close(camera);
        }
        // Whether it waits for the next relay, or was just connecting to this one, cannot be told.
        drop(camera);
    }
    Ok(())
}

/// Each viewer that lives compares what it holds.
fn compare(lane: &Lane, chain: &Chain) -> Outcome {
    let wanted: Vec<_> = chain.viewers().map(|viewer| (viewer.seat, viewer.seat.order_check())).collect();
    lane.wait("the viewers have compared what they hold", || {
        wanted.iter().all(|(seat, number)| seat.has_checked(*number))
    })
}

/// One of them closes, and the next one takes its place.
fn close_one(lane: &mut Lane, chain: &mut Chain) -> Outcome {
    let who = [Victim::Camera, Victim::Relay, Victim::Viewer][lane.random.between(0, 3) as usize];
    lane.close(chain.place(who).take().expect("complete"))?;
    if who == Victim::Relay {
        let camera = chain.camera.take().expect("complete");
        lane.wait("the camera knows of its relay's close", || camera.seat.is(TOLD))?;
        lane.close(camera)?;
    }
    add(&lane.totals.orderly, 1);
    Ok(())
}

/// All close: the relay last, when everything that it has lent is back.
fn orderly_end(lane: &mut Lane, chain: &mut Chain) -> Outcome {
    let onlookers = if chain.has_tee { &[Victim::Onlooker; 2][..] } else { &[] };
    let viewers = [&[Victim::Camera, Victim::Viewer], onlookers].concat();
    for who in viewers.into_iter().chain([Victim::Relay]) {
        let peer = chain.place(who).take().ok_or_else(|| Failure(format!("there is no {who:?}")))?;
        peer.seat.settle_before_closing();
        lane.close(peer)?;
        add(&lane.totals.orderly, 1);
    }
    lane.assert_nothing_left(&links::names(&lane.name))
}
