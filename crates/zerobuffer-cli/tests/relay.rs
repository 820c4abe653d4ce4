//! `zerobuffer relay`: every option, exit code and field.

mod common;

use std::time::Duration;

use common::{Name, Running, TempFile, run, sequential, start, start_reader, wait_until};
use serde_json::json;
use zerobuffer::{BufferConfig, Reader, Writer, WriterOptions, inspect};

/// Starts `zerobuffer relay INPUT OUTPUT ...` and waits until it reads.
#[track_caller]
fn start_relay(input: &Name, output: &Name, arguments: &[&str]) -> Running {
    let relay = start(&[&["relay", &**input, &**output], arguments].concat());
    wait_until("the relay's input", || input.paths()[0].exists());
    relay
}

fn writer(name: &Name) -> Writer {
    let options = WriterOptions::default().connect_timeout(common::PATIENCE);
    Writer::connect_with(name, options).expect("the reader is there")
}

#[test]
fn frames_metadata_and_the_end_are_passed_on_and_reported() {
    let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
    let reader = start_reader(&output, &["--verify", "sequential", "-s", "777", "--json-output"]);
    let relay = start_relay(&input, &output, &["--json-output"]);
    run(&["writer", &input, "-n", "500", "-s", "777", "-m", "what it is"]).expect(0);
    let report = relay.finish().expect(0).json();
    assert_eq!(report["operation"], "relay");
    assert_eq!(report["input_buffer"], *input);
    assert_eq!(report["output_buffer"], *output);
    assert_eq!(report["frames_relayed"], 500);
    assert_eq!(report["bytes"], 500 * 777);
    assert_eq!(report["frame_size"], 777);
    assert_eq!(report["metadata_size"], 10);
    assert_eq!(report["metadata_relayed"], true);
    assert_eq!(report["transform"], "none");
    assert_eq!(report["errors"], json!([]));
    assert!(report["duration_seconds"].is_f64() && report["throughput_mbps"].as_f64().unwrap() > 0.0);
    let report = reader.finish().expect(0).json();
    assert_eq!((&report["frames_read"], &report["metadata_size"]), (&json!(500), &json!(10)));
    input.assert_nothing_left();
    output.assert_nothing_left();
}

#[test]
fn frames_are_shared_where_the_outputs_reader_allows_it() {
    const SIZE: usize = 100_000;
    // What is shared, of 20 frames: all but the first, which comes with the offer.
    for (options, allowed, shared, first) in [
        (&[][..], true, 19, 7),
        (&["--transform", "xor"], true, 19, !7),
        (&["--transform", "reverse"], true, 19, 9),
        (&["--copy"], true, 0, 7),
        (&["--copy", "--transform", "reverse"], true, 0, 9),
        (&["--classic"], true, 0, 7),
        (&[], false, 0, 7),
    ] {
        let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
        let config = BufferConfig::default().allow_payload_sharing(allowed);
        let mut reader = Reader::create(&output, config).unwrap();
        let relay = start_relay(&input, &output, &[&["-n", "20", "--json-output"], options].concat());
        let mut writer = writer(&input);
        let mut bytes = vec![7; SIZE];
        bytes[SIZE - 1] = 9;
        let mut seen = 0;
        for _ in 0..20 {
            writer.write_frame(&bytes).unwrap();
            let frame = reader.read_frame(common::PATIENCE).unwrap().unwrap();
            assert_eq!((frame.len(), frame[0]), (SIZE, first), "{options:?}");
            seen += u64::from(frame.is_shared());
        }
        assert_eq!(seen, shared, "{options:?}, allowed: {allowed}");
        let report = relay.finish().expect(0).json();
        assert_eq!(
            (&report["frames_shared"], &report["frames_copied"]),
            (&json!(shared), &json!(20 - shared))
        );
    }
}

#[test]
fn the_summary_tells_how_many_frames_were_shared() {
    let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
    let mut reader = Reader::create(&output, BufferConfig::default().allow_payload_sharing(true)).unwrap();
    let relay = start_relay(&input, &output, &[]);
    let mut writer = writer(&input);
    for size in [40_000, 40_000, 40_000, 100] {
        writer.write_frame(&vec![0; size]).unwrap();
        assert_eq!(reader.read_frame(common::PATIENCE).unwrap().unwrap().len(), size);
    }
    writer.close().unwrap();
    let text = relay.finish().expect(0).text();
    assert!(text.trim_end().ends_with("; 2 shared, 2 copied"), "{text}");
}

#[test]
fn transforms_do_what_they_say() {
    for (options, name, transform) in [
        (&["--transform", "none"][..], "none", (|bytes| bytes) as fn(Vec<u8>) -> Vec<u8>),
        (&["--transform", "reverse"], "reverse", |bytes| bytes.into_iter().rev().collect()),
        (&["--transform", "xor"], "xor", |bytes| bytes.into_iter().map(|byte| byte ^ 255).collect()),
        (&["--transform", "xor", "--xor-key", "90"], "xor", |bytes| {
            bytes.into_iter().map(|byte| byte ^ 90).collect()
        }),
    ] {
        let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
        let file = TempFile::new(&format!("transform-{}", options.len()));
        let reader = start_reader(&output, &["--output", file.text()]);
        let relay = start_relay(&input, &output, &[options, &["--json-output"]].concat());
        run(&["writer", &input, "-n", "20", "-s", "1001"]).expect(0);
        let report = relay.finish().expect(0).json();
        assert_eq!((&report["transform"], &report["metadata_relayed"]), (&json!(name), &json!(false)));
        reader.finish().expect(0);
        let expected: Vec<u8> = (0..20).flat_map(|index| transform(sequential(index, 1001))).collect();
        assert!(file.read() == expected, "{options:?}");
    }
}

#[test]
fn metadata_is_passed_on_when_it_arrives_late_or_without_frames() {
    let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
    let mut reader = Reader::create(&output, BufferConfig::default()).unwrap();
    let relay = start_relay(&input, &output, &["--json-output"]);
    let mut writer = writer(&input);
    writer.write_frame(b"a frame").unwrap();
    assert_eq!(&*reader.read_frame(common::PATIENCE).unwrap().unwrap(), b"a frame");
    assert_eq!(reader.metadata().unwrap(), None);
    writer.set_metadata(b"late").unwrap();
    wait_until("the metadata", || reader.metadata().unwrap().is_some_and(|metadata| metadata == b"late"));
    writer.close().unwrap();
    assert_eq!(relay.finish().expect(0).json()["metadata_size"], 4);
}

#[test]
fn a_count_ends_the_relay_and_too_few_frames_are_an_input_error() {
    let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
    let _reader = Reader::create(&output, BufferConfig::default()).unwrap();
    let relay = start_relay(&input, &output, &["-n", "7", "--json-output"]);
    let endless = start(&["writer", &input, "-n", "0", "--delay-ms", "1"]);
    assert_eq!(relay.finish().expect(0).json()["frames_relayed"], 7);
    endless.finish().expect(2);
    let relay = start_relay(&input, &output, &["--frames", "7"]);
    run(&["writer", &input, "-n", "6"]).expect(0);
    relay.finish().expect_error(1, "closed after 6 of 7 frames");
}

#[test]
fn progress_lines_come_every_so_many_frames() {
    for (options, lines) in [(&[][..], 3), (&["--log-interval", "50"], 6), (&["--log-interval", "0"], 0)] {
        let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
        let _reader = Reader::create(&output, BufferConfig::default()).unwrap();
        let relay = start_relay(&input, &output, options);
        run(&["writer", &input, "-n", "310"]).expect(0);
        let done = relay.finish().expect(0);
        assert_eq!(done.stderr.matches("relaying: ").count(), lines, "{}", done.stderr);
        assert!(done.text().starts_with("relayed 310 frames"), "{}", done.text());
    }
}

#[test]
fn what_is_wrong_with_the_input_ends_with_1() {
    let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
    let _reader = Reader::create(&output, BufferConfig::default()).unwrap();
    run(&["relay", &input, &output, "--timeout-ms", "100"]).expect_error(1, "start its writer");
    let relay = start_relay(&input, &output, &[]);
    let victim = start(&["writer", &input, "-n", "0", "--delay-ms", "1"]);
    wait_until("a frame", || inspect::snapshot(&output).is_ok_and(|view| view.written_count > 0));
    victim.kill();
    relay.finish().expect_error(1, "the writer died");
    let _taken = Reader::create(&input, BufferConfig::default()).unwrap();
    run(&["relay", &input, &output]).expect_error(1, "another reader has this buffer");
}

#[test]
fn what_is_wrong_with_the_output_ends_with_2() {
    let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
    run(&["relay", &input, &output, "--timeout-ms", "100"]).expect_error(2, "start the reader first");
    input.assert_nothing_left();

    // No space, and then no reader.
    let reader = Reader::create(&output, BufferConfig::default().payload_size(5000)).unwrap();
    let relay = start_relay(&input, &output, &["--timeout-ms", "100", "--json-output"]);
    let mut frames = writer(&input);
    for _ in 0..8 {
        frames.write_frame(&[0; 1000]).unwrap();
    }
    let done = relay.finish().expect_error(2, "no space for a frame of 1000 bytes");
    let written = inspect::snapshot(&output).unwrap().written_count;
    assert!(written >= 4, "{written} frames of 1000 bytes in 5000");
    assert_eq!(done.json()["frames_relayed"], written);
    drop((reader, frames));

    let reader = start_reader(&output, &[]);
    let relay = start_relay(&input, &output, &[]);
    let feeder = start(&["writer", &input, "-n", "0", "--delay-ms", "1"]);
    wait_until("a frame", || inspect::snapshot(&output).is_ok_and(|view| view.written_count > 0));
    reader.kill();
    relay.finish().expect_error(2, "the reader died");
    feeder.finish().expect(2);

    // Larger than the output can hold.
    let _reader = Reader::create(&output, BufferConfig::default().payload_size(5000)).unwrap();
    let relay = start_relay(&input, &output, &[]);
    writer(&input).write_frame(&[0; 6000]).unwrap();
    relay.finish().expect_error(2, "larger payload size");
    input.assert_nothing_left();
}

#[test]
fn metadata_that_cannot_be_passed_on_is_a_relay_error() {
    let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
    let _reader = Reader::create(&output, BufferConfig::default().metadata_size(64)).unwrap();
    let relay = start_relay(&input, &output, &["--json-output"]);
    let mut writer = writer(&input);
    writer.set_metadata(&[1; 100]).unwrap();
    let done = relay.finish().expect_error(3, "larger metadata size");
    assert_eq!(done.json()["metadata_relayed"], false);
}

#[test]
fn bad_arguments_end_with_4() {
    for arguments in [
        &["relay"][..],
        &["relay", "in"],
        &["relay", "same", "same"],
        &["relay", "in", "out", "--transform", "rot13"],
        &["relay", "in", "out", "--xor-key", "256"],
        &["relay", "in", "out", "--buffer-size", "0"],
        &["relay", "in", "out", "--no-such-option"],
        &["relay", "in/", "out"],
    ] {
        assert!(!run(arguments).expect(4).stderr.is_empty(), "{arguments:?}");
    }
    let input = Name::new("relay-in");
    run(&["relay", &input, "a/b", "--timeout-ms", "0"]).expect(4);
    run(&["relay", "--help"]).expect(0);
    input.assert_nothing_left();
}

#[test]
fn a_created_output_holds_frames_for_a_reader_that_comes_later() {
    let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
    let relay = start_relay(&input, &output, &["--create-output", "--json-output"]);
    run(&["writer", &input, "-n", "100", "-m", "early"]).expect(0);
    // Everything has been passed on before there is anybody to read it.
    wait_until("100 frames held", || inspect::snapshot(&output).is_ok_and(|view| view.written_count == 100));
    assert!(inspect::snapshot(&output).unwrap().kept);
    let report = run(&["reader", &output, "--verify", "sequential", "--json-output"]).expect(0).json();
    assert_eq!((&report["frames_read"], &report["metadata_size"]), (&json!(100), &json!(5)));
    let report = relay.finish().expect(0).json();
    assert_eq!((&report["frames_relayed"], &report["frames_lost"]), (&json!(100), &json!(0)));
    input.assert_nothing_left();
    output.assert_nothing_left();
}

#[test]
fn a_created_output_can_be_taken_over_in_the_middle_of_the_stream() {
    let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
    let relay = start_relay(&input, &output, &["--create-output", "--buffer-size", "1M"]);
    let feeder = start(&["writer", &input, "-n", "600", "--delay-ms", "1"]);
    wait_until("frames held", || inspect::snapshot(&output).is_ok_and(|view| view.written_count > 20));
    // Existing sizes win; other ones asked for are refused.
    assert_eq!(inspect::snapshot(&output).unwrap().payload_size, 1 << 20);
    run(&["reader", &output, "--buffer-size", "2M"]).expect(3);
    let report = run(&["reader", &output, "--verify", "sequential", "--json-output"]).expect(0).json();
    assert_eq!(report["frames_read"], 600);
    feeder.finish().expect(0);
    relay.finish().expect(0);
    input.assert_nothing_left();
    output.assert_nothing_left();
}

#[test]
fn frames_that_nobody_fetches_are_reported_as_lost() {
    let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
    let relay = start_relay(&input, &output, &["--create-output", "--timeout-ms", "1000", "--json-output"]);
    run(&["writer", &input, "-n", "12"]).expect(0);
    let done = relay.finish().expect_error(3, "12 frames are lost");
    assert_eq!(done.json()["frames_lost"], 12);
    input.assert_nothing_left();
    output.assert_nothing_left();
    // Without a frame there is nothing to lose.
    let relay = start_relay(&input, &output, &["--create-output", "--timeout-ms", "1000", "--json-output"]);
    run(&["writer", &input, "--input", "-"]).expect(0);
    assert_eq!(relay.finish().expect(0).json()["frames_lost"], 0);
    output.assert_nothing_left();
}

#[test]
fn a_created_output_that_is_taken_already_is_an_output_error() {
    let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
    let _reader = Reader::create(&output, BufferConfig::default()).unwrap();
    run(&["relay", &input, &output, "--create-output"]).expect_error(2, "another reader has this buffer");
    input.assert_nothing_left();
}

#[test]
fn ctrl_c_ends_a_relay_in_whatever_it_waits_for() {
    let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
    let check = |relay: Running, signal: i32| {
        relay.signal(signal);
        let report = relay.finish().expect(130).json();
        assert_eq!(report["interrupted"], true);
        report
    };
    // For the reader of its output.
    let relay = start_relay(&input, &output, &["--timeout-ms", "-1", "--json-output"]);
    check(relay, libc::SIGINT);
    input.assert_nothing_left();

    // For frames.
    let reader = Reader::create(&output, BufferConfig::default().payload_size(5000)).unwrap();
    let relay = start_relay(&input, &output, &["--timeout-ms", "-1", "--json-output"]);
    wait_until("the relay's output", || {
        inspect::snapshot(&output).is_ok_and(|view| view.writer.presence == inspect::Presence::Alive)
    });
    check(relay, libc::SIGTERM);

    // For space.
    let relay = start_relay(&input, &output, &["--timeout-ms", "-1", "--json-output"]);
    let mut frames = writer(&input);
    for _ in 0..10 {
        frames.write_frame(&[0; 1000]).unwrap();
    }
    wait_until("a full output", || inspect::snapshot(&output).is_ok_and(|view| view.payload_free < 1016));
    std::thread::sleep(Duration::from_millis(20));
    let written = inspect::snapshot(&output).unwrap().written_count;
    assert_eq!(check(relay, libc::SIGINT)["frames_relayed"], written);
    drop((frames, reader));

    // For somebody to take over what it has created; the loss is told all the same.
    let relay = start_relay(&input, &output, &["--create-output", "--timeout-ms", "-1", "--json-output"]);
    run(&["writer", &input, "-n", "3"]).expect(0);
    wait_until("its input is gone", || input.leftovers().is_empty());
    let report = check(relay, libc::SIGINT);
    assert_eq!(report["frames_lost"], 3);
    assert_eq!(report["errors"].as_array().unwrap().len(), 1);
    input.assert_nothing_left();
    output.assert_nothing_left();
}

#[test]
fn rings_are_classic_ones_where_that_is_asked_for() {
    for (options, kinds) in [(&["--classic"][..], ["classic"; 2]), (&[], ["undecided", "extended"])] {
        let (input, output) = (Name::new("relay-in"), Name::new("relay-out"));
        let relay = start_relay(&input, &output, &[options, &["--create-output", "-n", "1"]].concat());
        let ring = |name: &Name| run(&["inspect", name, "--json"]).expect(0).json()["ring"].clone();
        assert_eq!(ring(&input), kinds[0], "{options:?}");
        let mut frames = writer(&input);
        assert_eq!(ring(&input), kinds[1], "{options:?}");
        frames.write_frame(b"one").unwrap();
        wait_until("the frame", || inspect::snapshot(&output).is_ok_and(|view| view.written_count > 0));
        assert_eq!(ring(&output), kinds[1], "{options:?}");
        let reader = start(&[&["reader", &*output, "-n", "1", "-s", "3"][..], options].concat());
        reader.finish().expect(0);
        relay.finish().expect(0);
    }
    let name = Name::new("reader-classic");
    let _reader = start_reader(&name, &["--classic"]);
    assert_eq!(inspect::snapshot(&name).unwrap().ring, inspect::RingKind::Classic);
}
