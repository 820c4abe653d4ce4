//! What is lent, for how long, and what the figures say.

use std::time::{Duration, Instant};

use super::{Chain, LARGE, SECOND, content, requesting, sharing};
use crate::support::{Name, PATIENCE, is_filled};
use zerobuffer::{ErrorKind, Forwarded, Reader, SharedWriter, Writer};

#[test]
fn large_frames_are_lent_and_small_ones_copied() {
    let mut chain = Chain::new("lent");
    for len in [1, 100, (32 << 10) - 1] {
        assert_eq!(chain.pass(len), Forwarded::Copied, "{len} bytes");
    }
    for len in [32 << 10, 300_001] {
        assert_eq!(chain.pass(len), Forwarded::Shared, "{len} bytes");
    }
    chain.go_round();
    let (sent, seen) = (chain.output.stats(), chain.viewer.stats());
    assert_eq!((sent.frames_shared, sent.frames_copied), (63, 4));
    assert_eq!((seen.frames_shared, seen.frames_read), (63, 67));
    assert_eq!(sent.bytes_written, seen.bytes_read);
    assert_eq!(seen.bytes_shared, 61 * LARGE as u64 + (32 << 10) + 300_001);
}

#[test]
fn a_lent_frame_stays_as_it_is_until_its_viewer_releases_it() {
    let mut chain = Chain::new("stays");
    chain.send(LARGE);
    let frame = chain.read(LARGE);
    assert_eq!(chain.input.payload_share_count(), 1);
    assert_eq!((chain.input.stats().lent, chain.input.stats().held.frames), (1, 1));
    assert_eq!(chain.output.payload_share_count(), 1);
    // The camera goes round up to the frame, and no further.
    let mut written = 0;
    while chain.write(LARGE) {
        drop(chain.input.read_frame(SECOND).unwrap().expect("a frame"));
        written += 1;
        assert!(written < 40, "the frame's space was given back");
    }
    assert!(written > 5);
    assert_eq!(*frame, *content(2, LARGE));
    drop(frame);
    assert!(chain.input.try_read_frame().unwrap().is_none());
    assert_eq!(chain.input.payload_share_count(), 0);
    chain.seen = chain.written;
    chain.go_round();
}

#[test]
fn a_lent_frame_stays_after_its_writer_has_closed_and_another_one_has_come() {
    let mut chain = Chain::new("left");
    chain.send(LARGE);
    let frame = chain.read(LARGE);
    let name = Name::new("left-other");
    let mut viewer = Reader::create(&name, sharing()).unwrap();
    chain.output = Writer::connect_with(&name, requesting()).unwrap();
    for kind in [Forwarded::Copied, Forwarded::Shared] {
        assert_eq!(chain.send(LARGE), kind);
        drop(viewer.read_frame(SECOND).unwrap().expect("a frame"));
    }
    let mut written = 0;
    while chain.write(LARGE) {
        drop(chain.input.read_frame(SECOND).unwrap().expect("a frame"));
        written += 1;
        assert!(written < 40, "the frame's space was given back");
    }
    assert_eq!(chain.input.payload_share_count(), 1);
    assert_eq!(*frame, *content(2, LARGE));
    drop(frame);
    assert!(chain.input.try_read_frame().unwrap().is_none());
    assert_eq!(chain.input.payload_share_count(), 0);
}

#[test]
fn frames_outlive_their_reader_and_then_let_go() {
    let mut chain = Chain::new("outlive");
    chain.send(LARGE);
    chain.send(LARGE);
    let frames = [chain.read(LARGE), chain.read(LARGE)];
    let handle = chain.viewer.interrupt_handle();
    let Chain { viewer, mut input, mut camera, .. } = chain;
    drop(viewer);
    assert_eq!(input.payload_share_count(), 2);
    let [first, second] = frames;
    drop(first);
    assert_eq!(input.payload_share_count(), 1, "OUT's tail is the evidence");
    while camera.try_write_frame(&content(9, LARGE)).unwrap().is_some() {
        drop(input.read_frame(SECOND).unwrap().expect("a frame"));
    }
    assert_eq!(*second, *content(3, LARGE));
    drop(second);
    // What keeps the reader's memory mapped keeps no frame.
    assert_eq!(input.payload_share_count(), 0);
    drop(handle);
    for _ in 0..30 {
        assert!(input.try_read_frame().unwrap().is_none_or(|frame| frame.len() == LARGE));
        assert!(camera.try_write_frame(&content(9, LARGE)).unwrap().is_some());
    }
}

#[test]
fn a_viewer_that_goes_without_reading_what_was_lent_gives_it_back() {
    let mut chain = Chain::new("unread");
    chain.send(LARGE);
    chain.send(LARGE);
    assert_eq!(chain.input.payload_share_count(), 2);
    let Chain { viewer, input, output, .. } = chain;
    drop(viewer);
    assert_eq!(input.payload_share_count(), 0);
    drop(output);
}

#[test]
fn at_most_half_of_the_source_is_lent() {
    let mut chain = Chain::new("half");
    let kinds: Vec<Forwarded> = (0..6).map(|_| chain.send(LARGE)).collect();
    let lent = kinds.iter().filter(|kind| **kind == Forwarded::Shared).count();
    assert_eq!(lent, 5, "{kinds:?}");
    assert_eq!(chain.input.payload_share_count(), 5);
    for _ in 0..6 {
        chain.read(LARGE);
    }
    chain.go_round();
}

#[test]
fn a_frame_goes_to_several_viewers_and_comes_back_when_the_last_is_done() {
    let mut chain = Chain::new("several");
    let name = Name::new("several-other");
    let mut other = Reader::create(&name, sharing()).unwrap();
    let mut second = Writer::connect_with(&name, requesting()).unwrap();
    let mut kinds = Vec::new();
    let mut held = Vec::new();
    for _ in 0..2 {
        assert!(chain.write(LARGE));
        let frame = chain.input.read_frame(SECOND).unwrap().unwrap();
        kinds.push((chain.output.forward_to(&frame).unwrap(), second.forward_to(&frame).unwrap()));
        held.push((chain.read(LARGE), other.read_frame(SECOND).unwrap().unwrap()));
    }
    let shared = Forwarded::Shared;
    assert_eq!(kinds, [(shared, Forwarded::Copied), (shared, shared)]);
    let (mine, theirs) = held.pop().unwrap();
    held.clear();
    assert_eq!((mine.as_ptr() == theirs.as_ptr(), chain.input.payload_share_count()), (false, 1));
    assert_eq!(*mine, *theirs);
    drop(mine);
    assert_eq!(chain.input.payload_share_count(), 1);
    drop(theirs);
    assert_eq!(chain.input.payload_share_count(), 0);
    chain.go_round();
}

#[test]
fn bytes_are_changed_in_place_only_where_nothing_else_has_them() {
    let mut chain = Chain::new("in-place");
    assert!(chain.write(LARGE));
    let mut frame = chain.input.read_frame(SECOND).unwrap().unwrap();
    frame.make_mut().expect("it is not lent")[0] ^= 0xff;
    let first = frame[0];
    assert_eq!(chain.output.forward_to(&frame).unwrap(), Forwarded::Shared);
    assert!(frame.make_mut().is_none(), "it is lent");
    let mut seen = chain.viewer.read_frame(SECOND).unwrap().unwrap();
    assert!(seen.is_shared() && seen[0] == first, "the filter's byte arrived");
    assert!(seen.make_mut().is_none(), "it is borrowed");
    drop(seen);
    chain.input.payload_share_count();
    assert!(frame.make_mut().is_some(), "it is back");
    // Beside a frame that was read before it.
    assert!(chain.write(1) && chain.write(1));
    let [mut second, mut third] = [(); 2].map(|()| chain.input.read_frame(SECOND).unwrap().unwrap());
    assert!(second.make_mut().is_some() && third.make_mut().is_some());
}

#[test]
fn what_others_may_look_at_is_changed_as_a_private_copy() {
    let mut chain = Chain::new("copy");
    assert!(chain.write(LARGE));
    let mut frame = chain.input.read_frame(SECOND).unwrap().unwrap();
    let (place, first) = (frame.as_ptr(), frame[0]);
    assert_eq!(frame.to_mut().unwrap().as_ptr(), place, "it is not lent");
    assert_eq!(chain.output.forward_to(&frame).unwrap(), Forwarded::Shared);
    let mut seen = chain.viewer.read_frame(SECOND).unwrap().unwrap();
    assert!(seen.is_shared());
    let (number, len) = (frame.sequence(), frame.len());
    frame.to_mut().unwrap()[0] = !first;
    seen.to_mut().unwrap()[0] = first.wrapping_add(1);
    assert_ne!((frame.as_ptr(), seen.as_ptr()), (place, place));
    assert_eq!((frame[0], seen[0]), (!first, first.wrapping_add(1)));
    assert_eq!((frame[1..].to_vec(), frame.sequence(), frame.len()), (seen[1..].to_vec(), number, len));
    assert!(!frame.is_shared() && !seen.is_shared());
    // Each is the only one who has its copy, and passes on that.
    assert_eq!(frame.make_mut().unwrap().as_ptr(), frame.as_ptr());
    assert_eq!(seen.to_mut().unwrap().as_ptr(), seen.as_ptr());
    assert_eq!(chain.output.forward_to(&frame).unwrap(), Forwarded::Copied);
    let copy = chain.viewer.read_frame(SECOND).unwrap().unwrap();
    assert_eq!((copy[0], copy.len(), copy.is_shared()), (!first, len, false));
    // They give back in any order, and neither before the other is done.
    drop(frame);
    assert_eq!((chain.input.payload_share_count(), chain.input.stats().held.frames), (1, 1));
    drop((seen, copy));
    assert_eq!((chain.input.payload_share_count(), chain.input.stats().held.frames), (0, 0));
}

#[test]
fn a_shared_writer_lends_from_the_first_frame_on() {
    let names = ["in", "out"].map(|end| Name::new(&format!("shared-writer-{end}")));
    let mut input = Reader::create(&names[0], sharing()).unwrap();
    let mut camera = Writer::connect(&names[0]).unwrap();
    let mut output = SharedWriter::create(&names[1], &input).unwrap();
    assert!(!output.is_adopted());
    // Smaller than the buffer that is there.
    let mut viewer = Reader::create(&names[1], sharing().metadata_size(128)).unwrap();
    assert!(output.is_adopted() && viewer.payload_sharing_enabled() && output.payload_sharing_enabled());
    assert_eq!(viewer.payload_owner_pid(), u64::from(std::process::id()));
    for index in 0..30 {
        camera.write_frame(&content(index, LARGE)).unwrap();
        let frame = input.read_frame(SECOND).unwrap().unwrap();
        assert_eq!(output.forward(frame).unwrap(), Forwarded::Shared);
        let frame = viewer.read_frame_ref(SECOND).unwrap().unwrap();
        assert!(frame.is_shared() && is_filled(index, &frame));
        let kept = frame.keep();
        assert!(is_filled(index, &kept));
        let mut copy = vec![0; LARGE];
        assert_eq!(kept.copy_to(&mut copy), LARGE);
        assert!(is_filled(index, &copy));
    }
    drop(viewer);
    assert!(output.close().unwrap());
    drop((input, camera));
    names.iter().for_each(Name::assert_nothing_left);
}

#[test]
fn a_relay_that_makes_its_source_again_offers_it_again() {
    let mut chain = Chain::new("again");
    chain.send(LARGE);
    let old = chain.read(LARGE);
    // A reference that stays unread meanwhile.
    chain.send(LARGE);
    let name = Name::new("again-second");
    let input = Reader::create(&name, sharing()).unwrap();
    let first = std::mem::replace(&mut chain.input, input);
    first.close().unwrap();
    chain.camera = Writer::connect(&name).unwrap();
    assert_eq!(chain.send(LARGE), Forwarded::Copied, "the offer is new");
    let older = chain.read(LARGE);
    assert!(older.is_shared());
    chain.read(LARGE);
    assert_eq!(chain.pass(LARGE), Forwarded::Shared);
    assert_eq!((&*old, &*older), (&*content(2, LARGE), &*content(3, LARGE)));
    drop((old, older));
    chain.go_round();
}

#[test]
fn an_offer_that_is_accepted_before_the_frames_of_an_earlier_relay_are_read_stays_accepted() {
    let mut chain = Chain::with("early-offer", sharing(), sharing(), requesting());
    assert_eq!(chain.send(LARGE), Forwarded::Copied);
    // Its successor offers before the viewer has read anything.
    let Chain { names, camera, input, output, viewer, written, seen } = chain;
    drop(output);
    let output = Writer::connect_with(&names[1], requesting()).unwrap();
    let mut chain = Chain { names, camera, input, output, viewer, written, seen };
    assert_eq!(chain.send(LARGE), Forwarded::Copied);
    chain.read(LARGE);
    // The end of the first relay comes before the frames of the second one.
    assert_eq!(chain.viewer.read_frame(SECOND).unwrap_err().kind(), ErrorKind::WriterClosed);
    chain.read(LARGE);
    assert_eq!(chain.pass(LARGE), Forwarded::Shared);
    chain.go_round();
}

#[test]
fn a_frame_that_is_too_large_for_the_output_is_refused_shared_or_not() {
    let small = sharing().payload_size(64 << 10);
    let mut chain = Chain::with("too-large", sharing(), small, requesting());
    assert_eq!(chain.pass(40_000), Forwarded::Copied);
    assert_eq!(chain.pass(40_000), Forwarded::Shared);
    assert!(chain.write(LARGE));
    let frame = chain.input.read_frame(SECOND).unwrap().unwrap();
    let (error, frame) = chain.output.forward(frame).unwrap_err();
    assert_eq!((error.kind(), frame.len()), (ErrorKind::FrameTooLarge, LARGE));
}

#[test]
fn a_frame_comes_back_from_an_output_that_is_full_or_has_no_reader() {
    let small = sharing().payload_size(40_000);
    let mut chain = Chain::with("full", sharing(), small, requesting());
    chain.output.set_write_timeout(std::time::Duration::ZERO);
    assert_eq!(chain.send(30_000), Forwarded::Copied);
    assert!(chain.write(30_000));
    let frame = chain.input.read_frame(SECOND).unwrap().unwrap();
    let (error, frame) = chain.output.forward(frame).unwrap_err();
    assert_eq!((error.kind(), &*frame), (ErrorKind::BufferFull, &*content(1, 30_000)));
    let Chain { viewer, mut output, .. } = chain;
    drop(viewer);
    let start = Instant::now();
    let kind = loop {
        if let Err((error, _)) = output.forward(zerobuffer::Frame::copy_of(&[1]).unwrap())
            && error.kind() != ErrorKind::BufferFull
        {
            break error.kind();
        }
        assert!(start.elapsed() < PATIENCE);
    };
    assert_eq!(kind, ErrorKind::ReaderDead);
}

#[test]
fn a_camera_that_waits_for_lent_space_gets_it_while_the_relay_waits_for_frames() {
    let mut chain = Chain::new("asleep");
    for _ in 0..5 {
        chain.send(LARGE);
    }
    let held: Vec<_> = (0..5).map(|_| chain.read(LARGE)).collect();
    while chain.write(LARGE) {
        drop(chain.input.read_frame(SECOND).unwrap().unwrap());
    }
    let Chain { mut camera, mut input, output, viewer, names, .. } = chain;
    camera.set_write_timeout(PATIENCE);
    let relay = std::thread::spawn(move || {
        let frame = input.read_frame(PATIENCE).unwrap();
        (frame.is_some(), input)
    });
    let writer = std::thread::spawn(move || {
        // Larger than what is free: it waits for what is lent.
        camera.write_frame(&content(1, 300_000)).unwrap();
        camera
    });
    let start = Instant::now();
    while zerobuffer::inspect::snapshot(&names[0]).is_ok() && start.elapsed() < SECOND / 5 {
        std::thread::yield_now();
    }
    assert!(!relay.is_finished() && !writer.is_finished(), "there was space");
    drop(held);
    assert!(relay.join().unwrap().0);
    drop((writer.join().unwrap(), output, viewer));
}

#[test]
fn the_newest_frame_is_a_lent_one_and_the_others_come_back() {
    for first_is_copied in [false, true] {
        let mut chain = Chain::new("newest");
        if first_is_copied {
            chain.send(1);
        }
        for _ in 0..4 {
            assert_eq!(chain.send(LARGE), Forwarded::Shared);
        }
        let newest = chain.viewer.read_latest_frame(SECOND).unwrap().unwrap();
        assert!(newest.is_shared());
        assert!(is_filled(chain.written - 1, &newest));
        assert_eq!(chain.input.payload_share_count(), 1);
        let stats = chain.viewer.stats();
        assert_eq!((stats.frames_shared, stats.bytes_shared), (2, 2 * LARGE as u64));
        assert_eq!(stats.held.frames, 1);
        drop(newest);
        chain.seen = chain.written;
        // A lone one, and one behind which a small copied one follows.
        chain.send(LARGE);
        assert!(is_filled(chain.written - 1, &chain.viewer.read_latest_frame(SECOND).unwrap().unwrap()));
        chain.send(LARGE);
        chain.send(1);
        let newest = chain.viewer.read_latest_frame(SECOND).unwrap().unwrap();
        assert!(!newest.is_shared() && is_filled(chain.written - 1, &newest));
        drop(newest);
        chain.seen = chain.written;
        chain.go_round();
    }
}

#[test]
fn a_reader_that_sleeps_hears_of_what_another_thread_lends_meanwhile() {
    let mut chain = Chain::new("asleep");
    assert!(chain.write(LARGE));
    let frame = chain.input.read_frame(SECOND).unwrap().expect("a frame");
    assert_eq!(chain.input.payload_share_count(), 0, "so far");
    let Chain { input, mut output, mut viewer, mut camera, .. } = chain;
    let (watch, mut input) = (input.writer_watch().unwrap(), input);
    let waits = watch.waits();
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(move || input.read_frame(PATIENCE).unwrap().map(|frame| frame.len()));
        while watch.waits() == waits {
            std::thread::yield_now();
        }
        // Long asleep, after its second look.
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(output.forward(frame).unwrap(), Forwarded::Shared);
        drop(viewer.read_frame(SECOND).unwrap().expect("a frame"));
        let start = Instant::now();
        while output.payload_share_count() != 0 {
            assert!(start.elapsed() < PATIENCE / 2, "the space does not come back");
            std::thread::yield_now();
        }
        camera.write_frame(b"end").unwrap();
        assert_eq!(sleeper.join().unwrap(), Some(3));
    });
}
