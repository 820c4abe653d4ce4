//! 1.x peers that no package index has: each is played by its facts (docs/PROTOCOL.md, "What goes wrong with 1.x peers"), over
//! the bare files.

use crate::support;

use std::time::{Duration, Instant};

use crate::support::forge::{Forge, OldSemaphore, at};
use crate::support::ledger::Stopwatch;
use crate::support::{Name, PATIENCE, Random, fill, is_filled};
use zerobuffer::{BufferConfig, ErrorKind, Reader, WaitStrategy, Writer};

const HEADER: u64 = 16;
const METADATA: usize = 128;
const RING: u64 = 128 + METADATA as u64;

/// Counts of frames and markers, which `at` does not name.
const WRITTEN_COUNT: u64 = 0x40;
const READ_COUNT: u64 = 0x48;

fn classic(payload: usize) -> BufferConfig {
    BufferConfig::default().metadata_size(METADATA).payload_size(payload).classic(true)
}

fn file_size(name: &str) -> u64 {
    std::fs::metadata(format!("/dev/shm/{name}")).expect("the segment").len()
}

/// Bytes of memory behind the segment.
fn memory(name: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(format!("/dev/shm/{name}")).expect("the segment").blocks() * 512
}

/// A 1.x writer wakes no reader when it connects, and none when it dies.
#[test]
fn a_reader_that_sleeps_learns_of_a_1x_writer_that_connects_and_of_its_death() {
    let soon = Duration::from_millis(100);
    for (is_classic, pause) in [(false, 0), (true, 0), (false, 300), (true, 300)] {
        let name = Name::new("stranger");
        let pause = Duration::from_millis(pause);
        let config = classic(4096).classic(is_classic).wait_strategy(WaitStrategy::Block);
        let mut reader = Reader::create(&name, config).unwrap();
        let (came, died) = std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                assert!(reader.wait_for_writer(PATIENCE).unwrap());
                let came = Instant::now();
                let error = reader.read_frame(PATIENCE).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::WriterDead);
                (came, Instant::now())
            });
            // Longer than the watcher looks after the last event.
            std::thread::sleep(Duration::from_millis(1200));
            let mut process = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            let segment = Forge::segment(&name);
            std::thread::sleep(pause);
            segment.set(at::WRITER_PID, process.id().into());
            let (stored, watch) = (Instant::now(), Stopwatch::start());
            std::thread::sleep(Duration::from_millis(1500));
            assert!(!waits.is_finished(), "the writer lives");
            process.kill().unwrap();
            process.wait().unwrap();
            let (killed, end) = (Instant::now(), Stopwatch::start());
            let (came, died) = waits.join().unwrap();
            watch.assert_took(came - stored, 2 * pause + soon);
            end.assert_took(died - killed, soon);
            (came - stored, died - killed)
        });
        eprintln!("classic {is_classic}, after {pause:?}: came {came:.1?}, died {died:.1?}");
    }
}

/// A 1.x C# writer: what it maps ends with the file, and it writes a wrap marker also where there is no room for one.
struct CSharpWriter {
    segment: Forge,
    end: u64,
    capacity: u64,
    position: u64,
    sequence: u64,
}

impl CSharpWriter {
    fn connect(name: &str) -> CSharpWriter {
        let segment = Forge::segment(name);
        segment.set(at::WRITER_PID, u64::from(std::process::id()));
        let capacity = segment.get(at::PAYLOAD_SIZE);
        CSharpWriter { segment, end: file_size(name), capacity, position: 0, sequence: 1 }
    }

    fn put(&self, position: u64, bytes: &[u8]) {
        let end = RING + position + bytes.len() as u64;
        assert!(end <= self.end, "dead: {} bytes past the end of the file", end - self.end);
        self.segment.write(RING + position, bytes);
    }

    fn header(&self, position: u64, size: u64, sequence: u64) {
        self.put(position, &[size.to_le_bytes(), sequence.to_le_bytes()].concat());
    }

    fn commit(&self, bytes: u64) {
        self.segment.set(at::WRITE_POS, self.position);
        self.segment.set(at::FREE_BYTES, self.segment.get(at::FREE_BYTES) - bytes);
        self.segment.set(WRITTEN_COUNT, self.segment.get(WRITTEN_COUNT) + 1);
    }

    /// Writes a frame, where there is room for it.
    fn write(&mut self, data: &[u8]) {
        let need = HEADER + data.len() as u64;
        let rest = self.capacity - self.position;
        if need > rest {
            self.header(self.position, 0, 0);
            self.position = 0;
            self.commit(rest);
        }
        self.put(self.position + HEADER, data);
        self.header(self.position, data.len() as u64, self.sequence);
        self.sequence += 1;
        self.position = (self.position + need) % self.capacity;
        self.commit(need);
    }
}

#[test]
fn failure_01_a_1_x_c_sharp_writer_gets_past_every_end_of_a_classic_ring() {
    // Frames of `step` bytes leave 1 to 15 bytes at the end, among others.
    for (payload, step) in [(64 << 10, 1_usize), (1024, 1), (1024, 33), (1024, 45), (4096, 1000)] {
        let name = Name::new("c-sharp");
        let mut reader = Reader::create(&name, classic(payload)).unwrap();
        let mut writer = CSharpWriter::connect(&name);
        let mut data = vec![0; step];
        for index in 0..(3 * payload / (step + 16)) as u64 {
            fill(index, &mut data);
            writer.write(&data);
            assert!(is_filled(index, &reader.try_read_frame().unwrap().expect("the frame just written")));
        }
        assert!(reader.try_read_frame().unwrap().is_none());
        drop(reader);
        name.assert_nothing_left();
    }
}

/// A 1.x reader: it looks for a header, or a wrap marker, wherever a frame ended, and dies if that is not within its ring.
struct OldReader {
    segment: Forge,
    capacity: u64,
    position: u64,
}

impl OldReader {
    /// Takes the place of the reader that made the buffer.
    fn instead_of(name: &str) -> OldReader {
        let segment = Forge::segment(name);
        // What a 1.x reader shows: no native word.
        segment.set(at::READER_WORD, 0);
        let capacity = segment.get(at::PAYLOAD_SIZE);
        OldReader { segment, capacity, position: 0 }
    }

    fn give_back(&mut self, position: u64, bytes: u64) {
        self.position = position;
        self.segment.set(at::READ_POS, position);
        self.segment.set(READ_COUNT, self.segment.get(READ_COUNT) + 1);
        self.segment.set(at::FREE_BYTES, self.segment.get(at::FREE_BYTES) + bytes);
    }

    fn read(&mut self) -> Vec<u8> {
        assert_ne!(self.segment.get(at::FREE_BYTES), self.capacity, "there is no frame");
        self.position %= self.capacity;
        let rest = self.capacity - self.position;
        assert!(rest >= HEADER, "dead: a header is expected in the last {rest} bytes of the ring");
        let size = self.segment.get(RING + self.position);
        if size == 0 {
            self.give_back(0, rest);
            return self.read();
        }
        let start = RING + self.position + HEADER;
        let bytes = (0..size).map(|at| self.segment.get(start + at) as u8).collect();
        self.give_back(self.position + HEADER + size, HEADER + size);
        bytes
    }
}

#[test]
fn failure_22_no_frame_leaves_a_gap_that_a_1_x_reader_dies_of() {
    const N: usize = 1024;
    let name = Name::new("gap");
    let reader = Reader::create(&name, classic(N)).unwrap();
    let mut old = OldReader::instead_of(&name);
    let mut writer = Writer::connect(&name).unwrap();
    writer.set_write_timeout(support::PATIENCE);
    for len in N - 31..=N - 17 {
        let refused = [
            writer.write_frame(&vec![1; len]).map(drop),
            writer.try_write_frame(&vec![1; len]).map(drop),
            writer.write_frames([vec![1; len]]).map(drop),
            writer.acquire_frame(len).map(drop),
            writer.try_acquire_frame(len).map(drop),
        ];
        for result in refused {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FrameTooLarge, "{len}: {error}");
            assert!(
                error.to_string().contains(&format!("{} bytes, or at most {}", N - 16, N - 32)),
                "{error}"
            );
        }
        // A frame filled in place that turns out just so long is refused as well, and not lost for that.
        writer.acquire_frame_buffer(N - 16).unwrap();
        assert_eq!(writer.commit_frame(Some(len)).unwrap_err().kind(), ErrorKind::FrameTooLarge);
        fill(len as u64, writer.acquired().unwrap());
        writer.commit_frame(None).unwrap();
        assert!(is_filled(len as u64, &old.read()));
    }
    drop((writer, reader));
}

#[test]
fn failure_22_a_frame_that_shrinks_leaves_no_gap_either() {
    const N: usize = 1024;
    for shrink in 0..=20 {
        let name = Name::new("shrink");
        let reader = Reader::create(&name, classic(N)).unwrap();
        let mut old = OldReader::instead_of(&name);
        let mut writer = Writer::connect(&name).unwrap();
        writer.set_write_timeout(Duration::from_millis(1));
        // Below the middle of the ring, an empty one is not taken back to its start.
        for _ in 0..2 {
            writer.write_frame(&[1; 224]).unwrap();
        }
        writer.write_frame(&[1; 272]).unwrap();
        // It ends exactly with the ring, as long as it is not shortened.
        let mut frame = writer.acquire_frame(N - 768 - 16).unwrap();
        fill(shrink, &mut frame);
        let len = frame.len() - shrink as usize;
        let committed = frame.commit_len(len);
        if (1..=15).contains(&shrink) {
            // There is no room at the start of the ring before the reader has given some back.
            assert_eq!(committed.unwrap_err().kind(), ErrorKind::BufferFull);
            old.read();
            writer.acquire_frame_buffer(N - 768 - 16).unwrap();
            fill(shrink, writer.acquired().unwrap());
            assert_eq!(writer.commit_frame(Some(len)).unwrap_err().kind(), ErrorKind::BufferFull);
            old.read();
            // The frame is still acquired.
            writer.commit_frame(Some(len)).unwrap();
            old.read();
        } else {
            committed.unwrap();
            (0..3).for_each(|_| drop(old.read()));
        }
        let mut expected = vec![0; N - 768 - 16];
        fill(shrink, &mut expected);
        assert_eq!(old.read(), expected[..len], "shortened by {shrink}");
        writer.write_frame(&[3; 100]).unwrap();
        assert_eq!(old.read(), [3; 100]);
        drop((writer, reader));
    }
}

#[test]
fn failure_22_frames_of_any_size_that_shrink_at_will_reach_a_1_x_reader() {
    const N: usize = 512;
    let name = Name::new("shrink-any");
    let reader = Reader::create(&name, classic(N)).unwrap();
    let mut old = OldReader::instead_of(&name);
    let mut writer = Writer::connect(&name).unwrap();
    let mut random = Random(22);
    for index in 0..20_000 {
        // At most half of the ring, so that there is always another place.
        let len = random.between(1, (N / 2 - 16) as u64) as usize;
        let committed = random.between(1, len as u64 + 1) as usize;
        let mut data = vec![0; committed];
        fill(index, &mut data);
        if index % 3 == 0 {
            writer.write_frame(&data).unwrap();
        } else {
            let mut frame = writer.acquire_frame(len).unwrap();
            frame[..committed].copy_from_slice(&data);
            frame.commit_len(committed).unwrap();
        }
        assert_eq!(old.read(), data, "frame {index}, {committed} of {len} bytes");
    }
    drop((writer, reader));
}

/// Within a quarter of the first lap all of it has memory, so that the rest of the lap does not wait for any.
#[test]
fn memory_is_reserved_well_ahead_of_a_1_x_writer_of_large_frames() {
    const PAYLOAD: usize = 64 << 20;
    const FRAME: usize = 1 << 20;
    let name = Name::new("ahead");
    let mut reader = Reader::create(&name, classic(PAYLOAD)).unwrap();
    let mut writer = CSharpWriter::connect(&name);
    // As after any frame of a 1.x writer, the reader waits for the next one, and knows it for what it is.
    let wait = |reader: &mut Reader| assert!(reader.read_frame(Duration::from_millis(1)).unwrap().is_none());
    wait(&mut reader);
    assert!(memory(&name) < 16 << 20, "memory for nothing");
    let data = vec![5; FRAME];
    for _ in 0..PAYLOAD / FRAME / 4 {
        writer.write(&data);
        assert_eq!(reader.read_frame(support::PATIENCE).unwrap().expect("a frame").len(), FRAME);
        wait(&mut reader);
    }
    assert!(memory(&name) >= PAYLOAD as u64, "{} of {PAYLOAD} bytes have memory", memory(&name));
    // Small frames are no reason to take all that memory.
    let small = Name::new("ahead-small");
    let mut reader = Reader::create(&small, classic(PAYLOAD)).unwrap();
    let mut writer = CSharpWriter::connect(&small);
    for _ in 0..200 {
        writer.write(&[5; 1000]);
        drop(reader.read_frame(support::PATIENCE).unwrap().expect("a frame"));
        wait(&mut reader);
    }
    assert!(memory(&small) < 16 << 20, "{} bytes of memory for 200 KB", memory(&small));
}

/// A second 1.x C# writer is refused, and then clears the pid of the one that is connected.
fn refuse_another(name: &str) {
    Forge::segment(name).set(at::WRITER_PID, 0);
}

#[test]
fn failure_21_a_refused_writer_does_not_end_the_stream_of_the_one_that_is_connected() {
    let own = u64::from(std::process::id());
    for polls in [false, true] {
        let name = Name::new("refused");
        let mut reader = Reader::create(&name, classic(4096)).unwrap();
        let shown = Forge::segment(&name);
        let mut writer = CSharpWriter::connect(&name);
        for index in 0..30 {
            let data = [index; 20];
            writer.write(&data);
            assert_eq!(*reader.try_read_frame().unwrap().expect("a frame"), data);
            if index % 10 != 5 {
                continue;
            }
            refuse_another(&name);
            // Everything has been read, and no pid says that there is a writer.
            let until = Instant::now() + Duration::from_millis(100);
            while Instant::now() < until {
                let wait = if polls { Duration::ZERO } else { Duration::from_millis(60) };
                assert!(reader.read_frame(wait).expect("no end").is_none());
            }
            assert!(reader.is_writer_connected(), "it is not known to have gone");
            assert_eq!(shown.get(at::WRITER_PID), 0);
            // The frame proves that the writer is there: its pid is put back, so that no other writer gets in.
            writer.write(&[1]);
            assert_eq!(*reader.try_read_frame().unwrap().expect("a frame"), [1]);
            assert_eq!(shown.get(at::WRITER_PID), own);
            assert_eq!(Writer::connect(&name).unwrap_err().kind(), ErrorKind::WriterAlreadyConnected);
        }
        // Now it closes, and its process lives on.
        shown.set(at::WRITER_PID, 0);
        let start = Stopwatch::start();
        assert_eq!(reader.read_frame(support::PATIENCE).unwrap_err().kind(), ErrorKind::WriterClosed);
        start.assert_within(Duration::from_secs(1));
        assert!(reader.try_read_frame().unwrap().is_none(), "the end is told once");
        assert_eq!(shown.get(at::WRITER_PID), 0);
    }
}

/// One that takes longer than the reader believes it: the frames are not lost, and the end is told again.
#[test]
fn failure_21_a_stream_that_goes_on_after_its_end_was_told_has_its_pid_and_another_end() {
    let name = Name::new("refused-slow");
    let mut reader = Reader::create(&name, classic(4096)).unwrap();
    let mut writer = CSharpWriter::connect(&name);
    writer.write(&[1]);
    assert_eq!(*reader.try_read_frame().unwrap().expect("a frame"), [1]);
    refuse_another(&name);
    assert_eq!(reader.read_frame(support::PATIENCE).unwrap_err().kind(), ErrorKind::WriterClosed);
    writer.write(&[2]);
    assert_eq!(*reader.read_frame(support::PATIENCE).unwrap().expect("a frame"), [2]);
    assert_eq!(Forge::segment(&name).get(at::WRITER_PID), u64::from(std::process::id()));
    assert!(reader.read_frame(Duration::from_millis(1)).unwrap().is_none());
    // The next writer starts again at 1: no pid of an earlier one is put back for it.
    Forge::segment(&name).set(at::WRITER_PID, 0);
    assert_eq!(reader.read_frame(support::PATIENCE).unwrap_err().kind(), ErrorKind::WriterClosed);
    let position = writer.position;
    let mut next = CSharpWriter::connect(&name);
    next.position = position;
    next.write(&[3]);
    Forge::segment(&name).set(at::WRITER_PID, 0);
    assert_eq!(*reader.read_frame(support::PATIENCE).unwrap().expect("a frame"), [3]);
    assert_eq!(Forge::segment(&name).get(at::WRITER_PID), 0);
    assert_eq!(reader.read_frame(support::PATIENCE).unwrap_err().kind(), ErrorKind::WriterClosed);
}

// ---- ends that a waiting 1.x peer is to learn of ----

/// Reads as a 1.x reader does: a token stands for a frame, unless there is no writer and nothing unread. Returns the frames.
fn read_until_the_end(mut old: OldReader, tokens: &OldSemaphore) -> usize {
    let mut frames = 0;
    loop {
        assert!(tokens.wait(support::PATIENCE), "a 1.x reader is not told");
        let segment = &old.segment;
        if segment.get(at::WRITER_PID) == 0 && segment.get(WRITTEN_COUNT) <= segment.get(READ_COUNT) {
            return frames;
        }
        old.read();
        frames += 1;
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < support::PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn failure_23_a_1_x_reader_that_waits_learns_of_our_writers_close_at_once() {
    const N: usize = 1 << 16;
    for frames in [0_usize, 1, 100] {
        let name = Name::new("farewell");
        let reader = Reader::create(&name, classic(N)).unwrap();
        let old = OldReader::instead_of(&name);
        let (tokens, segment) = (Forge::semaphore(&name, 'w'), Forge::segment(&name));
        let semaphore = OldSemaphore::open(&name, 'w');
        let mut writer = Writer::connect(&name).unwrap();
        for index in 0..frames {
            writer.write_frame(&[1; 300][..100 + index]).unwrap();
        }
        let thread = std::thread::spawn(move || read_until_the_end(old, &semaphore));
        let drained =
            || segment.get(at::FREE_BYTES) == N as u64 && tokens.waiters() > 0 && tokens.tokens() == 0;
        wait_until("the reader does not wait", drained);
        let start = Stopwatch::start();
        writer.close().unwrap();
        assert_eq!(thread.join().unwrap(), frames);
        start.assert_within(Duration::from_millis(500));
        assert_eq!(tokens.tokens(), 0);
        drop(reader);
    }
}

#[test]
fn failure_23_no_token_of_a_close_is_left_for_the_next_writers_frames() {
    // A reader that does not wait, with and without unread frames; one that stands still; one whose counts would deceive it.
    for (unread, waiters, drift) in [(0, 0, 0), (3, 0, 0), (3, 1, 0), (0, 1, 0), (0, 1, 1)] {
        let name = Name::new("farewell-none");
        let reader = Reader::create(&name, classic(4096)).unwrap();
        let mut old = OldReader::instead_of(&name);
        let tokens = Forge::semaphore(&name, 'w');
        let semaphore = OldSemaphore::open(&name, 'w');
        let mut writer = Writer::connect(&name).unwrap();
        writer.write_frame(&[7; 50]).unwrap();
        assert!(semaphore.wait(Duration::ZERO) && old.read() == [7; 50]);
        for _ in 0..unread {
            writer.write_frame(&[8; 50]).unwrap();
        }
        old.segment.set(WRITTEN_COUNT, old.segment.get(WRITTEN_COUNT) + drift);
        tokens.set_waiters(waiters);
        let start = Stopwatch::start();
        writer.close().unwrap();
        start.assert_within(Duration::from_secs(1));
        tokens.set_waiters(0);
        assert_eq!(tokens.tokens(), unread, "{unread} unread, {waiters} wait, {drift}");
        let mut next = Writer::connect(&name).unwrap();
        next.write_frame(&[9; 50]).unwrap();
        for _ in 0..unread {
            assert!(semaphore.wait(Duration::ZERO) && old.read() == [8; 50]);
        }
        assert!(semaphore.wait(Duration::ZERO) && old.read() == [9; 50]);
        assert!(!semaphore.wait(Duration::ZERO), "a token without a frame");
        drop((next, reader));
    }
}

/// The counts of a 1.x reader that has lost one keep it from believing in a close: it would read what is no frame.
#[test]
fn failure_23_a_waiting_1_x_reader_is_not_woken_when_it_would_take_the_token_for_a_frame() {
    let name = Name::new("farewell-drift");
    let reader = Reader::create(&name, classic(4096)).unwrap();
    let old = OldReader::instead_of(&name);
    let tokens = Forge::semaphore(&name, 'w');
    let semaphore = OldSemaphore::open(&name, 'w');
    let writer = Writer::connect(&name).unwrap();
    old.segment.set(WRITTEN_COUNT, 1);
    let thread = std::thread::spawn(move || semaphore.wait(Duration::from_millis(300)));
    wait_until("the reader does not wait", || tokens.waiters() > 0);
    writer.close().unwrap();
    assert!(!thread.join().unwrap(), "woken without a frame");
    drop(reader);
}

#[test]
fn failure_23_a_1_x_writer_that_waits_for_space_learns_of_our_readers_close_at_once() {
    let name = Name::new("farewell-reader");
    let mut reader = Reader::create(&name, classic(1024)).unwrap();
    let mut writer = CSharpWriter::connect(&name);
    writer.write(&[3; 100]);
    assert_eq!(*reader.try_read_frame().unwrap().expect("a frame"), [3; 100]);
    let (tokens, semaphore) = (Forge::semaphore(&name, 'r'), OldSemaphore::open(&name, 'r'));
    while semaphore.wait(Duration::ZERO) {}
    let thread = std::thread::spawn(move || {
        assert!(semaphore.wait(support::PATIENCE), "a 1.x writer is not told");
        writer.segment.get(at::READER_PID)
    });
    wait_until("the writer does not wait", || tokens.waiters() > 0);
    let start = Stopwatch::start();
    reader.close().unwrap();
    assert_eq!(thread.join().unwrap(), 0);
    start.assert_within(Duration::from_millis(500));
    name.assert_nothing_left();
}
