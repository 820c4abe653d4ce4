//! The failures of protocol 1 (docs/PROTOCOL.md) that involve 1.x peers, against the real package, by their numbers.
//!
//! Where the failure is the 1.x peer's, the test says so, and shows how the native peer handles it.

use crate::support;
use crate::support::ledger::Stopwatch;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use crate::driver::{Content, Old, Raw, Word, forge_semaphore, hex, semaphore};
use crate::support::{Name, Random};
use zerobuffer::{ErrorKind, Frame, Reader, Writer};

const SECOND: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(100);
const SEM_VALUE_MAX: u32 = i32::MAX as u32;

/// Bytes of the OIEB and the metadata block of the buffers here: where the ring starts.
const RING: u64 = 128 + 256;

fn reader(name: &str, payload_size: usize) -> Reader {
    Reader::create(name, support::config().metadata_size(256).payload_size(payload_size)).unwrap()
}

/// The next frame's bytes, which must be there at once.
#[track_caller]
fn next(reader: &mut Reader) -> Vec<u8> {
    reader.read_frame(SECOND * 5).unwrap().expect("a frame").to_vec()
}

#[test]
fn failure_01_their_writer_may_end_a_frame_anywhere_before_the_end_of_the_ring() {
    let name = Name::new("gap");
    let mut old = Old::start();
    let put = |old: &mut Old, in_place: bool, data: &[u8]| {
        if in_place {
            old.ok(&format!("acquire {}", hex(data)));
            old.ok("commit");
        } else {
            old.ok(&format!("write {}", hex(data)));
        }
    };
    for in_place in [false, true] {
        for left in 0..=20 {
            let mut reader = reader(&name, 1024);
            old.ok(&format!("connect {}", &*name));
            for lap in 0..3_u8 {
                // 500 bytes, then all but `left` of the rest, then a frame on the other side of the gap; the last one
                // comes while its predecessor is unread.
                let second = 1024 - 500 - left - 16;
                put(&mut old, in_place, &[lap; 484]);
                assert_eq!(next(&mut reader), [lap; 484], "{left} bytes left, lap {lap}");
                put(&mut old, in_place, &vec![lap + 10; second]);
                assert_eq!(Raw::of(&name).get(Word::WritePos) % 1024, (1024 - left as u64) % 1024);
                put(&mut old, in_place, &[lap + 20; 30]);
                assert_eq!(next(&mut reader), vec![lap + 10; second], "{left} bytes left, lap {lap}");
                assert_eq!(next(&mut reader), [lap + 20; 30], "{left} bytes left, lap {lap}");
                // To the end of the ring and back to 0, so that each lap starts there.
                put(&mut old, in_place, &[lap + 30; 1024 - 46 - 16]);
                assert_eq!(next(&mut reader), [lap + 30; 1024 - 46 - 16], "{left} bytes left, lap {lap}");
            }
            let raw = Raw::of(&name);
            assert_eq!(raw.get(Word::FreeBytes), 1024);
            if left < 16 {
                let (written, read) = (raw.get(Word::WrittenCount), raw.get(Word::ReadCount));
                eprintln!("{left} bytes left, in place {in_place}: they counted {written}, ours {read}");
            }
            old.ok("close");
        }
    }
}

#[test]
fn failure_01_our_writer_leaves_no_gap_before_their_reader_where_it_can_help_it() {
    for left in 0..=20_u64 {
        let name = Name::new("no-gap");
        let mut old = Old::reader(&name, 1024);
        let mut writer = Writer::connect(&name).unwrap();
        // Up to position 650, with the last frame unread (an empty ring would be left early anyway), then one that would
        // end `left` bytes before the end.
        let frames = [(584, 1), (34, 2), (374 - left - 16, 3), (30, 4)];
        let put = |writer: &mut Writer, index: usize| {
            let (size, byte) = frames[index];
            writer.write_frame(&vec![byte; size as usize]).unwrap();
            Raw::of(&name).get(Word::WritePos)
        };
        let take = |old: &mut Old, index: usize| {
            let (size, byte) = frames[index];
            assert_eq!(old.ok("read 5"), format!("{} {}", index + 1, hex(&vec![byte; size as usize])));
        };
        put(&mut writer, 0);
        assert_eq!(put(&mut writer, 1), 650);
        take(&mut old, 0);
        // Straight on, where an exact end (a position of 0) or room for a marker is left; at the start otherwise.
        let end = if left == 0 {
            0
        } else if left < 16 {
            374 - left
        } else {
            1024 - left
        };
        assert_eq!(put(&mut writer, 2), end, "{left} bytes would be left");
        take(&mut old, 1);
        take(&mut old, 2);
        put(&mut writer, 3);
        take(&mut old, 3);
    }
    // A frame that leaves a gap wherever it stands is refused.
    let name = Name::new("no-gap");
    let mut old = Old::reader(&name, 1024);
    let mut writer = Writer::connect(&name).unwrap();
    let error = writer.write_frame(&[1; 1024 - 16 - 5]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FrameTooLarge, "{error}");
    writer.write_frame(&[2; 1024 - 16]).unwrap();
    assert_eq!(old.ok("read 5"), format!("1 {}", hex(&[2; 1024 - 16])));
    writer.write_frame(&[3; 10]).unwrap();
    assert_eq!(old.ok("read 5"), format!("2 {}", hex(&[3; 10])));
}

#[test]
fn failure_02_frames_of_their_writer_are_released_in_any_order() {
    let name = Name::new("out-of-order");
    let content = Content { seed: 2, low: 1, high: 600 };
    let mut random = Random(2);
    let mut reader = reader(&name, 8192);
    let mut old = Old::writer(&name);
    old.ok("write-timeout 20");
    let count = 10_000;
    old.tell(&format!("send {} both", content.arguments(0, count)));
    let start = Instant::now();
    let mut held: Vec<(u64, Frame)> = Vec::new();
    let mut next = 0;
    while next < count || !held.is_empty() {
        if next < count && held.len() < 5 {
            if let Some(frame) = reader.read_frame(SECOND / 1000).unwrap() {
                held.push((next, frame));
                next += 1;
                continue;
            }
            // Nothing came: the frames held may take all the space.
            assert!(start.elapsed() < SECOND * 60, "no frame {next}, {} held", held.len());
            if held.is_empty() {
                continue;
            }
        }
        let (index, frame) = held.swap_remove(random.between(0, held.len() as u64) as usize);
        assert!(*frame == *content.frame(index), "frame {index} was overwritten while it was held");
        frame.release();
    }
    assert_eq!(old.answer_ok(), count.to_string());
    assert_eq!(Raw::of(&name).get(Word::FreeBytes), 8192);
}

#[test]
fn failure_03_our_reader_keeps_both_semaphores_near_zero() {
    let name = Name::new("sem-low");
    let content = Content { seed: 3, low: 1, high: 100 };
    let mut reader = reader(&name, 1 << 20);
    let mut old = Old::writer(&name);
    for first in 0..10 {
        // A ring that is large enough: no side ever waits for sem-r. A stream that was written before it is read:
        // no side ever waits for sem-w.
        old.ok(&format!("send {} both", content.arguments(first * 2000, 2000)));
        content.receive(&mut reader, first * 2000, 2000);
    }
    let (sem_w, sem_r) = (semaphore("sem-w", &name), semaphore("sem-r", &name));
    eprintln!("after 20000 frames sem-w stands at {sem_w}, sem-r at {sem_r}");
    assert!(sem_w <= 300, "our reader leaves the tokens of the 1.x writer: {sem_w}");
    assert!(sem_r <= 1, "the native reader posts although the last token has not been taken: {sem_r}");
}

#[test]
fn failure_03_a_read_semaphore_at_its_maximum_hurts_neither_our_reader_nor_their_writer() {
    let name = Name::new("sem-max");
    let content = Content { seed: 4, low: 1, high: 400 };
    let mut reader = reader(&name, 1024);
    let mut old = Old::writer(&name);
    forge_semaphore("sem-r", &name, SEM_VALUE_MAX);
    old.tell(&format!("send {} both", content.arguments(0, 2000)));
    content.receive(&mut reader, 0, 2000);
    assert_eq!(old.answer_ok(), "2000");
}

#[test]
fn failure_03_our_writer_keeps_the_semaphore_that_their_reader_posts_from_overflowing() {
    let name = Name::new("sem-r-old");
    let mut old = Old::reader(&name, 1024);
    let mut writer = Writer::connect(&name).unwrap();
    forge_semaphore("sem-r", &name, SEM_VALUE_MAX - 3);
    // The writer looks at its reader, and at this count, every 10 ms.
    std::thread::sleep(Duration::from_millis(30));
    for sequence in 1..=50 {
        writer.write_frame(&[7; 10]).unwrap();
        // The 1.x peer dies of the fourth post, with EOVERFLOW, if the tokens are not taken away.
        assert_eq!(old.ok("read 5"), format!("{sequence} {}", hex(&[7; 10])));
    }
    assert!(semaphore("sem-r", &name) < SEM_VALUE_MAX - 1000);
}

#[test]
fn failure_07_frames_without_a_token_of_a_dead_writer_are_delivered() {
    let name = Name::new("no-token");
    let mut reader = reader(&name, 1024);
    let mut old = Old::writer(&name);
    for byte in 1..=5_u8 {
        old.ok(&format!("write {}", hex(&[byte; 33])));
    }
    // As if it had died between commit and post, and in the middle of an in-place frame.
    old.ok(&format!("acquire {}", hex(&[6; 33])));
    let killed = Stopwatch::start();
    old.kill();
    forge_semaphore("sem-w", &name, 0);
    for byte in 1..=5_u8 {
        assert_eq!(next(&mut reader), [byte; 33]);
    }
    assert_eq!(reader.read_frame(support::PATIENCE).unwrap_err().kind(), ErrorKind::WriterDead);
    killed.assert_within(SOON);
    assert!(reader.try_read_frame().unwrap().is_none());
}

#[test]
fn failure_07_frames_behind_a_wrap_survive_a_writer_that_died_filling_the_ring() {
    for first in [400, 508] {
        let name = Name::new("filled");
        let mut reader = reader(&name, 1024);
        let mut old = Old::writer(&name);
        // Equal frames, two to a lap; behind them the rest of the ring: room for a marker, or a gap of 8 bytes.
        for byte in 1..=2_u8 {
            old.ok(&format!("write {}", hex(&vec![byte; first - 16])));
            assert_eq!(next(&mut reader), vec![byte; first - 16]);
        }
        // The third wraps. The fourth ends where our reader stands, and its writer dies just before the commit.
        old.ok(&format!("write {}", hex(&vec![3; first - 16])));
        let filled = Raw::of(&name);
        filled.put(RING + first as u64, &((first as u64 - 16).to_le_bytes()));
        filled.put(RING + first as u64 + 8, &4_u64.to_le_bytes());
        filled.set(Word::WritePos, 2 * first as u64);
        let killed = Stopwatch::start();
        old.kill();
        assert_eq!(next(&mut reader), vec![3; first - 16]);
        assert_eq!(reader.read_frame(SECOND).unwrap_err().kind(), ErrorKind::WriterDead);
        killed.assert_within(SOON);
        assert_eq!(filled.get(Word::FreeBytes), 1024);
        let mut old = Old::writer(&name);
        old.ok("write 0102");
        assert_eq!(next(&mut reader), [1, 2]);
    }
}

#[test]
fn failure_07_a_frame_that_its_writer_did_not_live_to_commit_is_withdrawn() {
    for next_is_theirs in [false, true] {
        for told in [false, true] {
            let name = Name::new("withdrawn");
            let mut reader = reader(&name, 1024);
            let mut old = Old::writer(&name);
            for byte in 1..=3_u8 {
                old.ok(&format!("write {}", hex(&[byte; 33])));
                assert_eq!(next(&mut reader), [byte; 33]);
            }
            // Killed between the store of write_pos and the subtraction from free_bytes, with all else in place.
            old.ok(&format!("acquire {}", hex(&[4; 33])));
            old.kill();
            let raw = Raw::of(&name);
            assert_eq!(raw.get(Word::WritePos), 3 * 49);
            raw.set(Word::WritePos, 4 * 49);
            if told {
                assert_eq!(reader.read_frame(SECOND).unwrap_err().kind(), ErrorKind::WriterDead);
                assert_eq!(raw.get(Word::WritePos), 3 * 49, "the next 1.x writer starts there");
            } else if next_is_theirs {
                // A 1.x writer that connects before the native reader knew of the death hides the death, and
                // the hole.
                continue;
            }
            if next_is_theirs {
                let mut old = Old::writer(&name);
                old.ok(&format!("write {}", hex(&[5; 40])));
                assert_eq!(next(&mut reader), [5; 40]);
            } else {
                let mut writer = Writer::connect(&name).unwrap();
                writer.write_frame(&[5; 40]).unwrap();
                if !told {
                    assert_eq!(reader.read_frame(SECOND).unwrap_err().kind(), ErrorKind::WriterDead);
                }
                assert_eq!(next(&mut reader), [5; 40]);
            }
        }
    }
}

#[test]
fn failure_12_their_writer_may_start_again_at_sequence_1() {
    let name = Name::new("restart");
    let mut reader = reader(&name, 1024);
    let mut old = Old::writer(&name);
    let two_frames = |old: &mut Old, reader: &mut Reader| {
        old.ok("write 01");
        old.ok("write 02");
        assert_eq!(reader.read_frame(SECOND).unwrap().unwrap().sequence(), 1);
        assert_eq!(reader.read_frame(SECOND).unwrap().unwrap().sequence(), 2);
    };
    two_frames(&mut old, &mut reader);
    // The same process, and our reader did not look in between.
    old.ok("close");
    old.ok(&format!("connect {}", &*name));
    old.ok("write 01");
    let error = reader.read_frame(SECOND).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WriterClosed);
    assert_eq!(reader.read_frame(SECOND).unwrap().unwrap().sequence(), 1);
    // The same process, and our reader knew that it had closed.
    old.ok("close");
    assert_eq!(reader.read_frame(SECOND).unwrap_err().kind(), ErrorKind::WriterClosed);
    old.ok(&format!("connect {}", &*name));
    two_frames(&mut old, &mut reader);
    // Frames of both unread: each frame, then the end, then the next writer's.
    old.ok("write 03");
    old.ok("close");
    let mut other = Old::writer(&name);
    other.ok("write 01");
    assert_eq!(reader.read_frame(SECOND).unwrap().unwrap().sequence(), 3);
    assert_eq!(reader.read_frame(SECOND).unwrap_err().kind(), ErrorKind::WriterClosed);
    assert_eq!(reader.read_frame(SECOND).unwrap().unwrap().sequence(), 1);
    other.kill();
    assert_eq!(reader.read_frame(SECOND).unwrap_err().kind(), ErrorKind::WriterDead);
    // A native writer after a 1.x one, and a 1.x writer after a native one.
    for _ in 0..2 {
        let mut ours = Writer::connect(&name).unwrap();
        ours.write_frame(&[1]).unwrap();
        ours.write_frame(&[2]).unwrap();
        assert_eq!(reader.read_frame(SECOND).unwrap().unwrap().sequence(), 1);
        drop(ours);
        old.ok(&format!("connect {}", &*name));
        old.ok("write 01");
        assert_eq!(reader.read_frame(SECOND).unwrap().unwrap().sequence(), 2);
        assert_eq!(reader.read_frame(SECOND).unwrap_err().kind(), ErrorKind::WriterClosed);
        assert_eq!(reader.read_frame(SECOND).unwrap().unwrap().sequence(), 1);
        old.ok("close");
        assert_eq!(reader.read_frame(SECOND).unwrap_err().kind(), ErrorKind::WriterClosed);
    }
}

#[test]
fn failure_12_any_other_gap_in_the_sequence_is_an_error() {
    for found in [0_u64, 2, 4, 5, u64::MAX] {
        let name = Name::new("sequence");
        let mut reader = reader(&name, 1024);
        let mut old = Old::writer(&name);
        old.ok("write 0102");
        old.ok("write 0304");
        assert_eq!(next(&mut reader), [1, 2]);
        assert_eq!(next(&mut reader), [3, 4]);
        old.ok("acquire 0506");
        // Its header is in place already, with sequence number 3.
        Raw::of(&name).put(RING + 2 * 18 + 8, &found.to_le_bytes());
        old.ok("commit");
        let error = reader.read_frame(SECOND).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SequenceError, "3 was expected, {found} found");
    }
}

#[test]
fn failure_12_their_reader_refuses_any_second_writer() {
    let name = Name::new("restart-theirs");
    let mut old = Old::reader(&name, 1024);
    for expected in ["ok 1 07", "error SequenceError"] {
        let mut writer = Writer::connect(&name).unwrap();
        writer.write_frame(&[7]).unwrap();
        let answer = old.ask("read 1");
        // The 1.x Python reader refuses sequence number 1 of a second writer, native or 1.x.
        assert!(answer.starts_with(expected), "{answer}");
        eprintln!("the 1.x reader says {answer}");
    }
}

#[test]
fn failure_14_the_directory_of_lock_files_is_everybodys() {
    let name = Name::new("lock-dir");
    let directory = "/tmp/zerobuffer";
    drop(reader(&name, 1024));
    // As a 1.x peer makes it; another user's we may not change.
    // SAFETY: plain system call.
    if std::fs::metadata(directory).unwrap().uid() == unsafe { libc::geteuid() } {
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).unwrap();
    }
    drop(reader(&name, 1024));
    assert_eq!(std::fs::metadata(directory).unwrap().permissions().mode() & 0o7777, 0o1777);
    let mut old = Old::reader(&name, 1024);
    assert_eq!(std::fs::metadata(directory).unwrap().permissions().mode() & 0o7777, 0o1777);
    old.ok("close");
}

#[test]
fn failure_16_no_frame_up_to_half_the_ring_is_refused_for_ever_by_our_writer() {
    let name = Name::new("half");
    let mut old = Old::reader(&name, 4096);
    let mut writer = Writer::connect(&name).unwrap();
    writer.set_write_timeout(SECOND * 5);
    let mut random = Random(16);
    for sequence in 1..=1000_u64 {
        // Small ones take the position everywhere; then comes the largest.
        let size = if sequence % 2 == 0 { 2048 - 16 } else { random.between(1, 2000) };
        writer.write_frame(&vec![sequence as u8; size as usize]).unwrap();
        assert!(old.ok("read 5").starts_with(&format!("{sequence} ")));
    }
}

#[test]
fn failure_16_a_frame_beyond_half_the_ring_is_refused_only_where_nothing_helps() {
    // No 1.x reader follows a writer back to 0 without a frame there, and no 1.x writer goes back early.
    let (mut ours_refused, mut theirs_refused) = (0, 0);
    for position in (64..2048).step_by(128) {
        let name = Name::new("beyond");
        let mut old = Old::reader(&name, 4096);
        let mut writer = Writer::connect(&name).unwrap();
        let theirs_name = Name::new("beyond-theirs");
        let mut our_reader = reader(&theirs_name, 4096);
        let mut old_writer = Old::writer(&theirs_name);
        old_writer.ok("write-timeout 0.05");
        writer.set_write_timeout(Duration::from_millis(50));
        // Two steps away from 0, and a small one, each read before the next.
        for size in [position, position, 40] {
            writer.write_frame(&vec![1; size - 16]).unwrap();
            old.ok("read 5");
            old_writer.ok(&format!("write {}", hex(&vec![1; size - 16])));
            next(&mut our_reader);
        }
        let large = vec![2; 2600];
        match writer.write_frame(&large) {
            Ok(_) => assert!(old.ok("read 5").starts_with("4 ")),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::BufferFull);
                ours_refused += 1;
            }
        }
        let answer = old_writer.ask(&format!("write {}", hex(&large)));
        if answer == "ok" {
            assert_eq!(next(&mut our_reader), large);
        } else {
            assert!(answer.starts_with("error BufferFull"), "{answer}");
            theirs_refused += 1;
        }
        drop(our_reader);
        theirs_name.assert_nothing_left();
    }
    eprintln!(
        "2600 bytes at 16 places of an empty ring of 4096: ours refused {ours_refused}, theirs {theirs_refused}"
    );
    assert!(ours_refused < theirs_refused);
}

/// Processor time of this thread.
fn cpu() -> Duration {
    // SAFETY: struct rusage is plain integers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` has room for the result.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// The processor time that taking 5 million tokens costs this machine now.
fn cost_of_five_million_tokens() -> Duration {
    let before = cpu();
    // SAFETY: sem_init fills the semaphore in before it is used; it stays where it is until its end.
    unsafe {
        let mut semaphore = std::mem::MaybeUninit::uninit();
        assert_eq!(libc::sem_init(semaphore.as_mut_ptr(), 0, 5_000_000), 0);
        while libc::sem_trywait(semaphore.as_mut_ptr()) == 0 {}
        libc::sem_destroy(semaphore.as_mut_ptr());
    }
    cpu() - before
}

#[test]
fn failure_17_five_million_stale_tokens_cost_next_to_nothing() {
    let name = Name::new("stale");
    let mut reader = reader(&name, 1024);
    let mut old = Old::writer(&name);
    // The best of three, each beside what taking the tokens alone costs just then.
    let costs = (0..3).map(|_| {
        forge_semaphore("sem-w", &name, 5_000_000);
        let (start, before) = (Stopwatch::start(), cpu());
        assert!(reader.read_frame(Duration::from_millis(300)).unwrap().is_none(), "a token is no frame");
        start.assert_within(SECOND);
        (cpu() - before, cost_of_five_million_tokens())
    });
    let (cost, bare) = costs.min().unwrap();
    eprintln!(
        "our reader: 5 million stale tokens cost {cost:?} of processor time, of which their taking {bare:?}"
    );
    assert!(cost < bare * 2 + Duration::from_millis(20));
    assert_eq!(semaphore("sem-w", &name), 0, "what is left costs the next wait");
    old.ok("write 010203");
    assert_eq!(next(&mut reader), [1, 2, 3]);

    // A frame behind a backlog is there at once.
    forge_semaphore("sem-w", &name, 5_000_000);
    old.ok("write 010203");
    let start = Stopwatch::start();
    assert_eq!(next(&mut reader), [1, 2, 3]);
    start.assert_within(Duration::from_millis(10) + bare / 2);
    drop((reader, old));

    let name = Name::new("stale");
    let mut old = Old::reader(&name, 1024);
    let mut writer = Writer::connect(&name).unwrap();
    writer.write_frame(&[1; 1008]).unwrap();
    writer.set_write_timeout(Duration::from_millis(300));
    let costs = (0..3).map(|_| {
        forge_semaphore("sem-r", &name, 5_000_000);
        let before = cpu();
        assert_eq!(writer.write_frame(&[2; 1008]).unwrap_err().kind(), ErrorKind::BufferFull);
        (cpu() - before, cost_of_five_million_tokens())
    });
    let (cost, bare) = costs.min().unwrap();
    eprintln!(
        "our writer: 5 million stale tokens cost {cost:?} of processor time, of which their taking {bare:?}"
    );
    assert!(cost < bare * 2 + Duration::from_millis(20));
    assert_eq!(semaphore("sem-r", &name), 0, "what is left costs the next wait");
    assert!(old.ok("read 5").starts_with("1 "));
    writer.write_frame(&[2; 1008]).unwrap();
    assert!(old.ok("read 5").starts_with("2 "));
}

#[test]
fn failure_17_a_token_without_a_frame_is_ignored_at_any_time() {
    let name = Name::new("tokens");
    let mut reader = reader(&name, 1024);
    let mut old = Old::writer(&name);
    for round in 0..50_u8 {
        forge_semaphore("sem-w", &name, u32::from(round % 3));
        assert!(reader.read_frame(Duration::from_millis(1)).unwrap().is_none());
        old.ok(&format!("write {}", hex(&[round; 60])));
        forge_semaphore("sem-w", &name, u32::from(round % 5));
        assert_eq!(next(&mut reader), [round; 60]);
    }
}

#[test]
fn failure_17_counts_may_drift() {
    let name = Name::new("drift");
    let content = Content { seed: 17, low: 1, high: 300 };
    let mut random = Random(17);
    let mut reader = reader(&name, 1024);
    let mut old = Old::writer(&name);
    let raw = Raw::of(&name);
    for round in 0..200 {
        raw.set(Word::WrittenCount, random.next() >> (round % 64));
        raw.set(Word::ReadCount, random.next() >> (round % 64));
        old.ok(&format!("send {} both", content.arguments(round * 2, 2)));
        raw.set(Word::WrittenCount, random.next() >> (round % 64));
        content.receive(&mut reader, round * 2, 2);
        assert!(reader.try_read_frame().unwrap().is_none());
    }
}

#[test]
fn failure_17_a_count_of_free_bytes_that_contradicts_an_empty_ring_is_repaired() {
    let name = Name::new("contradiction");
    let mut reader = reader(&name, 1024);
    let mut old = Old::writer(&name);
    let raw = Raw::of(&name);
    for round in 0..5_u8 {
        for byte in 0..3_u8 {
            old.ok(&format!("write {}", hex(&[byte; 77])));
            assert_eq!(next(&mut reader), [byte; 77]);
        }
        // Without libatomic a 1.x Python writer loses an addition of the native reader now and then.
        raw.set(Word::FreeBytes, 1024 - 93 + u64::from(round));
        assert!(reader.read_frame(Duration::from_millis(300)).unwrap().is_none());
        assert_eq!(raw.get(Word::FreeBytes), 1024);
    }
    let content = Content { seed: 18, low: 1, high: 400 };
    old.tell(&format!("send {} both", content.arguments(15, 100)));
    content.receive(&mut reader, 15, 100);
    old.answer_ok();
}

#[test]
fn failure_17_a_gap_at_the_end_is_not_taken_for_passed_because_of_a_contradiction() {
    let name = Name::new("gap-contradiction");
    let mut reader = reader(&name, 1024);
    let mut old = Old::writer(&name);
    for byte in 0..2_u8 {
        old.ok(&format!("write {}", hex(&[byte; 508 - 16])));
        assert_eq!(next(&mut reader), [byte; 508 - 16]);
    }
    let raw = Raw::of(&name);
    raw.set(Word::FreeBytes, 1024 - 93);
    assert!(reader.read_frame(Duration::from_millis(300)).unwrap().is_none());
    assert_eq!(raw.get(Word::FreeBytes), 1024);
    for byte in 2..10_u8 {
        old.ok(&format!("write {}", hex(&[byte; 508 - 16])));
        assert_eq!(next(&mut reader), [byte; 508 - 16]);
    }
}

#[test]
fn failure_17_a_repair_lets_their_blocked_writer_go_on() {
    let name = Name::new("repair-wakes");
    let mut reader = reader(&name, 1024);
    let mut old = Old::writer(&name);
    old.ok("write-timeout 10");
    Raw::of(&name).set(Word::FreeBytes, 1024 - 900);
    let start = Stopwatch::start();
    old.tell(&format!("write {}", hex(&[5; 500])));
    assert_eq!(next(&mut reader), [5; 500]);
    assert_eq!(old.answer(), "ok");
    // 100 ms until the contradiction is believed.
    start.assert_within(SECOND);
}

#[test]
fn failure_19_all_frames_come_first_then_the_orderly_end_at_once() {
    let name = Name::new("orderly");
    let mut reader = reader(&name, 4096);
    let mut old = Old::writer(&name);
    for byte in 0..20_u8 {
        old.ok(&format!("write {}", hex(&[byte; 100])));
    }
    old.ok("close");
    let start = Stopwatch::start();
    for byte in 0..20_u8 {
        assert_eq!(next(&mut reader), [byte; 100]);
    }
    assert_eq!(reader.read_frame(support::PATIENCE).unwrap_err().kind(), ErrorKind::WriterClosed);
    start.assert_within(SOON);
}

#[test]
fn failure_20_our_writer_removes_what_their_dead_reader_left() {
    let name = Name::new("residue");
    let mut old = Old::reader(&name, 1024);
    let writer = Writer::connect(&name).unwrap();
    old.kill();
    assert_eq!(name.leftovers().len(), 4);
    drop(writer);
    name.assert_nothing_left();
}

#[test]
fn failure_20_our_writer_removes_nothing_of_a_new_reader() {
    let name = Name::new("residue");
    for theirs in [false, true] {
        let mut old = Old::reader(&name, 1024);
        let writer = Writer::connect(&name).unwrap();
        old.kill();
        if theirs {
            for path in name.leftovers() {
                std::fs::remove_file(path).unwrap();
            }
            let mut reader = Old::reader(&name, 1024);
            drop(writer);
            Writer::connect(&name).unwrap().write_frame(&[7]).unwrap();
            assert_eq!(reader.ok("read 5"), "1 07");
            reader.ok("close");
        } else {
            let mut reader = reader(&name, 1024);
            drop(writer);
            Writer::connect(&name).unwrap().write_frame(&[7]).unwrap();
            assert_eq!(next(&mut reader), [7]);
        }
    }
}

#[test]
fn failure_20_when_both_died_the_next_creation_cleans_up() {
    let name = Name::new("residue");
    let mut old = Old::reader(&name, 1024);
    let mut old_writer = Old::writer(&name);
    old_writer.ok("write 0102");
    old.kill();
    assert_eq!(Writer::connect(&name).unwrap_err().kind(), ErrorKind::ReaderDead);
    old_writer.kill();
    assert_eq!(Writer::connect(&name).unwrap_err().kind(), ErrorKind::ReaderDead);
    let mut reader = reader(&name, 4096);
    let mut old_writer = Old::writer(&name);
    old_writer.ok("write 0304");
    assert_eq!(next(&mut reader), [3, 4]);
    old_writer.ok("close");
    drop(reader);
    name.assert_nothing_left();
}
