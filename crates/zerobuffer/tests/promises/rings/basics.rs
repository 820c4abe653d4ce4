//! The promises of the API, within one process and between two.

use super::support;
use super::support::ledger::Stopwatch;

use std::time::Duration;

use super::support::{Name, Peer, fill, is_filled, role, say};
use zerobuffer::{ErrorKind, NumaNode, Reader, Writer, WriterOptions, inspect};

const SECOND: Duration = Duration::from_secs(1);

support::peers!(stream_writer);

fn stream_writer(arguments: &[String]) {
    let [name, count, max] = arguments else { panic!("name, count, largest frame") };
    let (count, max): (u64, u64) = (count.parse().unwrap(), max.parse().unwrap());
    let mut writer =
        Writer::connect_with(name, WriterOptions::default().connect_timeout(support::PATIENCE)).unwrap();
    let mut random = support::Random(count);
    for index in 0..count {
        let mut frame = writer.acquire_frame(random.between(1, max + 1) as usize).unwrap();
        fill(index, &mut frame);
        frame.commit().unwrap();
    }
    say("written");
}

#[test]
fn frames_arrive_in_order_and_whole_between_two_processes() {
    let name = Name::new("stream");
    let mut reader = Reader::create(&name, support::config().payload_size(1 << 16)).unwrap();
    let mut writer = Peer::start(role!(stream_writer), &[&name, "20000", "5000"]);
    let mut count = 0;
    for frame in reader.frames() {
        let frame = frame.unwrap();
        assert_eq!(frame.sequence(), count + 1);
        assert!(is_filled(count, &frame), "frame {count} of {} bytes is not what was written", frame.len());
        count += 1;
    }
    assert_eq!(count, 20000);
    assert!(writer.wait().success());
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn a_time_out_is_no_error_and_keeps_its_time() {
    let name = Name::new("timeout");
    let mut reader = Reader::create(&name, support::config()).unwrap();
    let start = Stopwatch::start();
    assert!(reader.read_frame(Duration::from_millis(50)).unwrap().is_none());
    assert!(start.elapsed() >= Duration::from_millis(50));
    start.assert_within(Duration::from_millis(200));
    assert!(reader.try_read_frame().unwrap().is_none());
}

#[test]
fn frames_can_be_held_and_released_in_any_order_and_outlive_the_reader() {
    let name = Name::new("held");
    let mut reader = Reader::create(&name, support::config().payload_size(1024)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    for round in 0..50_u8 {
        for i in 0..3 {
            writer.write_frame(&[round ^ i; 200]).unwrap();
        }
        let mut frames = Vec::new();
        assert_eq!(reader.read_frames(&mut frames, 10, SECOND).unwrap(), 3);
        let third = frames.pop().unwrap();
        let first = frames.remove(0);
        std::thread::spawn(move || drop(third)).join().unwrap();
        assert!(first.iter().all(|byte| *byte == round));
        drop(first);
        assert!(frames[0].iter().all(|byte| *byte == round ^ 1));
    }
    writer.write_frame(b"last").unwrap();
    let last = reader.read_frame(SECOND).unwrap().unwrap();
    drop((reader, writer));
    assert_eq!(&*last, b"last");
    name.assert_nothing_left();
}

#[test]
fn in_place_frames_commit_shorten_and_discard() {
    let name = Name::new("inplace");
    let mut reader = Reader::create(&name, support::config().payload_size(4096)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    writer.acquire_frame(100).unwrap().fill(1);
    let mut frame = writer.acquire_frame(100).unwrap();
    frame.fill(2);
    assert_eq!(frame.commit_len(40).unwrap(), 1);
    assert_eq!(
        writer.acquire_frame(10).unwrap().commit_len(11).unwrap_err().kind(),
        ErrorKind::InvalidFrameSize
    );
    assert_eq!(
        writer.acquire_frame(10).unwrap().commit_len(0).unwrap_err().kind(),
        ErrorKind::InvalidFrameSize
    );
    writer.acquire_frame_buffer(8).unwrap();
    assert_eq!(writer.write_frame(b"x").unwrap_err().kind(), ErrorKind::InvalidState);
    assert_eq!(writer.acquire_frame_buffer(8).unwrap_err().kind(), ErrorKind::InvalidState);
    writer.acquired().unwrap().fill(3);
    assert_eq!(writer.commit_frame(None).unwrap(), 2);
    assert_eq!(writer.commit_frame(None).unwrap_err().kind(), ErrorKind::InvalidState);
    let frame = reader.read_frame(SECOND).unwrap().unwrap();
    assert_eq!(*frame, [2; 40]);
    assert_eq!(*reader.read_frame(SECOND).unwrap().unwrap(), [3; 8]);
    assert_eq!((reader.frames_read(), reader.bytes_read()), (2, 48));
    assert_eq!((writer.frames_written(), writer.bytes_written()), (2, 48));
}

#[test]
fn metadata_is_written_once_and_bounded() {
    let name = Name::new("metadata");
    let reader = Reader::create(&name, support::config().metadata_size(64)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    assert_eq!(reader.metadata().unwrap(), None);
    assert_eq!(writer.set_metadata(&[1; 57]).unwrap_err().kind(), ErrorKind::MetadataTooLarge);
    writer.set_metadata(&[1; 56]).unwrap();
    assert_eq!(reader.metadata().unwrap().unwrap(), [1; 56]);
    assert_eq!(writer.set_metadata(&[2; 5]).unwrap_err().kind(), ErrorKind::MetadataAlreadyWritten);
}

#[test]
fn the_end_of_a_writer_is_told_once_and_the_next_one_is_followed() {
    let name = Name::new("ends");
    let mut reader = Reader::create(&name, support::config()).unwrap();
    for _ in 0..3 {
        let mut writer = Writer::connect(&name).unwrap();
        assert_eq!(Writer::connect(&name).unwrap_err().kind(), ErrorKind::WriterAlreadyConnected);
        writer.write_frame(b"one").unwrap();
        writer.write_frame(b"two").unwrap();
        drop(writer);
        assert!(reader.is_writer_connected(), "frames are still unread");
        assert_eq!(reader.read_frame(SECOND).unwrap().unwrap().sequence(), 1);
        assert_eq!(reader.try_read_frame().unwrap().unwrap().sequence(), 2);
        let start = Stopwatch::start();
        assert_eq!(reader.read_frame(Duration::MAX).unwrap_err().kind(), ErrorKind::WriterClosed);
        start.assert_within(Duration::from_millis(100));
        assert!(!reader.is_writer_connected());
        assert!(reader.try_read_frame().unwrap().is_none());
    }
    // A writer that follows before its predecessor's frames are read: the reader reports the boundary.
    Writer::connect(&name).unwrap().write_frame(b"old").unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    writer.write_frame(b"new").unwrap();
    assert_eq!(&*reader.read_frame(SECOND).unwrap().unwrap(), b"old");
    assert_eq!(reader.read_frame(SECOND).unwrap_err().kind(), ErrorKind::WriterClosed);
    let frame = reader.read_frame(SECOND).unwrap().unwrap();
    assert_eq!((&*frame, frame.sequence()), (&b"new"[..], 1));
}

#[test]
fn a_full_buffer_waits_times_out_and_goes_on() {
    let name = Name::new("full");
    let mut reader = Reader::create(&name, support::config().payload_size(1024)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    writer.set_write_timeout(Duration::from_millis(30));
    let mut written = 0;
    while writer.try_write_frame(&[9; 100]).unwrap().is_some() {
        written += 1;
    }
    let start = Stopwatch::start();
    assert_eq!(writer.write_frame(&[9; 100]).unwrap_err().kind(), ErrorKind::BufferFull);
    assert!(start.elapsed() >= Duration::from_millis(30));
    start.assert_within(Duration::from_millis(200));
    writer.set_write_timeout(Duration::MAX);
    let thread = std::thread::spawn(move || {
        writer.write_frame(&[8; 900]).unwrap();
        writer
    });
    for frame in 1..=written {
        assert_eq!(reader.read_frame(SECOND).unwrap().unwrap().sequence(), frame);
    }
    assert_eq!(reader.read_frame(SECOND).unwrap().unwrap().len(), 900);
    thread.join().unwrap();
}

#[test]
fn a_writer_waits_to_connect_and_says_what_is_missing() {
    let name = Name::new("connect");
    let error = Writer::connect(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BufferNotFound);
    assert!(error.to_string().contains("start the reader first"), "{error}");
    let mut peer = Peer::start(role!(stream_writer), &[&name, "1", "10"]);
    std::thread::sleep(Duration::from_millis(20));
    let mut reader = Reader::create(&name, support::config()).unwrap();
    assert_eq!(
        Reader::create(&name, support::config()).unwrap_err().kind(),
        ErrorKind::ReaderAlreadyConnected
    );
    assert!(reader.wait_for_writer(SECOND * 10).unwrap());
    assert!(reader.read_frame(SECOND).unwrap().is_some());
    peer.expect("written");
}

#[test]
fn a_blocked_call_can_be_interrupted() {
    let name = Name::new("interrupt");
    let mut reader = Reader::create(&name, support::config().payload_size(64)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    while writer.try_write_frame(&[1; 48]).unwrap().is_some() {}
    writer.set_write_timeout(Duration::MAX);
    let handle = writer.interrupt_handle();
    let thread = std::thread::spawn(move || {
        let kind = writer.write_frame(&[1; 48]).unwrap_err().kind();
        (writer, kind)
    });
    std::thread::sleep(Duration::from_millis(30));
    let start = Stopwatch::start();
    handle.interrupt();
    // The writer stays connected, so that its end is not what the reader is told.
    let (_writer, kind) = thread.join().unwrap();
    assert_eq!(kind, ErrorKind::Interrupted);
    start.assert_within(SECOND * 5);
    let handle = reader.interrupt_handle();
    handle.interrupt();
    assert!(reader.read_frame(SECOND).unwrap().is_some(), "a frame that is there comes first");
    while reader.try_read_frame().unwrap().is_some() {}
    assert_eq!(reader.read_frame(SECOND).unwrap_err().kind(), ErrorKind::Interrupted);
    let thread = std::thread::spawn(move || reader.read_frame(Duration::MAX).unwrap_err().kind());
    // Long enough for it to have gone to sleep; if it has not, the test is only easier to pass.
    std::thread::sleep(Duration::from_millis(30));
    let start = Stopwatch::start();
    handle.interrupt();
    assert_eq!(thread.join().unwrap(), ErrorKind::Interrupted);
    start.assert_within(SECOND * 5);
}

#[test]
fn options_are_what_was_asked_for() {
    let name = Name::new("options");
    for payload in [0, 16] {
        let error = Reader::create(&name, support::config().payload_size(payload)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{payload}");
    }
    let mut reader = Reader::create(
        &name,
        support::config().payload_size(17).wait_strategy(zerobuffer::WaitStrategy::Spin),
    )
    .unwrap();
    let options = WriterOptions::default().write_timeout(SECOND * 7);
    let mut writer = Writer::connect_with(&name, options).unwrap();
    assert_eq!(writer.write_timeout(), SECOND * 7);
    writer.set_write_timeout(SECOND * 3);
    assert_eq!(writer.write_timeout(), SECOND * 3);
    assert!(reader.read_frame(SECOND / 50).unwrap().is_none(), "spinning ends with the time-out");
    writer.write_frame(&[1]).unwrap();
    assert_eq!(*reader.read_frame(SECOND).unwrap().expect("in time"), [1]);
}

#[test]
fn a_batch_of_frames_waits_for_space() {
    let name = Name::new("batch");
    let mut reader = Reader::create(&name, support::config().payload_size(1024)).unwrap();
    let mut writer =
        Writer::connect_with(&name, WriterOptions::default().write_timeout(support::PATIENCE)).unwrap();
    let thread = std::thread::spawn(move || writer.write_frames((0..100_u8).map(|index| [index; 100])));
    for index in 0..100 {
        assert_eq!(*reader.read_frame(support::PATIENCE).unwrap().expect("in time"), [index; 100]);
    }
    assert_eq!(thread.join().unwrap().unwrap(), 100);
}

#[test]
fn calls_that_never_block_leave_an_interrupt_alone() {
    let name = Name::new("interrupt-try");
    let mut reader = Reader::create(&name, support::config().payload_size(64)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    writer.interrupt_handle().interrupt();
    drop(writer.try_acquire_frame(48).unwrap().expect("room"));
    while writer.try_write_frame(&[1; 48]).unwrap().is_some() {}
    assert!(writer.try_acquire_frame(48).unwrap().is_none());
    reader.interrupt_handle().interrupt();
    let mut read = 0;
    while reader.try_read_frame().unwrap().is_some() {
        read += 1;
    }
    assert!(read > 0);
    assert_eq!(reader.read_frame(SECOND).unwrap_err().kind(), ErrorKind::Interrupted);
    for _ in 0..read {
        writer.write_frame(&[1; 48]).expect("there is room");
    }
    while writer.try_write_frame(&[1; 48]).unwrap().is_some() {}
    assert_eq!(writer.write_frame(&[1; 48]).unwrap_err().kind(), ErrorKind::Interrupted);
}

#[test]
fn a_snapshot_tells_sizes_peers_and_health() {
    let name = Name::new("inspect");
    let _reader = Reader::create(&name, support::config().payload_size(1000).mode(0o640)).unwrap();
    let undecided = inspect::snapshot(&name).unwrap();
    assert_eq!((undecided.payload_free, undecided.writer.presence), (1024, inspect::Presence::Absent));
    let mut writer = Writer::connect(&name).unwrap();
    let snapshot = inspect::snapshot(&name).unwrap();
    let rings = match support::is_classic() {
        true => [inspect::RingKind::Classic; 2],
        false => [inspect::RingKind::Undecided, inspect::RingKind::Extended],
    };
    assert_eq!([undecided.ring, snapshot.ring], rings);
    assert_eq!((snapshot.metadata_size, snapshot.payload_size, snapshot.mode), (4096, 1024, 0o640));
    assert_eq!(
        (snapshot.reader.presence, snapshot.writer.presence),
        (inspect::Presence::Alive, inspect::Presence::Alive)
    );
    assert_eq!(snapshot.health(), inspect::Health::Healthy);
    writer.write_frame(&[0; 890]).unwrap();
    assert_eq!(inspect::snapshot(&name).unwrap().health(), inspect::Health::Degraded);
    writer.write_frame(&[0; 60]).unwrap();
    let snapshot = inspect::snapshot(&name).unwrap();
    assert_eq!(snapshot.health(), inspect::Health::Critical);
    // The header of a writer's first frame in an extended ring has room for the writer's word.
    let used = if support::is_classic() { 890 + 60 + 2 * 16 } else { 896 + 64 + 32 + 16 };
    assert_eq!((1024 - snapshot.payload_free, snapshot.write_position), (used, used));
    assert_eq!((snapshot.written_count, snapshot.read_count, snapshot.read_position), (2, 0, 0));
    let own = u64::from(std::process::id());
    assert_eq!((snapshot.reader.pid, snapshot.writer.pid), (own, own));
    drop(writer);
    let snapshot = inspect::snapshot(&name).unwrap();
    assert_eq!((snapshot.writer.presence, snapshot.writer.ours), (inspect::Presence::Closed, true));
    assert!(inspect::list().unwrap().contains(&name.to_string()));
}

#[test]
fn handles_move_between_threads_and_frames_are_shared_by_them() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Reader>();
    send::<Writer>();
    send::<zerobuffer::Frame>();
    sync::<zerobuffer::Frame>();
    send::<zerobuffer::InterruptHandle>();
    sync::<zerobuffer::InterruptHandle>();
    sync::<zerobuffer::Error>();
}

#[test]
fn failure_08_a_reader_notices_that_its_names_were_removed() {
    let name = Name::new("lost");
    let mut reader = Reader::create(&name, support::config()).unwrap();
    std::fs::remove_file(&name.paths()[0]).unwrap();
    let start = Stopwatch::start();
    let error = reader.read_frame(support::PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BufferNotFound, "{error}");
    start.assert_within(SECOND * 3);
}

#[test]
fn memory_on_a_numa_node_that_does_not_exist_is_refused() {
    let name = Name::new("node");
    let error = Reader::create(&name, support::config().numa_node(NumaNode::Number(1000))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    assert!(error.to_string().contains("doctor"), "{error}");
    assert!(name.paths().iter().all(|path| !path.exists()));
}

#[test]
fn a_preallocated_buffer_has_all_its_memory_at_once() {
    let name = Name::new("preallocated");
    let config = support::config().payload_size(4 << 20).preallocate(true);
    let _reader = Reader::create(&name, config).unwrap();
    assert!(inspect::snapshot(&name).unwrap().memory >= 4 << 20);
}
