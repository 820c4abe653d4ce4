//! Event loops, callbacks, futures and wait sets where the other side is the 1.x package, which knows of none of them.

use std::os::fd::AsRawFd;
use std::sync::mpsc::channel;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::driver::Old;
use crate::support::Name;
use zerobuffer::tokio::{AsyncReader, AsyncWriter};
use zerobuffer::{BufferConfig, ErrorKind, Frame, Reader, Result, WaitSet, Writer};

/// What does not come within this time is lost.
const LOST: Duration = Duration::from_secs(20);
const ROUNDS: u8 = 20;

#[derive(Debug, Clone, Copy)]
enum Way {
    Descriptor,
    Callback,
    Future,
    WaitSet,
    Tokio,
}

const WAYS: [Way; 5] = [Way::Descriptor, Way::Callback, Way::Future, Way::WaitSet, Way::Tokio];

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits once for a descriptor.
fn poll(descriptor: &impl AsRawFd) {
    let mut event = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid `pollfd`.
    assert_eq!(unsafe { libc::poll(&mut event, 1, LOST.as_millis() as i32) }, 1, "a wake-up is lost");
}

/// Waits for a frame, or an end, in one way.
fn next(way: Way, mut reader: Reader) -> (Reader, Result<Frame>) {
    match way {
        Way::Future => {
            let found = runtime().block_on(async { timeout(LOST, reader.read_frame_async()).await });
            return (reader, found.expect("a wake-up is lost"));
        }
        Way::Tokio => {
            return runtime().block_on(async {
                let mut reader = AsyncReader::new(reader).unwrap();
                let found = timeout(LOST, reader.read_frame()).await.expect("a wake-up is lost");
                (reader.into_inner(), found)
            });
        }
        Way::Descriptor | Way::Callback | Way::WaitSet => {}
    }
    loop {
        if let Some(found) = reader.read_frame(Duration::ZERO).transpose() {
            return (reader, found);
        }
        match way {
            Way::Callback => {
                let (tell, told) = channel();
                reader.notify(move || tell.send(()).unwrap()).unwrap();
                told.recv_timeout(LOST).expect("a wake-up is lost");
            }
            Way::WaitSet => {
                let mut set = WaitSet::new().unwrap();
                set.add_reader(&reader, 7).unwrap();
                assert_eq!(set.wait(LOST).unwrap(), [7], "a wake-up is lost");
            }
            _ => poll(&reader.descriptor().unwrap()),
        }
    }
}

/// Waits for space for 1000 bytes, or an end, in one way, and writes.
fn write(way: Way, mut writer: Writer) -> (Writer, Result<u64>) {
    let data = [1; 1000];
    match way {
        Way::Future => {
            let written = runtime().block_on(async { timeout(LOST, writer.write_frame_async(data)).await });
            return (writer, written.expect("a wake-up is lost"));
        }
        Way::Tokio => {
            return runtime().block_on(async {
                let mut writer = AsyncWriter::new(writer).unwrap();
                let written = timeout(LOST, writer.write_frame(&data)).await.expect("a wake-up is lost");
                (writer.into_inner(), written)
            });
        }
        Way::Descriptor | Way::Callback | Way::WaitSet => {}
    }
    loop {
        if let Some(written) = writer.try_write_frame(&data).transpose() {
            return (writer, written);
        }
        match way {
            Way::Callback => {
                let (tell, told) = channel();
                writer.notify(move || tell.send(()).unwrap()).unwrap();
                told.recv_timeout(LOST).expect("a wake-up is lost");
            }
            Way::WaitSet => {
                let mut set = WaitSet::new().unwrap();
                set.add_writer(&writer, 7).unwrap();
                assert_eq!(set.wait(LOST).unwrap(), [7], "a wake-up is lost");
            }
            _ => poll(&writer.descriptor().unwrap()),
        }
    }
}

#[test]
fn frames_and_ends_of_a_1x_writer_end_every_wait() {
    for way in WAYS {
        let name = Name::new("old-waited");
        let config = BufferConfig::default().metadata_size(256).payload_size(4096);
        let mut reader = Reader::create(&name, config).unwrap();
        reader.descriptor().unwrap();
        let mut old = Old::writer(&name);
        for round in 0..ROUNDS {
            // Armed before the frame comes, or not.
            let armed = round % 2 == 0;
            while armed && reader.try_read_frame().unwrap().is_some() {}
            old.tell(&format!("write {round:02x}"));
            if !armed {
                old.answer_ok();
            }
            let found;
            (reader, found) = next(way, reader);
            assert_eq!(*found.unwrap(), [round], "{way:?}");
            if armed {
                old.answer_ok();
            }
        }
        assert!(reader.try_read_frame().unwrap().is_none());
        old.tell("close");
        let ended;
        (reader, ended) = next(way, reader);
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::WriterClosed, "{way:?}");
        old.answer_ok();

        let mut old = Old::writer(&name);
        old.ok("write 77");
        let found;
        (reader, found) = next(way, reader);
        assert_eq!(*found.unwrap(), [0x77]);
        assert!(reader.try_read_frame().unwrap().is_none());
        old.kill();
        let (_reader, ended) = next(way, reader);
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::WriterDead, "{way:?}");
    }
}

#[test]
fn space_and_the_death_of_a_1x_reader_end_every_wait() {
    for way in WAYS {
        let name = Name::new("old-space");
        let mut old = Old::reader(&name, 4096);
        let mut writer = Writer::connect(&name).unwrap();
        writer.descriptor().unwrap();
        for round in 0..ROUNDS {
            while writer.try_write_frame(&[1; 1000]).unwrap().is_some() {}
            old.tell("read 20");
            if round % 2 == 0 {
                old.answer_ok();
            }
            let written;
            (writer, written) = write(way, writer);
            written.unwrap();
            if round % 2 != 0 {
                old.answer_ok();
            }
        }
        while writer.try_write_frame(&[1; 1000]).unwrap().is_some() {}
        old.kill();
        let (_writer, ended) = write(way, writer);
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ReaderDead, "{way:?}");
    }
}
