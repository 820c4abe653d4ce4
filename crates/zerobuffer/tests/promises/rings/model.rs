//! Whole random runs of the public API against a simple model: a queue of frames, a list of frames held, and the rules of
//! docs/API.md for what a call may answer.

use super::support;
use super::support::ledger::Stopwatch;

use std::collections::VecDeque;
use std::time::Duration;

use super::support::{Name, fill, is_filled};
use proptest::prelude::*;
use zerobuffer::{ErrorKind, Frame, Reader, Result, Writer, inspect};

const HEADER: usize = 16;

/// One step of a run. Sizes are shares of the ring's capacity, so that they fit any ring.
#[derive(Debug, Clone)]
enum Step {
    Write(Size),
    TryWrite(Size),
    WriteBatch(Vec<Size>),
    /// Acquire so much, commit this share of it.
    CommitPart(Size, u8),
    CommitTooMuch(Size),
    CommitNothing(Size),
    Discard(Size),
    /// With a frame acquired, nothing else may be written.
    AcquireTwice(Size),
    Read,
    ReadRef,
    ReadBatch(usize),
    ReadLatest,
    ReadLatestRef,
    /// Which of the frames held.
    Release(usize),
    ReleaseAll,
    CloseWriter,
    Connect,
}

#[derive(Debug, Clone, Copy)]
enum Size {
    Nothing,
    Tiny(usize),
    /// Of 1000.
    Share(usize),
    /// So many bytes less than the largest frame.
    Largest(usize),
    TooLarge(usize),
}

impl Size {
    fn bytes(self, capacity: usize) -> usize {
        let largest = capacity - HEADER;
        match self {
            Size::Nothing => 0,
            Size::Tiny(bytes) => bytes.min(largest),
            Size::Share(share) => (largest * share / 1000).max(1),
            Size::Largest(less) => largest.saturating_sub(less).max(1),
            Size::TooLarge(more) => largest + more,
        }
    }
}

fn size() -> impl Strategy<Value = Size> {
    prop_oneof![
        1 => Just(Size::Nothing),
        6 => (1_usize..40).prop_map(Size::Tiny),
        12 => (1_usize..600).prop_map(Size::Share),
        2 => (0_usize..20).prop_map(Size::Largest),
        1 => prop_oneof![1_usize..20, Just(usize::MAX / 2)].prop_map(Size::TooLarge),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => size().prop_map(Step::Write),
        8 => size().prop_map(Step::TryWrite),
        2 => prop::collection::vec(size(), 0..5).prop_map(Step::WriteBatch),
        4 => (size(), any::<u8>()).prop_map(|(size, share)| Step::CommitPart(size, share)),
        1 => size().prop_map(Step::CommitTooMuch),
        1 => size().prop_map(Step::CommitNothing),
        2 => size().prop_map(Step::Discard),
        1 => size().prop_map(Step::AcquireTwice),
        16 => Just(Step::Read),
        4 => Just(Step::ReadRef),
        3 => (0_usize..6).prop_map(Step::ReadBatch),
        2 => Just(Step::ReadLatest),
        1 => Just(Step::ReadLatestRef),
        12 => any::<usize>().prop_map(Step::Release),
        2 => Just(Step::ReleaseAll),
        1 => Just(Step::CloseWriter),
        3 => Just(Step::Connect),
    ]
}

/// A frame as the model knows it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    id: u64,
    len: usize,
    sequence: u64,
}

impl Known {
    fn check(&self, bytes: &[u8], sequence: u64) {
        assert_eq!((bytes.len(), sequence), (self.len, self.sequence), "frame {}", self.id);
        assert!(is_filled(self.id, bytes), "frame {} does not hold what was written", self.id);
    }
}

struct Run {
    name: Name,
    capacity: usize,
    reader: Reader,
    writer: Option<Writer>,
    /// Committed, not read.
    unread: VecDeque<Known>,
    held: Vec<(Frame, Known)>,
    /// Read, oldest first, until given back: bytes go back in ring order.
    lent: VecDeque<(Known, bool)>,
    /// The largest frame so far.
    largest: usize,
    next_id: u64,
    sequence: u64,
    /// Writers so far, and the last of them whose end was reported.
    writers: u64,
    reported: u64,
    /// Frames were read since an end was reported.
    news: bool,
    read: (u64, u64),
    skipped: u64,
}

/// The result of a reader's call: content and sequence number of a frame, nothing, or an error.
type Found = std::result::Result<Option<(Vec<u8>, u64)>, ErrorKind>;

/// The required next result of the reader.
#[derive(Debug, PartialEq)]
enum Answer {
    Frame(Known),
    Nothing,
    Closed,
}

impl Run {
    fn new(capacity: usize) -> Run {
        let name = Name::new("model");
        let reader = Reader::create(&name, support::config().payload_size(capacity)).unwrap();
        Run {
            name,
            capacity,
            reader,
            writer: None,
            unread: VecDeque::new(),
            held: Vec::new(),
            lent: VecDeque::new(),
            largest: 0,
            next_id: 0,
            sequence: 0,
            writers: 0,
            reported: 0,
            news: false,
            read: (0, 0),
            skipped: 0,
        }
    }

    // ---- the writer's side ----

    /// Whether a frame of `len` bytes must find a place, must not, or may do either, judged from public
    /// information.
    fn must_fit(&self, len: usize) -> Option<bool> {
        let need = len + HEADER;
        if self.unread.is_empty() && self.lent.is_empty() {
            return Some(true);
        }
        if !support::is_classic() {
            return self.must_fit_extended(len);
        }
        let snapshot = inspect::snapshot(&self.name).unwrap();
        let (free, position) = (snapshot.payload_free as usize, snapshot.write_position as usize);
        let rest = self.capacity - position;
        if need > free {
            return Some(false);
        }
        let straight = need <= rest;
        if straight || rest + need <= free { Some(true) } else { None }
    }

    /// The model of an extended ring, from the promises of docs/PROTOCOL.md.
    fn must_fit_extended(&self, len: usize) -> Option<bool> {
        let unit = |len: usize| (len + HEADER).next_multiple_of(16);
        let lent = self.lent.iter().map(|(known, _)| known);
        let live: usize = self.unread.iter().chain(lent).map(|known| unit(known.len)).sum();
        let snapshot = inspect::snapshot(&self.name).unwrap();
        // All behind the first block and the metadata, but for the control block.
        if (live + unit(len)) as u64 > snapshot.file_size - 128 - snapshot.metadata_size - 512 {
            return Some(false);
        }
        let used = self.capacity - snapshot.payload_free as usize;
        // Headers take up to 80 bytes, ends are rounded up.
        let most = self.largest.max(len) + 96;
        (used + 2 * most <= self.capacity).then_some(true)
    }

    /// Checks the answer to an attempt to write, and notes the frame if it was taken.
    fn wrote(&mut self, len: usize, must_fit: Option<bool>, result: Result<Option<u64>>) {
        let largest = self.capacity - HEADER;
        let expected = match len {
            0 => Some(ErrorKind::InvalidFrameSize),
            len if len > largest => Some(ErrorKind::FrameTooLarge),
            _ => None,
        };
        match result {
            Err(error) if error.kind() == ErrorKind::BufferFull => self.refused(len, must_fit),
            Err(error) => assert_eq!(Some(error.kind()), expected, "{error}"),
            Ok(None) => self.refused(len, must_fit),
            Ok(Some(sequence)) => {
                assert_eq!(expected, None, "a frame of {len} bytes was taken");
                assert_ne!(must_fit, Some(false), "a frame of {len} bytes was taken where there is no space");
                self.committed(len, sequence);
            }
        }
    }

    fn refused(&self, len: usize, must_fit: Option<bool>) {
        assert_ne!(
            must_fit,
            Some(true),
            "a frame of {len} bytes was refused: {:?}",
            inspect::snapshot(&self.name).unwrap()
        );
    }

    fn committed(&mut self, len: usize, sequence: u64) {
        self.sequence += 1;
        assert_eq!(sequence, self.sequence);
        self.largest = self.largest.max(len);
        self.unread.push_back(Known { id: self.next_id, len, sequence });
        self.next_id += 1;
    }

    fn content(&self, size: Size) -> Vec<u8> {
        // A frame that is too large is refused whether or not the buffer is full.
        let mut data = vec![0; size.bytes(self.capacity).min(self.capacity * 2)];
        fill(self.next_id, &mut data);
        data
    }

    fn write(&mut self, step: &Step) {
        let Some(mut writer) = self.writer.take() else { return };
        let capacity = self.capacity;
        match step {
            Step::Write(size) => {
                let data = self.content(*size);
                let must_fit = self.must_fit(data.len());
                self.wrote(data.len(), must_fit, writer.write_frame(&data).map(Some));
            }
            Step::TryWrite(size) => {
                let data = self.content(*size);
                let must_fit = self.must_fit(data.len());
                self.wrote(data.len(), must_fit, writer.try_write_frame(&data));
            }
            Step::WriteBatch(sizes) => {
                let before = writer.frames_written();
                let first = self.next_id;
                let batch: Vec<Vec<u8>> = sizes
                    .iter()
                    .zip(first..)
                    .map(|(size, id)| {
                        let mut data = vec![0; size.bytes(capacity).min(capacity * 2)];
                        fill(id, &mut data);
                        data
                    })
                    .collect();
                let result = writer.write_frames(&batch);
                let written = (writer.frames_written() - before) as usize;
                for data in &batch[..written] {
                    self.committed(data.len(), self.sequence + 1);
                }
                match result {
                    Ok(count) => assert_eq!((count, written), (batch.len(), batch.len())),
                    // The frame that failed must deserve it.
                    Err(error) => {
                        let failed = batch[written].len();
                        let must_fit = self.must_fit(failed);
                        self.wrote(failed, must_fit, Err(error));
                    }
                }
            }
            Step::CommitPart(size, share) => {
                let len = size.bytes(capacity);
                let must_fit = self.must_fit(len);
                match writer.try_acquire_frame(len) {
                    Ok(Some(mut frame)) => {
                        assert_eq!(frame.len(), len);
                        let part = (len * usize::from(*share)).div_ceil(255).max(1);
                        fill(self.next_id, &mut frame[..part]);
                        let result = frame.commit_len(part).map(Some);
                        assert_ne!(must_fit, Some(false));
                        self.wrote(part, None, result);
                    }
                    result => self.wrote(len, must_fit, result.map(|_| None)),
                }
            }
            Step::CommitTooMuch(size) | Step::CommitNothing(size) | Step::Discard(size) => {
                if let Ok(Some(mut frame)) = writer.try_acquire_frame(size.bytes(capacity)) {
                    frame.fill(0xee);
                    let too_much = frame.len() + 1;
                    let bad = match step {
                        Step::CommitTooMuch(_) => Some(too_much),
                        Step::CommitNothing(_) => Some(0),
                        _ => None,
                    };
                    match bad {
                        Some(len) => {
                            assert_eq!(
                                frame.commit_len(len).unwrap_err().kind(),
                                ErrorKind::InvalidFrameSize
                            );
                        }
                        None => drop(frame),
                    }
                };
                // In each case nothing is acquired any more.
                assert_eq!(writer.commit_frame(None).unwrap_err().kind(), ErrorKind::InvalidState);
            }
            Step::AcquireTwice(size) => {
                if writer.acquire_frame_buffer(size.bytes(capacity)).is_ok() {
                    let kinds = [
                        writer.write_frame(b"second").unwrap_err().kind(),
                        writer.try_write_frame(b"second").unwrap_err().kind(),
                        writer.acquire_frame_buffer(1).unwrap_err().kind(),
                        writer.write_frames([b"second"]).unwrap_err().kind(),
                    ];
                    assert_eq!(kinds, [ErrorKind::InvalidState; 4]);
                    writer.discard_frame();
                }
                assert_eq!(writer.commit_frame(None).unwrap_err().kind(), ErrorKind::InvalidState);
            }
            _ => unreachable!("not a writer's step"),
        }
        self.writer = Some(writer);
    }

    fn connect(&mut self) {
        if self.writer.is_some() {
            let error = Writer::connect(&self.name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WriterAlreadyConnected);
            return;
        }
        let mut writer = Writer::connect(&self.name).unwrap();
        writer.set_write_timeout(Duration::ZERO);
        assert_eq!(writer.max_frame_size(), self.capacity - HEADER);
        self.writer = Some(writer);
        self.writers += 1;
        self.sequence = 0;
    }

    // ---- the reader's side ----

    fn answer(&mut self) -> Answer {
        match self.unread.front() {
            // A new writer's first frame waits until the end of the one before is told.
            Some(known) if known.sequence == 1 && self.news => {
                self.news = false;
                Answer::Closed
            }
            Some(_) => {
                self.news = true;
                self.unread.pop_front().map_or(Answer::Nothing, Answer::Frame)
            }
            None if self.writer.is_none() && (self.news || self.reported != self.writers) => {
                self.reported = self.writers;
                self.news = false;
                Answer::Closed
            }
            None => Answer::Nothing,
        }
    }

    fn check_answer(answer: &Answer, found: Found) {
        match (answer, found) {
            (Answer::Frame(known), Ok(Some((bytes, sequence)))) => known.check(&bytes, sequence),
            (Answer::Nothing, Ok(None)) => {}
            (Answer::Closed, Err(ErrorKind::WriterClosed)) => {}
            (answer, found) => panic!("{answer:?} was expected, {found:?} came"),
        }
    }

    fn took(&mut self, known: Known) {
        self.read.0 += 1;
        self.read.1 += known.len as u64;
        self.lent.push_back((known, false));
    }

    fn gave_back(&mut self, id: u64) {
        self.lent.iter_mut().filter(|(lent, _)| lent.id == id).for_each(|(_, released)| *released = true);
        while self.lent.front().is_some_and(|(_, released)| *released) {
            self.lent.pop_front();
        }
    }

    fn read(&mut self) {
        let answer = self.answer();
        let result = self.reader.try_read_frame().map_err(|error| error.kind());
        let found =
            result.as_ref().map(|frame| frame.as_ref().map(|frame| (frame.to_vec(), frame.sequence())));
        Run::check_answer(&answer, found.map_err(|kind| *kind));
        if let (Answer::Frame(known), Ok(Some(frame))) = (answer, result) {
            self.took(known);
            self.held.push((frame, known));
        }
    }

    fn read_ref(&mut self) {
        let answer = self.answer();
        let result = self.reader.read_frame_ref(Duration::ZERO).map_err(|error| error.kind());
        let found = result.map(|frame| frame.map(|frame| (frame.to_vec(), frame.sequence())));
        Run::check_answer(&answer, found);
        if let Answer::Frame(known) = answer {
            self.took(known);
            self.gave_back(known.id);
        }
    }

    fn read_batch(&mut self, max: usize) {
        let mut frames = Vec::new();
        let result = self.reader.read_frames(&mut frames, max, Duration::ZERO);
        if max == 0 {
            assert_eq!(result.unwrap(), 0);
            return;
        }
        let first = self.answer();
        let Answer::Frame(first) = first else {
            assert!(frames.is_empty());
            return Run::check_answer(&first, result.map(|_| None).map_err(|error| error.kind()));
        };
        // An error waits for the next call once there are frames.
        let mut expected = vec![first];
        while expected.len() < max && self.unread.front().is_some_and(|known| known.sequence != 1) {
            expected.extend(self.unread.pop_front());
        }
        assert_eq!(result.unwrap(), expected.len());
        assert_eq!(frames.len(), expected.len());
        for (frame, known) in frames.into_iter().zip(expected) {
            known.check(&frame, frame.sequence());
            self.took(known);
            self.held.push((frame, known));
        }
    }

    /// The model reads all frames of one writer that there are, and keeps the last one.
    fn read_latest(&mut self, borrowed: bool) {
        let mut answer = self.answer();
        while let Answer::Frame(known) = answer
            && self.unread.front().is_some_and(|next| next.sequence != 1)
        {
            self.lent.push_back((known, true));
            self.skipped += 1;
            answer = self.unread.pop_front().map_or(Answer::Nothing, Answer::Frame);
        }
        if borrowed {
            let result = self.reader.read_latest_frame_ref(Duration::ZERO).map_err(|error| error.kind());
            let found = result.map(|frame| frame.map(|frame| (frame.to_vec(), frame.sequence())));
            Run::check_answer(&answer, found);
        } else {
            let result = self.reader.read_latest_frame(Duration::ZERO).map_err(|error| error.kind());
            let found =
                result.as_ref().map(|frame| frame.as_ref().map(|frame| (frame.to_vec(), frame.sequence())));
            Run::check_answer(&answer, found.map_err(|kind| *kind));
            if let (Answer::Frame(known), Ok(Some(frame))) = (&answer, result) {
                self.held.push((frame, *known));
            }
        }
        if let Answer::Frame(known) = answer {
            self.took(known);
            let id = if borrowed { known.id } else { u64::MAX };
            self.gave_back(id);
        }
    }

    fn release(&mut self, which: usize) {
        if self.held.is_empty() {
            return;
        }
        let (frame, known) = self.held.swap_remove(which % self.held.len());
        // It was not overwritten while it was held.
        known.check(&frame, frame.sequence());
        frame.release();
        self.gave_back(known.id);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Read => self.read(),
            Step::ReadRef => self.read_ref(),
            Step::ReadBatch(max) => self.read_batch(*max),
            Step::ReadLatest => self.read_latest(false),
            Step::ReadLatestRef => self.read_latest(true),
            Step::Release(which) => self.release(*which),
            Step::ReleaseAll => (0..self.held.len()).for_each(|which| self.release(which * 7)),
            Step::CloseWriter => drop(self.writer.take()),
            Step::Connect => self.connect(),
            step => self.write(step),
        }
        self.check();
    }

    /// Checks the invariants.
    fn check(&mut self) {
        let snapshot = inspect::snapshot(&self.name).unwrap();
        assert!(snapshot.defects.is_empty(), "{:?}", snapshot.defects);
        let used = self.capacity - snapshot.payload_free as usize;
        let unread: usize = self.unread.iter().map(|known| known.len + HEADER).sum();
        assert!(used >= unread.min(self.capacity), "{used} bytes in use, {unread} of them unread");
        if self.unread.is_empty() && self.lent.is_empty() {
            assert_eq!(used, 0, "an empty ring with bytes in use");
        }
        assert_eq!((self.reader.frames_read(), self.reader.bytes_read()), self.read);
        assert_eq!(self.reader.frames_skipped(), self.skipped);
        let connected = self.writer.is_some() || !self.unread.is_empty();
        assert_eq!(self.reader.is_writer_connected(), connected);
        for (frame, known) in &self.held {
            known.check(frame, frame.sequence());
        }
    }

    /// Reads what is left, then ends both sides; frames outlive them.
    fn finish(mut self) {
        self.writer = None;
        while !self.unread.is_empty() {
            self.read();
            if self.held.len() > 3 {
                self.release(self.held.len() / 2);
            }
            self.check();
        }
        self.connect();
        let Run { name, reader, writer, held, .. } = self;
        let mut writer = writer.expect("connected");
        drop(reader);
        let start = Stopwatch::start();
        // A writer that never waits looks at its reader every 10 ms.
        let error = loop {
            match writer.try_write_frame(b"never read") {
                Ok(_) => start.assert_within(Duration::from_secs(1)),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::ReaderDead, "{error}");
        drop(writer);
        name.assert_nothing_left();
        for (frame, known) in held {
            known.check(&frame, frame.sequence());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if support::full() { 20_000 } else { 400 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Exactly the frames that were written come out, in order and whole, and every refusal has its reason.
    #[test]
    fn whole_runs_agree_with_a_queue(
        blocks in prop_oneof![1_usize..5, 5_usize..40],
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut run = Run::new(blocks * 64);
        run.connect();
        for step in &steps {
            run.step(step);
        }
        run.finish();
    }
}

#[test]
fn failure_02_bytes_go_back_in_ring_order_only() {
    let name = Name::new("order");
    let mut reader = Reader::create(&name, support::config().payload_size(1024)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    let snapshot = || inspect::snapshot(&name).unwrap();
    // What was given back: in an extended ring it may be more than the payload before `payload_free` shows any.
    let back = || if support::is_classic() { snapshot().payload_free } else { snapshot().read_position };
    // Five fill the ring.
    let (len, bytes) = if support::is_classic() { (184, 200) } else { (256, 272) };
    let one_more = [0xee; 256];
    let one_more = &one_more[..len];
    for id in 0..5 {
        let mut frame = writer.acquire_frame(len).unwrap();
        fill(id, &mut frame);
        frame.commit().unwrap();
    }
    assert!(writer.try_write_frame(one_more).unwrap().is_none());
    let mut frames = Vec::new();
    assert_eq!(reader.read_frames(&mut frames, 9, Duration::ZERO).unwrap(), 5);
    let mut frames: Vec<Option<Frame>> = frames.into_iter().map(Some).collect();
    let before = back();
    // The oldest and the fourth are held, all others released: nothing goes back, and nothing is overwritten.
    for released in [4, 2, 1] {
        frames[released] = None;
        assert_eq!(back(), before, "frame {released} went back before its elders");
        assert_eq!(writer.try_write_frame(one_more).unwrap(), None);
    }
    for held in [0, 3] {
        assert!(is_filled(held as u64, frames[held].as_ref().unwrap()));
    }
    // The oldest takes its released successors with it, up to the next one held.
    frames[0] = None;
    // The header of the first frame in an extended ring has room for the writer's word.
    let word = if support::is_classic() { 0 } else { 16 };
    assert_eq!(back(), before + 3 * bytes + word);
    for id in [5, 6] {
        let mut frame = writer.acquire_frame(150).unwrap();
        fill(id, &mut frame);
        frame.commit().unwrap();
    }
    assert!(is_filled(3, frames[3].as_ref().unwrap()), "a frame still held was overwritten");
    frames[3] = None;
    for id in [5, 6] {
        assert!(is_filled(id, &reader.try_read_frame().unwrap().unwrap()));
    }
    assert_eq!(snapshot().payload_free, 1024);
}

#[test]
fn failure_16_an_empty_ring_takes_every_legal_frame_at_any_position() {
    const CAPACITY: usize = 512;
    let name = Name::new("legal");
    let mut reader = Reader::create(&name, support::config().payload_size(CAPACITY)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    let mut positions = std::collections::BTreeSet::new();
    for len in 1..=CAPACITY - HEADER {
        for largest in [CAPACITY - HEADER, CAPACITY - HEADER - 1, CAPACITY / 2, len] {
            for (id, size) in [(1, len), (2, largest)] {
                positions.insert(inspect::snapshot(&name).unwrap().write_position);
                let mut data = vec![0; size];
                fill(id, &mut data);
                let result = if len % 2 == 0 {
                    writer.try_write_frame(&data)
                } else {
                    writer.try_acquire_frame(size).and_then(|frame| {
                        let Some(mut frame) = frame else { return Ok(None) };
                        frame.copy_from_slice(&data);
                        frame.commit().map(Some)
                    })
                };
                assert!(result.unwrap().is_some(), "{size} bytes: {:?}", inspect::snapshot(&name));
                assert!(is_filled(id, &reader.try_read_frame().unwrap().unwrap()));
            }
        }
        // The next writer finds the ring where the last one left it.
        if len % 3 == 0 {
            writer.close().unwrap();
            assert_eq!(reader.try_read_frame().unwrap_err().kind(), ErrorKind::WriterClosed);
            writer = Writer::connect(&name).unwrap();
        }
    }
    // Frames of an extended ring start at multiples of 16.
    let possible = if support::is_classic() { CAPACITY } else { CAPACITY / 16 };
    assert!(positions.len() > possible / 2, "only {} positions", positions.len());
}

#[test]
fn failure_18_frames_that_never_fit_are_refused_at_once() {
    let name = Name::new("too-large");
    let _reader = Reader::create(&name, support::config().payload_size(1000)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    writer.set_write_timeout(Duration::MAX);
    let largest = writer.max_frame_size();
    assert_eq!(largest, 1024 - HEADER);
    writer.write_frame(&vec![1; largest]).unwrap();
    // The ring is full now, and would let a frame that fits wait without end.
    let start = Stopwatch::start();
    let data = vec![0; largest + 1];
    let errors = [
        writer.write_frame(&data).unwrap_err(),
        writer.try_write_frame(&data).unwrap_err(),
        writer.write_frames([&data]).unwrap_err(),
        writer.acquire_frame(largest + 1).unwrap_err(),
        writer.try_acquire_frame(usize::MAX).unwrap_err(),
        writer.acquire_frame_buffer(usize::MAX - 15).unwrap_err(),
    ];
    start.assert_within(Duration::from_millis(100));
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::FrameTooLarge);
        assert!(error.to_string().contains("larger payload"), "no way out told: {error}");
    }
    assert_eq!(writer.write_frame(&[]).unwrap_err().kind(), ErrorKind::InvalidFrameSize);
    assert_eq!(writer.frames_written(), 1);
}
