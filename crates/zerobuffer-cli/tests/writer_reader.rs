//! `zerobuffer writer` and `zerobuffer reader`: every option, exit code and field.

mod common;

use std::time::{Duration, Instant};

use common::{Name, TempFile, command, run, sequential, start, start_reader, wait_until};
use serde_json::{Value, json};
use zerobuffer::{BufferConfig, Reader, Writer, WriterOptions, inspect};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn by_default_1000_frames_of_1024_bytes_go_over_and_both_report_it() {
    let name = Name::new("cli-default");
    let reader = start_reader(&name, &["--verify", "sequential", "--json-output"]);
    let writer = run(&["writer", &name, "--json-output"]).expect(0).json();
    let reader = reader.finish().expect(0).json();
    for (report, operation, count) in [(&writer, "write", "frames_written"), (&reader, "read", "frames_read")]
    {
        assert_eq!(report["operation"], operation);
        assert_eq!(report["buffer_name"], *name);
        assert_eq!(report[count], 1000);
        assert_eq!(report["frame_size"], 1024);
        assert_eq!(report["bytes"], 1_024_000);
        assert_eq!(report["metadata_size"], 0);
        assert_eq!(report["interrupted"], false);
        assert_eq!(report["errors"], json!([]));
        let seconds = report["duration_seconds"].as_f64().unwrap();
        assert!(seconds > 0.0 && seconds < 10.0, "{seconds}");
        let expected = 1_024_000.0 / 1_048_576.0 / seconds;
        assert!((report["throughput_mbps"].as_f64().unwrap() - expected).abs() < expected / 1e6);
    }
    assert_eq!(reader["verification_errors"], 0);
    let common = ["buffer_name", "bytes", "duration_seconds", "errors", "frame_size"];
    assert!(common.iter().all(|key| keys(&writer).contains(key)));
    assert!(!keys(&writer).contains(&"verification_errors") && !keys(&reader).contains(&"checksums"));
    name.assert_nothing_left();
}

#[test]
fn every_pattern_is_what_it_should_be_byte_for_byte() {
    // Independent of the command's own code; SplitMix64's first outputs for the seeds 0, 1 and 2 come from its authors'
    // C source.
    let random: [u64; 3] = [0xe220_a839_7b1d_cdaf, 0x910a_2dec_8902_5cc1, 0x9758_35de_1c97_56ce];
    for pattern in ["sequential", "random", "zero", "ones"] {
        let name = Name::new("cli-pattern");
        let file = TempFile::new(&format!("pattern-{pattern}"));
        let reader = start_reader(&name, &["-s", "1001", "--verify", pattern, "--output", file.text()]);
        run(&["writer", &name, "-n", "300", "-s", "1001", "--pattern", pattern]).expect(0);
        reader.finish().expect(0);
        let bytes = file.read();
        assert_eq!(bytes.len(), 300 * 1001);
        for (index, frame) in bytes.chunks(1001).enumerate() {
            match pattern {
                "sequential" => assert_eq!(frame, sequential(index, 1001)),
                "zero" => assert!(frame.iter().all(|byte| *byte == 0)),
                "ones" => assert!(frame.iter().all(|byte| *byte == 255)),
                _ if index < 3 => assert_eq!(frame[..8], random[index].to_le_bytes(), "frame {index}"),
                _ => {}
            }
        }
    }
}

#[test]
fn wrong_content_is_counted_and_ends_with_4() {
    let name = Name::new("cli-wrong");
    let reader = start_reader(&name, &["--verify", "ones", "--json-output"]);
    run(&["writer", &name, "-n", "50", "--pattern", "zero"]).expect(0);
    let done = reader.finish().expect_error(4, "frame 0 is wrong: byte 0 is 0, 255 was expected");
    assert!(!done.stderr.contains("frame 10 is wrong"), "only the first ten are told: {}", done.stderr);
    assert_eq!(done.json()["verification_errors"], 50);
    assert_eq!(done.json()["frames_read"], 50);
    name.assert_nothing_left();
}

#[test]
fn sizes_are_checked_only_when_asked_for() {
    for (options, code, wrong) in [
        (&[][..], 0, 0),
        (&["-s", "500"], 0, 0),
        (&["--size", "501"], 4, 20),
        (&["--verify", "sequential"], 4, 20),
        (&["--verify", "sequential", "-s", "0"], 0, 0),
        (&["-s", "0"], 0, 0),
    ] {
        let name = Name::new("cli-size");
        let reader = start_reader(&name, &[options, &["--json-output"]].concat());
        run(&["writer", &name, "--frames", "20", "--size", "500"]).expect(0);
        let report = reader.finish().expect(code).json();
        assert_eq!(report["verification_errors"], wrong, "{options:?}");
        assert_eq!(report["frame_size"], 500);
    }
}

#[test]
fn checksums_are_xxh3_of_each_frame_and_of_the_whole() {
    let name = Name::new("cli-checksum");
    let reader = start_reader(&name, &["--checksum", "--json-output"]);
    run(&["writer", &name, "-n", "7", "-s", "3000"]).expect(0);
    let report = reader.finish().expect(0).json();
    let hash = |bytes: &[u8]| format!("{:016x}", twox_hash::XxHash3_64::oneshot(bytes));
    let frames: Vec<Vec<u8>> = (0..7).map(|index| sequential(index, 3000)).collect();
    let expected: Vec<String> = frames.iter().map(|frame| hash(frame)).collect();
    assert_eq!(report["checksums"]["algorithm"], "xxh3-64");
    assert_eq!(report["checksums"]["frames"], json!(expected));
    assert_eq!(report["checksums"]["stream"], hash(&frames.concat()));
    // As text: one line per frame, and the whole in the summary.
    let reader = start_reader(&name, &["--checksum"]);
    run(&["writer", &name, "-n", "7", "-s", "3000"]).expect(0);
    let text = reader.finish().expect(0).text();
    assert!(
        expected.iter().all(|sum| text.contains(sum)) && text.contains(&hash(&frames.concat())),
        "{text}"
    );
}

#[test]
fn a_count_ends_the_reader_and_the_writer_learns_of_it() {
    let name = Name::new("cli-count");
    let reader = start_reader(&name, &["-n", "10", "--json-output"]);
    // Each frame is noticed before the next one, so the writer meets the reader's end.
    let writer = run(&["writer", &name, "-n", "0", "--delay-ms", "5", "--json-output"])
        .expect_error(2, "the reader has closed the buffer");
    assert_eq!(reader.finish().expect(0).json()["frames_read"], 10);
    assert_eq!(writer.json()["errors"].as_array().unwrap().len(), 1);
    assert!(writer.json()["frames_written"].as_u64().unwrap() >= 10);
    name.assert_nothing_left();
}

#[test]
fn a_writer_that_closes_early_is_an_error_only_if_more_was_asked_for() {
    let name = Name::new("cli-early");
    let reader = start_reader(&name, &["-n", "11", "--json-output"]);
    run(&["writer", &name, "-n", "10"]).expect(0);
    let done = reader.finish().expect_error(2, "closed after 10 of 11 frames");
    assert_eq!(done.json()["frames_read"], 10);
    name.assert_nothing_left();
}

#[test]
fn keep_goes_on_with_the_next_writer_also_after_a_death() {
    let name = Name::new("cli-keep");
    // The time-out is for frames of a writer that is there, not for the next writer.
    let reader = start_reader(
        &name,
        &[
            "--keep",
            "-n",
            "30",
            "-s",
            "64",
            "--verify",
            "sequential",
            "--timeout-ms",
            "1000",
            "--json-output",
        ],
    );
    run(&["writer", &name, "-n", "10", "-s", "64"]).expect(0);
    std::thread::sleep(Duration::from_millis(1300));
    let victim =
        start(&["writer", &name, "-n", "11", "-s", "64", "--delay-ms", "600000", "--batch-size", "10"]);
    wait_until("the second writer's frames", || {
        inspect::snapshot(&name)
            .is_ok_and(|view| view.read_count == 20 && view.writer.pid == u64::from(victim.pid()))
    });
    victim.kill();
    run(&["writer", &name, "-n", "20", "-s", "64"]).code();
    let done = reader.finish().expect_error(0, "the writer died");
    assert_eq!(done.json()["frames_read"], 30);
    name.assert_nothing_left();
}

#[test]
fn time_outs_are_kept_and_say_what_to_do() {
    let name = Name::new("cli-timeout");
    let start = Instant::now();
    run(&["reader", &name, "--timeout-ms", "150"]).expect_error(2, "start the writer");
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(150) && waited < Duration::from_secs(3), "{waited:?}");
    let start = Instant::now();
    run(&["writer", &name, "--timeout-ms", "150"]).expect_error(1, "start the reader first");
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(150) && waited < Duration::from_secs(3), "{waited:?}");
    run(&["reader", &name, "--timeout-ms", "0"]).expect(2);
    run(&["writer", &name, "--timeout-ms", "0"]).expect(1);
    name.assert_nothing_left();
}

#[test]
fn a_writer_waits_for_its_reader_and_for_space() {
    let name = Name::new("cli-space");
    let early = start(&["writer", &name, "-n", "6", "--timeout-ms", "-1"]);
    // Room for five frames, and a reserve in which there is room for a sixth.
    let mut reader = Reader::create(&name, BufferConfig::default().payload_size(5 * 1040)).unwrap();
    early.finish().expect(0);
    let done = run(&["writer", &name, "-n", "5", "--timeout-ms", "100", "--json-output"])
        .expect_error(2, "no space for a frame of 1024 bytes");
    assert_eq!(done.json()["frames_written"], 0);
    let patient = start(&["writer", &name, "-n", "50"]);
    let mut frames = 0;
    while frames < 56 {
        frames += usize::from(matches!(reader.read_frame(Duration::from_secs(10)), Ok(Some(_))));
    }
    patient.finish().expect(0);
}

#[test]
fn metadata_comes_from_a_word_or_a_file_once() {
    let name = Name::new("cli-metadata");
    let file = TempFile::with("metadata", &[7; 100]);
    let mut config = BufferConfig::default().metadata_size(128);
    config = config.payload_size(1 << 20);
    let reader = Reader::create(&name, config.clone()).unwrap();
    let done = run(&["writer", &name, "-n", "1", "-m", "hello", "--json-output"]).expect(0);
    assert_eq!(done.json()["metadata_size"], 5);
    assert_eq!(reader.metadata().unwrap().unwrap(), b"hello");
    run(&["writer", &name, "-n", "1", "--metadata", "again"]).expect_error(2, "set only once");
    drop(reader);
    let reader = Reader::create(&name, config.clone()).unwrap();
    run(&["writer", &name, "-n", "1", "--metadata-file", file.text()]).expect(0);
    assert_eq!(reader.metadata().unwrap().unwrap(), [7; 100]);
    drop(reader);
    let _reader = Reader::create(&name, config.metadata_size(64)).unwrap();
    run(&["writer", &name, "-n", "1", "--metadata-file", file.text()])
        .expect_error(2, "larger metadata size");
    run(&["writer", &name, "--metadata-file", "/nonexistent"]).expect_error(3, "/nonexistent");
    run(&["writer", &name, "--metadata-file", file.text(), "-m", "x"]).expect(3);
}

#[test]
fn the_reader_tells_of_metadata_and_makes_blocks_as_large_as_asked() {
    let name = Name::new("cli-sizes");
    let reader =
        start_reader(&name, &["--buffer-size", "1M", "--metadata-size", "64", "-n", "1", "--json-output"]);
    let snapshot = inspect::snapshot(&name).unwrap();
    assert_eq!((snapshot.payload_size, snapshot.metadata_size), (1 << 20, 64));
    run(&["writer", &name, "-n", "1", "-m", "hello"]).expect(0);
    assert_eq!(reader.finish().expect(0).json()["metadata_size"], 5);
    let reader = start_reader(&name, &["-n", "1"]);
    let snapshot = inspect::snapshot(&name).unwrap();
    assert_eq!((snapshot.payload_size, snapshot.metadata_size), (256 << 20, 4096), "the defaults");
    run(&["writer", &name, "-n", "1"]).expect(0);
    reader.finish().expect(0);
}

#[test]
fn delays_come_between_batches() {
    let name = Name::new("cli-delay");
    let _reader = Reader::create(&name, BufferConfig::default()).unwrap();
    // None behind the last frame.
    for (frames, batch, delay, least, most) in
        [("6", "2", "100", 200, 2000), ("3", "1", "100", 200, 2000), ("5", "5", "3000", 0, 2900)]
    {
        let report = run(&[
            "writer",
            &name,
            "-n",
            frames,
            "--delay-ms",
            delay,
            "--batch-size",
            batch,
            "--json-output",
        ]);
        let ms = report.expect(0).json()["duration_seconds"].as_f64().unwrap() * 1000.0;
        assert!((f64::from(least)..f64::from(most)).contains(&ms), "{frames} by {batch}: {ms} ms");
    }
}

#[test]
fn a_reader_holds_a_batch_but_never_for_want_of_space() {
    let name = Name::new("cli-batch");
    // 1000 frames cannot be held in 16 of them.
    let reader = start_reader(
        &name,
        &["--batch-size", "1000", "--buffer-size", "16K", "--verify", "sequential", "--json-output"],
    );
    run(&["writer", &name, "-n", "200", "--timeout-ms", "10000"]).expect(0);
    assert_eq!(reader.finish().expect(0).json()["frames_read"], 200);

    // While frames keep coming, those of a batch that is not full yet are held: everything is read, and yet three frames'
    // space is in use.
    let reader = start_reader(&name, &["--batch-size", "4", "--buffer-size", "64K", "--timeout-ms", "-1"]);
    let writer = start(&["writer", &name, "-n", "0", "-s", "1000", "--delay-ms", "5"]);
    wait_until("three frames held", || {
        inspect::snapshot(&name).is_ok_and(|view| {
            view.read_count == view.written_count && view.payload_size - view.payload_free >= 3 * 1016
        })
    });
    writer.interrupt();
    writer.finish().expect(130);
    reader.finish().expect(0);
}

#[test]
fn real_data_is_cut_into_frames_the_last_one_shorter() {
    let name = Name::new("cli-input");
    let data: Vec<u8> = (0..100_003_u32).map(|i| (i * 7 / 3) as u8).collect();
    let (input, output) = (TempFile::with("input", &data), TempFile::new("output"));
    let reader = start_reader(&name, &["--output", output.text(), "--json-output"]);
    let report =
        run(&["writer", &name, "--input", input.text(), "-s", "1000", "--json-output"]).expect(0).json();
    assert_eq!((&report["frames_written"], &report["bytes"]), (&json!(101), &json!(100_003)));
    let report = reader.finish().expect(0).json();
    assert_eq!((&report["frames_read"], &report["frame_size"]), (&json!(101), &json!(1000)));
    assert!(output.read() == data);

    // From standard input, in dribs and drabs, with a limit, to standard output.
    let reader = start_reader(&name, &["--output", "-", "--json-output"]);
    let mut writer = start(&["writer", &name, "--input", "-", "-s", "1000", "-n", "3", "--json-output"]);
    for part in data[..2500].chunks(333) {
        writer.write(part);
    }
    writer.write(&data[2500..4000]);
    assert_eq!(writer.finish().expect(0).json()["frames_written"], 3);
    let done = reader.finish().expect(0);
    assert!(done.stdout == data[..3000]);
    let report: Value = serde_json::from_str(&done.stderr).expect("the report, on standard error");
    assert_eq!(report["frames_read"], 3);

    // Nothing at all.
    let reader = start_reader(&name, &["--json-output"]);
    assert_eq!(
        run(&["writer", &name, "--input", "-", "--json-output"]).expect(0).json()["frames_written"],
        0
    );
    assert_eq!(reader.finish().expect(0).json()["frames_read"], 0);
    name.assert_nothing_left();
}

#[test]
fn the_death_of_either_side_is_told_and_nothing_is_left() {
    let name = Name::new("cli-death");
    let reader = start_reader(&name, &["--timeout-ms", "-1", "--json-output"]);
    let writer = start(&["writer", &name, "-n", "0", "--delay-ms", "600000", "--batch-size", "10"]);
    wait_until("ten frames", || inspect::snapshot(&name).is_ok_and(|view| view.read_count == 10));
    writer.kill();
    let done = reader.finish().expect_error(2, "the writer died");
    assert_eq!(done.json()["frames_read"], 10);
    name.assert_nothing_left();

    let reader = start_reader(&name, &[]);
    let writer = start(&["writer", &name, "-n", "0", "--delay-ms", "1"]);
    wait_until("a frame", || inspect::snapshot(&name).is_ok_and(|view| view.read_count > 0));
    reader.kill();
    writer.finish().expect_error(2, "the reader died");
    name.assert_nothing_left();
}

#[test]
fn a_taken_role_is_refused_with_1() {
    let name = Name::new("cli-taken");
    let _reader = Reader::create(&name, BufferConfig::default()).unwrap();
    run(&["reader", &name]).expect_error(1, "another reader has this buffer");
    let _writer = Writer::connect(&name).unwrap();
    run(&["writer", &name])
        .expect_error(1, &format!("another writer (pid {}) is connected", std::process::id()));
}

#[test]
fn bad_arguments_end_with_3_and_help_with_0() {
    for arguments in [
        &["writer"][..],
        &["reader"],
        &["writer", "x", "--no-such-option"],
        &["writer", "x", "-s", "0"],
        &["writer", "x", "-s", "many"],
        &["writer", "x", "--pattern", "plaid"],
        &["writer", "x", "--batch-size", "0"],
        &["writer", "x", "--timeout-ms", "-2"],
        &["writer", "x", "--input", "/nonexistent/file"],
        &["writer", "x", "--input", "/tmp"],
        &["writer", "x", "--input", "-", "--pattern", "zero"],
        &["writer", "a/b", "--timeout-ms", "0"],
        &["reader", "sem.x"],
        &["reader", "x", "--verify", "plaid"],
        &["reader", "x", "--buffer-size", "0"],
        &["reader", "x", "--buffer-size", "3"],
        &["reader", "zbtest-no-output", "--output", "/nonexistent/file"],
        &["no-such-command"],
        &[],
        &["demo", "--seconds", "0"],
        &["demo", "--seconds", "1", "--quick"],
        &["inspect"],
        &["inspect", "a/b"],
        &["completions", "edlin"],
        &["man", "no-such-command"],
    ] {
        let done = run(arguments).expect(3);
        assert!(!done.stderr.is_empty(), "{arguments:?} says nothing");
    }
    for arguments in [&["--help"][..], &["-h"], &["writer", "-h"], &["reader", "--help"], &["--version"]] {
        assert!(!run(arguments).expect(0).stdout.is_empty());
    }
    assert!(!std::path::Path::new("/dev/shm/zbtest-no-output").exists());
}

#[test]
fn verbose_tells_what_happens_inside() {
    let name = Name::new("cli-verbose");
    start_reader(&name, &[]).kill();
    let reader = start(&["reader", &name, "-n", "1", "-v"]);
    wait_until("a live reader", || {
        inspect::snapshot(&name).is_ok_and(|view| view.reader.pid == u64::from(reader.pid()))
    });
    run(&["writer", &name, "-n", "1", "--verbose"]).expect(0);
    reader.finish().expect_error(0, "info: buffer `zbtest-cli-verbose");
}

#[test]
fn an_output_that_fails_is_a_read_error() {
    let name = Name::new("cli-full-output");
    let reader = start_reader(&name, &["--output", "/dev/full"]);
    let writer = start(&["writer", &name, "-n", "0", "-s", "100K"]);
    reader.finish().expect_error(2, "cannot write to --output /dev/full");
    writer.finish().expect(2);
    name.assert_nothing_left();
}

#[test]
fn progress_is_plain_lines_where_there_is_no_terminal() {
    let name = Name::new("cli-lines");
    let mut reader = start_reader(&name, &[]);
    let mut writer = start(&["writer", &name, "-n", "0", "--delay-ms", "1"]);
    assert!(reader.hear("reading: ").contains(" frames, "));
    assert!(writer.hear("writing: ").contains("MiB/s"));
    writer.interrupt();
    writer.finish().expect(130);
    let summary = reader.finish().expect(0).text();
    assert!(summary.starts_with("read ") && summary.contains("frames/s"), "{summary}");
}

/// Both signals, for a command in a state that `prepare` brings about; what it must have told at its end is checked.
#[track_caller]
fn interrupted(arguments: &[&str], stdin_open: bool, ready: impl Fn() -> bool, frames: &str) {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let arguments = [arguments, &["--json-output"]].concat();
        let running = start(&arguments);
        wait_until("the state to interrupt", &ready);
        let start = Instant::now();
        running.signal(signal);
        let done = if stdin_open { running.finish_with_open_stdin() } else { running.finish() };
        let took = start.elapsed();
        let report = done.expect(130).json();
        assert_eq!(report["interrupted"], true, "{arguments:?}");
        assert_eq!(report["errors"], json!([]));
        assert!(report[frames].is_u64(), "{report}");
        assert!(took < Duration::from_secs(3), "{arguments:?} took {took:?}");
    }
}

#[test]
fn ctrl_c_ends_a_waiting_reader() {
    let name = Name::new("cli-int-reader");
    interrupted(&["reader", &name], true, || inspect::snapshot(&name).is_ok(), "frames_read");
    interrupted(
        &["reader", &name, "--keep", "--timeout-ms", "-1"],
        true,
        || inspect::snapshot(&name).is_ok(),
        "frames_read",
    );
    name.assert_nothing_left();
}

#[test]
fn ctrl_c_ends_a_reader_whose_output_is_stuck() {
    let name = Name::new("cli-int-stuck");
    let mut command = command(&["reader", &name, "--output", "-", "--buffer-size", "8M", "--json-output"]);
    // A pipe without a reader.
    let (unread, pipe) = rustix::pipe::pipe().unwrap();
    command.stdout(pipe).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    wait_until("the buffer", || name.paths()[0].exists());
    let writer = start(&["writer", &name, "-n", "0", "-s", "1M", "--timeout-ms", "-1"]);
    wait_until("a full ring", || {
        inspect::snapshot(&name).is_ok_and(|view| view.payload_free < view.payload_size / 4)
    });
    // SAFETY: kill takes no pointers. The child is this process's and not reaped.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGINT) };
    let start = Instant::now();
    let status = child.wait().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(status.code(), Some(130));
    drop(unread);
    writer.finish().expect(2);
    name.assert_nothing_left();
}

#[test]
fn ctrl_c_ends_a_writer_in_whatever_it_waits_for() {
    let name = Name::new("cli-int-writer");
    // For the reader: nothing shows that the state is reached, but the signal is caught from the start or kills (then
    // the exit code is not 130).
    let begun = Instant::now();
    let later = || begun.elapsed() > Duration::from_millis(300);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let writer = start(&["writer", &name, "--timeout-ms", "-1", "--json-output"]);
        wait_until("it waits", || {
            std::fs::read_to_string(format!("/proc/{}/status", writer.pid())).is_ok_and(|status| {
                // Bit 1 of the caught signals is SIGINT.
                let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
                u64::from_str_radix(mask.trim(), 16).unwrap_or(0) & 2 != 0
            }) && later()
        });
        writer.signal(signal);
        assert_eq!(writer.finish().expect(130).json()["frames_written"], 0);
    }
    let _reader = Reader::create(&name, BufferConfig::default().payload_size(1 << 20)).unwrap();
    let alive =
        || inspect::snapshot(&name).is_ok_and(|view| view.writer.presence == inspect::Presence::Alive);
    // For input.
    interrupted(&["writer", &name, "--input", "-"], true, alive, "frames_written");
    // For its next turn.
    interrupted(&["writer", &name, "--delay-ms", "600000"], true, alive, "frames_written");
    // For space.
    interrupted(&["writer", &name, "-n", "0", "--timeout-ms", "-1"], true, alive, "frames_written");
    // In the middle of work.
    drop(_reader);
    let reader = start_reader(&name, &["--keep", "--timeout-ms", "-1"]);
    interrupted(&["writer", &name, "-n", "0"], true, alive, "frames_written");
    reader.interrupt();
    reader.finish().expect(130);
    name.assert_nothing_left();
}

#[test]
fn a_writer_waiting_for_input_notices_that_its_reader_is_gone() {
    let name = Name::new("cli-input-gone");
    let reader = start_reader(&name, &[]);
    let mut writer = start(&["writer", &name, "--input", "-", "-s", "10"]);
    writer.write(b"some more than ten bytes");
    wait_until("a frame", || inspect::snapshot(&name).is_ok_and(|view| view.read_count > 0));
    reader.kill();
    writer.finish_with_open_stdin().expect_error(2, "the reader has gone");
    name.assert_nothing_left();
}

#[test]
fn a_writer_of_the_library_and_the_reader_command_understand_each_other() {
    let name = Name::new("cli-library");
    let reader = start_reader(&name, &["--verify", "sequential", "-s", "300", "--json-output"]);
    let options = WriterOptions::default().connect_timeout(common::PATIENCE);
    let mut writer = Writer::connect_with(&name, options).unwrap();
    for index in 0..100 {
        writer.write_frame(&sequential(index, 300)).unwrap();
    }
    writer.close().unwrap();
    assert_eq!(reader.finish().expect(0).json()["frames_read"], 100);
}
