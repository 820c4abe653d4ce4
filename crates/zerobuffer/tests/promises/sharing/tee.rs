//! One source, several outputs: what each of them gets, and what none of them does to the others.

use std::time::Duration;

use super::{LARGE, SECOND, content, requesting, sharing};
use crate::support::{Name, is_filled};
use zerobuffer::{BufferConfig, ErrorKind, Frame, Reader, Tee, TeeOutput, Writer, WriterOptions};

/// More frames than fit the source.
const ROUNDS: u64 = 40;

/// A camera, a tee and its viewers in one process.
pub(super) struct Fan {
    source: Name,
    pub(super) names: Vec<Name>,
    camera: Writer,
    pub(super) tee: Tee,
    pub(super) viewers: Vec<Option<Reader>>,
    written: u64,
}

impl Fan {
    pub(super) fn new(what: &str, blocks: usize, drops: usize) -> Fan {
        Fan::with(what, blocks, drops, &sharing(), &requesting())
    }

    pub(super) fn with(
        what: &str,
        blocks: usize,
        drops: usize,
        output: &BufferConfig,
        options: &WriterOptions,
    ) -> Fan {
        let source = Name::new(&format!("{what}-in"));
        let tee = Tee::new(Reader::create(&source, sharing()).unwrap());
        let mut camera = Writer::connect(&source).unwrap();
        camera.set_write_timeout(Duration::ZERO);
        let mut fan = Fan { source, names: Vec::new(), camera, tee, viewers: Vec::new(), written: 0 };
        for index in 0..blocks + drops {
            fan.names.push(Name::new(&format!("{what}-{index}")));
            fan.view(index, (index >= blocks).then_some(2), output, options);
        }
        fan
    }

    /// Starts viewer `index`, and makes it an output.
    pub(super) fn view(
        &mut self,
        index: usize,
        bound: Option<usize>,
        output: &BufferConfig,
        options: &WriterOptions,
    ) {
        let viewer = Reader::create(&self.names[index], output.clone()).unwrap();
        let mut writer = Writer::connect_with(&self.names[index], options.clone()).unwrap();
        writer.set_write_timeout(Duration::ZERO);
        match bound {
            None => self.tee.add_block_output(writer),
            Some(frames) => self.tee.add_drop_output(writer, frames),
        }
        if index == self.viewers.len() {
            self.viewers.push(None)
        }
        self.viewers[index] = Some(viewer);
    }

    /// The next frame goes into the source, and through the tee.
    #[track_caller]
    pub(super) fn pass(&mut self, len: usize) -> u64 {
        self.write(len);
        assert!(self.tee.step(SECOND).unwrap());
        self.written - 1
    }

    #[track_caller]
    pub(super) fn write(&mut self, len: usize) {
        let is_written = self.camera.try_write_frame(&content(self.written, len)).unwrap().is_some();
        assert!(is_written, "the source is full");
        self.written += 1;
    }

    #[track_caller]
    pub(super) fn read(&mut self, viewer: usize, index: u64) -> Frame {
        let frame = self.viewers[viewer].as_mut().unwrap().try_read_frame().unwrap().expect("a frame");
        assert!(is_filled(index, &frame), "viewer {viewer}: frame {index} has other bytes");
        frame
    }

    #[track_caller]
    pub(super) fn nothing_for(&mut self, viewer: usize) {
        assert!(self.viewers[viewer].as_mut().unwrap().try_read_frame().unwrap().is_none());
    }

    /// How many frames an output got shared, copied, and not at all.
    pub(super) fn figures(&self, output: usize) -> (u64, u64, u64) {
        let output = &self.tee.outputs()[output];
        (output.frames_shared(), output.frames_copied(), output.frames_dropped())
    }

    pub(super) fn end(self) {
        let Fan { source, names, camera, tee, viewers, .. } = self;
        drop((viewers, camera, tee));
        source.assert_nothing_left();
        source.suffixed("_tee").assert_nothing_left();
        names.iter().for_each(Name::assert_nothing_left);
    }
}

#[test]
fn all_outputs_are_lent_frames_and_those_that_drop_get_them_from_one_copy() {
    let mut fan = Fan::new("tee-all", 2, 3);
    for round in 0..ROUNDS {
        let index = fan.pass(LARGE);
        let frames: Vec<Frame> = (0..5).map(|viewer| fan.read(viewer, index)).collect();
        assert!(frames.iter().all(|frame| frame.is_shared() == (round > 0)), "round {round}");
        assert_eq!(fan.tee.reader().payload_share_count(), u64::from(round > 0));
    }
    for output in 0..5 {
        assert_eq!(fan.figures(output), (ROUNDS - 1, 1, 0));
    }
    assert_eq!(fan.tee.reader().payload_share_count(), 0);
    fan.end();
}

#[test]
fn small_frames_and_a_single_output_that_drops_get_copies() {
    let mut fan = Fan::new("tee-copies", 0, 1);
    for _ in 0..ROUNDS {
        let index = fan.pass(LARGE);
        fan.read(0, index);
    }
    assert_eq!(fan.figures(0), (0, ROUNDS, 0));
    assert!(fan.source.suffixed("_tee").leftovers().is_empty(), "there is no pool");
    fan.end();
    let mut fan = Fan::new("tee-small", 0, 2);
    for _ in 0..ROUNDS {
        let index = fan.pass(1000);
        drop((fan.read(0, index), fan.read(1, index)));
    }
    assert_eq!([fan.figures(0), fan.figures(1)], [(0, ROUNDS, 0); 2]);
    fan.end();
}

#[test]
fn viewers_that_hold_all_they_can_stop_neither_the_source_nor_the_others() {
    let mut fan = Fan::new("tee-stopped", 1, 4);
    let mut held: [Vec<(u64, Frame)>; 5] = std::array::from_fn(|_| Vec::new());
    for round in 0..3 * ROUNDS {
        let index = fan.pass(LARGE);
        fan.read(0, index);
        fan.read(1, index);
        // One holds what it gets, one its first two, one does not even read.
        if held[2].len() < 2 {
            held[2].push((index, fan.read(2, index)));
        }
        if held[3].len() < 2 {
            held[3].push((index, fan.read(3, index)));
        } else if round % 7 == 0 {
            held[3].remove(0);
        } else if let Some(frame) = fan.viewers[3].as_mut().unwrap().try_read_frame().unwrap() {
            held[3].push((index, frame));
        }
        for (index, frame) in held.iter().flatten() {
            assert!(is_filled(*index, frame), "frame {index} has changed");
        }
    }
    assert_eq!(fan.figures(0), (3 * ROUNDS - 1, 1, 0));
    assert_eq!(fan.figures(1), (3 * ROUNDS - 1, 1, 0));
    assert_eq!(fan.figures(2), (1, 1, 3 * ROUNDS - 2));
    assert_eq!(fan.figures(4), (0, 2, 3 * ROUNDS - 2));
    // They go on as if nothing had been.
    drop(held);
    drop((fan.read(4, 0), fan.read(4, 1)));
    for _ in 0..ROUNDS {
        let index = fan.pass(LARGE);
        (0..5).for_each(|viewer| drop(fan.read(viewer, index)));
    }
    fan.end();
}

#[test]
fn what_an_output_has_is_counted_in_rings_of_both_kinds() {
    for classic in [true, false] {
        let output = BufferConfig::default().payload_size(1 << 20).classic(classic);
        for len in [10, 1000, LARGE] {
            let mut fan = Fan::with("tee-bound", 0, 1, &output, &WriterOptions::default());
            let mut got = 0;
            for _ in 0..30 {
                let first = fan.pass(len);
                let second = fan.pass(len);
                fan.pass(len);
                drop(fan.read(0, first));
                let frame = fan.read(0, second);
                fan.nothing_for(0);
                // One is held, so there is room for one.
                let third = fan.pass(len);
                fan.pass(len);
                drop(fan.read(0, third));
                drop(frame);
                fan.nothing_for(0);
                got += 3;
            }
            assert_eq!(fan.figures(0), (0, got, 60), "classic: {classic}, {len} bytes");
            fan.end();
        }
    }
}

#[test]
fn metadata_that_comes_late_reaches_all_outputs_and_changes_nothing_else() {
    let mut fan = Fan::new("tee-metadata", 1, 1);
    let held: Vec<u64> = (0..2).map(|_| fan.pass(LARGE)).collect();
    let held: Vec<Frame> = held.into_iter().map(|index| fan.read(1, index)).collect();
    fan.tee.set_metadata(b"late").unwrap();
    for viewer in fan.viewers.iter().flatten() {
        assert_eq!(viewer.metadata().unwrap().unwrap(), b"late");
    }
    // The drop output has all that it may have.
    fan.pass(LARGE);
    fan.nothing_for(1);
    assert_eq!(fan.figures(1).2, 1, "dropped");
    let error = fan.tee.set_metadata(b"again").unwrap_err();
    assert_eq!((error.kind(), error.buffer()), (ErrorKind::MetadataAlreadyWritten, &*fan.names[0]));
    drop(held);
    (0..3).for_each(|index| drop(fan.read(0, index)));
    fan.end();
}

#[test]
fn an_output_that_blocks_keeps_its_frame_until_there_is_space() {
    let small = sharing().payload_size(4096);
    let mut fan = Fan::with("tee-full", 3, 1, &small, &WriterOptions::default());
    let mut next = 0;
    for _ in 0..4 {
        fan.pass(1000);
    }
    fan.write(1000);
    // The first output has space, the second has none.
    (0..4).for_each(|index| drop(fan.read(0, index)));
    fan.read(2, 0);
    for _ in 0..2 {
        let error = fan.tee.step(SECOND).unwrap_err();
        assert_eq!((error.kind(), error.buffer()), (ErrorKind::BufferFull, &*fan.names[1]));
    }
    // No frame is read beside the one that waits.
    fan.write(1000);
    assert_eq!(fan.tee.flush().unwrap_err().kind(), ErrorKind::BufferFull);
    assert_eq!(fan.tee.reader().frames_read(), 5);
    drop(fan.read(1, next));
    fan.tee.flush().unwrap();
    next += 1;
    for index in next..5 {
        drop(fan.read(1, index));
        drop(fan.read(2, index));
    }
    drop(fan.read(0, 4));
    assert!(fan.tee.step(SECOND).unwrap());
    (0..3).for_each(|viewer| drop(fan.read(viewer, 5)));
    assert_eq!(fan.figures(3), (0, 2, 4));
    assert_eq!(fan.figures(0), (0, 6, 0));
    fan.end();
}

#[test]
fn a_tee_that_waits_is_interrupted_wherever_it_waits() {
    let small = sharing().payload_size(4096);
    let mut fan = Fan::with("tee-interrupt", 0, 0, &small, &WriterOptions::default());
    let name = Name::new("tee-interrupt-out");
    let mut viewer = Reader::create(&name, small).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    writer.set_write_timeout(Duration::MAX);
    fan.tee.add_block_output(writer);
    for _ in 0..4 {
        fan.pass(1000);
    }
    fan.write(1000);
    let handle = fan.tee.interrupt_handle();
    for _ in 0..2 {
        let thread = std::thread::spawn({
            let handle = handle.clone();
            move || handle.interrupt()
        });
        assert_eq!(fan.tee.step(Duration::MAX).unwrap_err().kind(), ErrorKind::Interrupted);
        thread.join().unwrap();
        handle.clear();
    }
    while viewer.try_read_frame().unwrap().is_some() {}
    fan.tee.flush().unwrap();
    assert!(viewer.try_read_frame().unwrap().is_some_and(|frame| is_filled(4, &frame)));
    handle.interrupt();
    assert_eq!(fan.tee.step(Duration::MAX).unwrap_err().kind(), ErrorKind::Interrupted);
    // One interrupt ends one call, whatever it might have waited for.
    for _ in 0..4 {
        fan.pass(1000);
    }
    fan.write(1000);
    let thread = std::thread::spawn(move || {
        std::thread::sleep(SECOND / 20);
        while viewer.try_read_frame().unwrap().is_some() {}
        viewer
    });
    assert!(fan.tee.step(SECOND).unwrap());
    let viewer = thread.join().unwrap();
    assert!(!fan.tee.step(Duration::from_millis(1)).unwrap());
    // An output that leaves takes no interrupt along.
    handle.interrupt();
    let mut writer = fan.tee.remove_output(&name).unwrap();
    writer.set_write_timeout(Duration::from_millis(1));
    let error = (0..10).find_map(|_| writer.write_frame(&[0; 1000]).err()).expect("it is full");
    assert_eq!(error.kind(), ErrorKind::BufferFull);
    drop(viewer);
    fan.end();
}

#[test]
fn a_frame_that_its_caller_keeps_goes_on_where_it_stopped_or_is_given_up() {
    let small = sharing().payload_size(4096);
    let mut fan = Fan::with("tee-kept", 2, 1, &small, &WriterOptions::default());
    for _ in 0..4 {
        fan.pass(1000);
    }
    (0..4).for_each(|index| drop(fan.read(0, index)));
    let next = |fan: &mut Fan| {
        fan.write(1000);
        fan.tee.read_frame(SECOND).unwrap().unwrap()
    };
    let frame = next(&mut fan);
    for _ in 0..2 {
        assert_eq!(fan.tee.forward_to(&frame).unwrap_err().kind(), ErrorKind::BufferFull);
    }
    fan.read(0, 4);
    fan.nothing_for(0);
    fan.read(1, 0);
    fan.tee.forward_to(&frame).unwrap();
    fan.nothing_for(0);
    // The next one is given up for one that comes behind it.
    let frame = next(&mut fan);
    assert_eq!(fan.tee.forward_to(&frame).unwrap_err().kind(), ErrorKind::BufferFull);
    drop(frame);
    (1..5).for_each(|index| drop(fan.read(1, index)));
    fan.pass(1000);
    fan.read(1, 6);
    (5..7).for_each(|index| drop(fan.read(0, index)));
    assert_eq!([fan.figures(0), fan.figures(1)], [(0, 7, 0), (0, 6, 1)]);
    fan.end();
}

fn ended(output: &TeeOutput) -> Option<ErrorKind> {
    output.ended()
}

#[test]
fn an_output_whose_reader_goes_ends_and_the_others_go_on() {
    let mut fan = Fan::new("tee-gone", 2, 3);
    for _ in 0..3 {
        let index = fan.pass(LARGE);
        (0..5).for_each(|viewer| drop(fan.read(viewer, index)));
    }
    fan.viewers[0] = None;
    fan.viewers[2] = None;
    // A writer looks at its reader every 10 ms.
    std::thread::sleep(SECOND / 20);
    fan.write(LARGE);
    let error = fan.tee.step(SECOND).unwrap_err();
    assert_eq!((error.kind(), error.buffer()), (ErrorKind::ReaderDead, &*fan.names[0]));
    for viewer in [1, 3, 4] {
        fan.read(viewer, 3);
    }
    assert_eq!(
        fan.tee.outputs().iter().map(ended).collect::<Vec<_>>(),
        [Some(ErrorKind::ReaderDead), None, Some(ErrorKind::ReaderDead), None, None]
    );
    for _ in 0..ROUNDS {
        let index = fan.pass(LARGE);
        [1, 3, 4].into_iter().for_each(|viewer| drop(fan.read(viewer, index)));
    }
    // Their successors take their places.
    fan.view(0, None, &sharing(), &requesting());
    fan.view(2, Some(2), &sharing(), &requesting());
    for _ in 0..ROUNDS {
        let index = fan.pass(LARGE);
        (0..5).for_each(|viewer| drop(fan.read(viewer, index)));
    }
    assert_eq!(fan.tee.outputs().len(), 5);
    assert!(fan.tee.outputs().iter().all(|output| output.frames_shared() >= ROUNDS - 1));
    assert_eq!(fan.tee.reader().payload_share_count(), 0);
    fan.end();
}

#[test]
fn outputs_come_and_go() {
    let mut fan = Fan::new("tee-come", 1, 2);
    let mut held = Vec::new();
    for _ in 0..2 {
        let index = fan.pass(LARGE);
        fan.read(0, index);
        held.extend((1..3).map(|viewer| (index, fan.read(viewer, index))));
    }
    let name = fan.names[1].to_string();
    let mut writer = fan.tee.remove_output(&name).unwrap();
    assert!(fan.tee.remove_output(&name).is_none());
    // With one output that drops there is no need for the pool, with three a larger one.
    let index = fan.pass(LARGE);
    fan.read(0, index);
    fan.nothing_for(1);
    writer.write_frame(b"its own").unwrap();
    assert_eq!(&*fan.viewers[1].as_mut().unwrap().try_read_frame().unwrap().unwrap(), b"its own");
    fan.tee.add_drop_output(writer, 2);
    for more in [3, 4] {
        fan.names.push(Name::new(&format!("tee-come-{more}")));
        fan.view(more, Some(5), &sharing(), &requesting());
    }
    for round in 0..ROUNDS {
        let index = fan.pass(LARGE + round as usize * 4000);
        for viewer in [0, 3, 4] {
            fan.read(viewer, index);
        }
        for (index, frame) in &held {
            assert!(is_filled(*index, frame), "frame {index} has changed");
        }
    }
    drop(held);
    let mut seen = 0;
    for viewer in [1, 2] {
        while let Some(frame) = fan.viewers[viewer].as_mut().unwrap().try_read_frame().unwrap() {
            assert!((0..fan.written).any(|index| is_filled(index, &frame)));
            seen += 1;
        }
    }
    assert!(seen <= 4);
    for _ in 0..ROUNDS {
        let index = fan.pass(LARGE);
        (0..5).for_each(|viewer| drop(fan.read(viewer, index)));
    }
    assert!((0..5).all(|output| fan.figures(output).0 >= ROUNDS - 2), "{:?}", fan.tee.outputs());
    fan.end();
}

#[test]
fn frames_that_do_not_fit_an_output_pass_it_by() {
    let mut fan = Fan::with("tee-large", 1, 1, &sharing().payload_size(50_000), &requesting());
    fan.names.push(Name::new("tee-large-2"));
    fan.view(2, None, &sharing(), &requesting());
    fan.write(LARGE);
    let error = fan.tee.step(SECOND).unwrap_err();
    assert_eq!((error.kind(), error.buffer()), (ErrorKind::FrameTooLarge, &*fan.names[0]));
    fan.read(2, 0);
    let index = fan.pass(1000);
    (0..3).for_each(|viewer| drop(fan.read(viewer, index)));
    assert_eq!([fan.figures(0), fan.figures(1), fan.figures(2)], [(0, 1, 1), (0, 1, 1), (0, 2, 0)]);
    fan.end();
}

#[test]
fn a_tee_without_outputs_lets_frames_go_and_gives_its_reader_back() {
    let mut fan = Fan::new("tee-none", 0, 0);
    for _ in 0..ROUNDS {
        fan.pass(LARGE);
    }
    fan.camera.close().unwrap();
    fan.tee.run().unwrap();
    let reader = fan.tee.into_reader();
    assert_eq!(reader.frames_read(), ROUNDS);
}

#[test]
fn writers_that_were_offered_the_source_are_lent_the_pool() {
    let mut fan = Fan::new("tee-offered", 0, 0);
    let names = [1, 2].map(|index| Name::new(&format!("tee-offered-{index}")));
    let mut kept = Vec::new();
    for name in &names {
        let shared = zerobuffer::SharedWriter::create(name, fan.tee.reader()).unwrap();
        let (writer, keeper) = shared.into_parts();
        kept.push(keeper);
        fan.tee.add_drop_output(writer, 2);
    }
    let mut viewers = names.each_ref().map(|name| Reader::create(name, sharing()).unwrap());
    for _ in 0..ROUNDS {
        let index = fan.pass(LARGE);
        for viewer in &mut viewers {
            let frame = viewer.try_read_frame().unwrap().unwrap();
            assert!(is_filled(index, &frame));
        }
    }
    assert_eq!([fan.figures(0), fan.figures(1)], [(ROUNDS - 1, 1, 0); 2]);
    assert_eq!(fan.tee.reader().payload_share_count(), 0);
    fan.end();
}
