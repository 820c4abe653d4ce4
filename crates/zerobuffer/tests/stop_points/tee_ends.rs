//! Orderly ends and successors beside a camera, a tee or a viewer that stands still or was killed, and a pool that another one
//! replaces while viewers look at it.

use std::time::Instant;

use crate::chain::{MOST, Members};
use crate::fan::{Fan, Who};
use crate::sharing::{CAMERA_OF_ALL, RELAY, VIEWER};
use crate::support::PATIENCE;
use crate::tee::{BLOCK, DROP, TEE, VIEWERS, the_tee_is_gone};
use crate::victim::run_all;

const EVERY_VIEWER: [usize; VIEWERS] = [0, 1, 2];

type Cases = Vec<(String, Box<dyn Fn() + Send + Sync>)>;

fn start(what: &str, bound: usize, victim: Who, stop: &str) -> Fan {
    Fan::with_bound(what, VIEWERS, bound, |who, command| {
        if who == victim {
            command.env("ZEROBUFFER_STOP", stop);
        }
    })
}

/// Two frames on the whole way. The viewers learn of the source and the pool with the first, and hold both. What the tee has passed on
/// is there, and of one that stands still there is nothing to wait for.
fn pass_two(fan: &mut Fan) {
    for _ in 0..2 {
        if fan.ask(Who::Camera, "write 1").as_deref() == Some("1") {
            fan.written += 1;
        }
        let _ = fan.ask(Who::Tee, "step 1");
        for viewer in EVERY_VIEWER {
            let _ = fan.ask(Who::Viewer(viewer), "take 1");
        }
    }
}

/// All that is held goes back, and frames pass to every viewer, lent where they can be. Nothing is left in the end.
fn all_goes_on(mut fan: Fan, viewers: &[usize], stop: &str) {
    fan.check();
    for viewer in viewers {
        fan.get(Who::Viewer(*viewer), "release 99");
        fan.get(Who::Viewer(*viewer), "pass");
    }
    assert!(fan.pump(viewers) >= 3 * MOST, "{stop}: space is missing");
    fan.write(1);
    fan.get(Who::Tee, "drain");
    for viewer in viewers {
        let seen = fan.get(Who::Viewer(*viewer), "take 1");
        assert!(seen.ends_with('s'), "{stop}: viewer {viewer} is lent nothing: {seen}");
        fan.get(Who::Viewer(*viewer), "release 1");
    }
    fan.await_nothing_lent();
    fan.end();
}

/// Waits until the camera knows that its reader has gone.
fn await_told(fan: &mut Fan) {
    let start = Instant::now();
    while fan.get(Who::Camera, "write 1") != "ReaderDead" {
        assert!(start.elapsed() < PATIENCE, "the camera is not told");
    }
}

/// The tee connects to the successor of a viewer.
fn connect_again(fan: &mut Fan, viewer: usize) {
    let name = fan.names[2 + viewer].to_string();
    fan.get(Who::Tee, &format!("remove {name}"));
    let output = fan.output(viewer);
    fan.expect(Who::Tee, &format!("add {output}"), "added");
}

/// A tee, or a viewer, stands still while all of the others end in order and have successors.
fn others_end_case(victim: Who, stop: &str) {
    let mut fan = start("fan-ends", 2, victim, stop);
    pass_two(&mut fan);
    // The camera that comes has numbers of its own.
    fan.written = 500;
    if !fan.peer(victim).is_stopped() {
        let _ = fan.ask(DROP, "close");
        let _ = fan.ask(DROP, "release 9");
    }
    assert!(fan.peer(victim).is_stopped(), "{stop} is not passed");
    if victim == Who::Tee {
        fan.close(Who::Camera);
        fan.start_camera(|_| {});
        // What a successor's frames do is seen by those that stay.
        fan.close(BLOCK);
        fan.restart_viewer(0);
        fan.close(DROP);
        fan.restart_viewer(1);
        let _ = fan.ask(Who::Camera, "write 3");
        fan.check();
        fan.peer(Who::Tee).signal(libc::SIGCONT);
        fan.get(Who::Tee, "drain");
        [0, 1].into_iter().for_each(|viewer| connect_again(&mut fan, viewer));
    } else {
        fan.close(Who::Tee);
        await_told(&mut fan);
        fan.check();
        fan.close(Who::Camera);
        if stop.ends_with("sharing:unlock") {
            // Its reader has closed, so no tee can connect to it.
            fan.peer(victim).signal(libc::SIGCONT);
            fan.close(victim);
            fan.restart_viewer(1);
        }
        fan.start_tee(|_| {});
        fan.start_camera(|_| {});
        fan.write(3);
        fan.get(Who::Tee, "drain");
        fan.check();
        fan.peer(victim).signal(libc::SIGCONT);
    }
    all_goes_on(fan, &EVERY_VIEWER, stop);
}

/// The camera is stopped at its third frame. Whichever of the others ends, what viewers hold stays as it is.
fn camera_case(stop: &str, ends: Who) {
    let mut fan = start("fan-camera", 2, Who::Camera, stop);
    pass_two(&mut fan);
    assert_eq!(fan.ask(Who::Camera, "write 1"), None, "{stop}: it is stopped");
    fan.written = 500;
    fan.check();
    let halted = fan.peer(Who::Camera).is_stopped();
    if ends == Who::Tee {
        fan.close(Who::Tee);
        fan.check();
        if halted {
            fan.peer(Who::Camera).signal(libc::SIGCONT);
            await_told(&mut fan);
            fan.close(Who::Camera);
        }
        fan.start_tee(|_| {});
        fan.start_camera(|_| {});
    } else {
        if halted {
            fan.peer(Who::Camera).signal(libc::SIGCONT);
        } else {
            // Its successor comes while the viewers hold frames of both kinds.
            fan.start_camera(|_| {});
        }
        fan.close(ends);
        let Who::Viewer(viewer) = ends else { unreachable!("a viewer") };
        fan.restart_viewer(viewer);
        fan.get(Who::Tee, "drain");
        connect_again(&mut fan, viewer);
    }
    fan.check();
    all_goes_on(fan, &EVERY_VIEWER, stop);
}

#[test]
fn a_fan_goes_on_whoever_ends_while_another_stands_still() {
    let mut cases: Cases = Vec::new();
    let mut add = |victim: Who, point: &str| {
        let stop = format!("halt:1:{point}");
        cases.push((format!("{victim:?}: {stop}"), Box::new(move || others_end_case(victim, &stop))));
    };
    for point in RELAY.into_iter().chain(TEE) {
        add(Who::Tee, point);
    }
    for point in VIEWER {
        for victim in [BLOCK, DROP].into_iter().filter(|who| *who == DROP || point != "sharing:unlock") {
            add(victim, point);
        }
    }
    for point in CAMERA_OF_ALL {
        for action in ["kill", "halt"] {
            for ends in [Who::Tee, BLOCK, DROP] {
                let stop = format!("{action}:3:{point}");
                let name = format!("Camera: {stop}, {ends:?} ends");
                cases.push((name, Box::new(move || camera_case(&stop, ends))));
            }
        }
    }
    run_all(cases);
}

/// A drop output comes, so that the tee replaces its pool, whose frames the others hold.
fn pool_case(victim: Who, stop: &str) {
    let mut fan = start("fan-pool", 6, victim, stop);
    pass_two(&mut fan);
    let before = fan.pool_inode();
    let new = fan.add_viewer("fan-pool");
    let output = fan.output(new);
    fan.expect(Who::Tee, &format!("add {output}"), "added");
    // The next frame is a copy, with which they learn of the new pool; the ones behind it are lent from there.
    for _ in 0..3 {
        if fan.ask(Who::Camera, "write 1").as_deref() == Some("1") {
            fan.written += 1;
        }
        let _ = fan.ask(Who::Tee, "step 1");
        for viewer in 0..=new {
            let _ = fan.ask(Who::Viewer(viewer), "take 1");
        }
    }
    let (killed, halted) = (fan.peer(victim).ended().is_some(), fan.peer(victim).is_stopped());
    assert!(killed || halted, "{stop} is not passed");
    assert_ne!(fan.pool_inode(), before, "the pool is the old one");
    fan.check();
    if victim == Who::Tee && killed {
        fan.close(DROP);
        the_tee_is_gone(&mut fan);
        return fan.end();
    }
    if victim == Who::Tee {
        let _ = fan.ask(Who::Camera, "write 30");
    } else {
        let _ = fan.ask(BLOCK, "release 99");
        assert!(fan.pump(&[0]) >= 3 * MOST, "{stop}: the source stands still");
    }
    fan.check();
    fan.peer(victim).signal(libc::SIGCONT);
    let viewers: Vec<usize> =
        (0..=new).filter(|viewer| fan.goes_on(Who::Viewer(*viewer)) || halted).collect();
    all_goes_on(fan, &viewers, stop);
}

#[test]
fn a_pool_is_replaced_wherever_a_tee_or_a_viewer_is_stopped() {
    let mut cases: Cases = Vec::new();
    let mut add = |victim: Who, point: &str, nth: u64| {
        for action in ["kill", "halt"] {
            let stop = format!("{action}:{nth}:{point}");
            cases.push((format!("{victim:?}: {stop}"), Box::new(move || pool_case(victim, &stop))));
        }
    };
    // Three offers and three references come before the new pool, and a reference to the output that blocks.
    for point in ["sharing:offer-begin", "sharing:offer-fields", "sharing:offer-end"] {
        (4..=6).for_each(|nth| add(Who::Tee, point, nth));
    }
    for point in ["sharing:reference", "sharing:count"] {
        (6..=8).for_each(|nth| add(Who::Tee, point, nth));
    }
    add(Who::Tee, "tee:slot", 2);
    for point in ["sharing:open", "sharing:map", "sharing:accept"] {
        add(DROP, point, 2);
    }
    run_all(cases);
}
