//! `zerobuffer tee`: every option, exit code and field.

mod common;

use common::{Name, Running, run, start, start_reader, wait_until};
use serde_json::{Value, json};
use zerobuffer::{BufferConfig, Reader, Writer, WriterOptions, inspect};

const SIZE: usize = 100_000;

fn names() -> [Name; 3] {
    ["in", "one", "two"].map(|end| Name::new(&format!("tee-{end}")))
}

/// Starts `zerobuffer tee` and waits until it reads.
#[track_caller]
fn start_tee(input: &Name, arguments: &[&str]) -> Running {
    let tee = start(&[&["tee", &**input], arguments].concat());
    wait_until("the tee's input", || input.paths()[0].exists());
    tee
}

fn writer(name: &Name) -> Writer {
    let options = WriterOptions::default().connect_timeout(common::PATIENCE);
    Writer::connect_with(name, options).expect("the tee is there")
}

fn sharing(name: &Name) -> Reader {
    Reader::create(name, BufferConfig::default().allow_payload_sharing(true)).unwrap()
}

#[track_caller]
fn read(reader: &mut Reader) -> zerobuffer::Frame {
    reader.read_frame(common::PATIENCE).unwrap().expect("a frame")
}

/// What the report says of an output.
fn output<'a>(report: &'a Value, name: &Name) -> &'a Value {
    report["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .find(|output| output["output_buffer"] == **name)
        .expect("named")
}

#[test]
fn every_output_gets_every_frame_and_the_metadata() {
    let [input, one, two] = names();
    let readers = [&one, &two]
        .map(|name| start_reader(name, &["--verify", "sequential", "-s", "777", "--json-output"]));
    let tee = start_tee(&input, &[&one, &two, "--json-output"]);
    run(&["writer", &input, "-n", "500", "-s", "777", "-m", "what it is"]).expect(0);
    let report = tee.finish().expect(0).json();
    assert_eq!(
        (&report["operation"], &report["frames_read"], &report["bytes"]),
        (&json!("tee"), &json!(500), &json!(500 * 777))
    );
    assert_eq!(
        (&report["metadata_relayed"], &report["metadata_size"], &report["errors"]),
        (&json!(true), &json!(10), &json!([]))
    );
    for name in [&one, &two] {
        let told = output(&report, name);
        assert_eq!(
            (&told["kind"], &told["frames_copied"], &told["ended"]),
            (&json!("block"), &json!(500), &Value::Null)
        );
    }
    for reader in readers {
        let report = reader.finish().expect(0).json();
        assert_eq!((&report["frames_read"], &report["metadata_size"]), (&json!(500), &json!(10)));
    }
    [input, one, two].iter().for_each(Name::assert_nothing_left);
}

#[test]
fn large_frames_are_shared_and_a_drop_output_drops_what_its_viewer_cannot_take() {
    for (options, shared) in [(&[][..], 19), (&["--copy"], 0)] {
        let [input, one, two] = names();
        let (mut viewer, mut stopped) = (sharing(&one), sharing(&two));
        let tee =
            start_tee(&input, &[&[&*one, "--drop", &two, "-n", "20", "--json-output"], options].concat());
        let mut writer = writer(&input);
        for number in 0..20 {
            writer.write_frame(&[number; SIZE]).unwrap();
            assert!(read(&mut viewer).iter().all(|byte| *byte == number));
        }
        let report = tee.finish().expect(0).json();
        let [told, dropped] = [&one, &two].map(|name| output(&report, name));
        assert_eq!((&told["frames_shared"], &told["frames_copied"]), (&json!(shared), &json!(20 - shared)));
        assert_eq!((&dropped["kind"], &dropped["frames_dropped"]), (&json!("drop"), &json!(18)));
        for number in 0..2 {
            assert_eq!(read(&mut stopped)[0], number);
        }
        assert!(stopped.read_frame(common::PATIENCE).is_err(), "the tee has closed");
    }
}

#[test]
fn the_summary_tells_what_each_output_got() {
    let [input, one, two] = names();
    let (_one, _two) = (sharing(&one), sharing(&two));
    let tee = start_tee(&input, &[&one, "--drop", &two, "--drop-frames", "3"]);
    run(&["writer", &input, "-n", "5", "-s", "100"]).expect(0);
    let text = tee.finish().expect(0).text();
    let told = format!("; {}: 0 shared, 5 copied; {}: 0 shared, 3 copied, 2 dropped", &*one, &*two);
    assert!(text.starts_with("passed on 5 frames, 500 B") && text.trim_end().ends_with(&told), "{text}");
}

#[test]
fn an_output_whose_reader_leaves_is_left_out_and_told() {
    let [input, one, two] = names();
    let (mut stays, leaves) = (sharing(&one), sharing(&two));
    let tee = start_tee(&input, &[&one, &two, "--json-output"]);
    let mut writer = writer(&input);
    writer.write_frame(b"first").unwrap();
    read(&mut stays);
    drop(leaves);
    for _ in 0..100 {
        writer.write_frame(b"later").unwrap();
        assert_eq!(&*read(&mut stays), b"later");
        // A writer that has space looks by the clock whether its reader is there.
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    writer.close().unwrap();
    let done = tee.finish().expect(2);
    let report = done.json();
    assert_eq!((&report["frames_read"], &output(&report, &one)["frames_copied"]), (&json!(101), &json!(101)));
    assert_eq!(output(&report, &two)["ended"], "ReaderDead");
    assert_eq!(report["errors"].as_array().unwrap().len(), 1);
    // The others got all of it.
    assert_eq!(stays.read_frame(common::PATIENCE).unwrap_err().kind(), zerobuffer::ErrorKind::WriterClosed);
}

#[test]
fn a_tee_without_an_output_left_ends() {
    let [input, one, two] = names();
    let readers = [sharing(&one), sharing(&two)];
    let tee = start_tee(&input, &[&one, "--drop", &two]);
    let feeder = start(&["writer", &input, "-n", "0", "--delay-ms", "1"]);
    wait_until("a frame", || inspect::snapshot(&one).is_ok_and(|view| view.written_count > 0));
    drop(readers);
    tee.finish().expect_error(2, "no output is left");
    feeder.finish().expect(2);
    [input, one, two].iter().for_each(Name::assert_nothing_left);
}

#[test]
fn what_is_wrong_with_the_input_ends_with_1() {
    let [input, one, _] = names();
    let mut viewer = sharing(&one);
    run(&["tee", &input, &one, "--timeout-ms", "100"]).expect_error(1, "start its writer");
    let tee = start_tee(&input, &[&one]);
    let victim = start(&["writer", &input, "-n", "0", "--delay-ms", "1"]);
    // The command that timed out has closed as one that died.
    let died = viewer.read_frame(common::PATIENCE).unwrap_err().kind();
    assert_eq!(died, zerobuffer::ErrorKind::WriterDead);
    read(&mut viewer);
    victim.kill();
    tee.finish().expect_error(1, "the writer died");
    let tee = start_tee(&input, &[&one, "-n", "3"]);
    run(&["writer", &input, "-n", "2"]).expect(0);
    tee.finish().expect_error(1, "closed after 2 of 3 frames");
}

#[test]
fn bad_arguments_end_with_3_and_a_missing_reader_with_2() {
    let [input, one, _] = names();
    for arguments in [
        &["tee"][..],
        &["tee", &input],
        &["tee", &input, &input],
        &["tee", &input, "a", "--drop", "a"],
        &["tee", &input, "a", "--drop-frames", "0"],
        &["tee", &input, "a/b"],
    ] {
        assert!(!run(arguments).expect(3).stderr.is_empty(), "{arguments:?}");
    }
    run(&["tee", &input, &one, "--timeout-ms", "60"]).expect_error(2, "waited 60 ms");
    let help = run(&["tee", "--help"]).expect(0).text();
    for option in [
        "--drop",
        "--drop-frames",
        "--copy",
        "--timeout-ms",
        "--log-interval",
        "--json-output",
        "Exit codes: 0",
    ] {
        assert!(help.contains(option), "{option}:\n{help}");
    }
    input.assert_nothing_left();
}

#[test]
fn ctrl_c_ends_a_tee_in_whatever_it_waits_for() {
    let [input, one, two] = names();
    // For the reader of an output.
    let tee = start_tee(&input, &[&one, "--timeout-ms", "-1", "--json-output"]);
    tee.interrupt();
    assert_eq!(tee.finish().expect(130).json()["interrupted"], true);
    // For a frame, and for space.
    let small = BufferConfig::default().payload_size(5000);
    let readers = [&one, &two].map(|name| Reader::create(name, small.clone()).unwrap());
    for frames in [0, 10] {
        let tee = start_tee(&input, &[&one, &two, "--timeout-ms", "-1", "--json-output"]);
        wait_until("its outputs", || {
            [&one, &two].iter().all(|name| {
                inspect::snapshot(name).is_ok_and(|view| view.writer.presence == inspect::Presence::Alive)
            })
        });
        let mut writer = (frames > 0).then(|| writer(&input));
        for _ in 0..frames {
            writer.as_mut().expect("there").write_frame(&[0; 1000]).unwrap();
        }
        if frames > 0 {
            wait_until("a full output", || {
                inspect::snapshot(&one).is_ok_and(|view| view.payload_free < 1016)
            });
        }
        tee.signal(libc::SIGTERM);
        assert_eq!(tee.finish().expect(130).json()["interrupted"], true);
    }
    drop(readers);
    [input, one, two].iter().for_each(Name::assert_nothing_left);
}
