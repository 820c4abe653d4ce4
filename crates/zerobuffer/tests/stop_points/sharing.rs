//! Kills and halts at every stop point of payload sharing, of relay and viewer: no byte of a held frame changes, all space comes
//! back, and nothing is left.

use std::sync::Mutex;
use std::time::Instant;

use crate::chain::{Chain, MOST, Members, Who};
use crate::support::PATIENCE;
use crate::victim::run_all;

/// Where a relay may be stopped, and where a viewer, while they share frames.
pub(crate) const RELAY: [&str; 5] = [
    "sharing:offer-begin",
    "sharing:offer-fields",
    "sharing:offer-end",
    "sharing:reference",
    "sharing:count",
];
pub(crate) const VIEWER: [&str; 6] =
    ["sharing:open", "sharing:map", "sharing:lock-open", "sharing:lock", "sharing:accept", "sharing:unlock"];
/// What comes in a viewer that is refused, wakes its lender, or takes a kept buffer over, and in a relay that sleeps in an event loop.
pub(crate) const RARE: [&str; 4] = ["sharing:refuse", "sharing:ring", "adopt:sharing", "sharing:arm"];

/// Points of every reader and writer, at which these pass a reference on and give it back.
const RELAY_OF_ALL: [&str; 2] = ["extended:header", "extended:head"];
const VIEWER_OF_ALL: [&str; 1] = ["extended:tail"];
pub(crate) const CAMERA_OF_ALL: [&str; 3] = ["write:data", "extended:header", "extended:head"];

/// Points that no case came to.
static IN_VAIN: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn stop(action: &str, point: &str, nth: u64) -> String {
    format!("{action}:{nth}:{point}")
}

/// Runs a chain whose `victim` suffers `stop`.
fn case(victim: Who, stop: &str, shared: bool) {
    let mut chain = Chain::start("stopped", shared, |who, command| {
        if who == victim {
            command.env("ZEROBUFFER_STOP", stop);
        }
    });
    // Three frames, one by one: the viewer learns of the source with the first, and holds what it gets.
    for _ in 0..3 {
        let _ = chain.ask(Who::Camera, "write 1");
        let _ = chain.ask(Who::Relay, "forward 1");
        // What the relay has forwarded is there.
        let _ = chain.ask(Who::Viewer, "take 1");
    }
    chain.written = 3;
    if chain.peer(Who::Camera).ended().is_some() {
        // The relay was killed before the camera came.
        assert_eq!((victim, chain.peer(Who::Relay).ended().is_some()), (Who::Relay, true));
        return chain.end();
    }
    let _ = chain.ask(Who::Viewer, "close");
    let _ = chain.ask(Who::Viewer, "release 1");
    let (killed, halted) = (chain.peer(victim).ended().is_some(), chain.peer(victim).is_stopped());
    match (victim, killed) {
        (Who::Relay, true) => relay_is_gone(&mut chain),
        _ => the_others_go_on(&mut chain, victim, halted),
    }
    if !killed && !halted {
        // Dropping the last frame is what is left to do.
        let _ = chain.ask(Who::Viewer, "release 9");
        let is_stopped = chain.peer(victim).is_stopped() || chain.peer(victim).ended().is_some();
        if !is_stopped {
            IN_VAIN.lock().unwrap().push(format!("{victim:?} {stop}"));
        }
        the_others_go_on(&mut chain, victim, true);
    }
    chain.peer(victim).signal(libc::SIGCONT);
    if chain.peer(Who::Viewer).ended().is_none() {
        check(&mut chain);
        chain.get(Who::Viewer, "release 9");
    }
    if chain.peer(Who::Relay).ended().is_none() {
        let start = Instant::now();
        while chain.get(Who::Relay, "lent") != "0" {
            assert!(start.elapsed() < PATIENCE, "{stop}: something stays lent");
        }
        chain.get(Who::Relay, "drop");
        if chain.peer(Who::Camera).ended().is_none() {
            assert!(chain.pump() >= 3 * MOST, "{stop}: space is missing");
        }
    }
    chain.end();
}

fn check(chain: &mut Chain) {
    let heard = chain.get(Who::Viewer, "check");
    assert!(heard.starts_with("same "), "a byte has changed: {heard}");
}

/// The relay was killed: its camera is told, and the viewer's frames stay.
fn relay_is_gone(chain: &mut Chain) {
    let start = Instant::now();
    while chain.get(Who::Camera, "write 1") != "ReaderDead" {
        assert!(start.elapsed() < PATIENCE, "the camera is not told");
    }
    check(chain);
}

/// The camera goes round as far as there is space; what the viewer holds stays.
fn the_others_go_on(chain: &mut Chain, victim: Who, halted: bool) {
    if victim == Who::Relay && halted {
        let _ = chain.ask(Who::Camera, "write 30");
    } else {
        chain.pump();
    }
    if !(victim == Who::Viewer && (halted || chain.peer(Who::Viewer).ended().is_some())) {
        check(chain);
    }
}

#[test]
fn no_byte_of_a_lent_frame_changes_wherever_a_relay_or_a_viewer_is_stopped() {
    let mut cases: Vec<(String, Box<dyn Fn() + Send + Sync>)> = Vec::new();
    let victims = [
        (Who::Relay, [&RELAY[..], &RELAY_OF_ALL].concat()),
        (Who::Viewer, [&VIEWER[..], &VIEWER_OF_ALL].concat()),
    ];
    for (victim, points) in victims {
        for point in points {
            for action in ["kill", "halt"] {
                for shared in [false, true] {
                    let stop = stop(action, point, 1);
                    let name = format!("{victim:?}, shared: {shared}: {stop}");
                    cases.push((name, Box::new(move || case(victim, &stop, shared))));
                }
            }
        }
    }
    run_all(cases);
    let in_vain = IN_VAIN.lock().unwrap();
    assert!(in_vain.is_empty(), "not passed: {in_vain:?}");
}

#[test]
fn a_viewer_stopped_at_a_rare_point_of_sharing_leaves_nothing_lent() {
    for action in ["kill", "halt"] {
        // Refusal: the source's name leads elsewhere.
        let mut chain = Chain::start("refusing", false, |who, command| {
            if who == Who::Viewer {
                command.env("ZEROBUFFER_STOP", stop(action, "sharing:refuse", 1));
            }
        });
        chain.write(1);
        chain.expect(Who::Relay, "forward 1", "0 1");
        let source = format!("/dev/shm/{}", &*chain.names[0]);
        let aside = format!("{source}-aside");
        std::fs::rename(&source, &aside).unwrap();
        assert_eq!(chain.ask(Who::Viewer, "read 1"), None, "it is stopped");
        std::fs::rename(&aside, &source).unwrap();
        chain.write(1);
        chain.peer(Who::Viewer).signal(libc::SIGCONT);
        chain.assert_all_is_back();
        chain.end();
        // Adoption.
        let mut chain = Chain::start("adopting", true, |who, command| {
            if who == Who::Viewer {
                command.env("ZEROBUFFER_STOP", stop(action, "adopt:sharing", 1));
            }
        });
        chain.write(1);
        let forwarded = chain.ask(Who::Relay, "forward 1");
        assert!(matches!(forwarded.as_deref(), Some("0 1" | "ReaderDead")), "{forwarded:?}");
        chain.peer(Who::Viewer).signal(libc::SIGCONT);
        chain.assert_all_is_back();
        chain.end();
        // A lender that sleeps is woken.
        let mut chain = Chain::start("ringing", true, |who, command| {
            if who == Who::Viewer {
                command.env("ZEROBUFFER_STOP", stop(action, "sharing:ring", 1));
            }
        });
        chain.write(2);
        chain.expect(Who::Relay, "forward 2", "2 0");
        chain.get(Who::Viewer, "read 2");
        // It sleeps for 2 s, or until its camera has written.
        assert!(chain.peer(Who::Relay).try_tell("forward 1").is_some());
        let start = Instant::now();
        while chain.get(Who::Viewer, "check") == "same 2" && start.elapsed() < PATIENCE / 60 {
            std::thread::yield_now();
        }
        let released = chain.ask(Who::Viewer, "release 9");
        assert_eq!(released, None, "it is stopped");
        chain.write(1);
        chain.hear_from(Who::Relay);
        chain.peer(Who::Viewer).signal(libc::SIGCONT);
        if chain.peer(Who::Viewer).ended().is_none() {
            chain.hear_from(Who::Viewer);
            chain.get(Who::Viewer, "read 1");
            chain.get(Who::Viewer, "release 9");
        }
        chain.assert_all_is_back();
        chain.end();
    }
}

#[test]
fn a_relay_stopped_while_it_arms_its_event_loop_misses_nothing() {
    for action in ["kill", "halt"] {
        let mut chain = Chain::start("arming", true, |who, command| {
            if who == Who::Relay {
                command.env("ZEROBUFFER_STOP", stop(action, "sharing:arm", 1));
            }
        });
        chain.write(2);
        chain.expect(Who::Relay, "forward 2", "2 0");
        chain.get(Who::Viewer, "read 2");
        chain.pump();
        assert_eq!(chain.ask(Who::Relay, "poll"), None, "it is stopped");
        if action == "kill" {
            relay_is_gone(&mut chain);
        } else {
            chain.peer(Who::Camera).tell("push");
            chain.expect(Who::Viewer, "release 9", "0");
            chain.peer(Who::Relay).signal(libc::SIGCONT);
            assert_eq!(chain.hear_from(Who::Camera).as_deref(), Some("written"));
            assert_eq!(chain.hear_from(Who::Relay).as_deref(), Some("a frame"));
            chain.written += 1;
            chain.assert_all_is_back();
        }
        chain.end();
    }
}

#[test]
fn no_byte_of_a_lent_frame_changes_wherever_its_camera_is_stopped() {
    for point in CAMERA_OF_ALL {
        for action in ["kill", "halt"] {
            let mut chain = Chain::start("camera", true, |who, command| {
                if who == Who::Camera {
                    command.env("ZEROBUFFER_STOP", stop(action, point, 3));
                }
            });
            for number in 0..2 {
                chain.write(1);
                chain.expect(Who::Relay, "forward 1", "1 0");
                chain.expect(Who::Viewer, "read 1", &format!("{number}s"));
            }
            assert_eq!(chain.ask(Who::Camera, "write 1"), None, "{point}: it is stopped");
            check(&mut chain);
            if action == "kill" {
                chain.written = 500;
                assert!(chain.start_one(Who::Camera, |_| {}));
                chain.write(1);
                let start = Instant::now();
                while chain.get(Who::Relay, "forward 1") != "1 0" {
                    assert!(start.elapsed() < PATIENCE, "{point}: the next camera's frame does not come");
                }
                assert_ne!(chain.get(Who::Viewer, "read 1"), "wrong bytes");
            } else {
                chain.peer(Who::Camera).signal(libc::SIGCONT);
                assert_eq!(chain.hear_from(Who::Camera).as_deref(), Some("1"));
                chain.written += 1;
                chain.expect(Who::Relay, "forward 1", "1 0");
                chain.expect(Who::Viewer, "read 1", "2s");
            }
            chain.pump();
            check(&mut chain);
            chain.expect(Who::Viewer, "release 9", "0");
            chain.assert_all_is_back();
            chain.end();
        }
    }
}

#[test]
fn a_relay_stopped_while_it_takes_a_loan_back_keeps_the_others() {
    for action in ["kill", "halt"] {
        let mut chain = Chain::start("taking-back", true, |who, command| {
            if who == Who::Relay {
                command.env("ZEROBUFFER_STOP", stop(action, "extended:tail", 1));
            }
        });
        chain.write(2);
        chain.expect(Who::Relay, "forward 2", "2 0");
        chain.expect(Who::Viewer, "read 2", "0s 1s");
        chain.expect(Who::Viewer, "release 1", "1");
        assert_eq!(chain.ask(Who::Relay, "lent"), None, "it is stopped");
        if action == "kill" {
            relay_is_gone(&mut chain);
        } else {
            let _ = chain.ask(Who::Camera, "write 30");
            check(&mut chain);
            chain.peer(Who::Relay).signal(libc::SIGCONT);
            assert_eq!(chain.hear_from(Who::Relay).as_deref(), Some("1"));
            chain.pump();
            check(&mut chain);
            chain.expect(Who::Viewer, "release 9", "0");
            chain.assert_all_is_back();
        }
        chain.end();
    }
}
