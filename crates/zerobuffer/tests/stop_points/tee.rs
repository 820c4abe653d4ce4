//! Kills and halts at every stop point of a tee and its viewers: no byte of a held frame changes, the source goes on unless it is
//! an output that blocks whose viewer stands still, all space comes back, and nothing is left.

use std::sync::Mutex;
use std::time::Instant;

use crate::chain::{MOST, Members};
use crate::fan::{Fan, Who};
use crate::sharing::{RELAY, VIEWER};
use crate::support::PATIENCE;
use crate::victim::run_all;

/// Where a tee alone may be stopped.
pub(crate) const TEE: [&str; 1] = ["tee:slot"];

/// Viewers: one that blocks, two that drop.
pub(crate) const VIEWERS: usize = 3;
pub(crate) const BLOCK: Who = Who::Viewer(0);
pub(crate) const DROP: Who = Who::Viewer(1);

/// Points that no case came to.
static IN_VAIN: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn case(victim: Who, stop: &str) {
    let mut fan = Fan::start("fan-stopped", VIEWERS, |who, command| {
        if who == victim {
            command.env("ZEROBUFFER_STOP", stop);
        }
    });
    // With the first frames the viewers learn of the source and the pool. They hold what they get; a drop output gets two.
    for round in 0..4 {
        let _ = fan.ask(Who::Camera, "write 1");
        fan.written += 1;
        let passed = fan.ask(Who::Tee, "step 1");
        for viewer in 0..VIEWERS {
            if round < 2 || viewer == 0 {
                let _ = fan.ask(Who::Viewer(viewer), "take 1");
            }
        }
        if round == 1 {
            let _ = fan.ask(DROP, "release 1");
        }
        if passed.is_none_or(|answer| answer != "1") {
            break;
        }
    }
    let _ = fan.ask(DROP, "close");
    let _ = fan.ask(DROP, "release 9");
    let (killed, halted) = (fan.peer(victim).ended().is_some(), fan.peer(victim).is_stopped());
    if !killed && !halted {
        IN_VAIN.lock().unwrap().push(format!("{victim:?} {stop}"));
    }
    fan.check();
    match victim {
        Who::Tee if killed => the_tee_is_gone(&mut fan),
        Who::Tee => {
            let _ = fan.ask(Who::Camera, "write 30");
            fan.check();
        }
        _ => {
            let _ = fan.ask(BLOCK, "release 9");
            let written = fan.pump(&[0]);
            let goes_on = victim != BLOCK || killed;
            assert!(!goes_on || written >= 3 * MOST, "{stop}: the source stands still");
            fan.check();
        }
    }
    fan.peer(victim).signal(libc::SIGCONT);
    if fan.peer(Who::Tee).ended().is_none() {
        for viewer in 0..VIEWERS {
            let _ = fan.ask(Who::Viewer(viewer), "release 9");
            // One that has closed ends.
            let _ = fan.ask(Who::Viewer(viewer), "pass");
        }
        assert!(fan.pump(&[0]) >= 3 * MOST, "{stop}: space is missing");
        let _ = fan.ask(BLOCK, "pass");
        fan.await_nothing_lent();
    }
    fan.end();
}

/// The tee was killed: its camera is told, and what viewers hold stays, whatever comes after it.
pub(crate) fn the_tee_is_gone(fan: &mut Fan) {
    let start = Instant::now();
    while fan.peer(Who::Camera).ended().is_none() && fan.get(Who::Camera, "write 1") != "ReaderDead" {
        assert!(start.elapsed() < PATIENCE, "the camera is not told");
    }
    fan.check();
    // What a viewer holds keeps what comes behind it in its buffer.
    let _ = fan.ask(BLOCK, "release 9");
    // Its successor has the same names, and makes a pool of its own.
    fan.restart_viewer(1);
    fan.start_tee(|_| {});
    fan.start_camera(|_| {});
    assert!(fan.pump(&[0, 1]) >= 3 * MOST, "its successor gets nothing through");
    fan.check();
}

#[test]
fn no_byte_of_a_frame_changes_wherever_a_tee_or_a_viewer_of_it_is_stopped() {
    let mut cases: Vec<(String, Box<dyn Fn() + Send + Sync>)> = Vec::new();
    let mut add = |victim: Who, point: &str, nth: u64| {
        for action in ["kill", "halt"] {
            let stop = format!("{action}:{nth}:{point}");
            cases.push((format!("{victim:?}: {stop}"), Box::new(move || case(victim, &stop))));
        }
    };
    for point in RELAY.into_iter().chain(TEE) {
        // The first time for the output that blocks, then for those that drop.
        for nth in 1..=if point == "tee:slot" { 1 } else { 3 } {
            add(Who::Tee, point, nth);
        }
    }
    for point in VIEWER {
        for victim in [BLOCK, DROP].into_iter().filter(|who| *who == DROP || point != "sharing:unlock") {
            add(victim, point, 1);
        }
    }
    run_all(cases);
    let in_vain = IN_VAIN.lock().unwrap();
    assert!(in_vain.is_empty(), "not passed: {in_vain:?}");
}
