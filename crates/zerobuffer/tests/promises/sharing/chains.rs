//! Chains of three processes: kills, halts, orderly ends and successors. Whatever happens, no byte of a held frame changes, and
//! all space comes back in the end.

use crate::chain::{Chain, MOST, Members, Who};

/// A chain in which the viewer holds three frames that were lent.
fn holding(what: &str, shared: bool) -> Chain {
    let mut chain = Chain::start(what, shared, |_, _| {});
    let mut copied = 0;
    if !shared {
        // The viewer accepts when it reads.
        assert_eq!(chain.write(1), 1);
        chain.expect(Who::Relay, "forward 1", "0 1");
        chain.expect(Who::Viewer, "read 1", "0");
        copied = 1;
    }
    assert_eq!(chain.write(3), 3);
    chain.expect(Who::Relay, "forward 3", "3 0");
    let numbers: Vec<String> = (copied..copied + 3).map(|index| format!("{index}s")).collect();
    chain.expect(Who::Viewer, "read 3", &numbers.join(" "));
    chain.expect(Who::Viewer, "release 1", if shared { "2" } else { "3" });
    chain
}

fn assert_held(chain: &mut Chain, frames: usize) {
    chain.expect(Who::Viewer, "check", &format!("same {frames}"));
}

/// The camera writes all that finds room, which is less than goes round.
fn fill_up(chain: &mut Chain) {
    let written = chain.pump();
    assert!(written > 0 && written < MOST, "{written} frames found room");
}

#[test]
fn what_a_viewer_holds_stays_and_what_it_releases_comes_back() {
    for shared in [false, true] {
        let mut chain = holding("holds", shared);
        fill_up(&mut chain);
        assert_held(&mut chain, if shared { 2 } else { 3 });
        chain.expect(Who::Viewer, "release 9", "0");
        chain.assert_all_is_back();
        chain.end();
    }
}

#[test]
fn a_killed_viewer_gives_everything_back() {
    for shared in [false, true] {
        let mut chain = holding("killed-viewer", shared);
        fill_up(&mut chain);
        chain.peer(Who::Viewer).kill();
        chain.assert_all_is_back();
        chain.end();
    }
}

#[test]
fn a_halted_viewer_keeps_what_it_holds() {
    let mut chain = holding("halted-viewer", true);
    chain.peer(Who::Viewer).signal(libc::SIGSTOP);
    fill_up(&mut chain);
    assert_ne!(chain.get(Who::Relay, "lent"), "0");
    assert_eq!(chain.pump(), 0);
    chain.peer(Who::Viewer).signal(libc::SIGCONT);
    assert_held(&mut chain, 2);
    chain.expect(Who::Viewer, "release 9", "0");
    chain.assert_all_is_back();
    chain.end();
}

#[test]
fn a_viewer_that_closes_keeps_its_frames_and_the_relay_goes_on_with_the_next_one() {
    let mut chain = holding("next-viewer", false);
    chain.expect(Who::Viewer, "close", "closed");
    fill_up(&mut chain);
    assert_held(&mut chain, 3);
    let next = chain.names[1].suffixed("-next");
    let mut other = crate::support::Peer::start(crate::support::Role::of(crate::chain::viewer), &[&next]);
    other.expect("ready");
    chain.expect(Who::Relay, &format!("connect {}", &*next), "true");
    assert_held(&mut chain, 3);
    assert_eq!(chain.pump(), 0, "the first viewer still holds its frames");
    chain.expect(Who::Viewer, "release 9", "0");
    chain.await_answer(Who::Relay, "lent", "0");
    chain.get(Who::Relay, "drop");
    let first = chain.written;
    assert_eq!(chain.write(3), 3);
    chain.expect(Who::Relay, "forward 1", "0 1");
    other.tell("read 1");
    other.expect(&format!("{first}"));
    chain.expect(Who::Relay, "forward 2", "2 0");
    other.tell("read 2");
    other.expect(&format!("{}s {}s", first + 1, first + 2));
    fill_up(&mut chain);
    other.tell("check");
    other.expect("same 3");
    other.kill();
    chain.assert_all_is_back();
    chain.end();
    for leftover in zerobuffer::cleanup::leftovers().unwrap() {
        if leftover.name() == &*next {
            leftover.remove().unwrap();
        }
    }
    next.assert_nothing_left();
}

#[test]
fn a_killed_relay_leaves_its_viewer_what_it_holds_and_its_successor_lends_again() {
    for shared in [false, true] {
        let mut chain = holding("killed-relay", shared);
        let held = if shared { 2 } else { 3 };
        // Two more that the viewer has not read.
        assert_eq!(chain.write(2), 2);
        chain.expect(Who::Relay, "forward 2", "2 0");
        let unread = chain.written - 2;
        chain.peer(Who::Relay).kill();
        while chain.get(Who::Camera, "write 1") != "ReaderDead" {}
        assert_held(&mut chain, held);
        // The next relay creates IN again, and its camera fills that.
        chain.peer(Who::Camera).kill();
        chain.written = 1000;
        chain.joins_from_now_on();
        assert!(chain.start_one(Who::Relay, |_| {}) && chain.start_one(Who::Camera, |_| {}));
        assert_eq!(chain.write(3), 3);
        chain.expect(Who::Relay, "forward 1", "0 1");
        assert_held(&mut chain, held);
        chain.expect(Who::Viewer, "read 2", &format!("{unread}s {}s", unread + 1));
        chain.expect(Who::Viewer, "read 2", "WriterDead 1000");
        chain.expect(Who::Relay, "forward 2", "2 0");
        chain.expect(Who::Viewer, "read 2", "1001s 1002s");
        fill_up(&mut chain);
        assert_held(&mut chain, held + 5);
        chain.expect(Who::Viewer, "release 99", "0");
        chain.assert_all_is_back();
        chain.end();
    }
}

#[test]
fn a_relay_that_closes_either_end_takes_nothing_from_its_viewer() {
    for first in ["close-out", "close-in"] {
        let mut chain = holding("closing-relay", true);
        chain.expect(Who::Relay, "keep", "0");
        chain.expect(Who::Relay, first, "closed");
        if first == "close-out" {
            fill_up(&mut chain);
            assert_held(&mut chain, 2);
            chain.expect(Who::Viewer, "release 9", "0");
            chain.assert_all_is_back();
        } else {
            // The camera may write for a moment longer: as much as was free.
            let mut written = 0;
            while chain.get(Who::Camera, "write 1") != "ReaderDead" {
                written += 1;
                assert!(written < MOST, "the source's tail has moved");
            }
            assert_held(&mut chain, 2);
        }
        chain.end();
    }
}

#[test]
fn a_camera_that_is_killed_is_followed_by_another_at_the_same_place() {
    let mut chain = holding("killed-camera", true);
    assert_eq!(chain.write(2), 2);
    chain.peer(Who::Camera).kill();
    chain.expect(Who::Relay, "forward 2", "2 0");
    chain.written = 500;
    assert!(chain.start_one(Who::Camera, |_| {}));
    assert_eq!(chain.write(1), 1);
    chain.expect(Who::Relay, "forward 1", "WriterDead");
    chain.expect(Who::Relay, "forward 1", "1 0");
    chain.expect(Who::Viewer, "read 3", "3s 4s 500s");
    fill_up(&mut chain);
    assert_held(&mut chain, 5);
    chain.expect(Who::Viewer, "release 9", "0");
    chain.assert_all_is_back();
    chain.end();
}

#[test]
fn a_forked_child_of_a_viewer_sees_zeroes() {
    let mut chain = holding("forked", true);
    chain.expect(Who::Viewer, "fork", "zeroes");
    assert_held(&mut chain, 2);
    chain.expect(Who::Viewer, "close", "closed");
    chain.expect(Who::Viewer, "fork", "zeroes");
    fill_up(&mut chain);
    assert_held(&mut chain, 2);
    chain.expect(Who::Viewer, "release 9", "0");
    chain.assert_all_is_back();
    chain.end();
}
