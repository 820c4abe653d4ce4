//! A lender waits for frames and for what it has lent: in a call or in an event loop, until it is told, and not a moment before.

use std::time::{Duration, Instant};

use super::{Chain, LARGE, SECOND, requesting, sharing};
use crate::chain::{self, Members, Who};
use crate::support::forge::Forge;
use crate::support::ledger::StallWatch;
use crate::support::{Name, PATIENCE, poll, runs_of};
use zerobuffer::{Forwarded, Frame, Reader, Tee, Writer};

use super::block::{self, sharing_block};

/// Waits until a process has slept for so long that whatever woke it now and then would have done so.
#[track_caller]
fn falls_asleep(process: u32) {
    let start = Instant::now();
    let mut runs = runs_of(process);
    loop {
        std::thread::sleep(Duration::from_millis(150));
        let now = runs_of(process);
        if std::mem::replace(&mut runs, now) == now {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "process {process} does not sleep");
    }
}

/// A relay that waits by `command` while its viewer holds what is lent, and its camera waits for that space.
fn waiting(what: &str, command: &str) -> chain::Chain {
    let mut chain = chain::Chain::start(what, true, |_, _| {});
    assert_eq!(chain.write(3), 3);
    chain.expect(Who::Relay, "forward 3", "3 0");
    chain.expect(Who::Viewer, "read 3", "0s 1s 2s");
    chain.pump();
    for (who, command) in [(Who::Relay, command), (Who::Camera, "push")] {
        chain.peer(who).tell(command);
        falls_asleep(chain.peer(who).pid());
    }
    chain
}

fn all_goes_on(mut chain: chain::Chain) {
    assert_eq!(chain.hear_from(Who::Camera).as_deref(), Some("written"));
    goes_on(chain);
}

fn goes_on(mut chain: chain::Chain) {
    assert_eq!(chain.hear_from(Who::Relay).as_deref(), Some("a frame"));
    chain.written += 1;
    chain.assert_all_is_back();
    chain.end();
}

#[test]
fn a_lender_that_waits_is_told_at_once_when_its_borrower_dies() {
    for command in ["await", "poll"] {
        let mut chain = waiting("told-death", command);
        let stalls = StallWatch::start();
        let start = Instant::now();
        chain.peer(Who::Viewer).signal(libc::SIGKILL);
        assert_eq!(chain.hear_from(Who::Camera).as_deref(), Some("written"));
        let took = start.elapsed();
        // After a second the watcher wakes it in any case.
        assert!(took < Duration::from_millis(700) + stalls.worst(), "told after {took:?}");
        chain.peer(Who::Viewer).kill();
        goes_on(chain);
    }
}

#[test]
fn a_lender_that_waits_is_told_what_its_borrower_gives_back() {
    for command in ["await", "poll"] {
        let mut chain = waiting("told-return", command);
        chain.expect(Who::Viewer, "release 3", "0");
        all_goes_on(chain);
    }
}

#[test]
fn a_lender_that_waits_is_told_when_the_last_frame_of_a_closed_borrower_goes() {
    for command in ["await", "poll"] {
        let mut chain = waiting("told-last", command);
        chain.expect(Who::Viewer, "close", "closed");
        chain.expect(Who::Viewer, "release 3", "0");
        all_goes_on(chain);
    }
}

/// Reads until the descriptor is armed.
fn arm(reader: &mut Reader) {
    let start = Instant::now();
    while poll(reader.descriptor().unwrap(), Duration::ZERO) {
        assert!(reader.try_read_frame().unwrap().is_none());
        assert!(start.elapsed() < PATIENCE, "it is always ready");
    }
}

/// A frame that is lent and held, while the lender's descriptor is armed.
fn lent(chain: &mut Chain) -> Frame {
    assert_eq!(chain.send(LARGE), Forwarded::Shared);
    let frame = chain.read(LARGE);
    arm(&mut chain.input);
    frame
}

#[test]
fn a_descriptor_is_ready_when_what_was_lent_comes_back() {
    let mut chain = Chain::new("ready");
    arm(&mut chain.input);
    for _ in 0..20 {
        let frame = lent(&mut chain);
        drop(frame);
        assert!(poll(chain.input.descriptor().unwrap(), PATIENCE), "it is not told");
        arm(&mut chain.input);
        assert_eq!(chain.output.payload_share_count(), 0, "it is not taken back");
    }
    let frame = lent(&mut chain);
    let Chain { viewer, mut input, output, .. } = chain;
    drop(viewer);
    arm(&mut input);
    drop(frame);
    assert!(poll(input.descriptor().unwrap(), PATIENCE), "it is not told of the last one");
    arm(&mut input);
    assert_eq!(output.payload_share_count(), 0);
}

#[test]
fn a_descriptor_is_ready_for_each_loan_that_comes_back() {
    let mut chain = Chain::new("ready-each");
    assert!((0..4).all(|_| chain.send(LARGE) == Forwarded::Shared));
    let held: Vec<Frame> = (0..4).map(|_| chain.read(LARGE)).collect();
    for frame in held {
        arm(&mut chain.input);
        drop(frame);
        assert!(poll(chain.input.descriptor().unwrap(), PATIENCE), "it is not told");
    }
    arm(&mut chain.input);
    assert_eq!(chain.output.payload_share_count(), 0);
}

#[test]
fn a_descriptor_is_made_ready_by_a_thread_where_the_borrower_cannot_open_the_fifo() {
    let mut chain = Chain::new("ready-thread");
    arm(&mut chain.input);
    let frame = lent(&mut chain);
    let output = Forge::segment(&chain.names[1]);
    let fifo = output.get(sharing_block(&output, block::LOANS_FIFO));
    std::fs::remove_file(format!("/dev/shm/sem.zbf-{fifo:016x}")).unwrap();
    let mut frame = Some(frame);
    for _ in 0..20 {
        drop(frame.take().unwrap_or_else(|| lent(&mut chain)));
        assert!(poll(chain.input.descriptor().unwrap(), PATIENCE), "it is not told");
        arm(&mut chain.input);
        assert_eq!(chain.output.payload_share_count(), 0, "it is not taken back");
    }
}

/// Waits until nothing is lent through `output`, while its source's reader sleeps.
#[track_caller]
fn comes_back(output: &Writer) {
    let start = Instant::now();
    while output.payload_share_count() != 0 {
        assert!(start.elapsed() < PATIENCE / 2, "the space does not come back");
        std::thread::yield_now();
    }
}

impl Chain {
    /// Another output of the relay, with a viewer that has accepted its offer, and nothing lent.
    fn add_output(&mut self, name: &Name) -> (Reader, Writer) {
        let mut viewer = Reader::create(name, sharing()).unwrap();
        let mut output = Writer::connect_with(name, requesting()).unwrap();
        for kind in [Forwarded::Copied, Forwarded::Shared] {
            assert!(self.write(LARGE));
            let frame = self.input.read_frame(SECOND).unwrap().unwrap();
            assert_eq!(output.forward(frame).unwrap(), kind);
            drop(viewer.read_frame(SECOND).unwrap().unwrap());
        }
        assert_eq!(self.input.payload_share_count(), 0);
        (viewer, output)
    }
}

#[test]
fn a_lender_that_sleeps_hears_of_an_older_frame_that_is_lent_through_another_output_meanwhile() {
    for in_loop in [false, true] {
        let mut chain = Chain::new("second-output");
        let name = Name::new("second-output-other");
        let (mut other, mut second) = chain.add_output(&name);
        assert!(chain.write(LARGE));
        let frame = chain.input.read_frame(SECOND).unwrap().unwrap();
        chain.seen = chain.written;
        assert_eq!(chain.send(LARGE), Forwarded::Shared);
        let held = chain.read(LARGE);
        let Chain { mut input, output, viewer: _viewer, mut camera, .. } = chain;
        let watch = input.writer_watch().unwrap();
        let waits = watch.waits();
        if in_loop {
            arm(&mut input);
        }
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(move || sleep(&mut input, in_loop));
            while !in_loop && watch.waits() == waits {
                std::thread::yield_now();
            }
            // Long asleep, after its second look.
            std::thread::sleep(Duration::from_millis(30));
            assert_eq!(second.forward(frame).unwrap(), Forwarded::Shared);
            let frame = other.read_frame(SECOND).unwrap().unwrap();
            std::thread::sleep(Duration::from_millis(30));
            drop(frame);
            comes_back(&second);
            assert_eq!(output.payload_share_count(), 1);
            camera.write_frame(b"end").unwrap();
            assert_eq!(sleeper.join().unwrap(), 3);
        });
        drop(held);
    }
}

/// Two borrowers give a frame back, one after the other; then a later one that one of them has had for itself.
#[test]
fn a_lender_that_sleeps_takes_a_frame_back_when_all_its_borrowers_have_given_it_back() {
    for second_first in [false, true] {
        let mut chain = Chain::new("two-borrowers");
        let name = Name::new("two-borrowers-other");
        let (mut other, mut second) = chain.add_output(&name);
        chain.seen = chain.written;
        assert!(chain.write(LARGE));
        let frame = chain.input.read_frame(SECOND).unwrap().unwrap();
        assert_eq!(chain.output.forward_to(&frame).unwrap(), Forwarded::Shared);
        assert_eq!(second.forward(frame).unwrap(), Forwarded::Shared);
        let [mut first_held, mut other_held] =
            [chain.read(LARGE), other.read_frame(SECOND).unwrap().unwrap()].map(Some);
        assert_eq!(chain.send(LARGE), Forwarded::Shared);
        let last = chain.read(LARGE);
        let Chain { mut input, output: _output, viewer: _viewer, mut camera, .. } = chain;
        let watch = input.writer_watch().unwrap();
        let waits = watch.waits();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(move || sleep(&mut input, false));
            while watch.waits() == waits {
                std::thread::yield_now();
            }
            let held_for = |frames: u64| {
                let start = Instant::now();
                while watch.held().frames != frames {
                    assert!(start.elapsed() < PATIENCE / 2, "{:?} instead of {frames}", watch.held());
                    std::thread::yield_now();
                }
            };
            for second in [second_first, !second_first] {
                // Long asleep, after its second look.
                std::thread::sleep(Duration::from_millis(30));
                assert_eq!(watch.held().frames, 2);
                drop(if second { other_held.take() } else { first_held.take() });
            }
            held_for(1);
            std::thread::sleep(Duration::from_millis(30));
            drop(last);
            held_for(0);
            camera.write_frame(b"end").unwrap();
            assert_eq!(sleeper.join().unwrap(), 3);
        });
    }
}

/// Waits for the next frame; returns its size.
fn sleep(input: &mut Reader, in_loop: bool) -> usize {
    loop {
        if let Some(frame) = input.read_frame(if in_loop { Duration::ZERO } else { PATIENCE }).unwrap() {
            return frame.len();
        }
        assert!(in_loop && poll(input.descriptor().unwrap(), PATIENCE), "nothing comes");
    }
}

#[test]
fn a_lender_gets_back_what_it_lent_through_a_writer_that_closed_though_the_next_one_has_the_doorbell() {
    for (in_loop, late) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut chain = Chain::new("left");
        assert_eq!(chain.send(LARGE), Forwarded::Shared);
        let frame = chain.read(LARGE);
        let Chain { names, mut input, output, viewer: _viewer, mut camera, .. } = chain;
        if in_loop {
            arm(&mut input);
        }
        let (watch, waits) = (input.writer_watch().unwrap(), input.writer_watch().unwrap().waits());
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(move || {
                let seen = sleep(&mut input, in_loop);
                (seen, input.stats().lent)
            });
            while !in_loop && watch.waits() == waits {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(30));
            drop(output);
            if late {
                // When the watcher has looked for the last time.
                std::thread::sleep(Duration::from_millis(1300));
            }
            let stalls = StallWatch::start();
            // The next writer is awake.
            let segment = Forge::segment(&names[1]);
            let bell = sharing_block(&segment, block::LOANS_BELL);
            segment.set(bell, 0);
            drop(frame);
            let held = || watch.held().frames;
            let start = Instant::now();
            while held() != 0 {
                let limit = Duration::from_millis(700) + stalls.worst();
                assert!(start.elapsed() < limit, "the space does not come back at once");
                std::thread::yield_now();
            }
            assert_eq!(segment.get(bell), 0, "the next writer's doorbell was touched");
            camera.write_frame(b"end").unwrap();
            assert_eq!(sleeper.join().unwrap(), (3, 0));
        });
    }
}

/// A writer that has been an output of a tee lends the frames of another reader, though the one before has loans there.
#[test]
fn two_readers_whose_frames_one_writer_lends_are_both_told_what_comes_back() {
    for [first_in_loop, second_in_loop] in [[true, true], [false, true], [true, false]] {
        let mut chain = Chain::new("two-lenders");
        assert_eq!(chain.send(LARGE), Forwarded::Shared);
        let first_held = chain.read(LARGE);
        let Chain { names, input: mut first, output, mut viewer, mut camera, .. } = chain;
        let [idle, name] = ["idle", "second"].map(|what| Name::new(&format!("two-lenders-{what}")));
        let mut tee = Tee::new(Reader::create(&idle, sharing()).unwrap());
        tee.add_drop_output(output, 1);
        let mut output = tee.remove_output(&names[1]).unwrap();
        let mut second = Reader::create(&name, sharing()).unwrap();
        let mut other_camera = Writer::connect(&name).unwrap();
        let mut forward = |kind| {
            other_camera.write_frame(&[1; LARGE]).unwrap();
            assert_eq!(output.forward(second.read_frame(SECOND).unwrap().unwrap()).unwrap(), kind);
            viewer.read_frame(SECOND).unwrap().unwrap()
        };
        drop(forward(Forwarded::Copied));
        let second_held = forward(Forwarded::Shared);
        let watches = [&first, &second].map(|reader| reader.writer_watch().unwrap());
        let held = || watches.each_ref().map(|watch| watch.held().frames);
        std::thread::scope(|scope| {
            let mut sleepers = Vec::new();
            for (reader, in_loop, watch) in
                [(&mut first, first_in_loop, &watches[0]), (&mut second, second_in_loop, &watches[1])]
            {
                let waits = watch.waits();
                if in_loop {
                    arm(reader);
                }
                sleepers.push(scope.spawn(move || [(); 2].map(|()| sleep(reader, in_loop))));
                while !in_loop && watch.waits() == waits {
                    std::thread::yield_now();
                }
                // Long asleep, after its second look.
                std::thread::sleep(Duration::from_millis(30));
            }
            let comes_to = |frames: [u64; 2]| {
                let start = Instant::now();
                while held() != frames {
                    assert!(start.elapsed() < PATIENCE / 2, "{:?} instead of {frames:?}", held());
                    std::thread::yield_now();
                }
            };
            comes_to([1, 1]);
            // The first one sets the doorbell again.
            let waits = watches[0].waits();
            camera.write_frame(b"more").unwrap();
            while !first_in_loop && watches[0].waits() == waits {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(30));
            drop(first_held);
            comes_to([0, 1]);
            std::thread::sleep(Duration::from_millis(30));
            drop(second_held);
            comes_to([0, 0]);
            camera.write_frame(b"end").unwrap();
            other_camera.write_frame(b"now").unwrap();
            other_camera.write_frame(b"end").unwrap();
            let sizes = sleepers.into_iter().map(|sleeper| sleeper.join().unwrap());
            assert_eq!(sizes.collect::<Vec<_>>(), [[4, 3], [3, 3]]);
        });
    }
}
