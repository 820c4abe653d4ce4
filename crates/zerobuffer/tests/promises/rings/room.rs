//! Room is room: what one way of writing finds a place for, every way does, at the first try and after a wait.

use super::support;

use std::time::Duration;

use super::support::{Name, fill, is_filled};
use zerobuffer::{Reader, Writer};

/// Payload and frame size of the rings.
const RINGS: [(usize, usize); 6] =
    [(1024, 200), (1024, 240), (1024, 1), (4096, 1008), (64 << 10, 9000), (64 << 10, 16 * 1024 - 16)];

/// How the next frame is tried.
#[derive(Debug, Clone, Copy)]
enum Way {
    Write,
    TryWrite,
    Batch,
    Acquire,
    TryAcquire,
}

const WAYS: [Way; 5] = [Way::Write, Way::TryWrite, Way::Batch, Way::Acquire, Way::TryAcquire];

fn write(writer: &mut Writer, way: Way, data: &[u8]) -> bool {
    match way {
        Way::Write => writer.write_frame(data).is_ok(),
        Way::TryWrite => writer.try_write_frame(data).unwrap().is_some(),
        Way::Batch => writer.write_frames([data]).is_ok(),
        Way::Acquire => writer.acquire_frame(data.len()).is_ok_and(|mut frame| {
            frame.copy_from_slice(data);
            frame.commit().is_ok()
        }),
        Way::TryAcquire => writer.try_acquire_frame(data.len()).unwrap().is_some_and(|mut frame| {
            frame.copy_from_slice(data);
            frame.commit().is_ok()
        }),
    }
}

/// Each pair of ways meets the very same ring: as full as it gets after so many frames, with so many given back.
#[test]
fn what_one_way_of_writing_finds_room_for_every_way_does() {
    for (payload, size) in RINGS {
        for before in 0..6 {
            for released in 0..3 {
                let found = WAYS.map(|way| {
                    let name = Name::new("room");
                    let config = support::config().payload_size(payload);
                    let mut reader = Reader::create(&name, config).unwrap();
                    let mut writer = Writer::connect(&name).unwrap();
                    writer.set_write_timeout(Duration::from_millis(1));
                    let mut data = vec![0; size];
                    // The reader keeps up at first, so that the ring is full at another place each time.
                    let mut index = 0;
                    for _ in 0..before {
                        fill(index, &mut data);
                        writer.write_frame(&data).unwrap();
                        assert!(is_filled(index, &reader.try_read_frame().unwrap().unwrap()));
                        index += 1;
                    }
                    let mut count = 0;
                    loop {
                        fill(index, &mut data);
                        if !write(&mut writer, way, &data) {
                            break;
                        }
                        (index, count) = (index + 1, count + 1);
                    }
                    let mut oldest = index - count;
                    for _ in 0..released {
                        assert!(is_filled(oldest, &reader.try_read_frame().unwrap().unwrap()));
                        oldest += 1;
                    }
                    fill(index, &mut data);
                    let fits = write(&mut writer, way, &data);
                    while let Some(frame) = reader.try_read_frame().unwrap() {
                        assert!(is_filled(oldest, &frame));
                        oldest += 1;
                    }
                    (count, fits)
                });
                let [first, ..] = found;
                assert_eq!(
                    found, [first; 5],
                    "{WAYS:?}, {size} of {payload}, {before} before, {released} back"
                );
                assert!(first.1 || released < 2, "no room for {size} of {payload} where two were given back");
            }
        }
    }
}

/// The look of a waiting writer is for the same room as its first one.
#[test]
fn a_writer_that_waits_goes_on_with_one_frame_given_back() {
    for (payload, size) in RINGS {
        for way in [Way::Write, Way::Batch, Way::Acquire] {
            let name = Name::new("room-wait");
            let mut reader = Reader::create(&name, support::config().payload_size(payload)).unwrap();
            let mut writer = Writer::connect(&name).unwrap();
            let data = vec![7; size];
            while writer.try_write_frame(&data).unwrap().is_some() {}
            // How many frames have to go before one fits is the ring's to say; the wait must end with just these.
            let needed = {
                let mut given_back = 0;
                let probe = Name::new("room-probe");
                let mut reader = Reader::create(&probe, support::config().payload_size(payload)).unwrap();
                let mut writer = Writer::connect(&probe).unwrap();
                while writer.try_write_frame(&data).unwrap().is_some() {}
                while writer.try_write_frame(&data).unwrap().is_none() {
                    drop(reader.try_read_frame().unwrap().expect("a frame"));
                    given_back += 1;
                }
                given_back
            };
            writer.set_write_timeout(support::PATIENCE);
            let thread = std::thread::spawn(move || {
                let written = write(&mut writer, way, &data);
                (writer, written)
            });
            for _ in 0..needed {
                drop(reader.try_read_frame().unwrap().expect("a frame"));
            }
            assert!(
                thread.join().unwrap().1,
                "{way:?} of {size} in {payload} after {needed} were given back"
            );
        }
    }
}
