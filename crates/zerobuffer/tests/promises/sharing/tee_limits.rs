//! The limits of a tee: what its pool holds, and what its outputs take.

use std::time::{Duration, Instant};

use super::tee::Fan;
use super::{LARGE, SECOND, requesting, sharing};
use crate::support::{Name, is_filled};
use zerobuffer::{ErrorKind, Frame, Reader, Tee, WriterOptions};

#[test]
fn the_pool_has_a_slot_for_all_that_its_outputs_may_hold_whatever_comes() {
    let mut fan = Fan::new("tee-pool", 0, 2);
    let first = fan.pass(LARGE);
    drop((fan.read(0, first), fan.read(1, first)));
    // It grows with the frames, and each has a slot of its own.
    let mut held: Vec<(u64, Frame)> = Vec::new();
    for len in [LARGE, 300_000] {
        let index = fan.pass(len);
        held.push((index, fan.read(0, index)));
        let frame = fan.read(1, index);
        assert_eq!(frame.is_shared(), len == LARGE, "the viewer learns of the new pool with a copy");
    }
    held.remove(0);
    for round in 0..3 {
        let index = fan.pass(300_000);
        drop(fan.read(1, index));
        if round == 0 {
            let frame = fan.read(0, index);
            assert!(frame.is_shared());
            held.push((index, frame));
        }
        assert!(held.iter().all(|(index, frame)| is_filled(*index, frame)), "a held frame has changed");
    }
    held.clear();
    // It grows with the outputs: all of them hold different frames, and all frames are lent.
    for more in 2..5 {
        fan.names.push(Name::new(&format!("tee-pool-{more}")));
        fan.view(more, Some(2), &sharing(), &requesting());
    }
    let index = fan.pass(LARGE);
    (0..5).for_each(|viewer| drop(fan.read(viewer, index)));
    for viewer in 0..5 {
        for _ in 0..2 {
            let index = fan.pass(LARGE);
            for other in 0..5 {
                if other == viewer {
                    let frame = fan.read(viewer, index);
                    assert!(frame.is_shared(), "viewer {viewer}");
                    held.push((index, frame));
                } else if other > viewer {
                    drop(fan.read(other, index));
                }
            }
        }
    }
    assert!(held.iter().all(|(index, frame)| is_filled(*index, frame)), "a held frame has changed");
    drop(held);
    fan.end();
}

#[test]
fn a_frame_of_the_pool_passes_by_an_output_that_could_not_hold_it() {
    let mut fan = Fan::new("tee-narrow", 0, 1);
    for (index, payload) in [(1, 1 << 20), (2, 60_000)] {
        fan.names.push(Name::new(&format!("tee-narrow-{index}")));
        fan.view(index, Some(2), &sharing().payload_size(payload), &requesting());
    }
    for round in 0..4 {
        let (small, large) = (fan.pass(40_000), fan.pass(LARGE));
        for viewer in 0..3 {
            drop(fan.read(viewer, small));
        }
        for viewer in 0..2 {
            drop(fan.read(viewer, large));
        }
        fan.nothing_for(2);
        assert_eq!(fan.figures(2).2, round + 1, "dropped");
    }
    fan.end();
}

#[test]
fn what_a_tee_sets_reaches_its_outputs_and_no_more() {
    let small = sharing().payload_size(4096);
    let mut fan = Fan::with("tee-sets", 2, 0, &small, &WriterOptions::default());
    // A bound of none would never let a frame pass.
    fan.names.push(Name::new("tee-sets-2"));
    fan.view(2, Some(0), &small, &WriterOptions::default());
    assert_eq!(fan.tee.outputs()[2].bound(), Some(1));
    // Time-outs.
    for _ in 0..4 {
        let index = fan.pass(1000);
        drop(fan.read(1, index));
    }
    drop(fan.read(2, 0));
    fan.tee.set_write_timeout(Duration::from_millis(50));
    fan.write(1000);
    let start = Instant::now();
    assert_eq!(fan.tee.step(SECOND).unwrap_err().kind(), ErrorKind::BufferFull);
    assert!(start.elapsed() >= Duration::from_millis(50), "{:?}", start.elapsed());
    fan.tee.set_write_timeout(Duration::ZERO);
    // Metadata: one that has ended takes none, and is no error.
    fan.tee.set_metadata(b"first").unwrap();
    for viewer in 0..3 {
        fan.viewers[viewer] = None;
    }
    let ended = |tee: &Tee| tee.outputs().iter().filter(|output| output.ended().is_some()).count();
    let start = Instant::now();
    while ended(&fan.tee) < 3 {
        assert!(start.elapsed() < crate::support::PATIENCE, "{:?}", fan.tee.outputs());
        let _ = fan.tee.flush();
        fan.write(10);
        let _ = fan.tee.step(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(1));
    }
    fan.tee.set_metadata(b"second").unwrap();
    fan.end();
}

#[test]
fn a_tee_that_ends_lets_its_outputs_go_though_its_interrupt_handle_stays() {
    let [input, output] = ["in", "out"].map(|end| Name::new(&format!("tee-handle-{end}")));
    let mut tee = Tee::new(Reader::create(&input, sharing()).unwrap());
    let viewer = Reader::create(&output, sharing()).unwrap();
    tee.add_block_output(zerobuffer::Writer::connect(&output).unwrap());
    let mappings = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains(&*output)).count()
    };
    let handle = tee.interrupt_handle();
    let before = mappings();
    let reader = tee.into_reader();
    assert!(before > 1 && mappings() < before, "{before} mappings, then {}", mappings());
    handle.clear();
    drop((reader, viewer));
}
