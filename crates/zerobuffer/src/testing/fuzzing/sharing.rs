//! UNSAFE: what the fuzzer drives where frames are lent: a camera, a relay and a viewer on two small buffers, with forged words in
//! the sharing block, in references, and in the source that is offered.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Duration;

use super::Bytes;
use crate::layout::{Geometry, OIEB_SIZE, SHARING_SIZE};
use crate::memory::Memory;
use crate::memory::mapping::Mapping;
use crate::os;
use crate::sync::{AtomicU64, Ordering};
use crate::{BufferConfig, Frame, Reader, Writer, WriterOptions};

const METADATA: usize = 64;
const PAYLOAD: usize = 4096;

/// Frames that the viewer holds at once.
const HELD: usize = 4;

thread_local! {
    /// Runs of this thread.
    static RUNS: Cell<u32> = const { Cell::new(0) };
}

/// Passes frames on. If the first byte is odd, also forges words meanwhile.
pub fn sharing(input: &[u8]) {
    let bytes = &mut Bytes(input);
    let honest = bytes.byte() & 1 == 0;
    let mut stage = Stage::new();
    while !bytes.0.is_empty() {
        match bytes.byte() % 10 {
            0 | 1 => stage.write(usize::from(bytes.byte()) * 8 + 1),
            2 | 3 => stage.forward(honest),
            4 => stage.read(honest, false),
            5 => stage.read(honest, !honest),
            6 => stage.release(usize::from(bytes.byte()), honest),
            7 if !honest => stage.forge_output(bytes),
            8 if !honest => stage.forge_source(bytes),
            9 if !honest => stage.offer(bytes),
            // Settles. A frame that is held keeps those behind it lent, so there may be any number.
            9 => assert!(stage.relay.payload_share_count() <= stage.written),
            _ => {}
        }
    }
    if honest {
        stage.end();
    }
}

/// A frame as the camera has written it: bytes, each of this value.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Is {
    len: usize,
    value: u8,
}

impl Is {
    fn of(frame: &Frame) -> Option<Is> {
        let is = Is { len: frame.len(), value: frame[0] };
        frame.iter().all(|byte| *byte == is.value).then_some(is)
    }
}

struct Stage {
    camera: Writer,
    relay: Reader,
    output: Writer,
    viewer: Reader,
    /// What an attacker sees of the two buffers.
    source: Segment,
    target: Segment,
    written: u64,
    /// Frames in the source, and in the output.
    unread: VecDeque<Is>,
    forwarded: VecDeque<Is>,
    held: Vec<(Frame, Option<Is>)>,
}

impl Stage {
    fn new() -> Stage {
        let run = RUNS.get();
        RUNS.set(run.wrapping_add(1));
        let name = |end: &str| format!("zbtest-fuzz-share-{}-{run}-{end}", std::process::id());
        let [source, target] = [name("in"), name("out")];
        let config = BufferConfig::default().metadata_size(METADATA).payload_size(PAYLOAD);
        let config = config.allow_payload_sharing(true);
        let options = WriterOptions::default().write_timeout(Duration::ZERO);
        let relay = Reader::create(&source, config.clone()).expect("the source is created");
        let viewer = Reader::create(&target, config).expect("the output is created");
        Stage {
            camera: Writer::connect_with(&source, options.clone()).expect("connected"),
            output: Writer::connect_with(&target, options.request_payload_sharing(true)).expect("connected"),
            relay,
            viewer,
            source: Segment::open(&source),
            target: Segment::open(&target),
            written: 0,
            unread: VecDeque::new(),
            forwarded: VecDeque::new(),
            held: Vec::new(),
        }
    }

    fn write(&mut self, len: usize) {
        let is = Is { len, value: self.written as u8 };
        if let Ok(Some(_)) = self.camera.try_write_frame(&vec![is.value; len]) {
            self.written += 1;
            self.unread.push_back(is);
        }
    }

    fn forward(&mut self, honest: bool) {
        let Ok(Some(frame)) = self.relay.try_read_frame() else { return };
        let is = self.unread.pop_front();
        assert!(!honest || Is::of(&frame) == is, "the source");
        match self.output.forward(frame) {
            Ok(_) => self.forwarded.extend(is),
            Err((error, _)) => assert!(!honest || error.kind() == crate::ErrorKind::BufferFull, "{error}"),
        }
    }

    fn read(&mut self, honest: bool, latest: bool) {
        let read = match latest {
            true => self.viewer.read_latest_frame(Duration::ZERO),
            false => self.viewer.try_read_frame(),
        };
        let frame = match read {
            Ok(Some(frame)) => frame,
            Ok(None) => return assert!(!honest || self.forwarded.is_empty(), "a frame is not seen"),
            Err(error) => return assert!(!honest, "{error}"),
        };
        let expected = self.forwarded.pop_front();
        // Touches every byte.
        let is = Is::of(&frame);
        assert!(!honest || is.is_some() && is == expected, "{is:?}, not {expected:?}");
        self.held.push((frame, is));
        if self.held.len() > HELD {
            self.release(0, honest);
        }
    }

    fn release(&mut self, which: usize, honest: bool) {
        if self.held.is_empty() {
            return;
        }
        let (frame, is) = self.held.swap_remove(which % self.held.len());
        let now = Is::of(&frame);
        assert!(!honest || now == is, "{is:?} has become {now:?}");
    }

    /// Changes a word of the output: of its sharing block, of its control block, or of its ring.
    fn forge_output(&self, bytes: &mut Bytes<'_>) {
        let target = &self.target;
        let control = target.geometry.control.expect("asked for") as usize / 8;
        let sharing = target.geometry.sharing_offset().expect("asked for") as usize / 8;
        let ring = target.geometry.payload_offset() as usize / 8;
        let [part, index] = [bytes.byte(), bytes.byte()].map(usize::from);
        let at = match part % 4 {
            0 => sharing + index % (SHARING_SIZE as usize / 8),
            // Offer, device, inode, size and name; what was accepted.
            1 => sharing + [0, 8, 9, 10, 11, 16, 17, 48, 49, 64][index % 10],
            2 => control + [0, 1, 2, 3, 4, 5, 16, 32, 48][index % 9],
            // Headers and references.
            _ => ring + index % 256,
        };
        target.change(at, bytes);
    }

    /// Changes what the source says of itself, which a viewer believes when it accepts.
    fn forge_source(&self, bytes: &mut Bytes<'_>) {
        let geometry = &self.source.geometry;
        let enabled = geometry.sharing_offset().expect("asked for") as usize / 8;
        let at = [0, 1, 4, 12, 13, enabled][usize::from(bytes.byte()) % 6];
        self.source.change(at, bytes);
    }

    /// Offers the source under a new number, which the viewer looks at next.
    fn offer(&self, bytes: &mut Bytes<'_>) {
        let sharing = self.target.mapping.sharing().expect("asked for");
        let number = &sharing.offer.offer;
        number.store(number.load(Ordering::Relaxed).wrapping_add(u64::from(bytes.byte())), Ordering::Relaxed);
    }

    /// What was lent is back when its viewer has released it.
    fn end(mut self) {
        while !self.forwarded.is_empty() {
            self.read(true, false);
        }
        while !self.held.is_empty() {
            self.release(0, true);
        }
        assert_eq!(self.relay.payload_share_count(), 0, "loans are left");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The handles' own ends find what they need.
        self.source.restore();
        self.target.restore();
    }
}

/// A buffer as an attacker maps it.
struct Segment {
    mapping: Mapping,
    geometry: Geometry,
    /// The first block as it was at the beginning.
    block: [u64; OIEB_SIZE as usize / 8],
}

impl Segment {
    fn open(name: &str) -> Segment {
        let geometry = Geometry::new(METADATA as u64, PAYLOAD as u64, true, true).expect("small");
        let segment = os::Segment::open(name, true).expect("the buffer is there");
        let mapping = Mapping::new(&segment, geometry, false).expect("mmap");
        let mut segment = Segment { mapping, geometry, block: [0; OIEB_SIZE as usize / 8] };
        segment.block = std::array::from_fn(|at| segment.words()[at].load(Ordering::Relaxed));
        segment
    }

    /// All 8-byte words of the segment.
    fn words(&self) -> &[AtomicU64] {
        let words = self.geometry.total().expect("small") as usize / 8;
        // SAFETY: the mapping is that long, page-aligned, and lives as long as `self`; atomics may be shared.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self.mapping.oieb()).cast(), words) }
    }

    fn change(&self, at: usize, bytes: &mut Bytes<'_>) {
        let word = &self.words()[at];
        word.store(bytes.number(word.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// Undoes what was changed in the parts of the first block that never change.
    fn restore(&self) {
        for at in [0, 1, 4, 12, 13] {
            self.words()[at].store(self.block[at], Ordering::Relaxed);
        }
    }
}
