//! Readers and writers in tokio.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::support::{self, Name, PATIENCE, Peer, role, say};
use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
use zerobuffer::tokio::{AsyncReader, AsyncWriter};
use zerobuffer::{BufferConfig, ErrorKind, Reader, Writer, WriterOptions};

support::peers!(echo_in_tokio);

/// What does not come within this time is lost.
const LOST: Duration = Duration::from_secs(20);

fn small() -> BufferConfig {
    support::config().payload_size(4096)
}

fn connect(name: &str) -> Writer {
    Writer::connect_with(name, WriterOptions::default().connect_timeout(PATIENCE)).unwrap()
}

fn runtimes() -> [Runtime; 2] {
    [Builder::new_current_thread(), Builder::new_multi_thread()]
        .map(|mut builder| builder.worker_threads(2).enable_all().build().unwrap())
}

/// Runs `work`, which fails if it waits for something that never comes.
fn run<T>(runtime: &Runtime, work: impl Future<Output = T>) -> T {
    runtime.block_on(async { timeout(LOST, work).await.expect("a wake-up is lost") })
}

/// A reader and a writer of one buffer, made within `runtime`.
fn both(runtime: &Runtime, name: &str) -> (AsyncReader, AsyncWriter) {
    let _in_runtime = runtime.enter();
    let reader = Reader::create(name, small()).unwrap();
    let writer = connect(name);
    (AsyncReader::new(reader).unwrap(), AsyncWriter::new(writer).unwrap())
}

/// Sends back what comes; ends when its writer does.
fn echo_in_tokio(arguments: &[String]) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut requests = AsyncReader::new(Reader::create(&arguments[0], small()).unwrap()).unwrap();
        say("created");
        let mut responses = AsyncWriter::new(connect(&arguments[1])).unwrap();
        while let Some(frame) = requests.next().await.unwrap() {
            responses.write_frame(&frame).await.unwrap();
        }
    });
}

#[test]
fn frames_go_there_and_back_through_tokio() {
    for runtime in runtimes() {
        let (requests, responses) = (Name::new("tokio-ask"), Name::new("tokio-answer"));
        let reader = Reader::create(&responses, small()).unwrap();
        let mut peer = Peer::start(role!(echo_in_tokio), &[&requests, &responses]);
        peer.expect("created");
        run(&runtime, async {
            let mut reader = AsyncReader::new(reader).unwrap();
            let mut writer = AsyncWriter::new(connect(&requests)).unwrap();
            for number in 0..1000_u64 {
                // More than the ring holds at once, now and then.
                let count = if number % 100 == 0 { 8 } else { 1 };
                let write = async {
                    for _ in 0..count {
                        writer.write_frame(&[number as u8; 1000]).await.unwrap();
                    }
                };
                let read = async {
                    for _ in 0..count {
                        assert_eq!(*reader.read_frame().await.unwrap(), [number as u8; 1000]);
                    }
                };
                tokio::join!(write, read);
            }
        });
        assert!(peer.wait().success());
    }
}

#[test]
fn what_select_drops_loses_no_frame_and_writes_none() {
    for runtime in runtimes() {
        let name = Name::new("tokio-select");
        let (mut reader, mut writer) = both(&runtime, &name);
        run(&runtime, async {
            for number in 1..200_u64 {
                tokio::select! {
                    biased;
                    frame = reader.read_frame() => panic!("there is no frame: {frame:?}"),
                    () = tokio::task::yield_now() => {}
                }
                writer.write_frame(&number.to_le_bytes()).await.unwrap();
                assert_eq!(*reader.read_frame().await.unwrap(), number.to_le_bytes());
            }
            while writer.get_mut().try_write_frame(&[0; 1000]).unwrap().is_some() {}
            let written = writer.get_ref().frames_written();
            tokio::select! {
                biased;
                written = writer.write_frame(&[1; 1000]) => panic!("there is no space: {written:?}"),
                () = tokio::task::yield_now() => {}
            }
            while reader.get_mut().try_read_frame().unwrap().is_some() {}
            assert_eq!(writer.write_frame(&[2; 1000]).await.unwrap(), written + 1);
            assert_eq!(*reader.read_frame().await.unwrap(), [2; 1000]);
        });
    }
}

#[test]
fn the_newest_frame_and_the_end_come_to_a_task() {
    for runtime in runtimes() {
        let name = Name::new("tokio-latest");
        let (mut reader, mut writer) = both(&runtime, &name);
        run(&runtime, async {
            for number in 1..=3_u8 {
                writer.write_frame(&[number]).await.unwrap();
            }
            assert_eq!(*reader.next_latest().await.unwrap().unwrap(), [3]);
            assert_eq!(reader.get_ref().frames_skipped(), 2);
            let reading =
                tokio::spawn(async move { reader.next_latest().await.map(|frame| frame.is_none()) });
            tokio::task::yield_now().await;
            drop(writer);
            assert!(reading.await.unwrap().unwrap(), "the end");
        });
    }
}

#[test]
fn a_task_that_never_waits_lets_others_run() {
    let [runtime, _] = runtimes();
    let name = Name::new("tokio-fair");
    let (mut reader, mut writer) = both(&runtime, &name);
    run(&runtime, async {
        let busy = tokio::spawn(async move {
            loop {
                writer.write_frame(b"x").await.unwrap();
                drop(reader.read_frame().await.unwrap());
            }
        });
        // In a runtime of one thread this goes on only when the other task lets it.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        busy.abort();
    });
}

#[test]
fn a_reader_that_ends_ends_a_write_that_waits() {
    for runtime in runtimes() {
        let name = Name::new("tokio-end");
        let (reader, mut writer) = both(&runtime, &name);
        run(&runtime, async {
            while writer.get_mut().try_write_frame(&[0; 1000]).unwrap().is_some() {}
            let writing = tokio::spawn(async move { writer.write_frame(&[1; 1000]).await });
            tokio::task::yield_now().await;
            drop(reader);
            assert_eq!(writing.await.unwrap().unwrap_err().kind(), ErrorKind::ReaderDead);
        });
    }
}

#[test]
fn futures_of_any_executor_run_under_tokio() {
    for runtime in runtimes() {
        let (name, channel) = (Name::new("tokio-any"), Name::new("tokio-call"));
        let mut reader = Reader::create(&name, small()).unwrap();
        let mut writer = connect(&name);
        let factory = DuplexChannelFactory::new();
        let server = factory.create_immutable_server(&channel, small()).unwrap();
        server.start(|request| Ok(request.repeat(2).into()), ProcessingMode::SingleThread).unwrap();
        let client = factory.create_client(&channel).unwrap();
        run(&runtime, async {
            for number in 0..100_u8 {
                let write = writer.write_frame_async([number; 10]);
                let (frame, sequence, response) =
                    tokio::join!(reader.read_frame_async(), write, client.call_async([number; 3], LOST));
                assert_eq!((&*frame.unwrap(), sequence.unwrap()), (&[number; 10][..], u64::from(number) + 1));
                assert_eq!(*response.unwrap(), [number; 6]);
            }
        });
        client.close();
        server.stop().unwrap();
    }
}
