//! What reaches standard output and a terminal: results that are lost are no success, lists fit, names are harmless.

mod common;

use std::process::{Command, Output, Stdio};

use common::{Name, command, run, start, start_reader, wait_until};
use zerobuffer::{BufferConfig, Reader, Writer, inspect};

/// Runs the command with the redirections of a shell.
fn redirected(arguments: &str, redirections: &str) -> Output {
    let binary = env!("CARGO_BIN_EXE_zerobuffer");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec {binary} {arguments} {redirections}")]).stdin(Stdio::null());
    shell.output().expect("sh")
}

#[test]
fn results_of_tools_that_do_not_reach_standard_output_are_no_success() {
    let name = Name::new("results");
    let _reader = Reader::create(&name, BufferConfig::default().payload_size(4096)).unwrap();
    for arguments in [
        "list",
        "list --json",
        &format!("inspect {}", &*name),
        &format!("inspect {} --json", &*name),
        "clean --dry-run",
        "clean --dry-run --json",
        "man writer",
        "completions bash",
        "--help",
        "--version",
    ] {
        for redirections in [">&-", ">/dev/full"] {
            let done = redirected(arguments, redirections);
            let said = String::from_utf8_lossy(&done.stderr);
            assert_eq!(done.status.code(), Some(5), "{arguments} {redirections}: {said}");
            assert!(said.contains("cannot write to standard output"), "{arguments}: {said}");
        }
    }
    assert_eq!(redirected("doctor", ">/dev/full").status.code().map(|code| code == 0), Some(false));
    // What failed keeps its own code.
    assert_eq!(redirected("inspect zbtest-nothing --json", ">/dev/full").status.code(), Some(1));
    // Standard error decides nothing.
    assert_eq!(redirected("list", "2>&-").status.code(), Some(0));
}

#[test]
fn programs_need_their_json_whole() {
    let name = Name::new("results-pipe");
    let _reader = Reader::create(&name, BufferConfig::default().payload_size(4096)).unwrap();
    for (arguments, code) in [
        (&["list"][..], 0),
        (&["inspect", &name], 0),
        (&["list", "--json"], 5),
        (&["inspect", &name, "--json"], 5),
    ] {
        let (unread, pipe) = rustix::pipe::pipe().unwrap();
        drop(unread);
        let mut child = command(arguments);
        child.stdout(pipe).stderr(Stdio::null());
        assert_eq!(child.status().unwrap().code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn names_reach_a_terminal_escaped() {
    let name = Name::new("esc\u{1b}[31m\u{9b}m");
    let _reader = Reader::create(&name, BufferConfig::default().payload_size(4096)).unwrap();
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["inspect", &name],
        &["inspect", &name, "--json"],
        &["clean", &name],
        &["inspect", "a\u{1b}/"],
        &["inspect", "a\u{1b}/", "--json"],
        &["writer", &name, "--nonsense\u{1b}"],
        &["duplex-client", &name, "--timeout-ms", "0"],
    ] {
        let done = run(arguments);
        for text in [done.text(), done.stderr.clone()] {
            let raw = text.chars().find(|character| *character != '\n' && character.is_control());
            assert_eq!(raw, None, "{arguments:?}: {text:?}");
        }
    }
    let text = run(&["list"]).expect(0).text();
    assert!(text.contains("esc\\x1b[31m\\x9bm"), "{text}");
    assert_eq!(run(&["inspect", &name, "--json"]).expect(0).json()["name"], *name);
}

#[test]
fn list_tells_how_fast_frames_come() {
    let name = Name::new("rate");
    let mut reader = Reader::create(&name, BufferConfig::default().payload_size(1 << 16)).unwrap();
    let rate = || {
        let list = run(&["list", "--json"]).expect(0).json();
        let buffers = list.as_array().unwrap().clone();
        buffers.into_iter().find(|buffer| buffer["name"] == *name).unwrap()["frames_per_second"].clone()
    };
    assert_eq!(rate(), serde_json::Value::Null, "there is no writer");
    let writer = Writer::connect(&name).unwrap();
    assert_eq!(rate(), 0.0);
    drop(writer);
    let _ = reader.read_frame(common::PATIENCE);
    drop(reader);
    let _reader = start_reader(&name, &["--timeout-ms", "-1", "--keep"]);
    let writer = start(&["writer", &name, "-n", "0", "-s", "10", "--delay-ms", "2"]);
    wait_until("frames", || inspect::snapshot(&name).is_ok_and(|buffer| buffer.written_count > 5));
    let found = rate().as_f64().unwrap();
    assert!(found > 1.0 && found < 510.0, "{found}");
    writer.interrupt();
    writer.finish().expect(130);
}

/// Runs a command on a terminal of its own.
fn on_terminal(arguments: &str, variables: &[(&str, &str)]) -> String {
    let binary = env!("CARGO_BIN_EXE_zerobuffer");
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &format!("{binary} {arguments}"), "/dev/null"]);
    script.env("TERM", "xterm").env_remove("NO_COLOR").envs(variables.iter().copied()).stdin(Stdio::null());
    let done = script.output().expect("script(1), of util-linux");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[test]
fn colours_are_for_terminals_of_those_who_want_them() {
    let name = Name::new("colours");
    let _reader = Reader::create(&name, BufferConfig::default().payload_size(4096)).unwrap();
    assert!(on_terminal("list", &[]).contains("\x1b[32m"));
    assert!(on_terminal("list", &[("NO_COLOR", "")]).contains("\x1b[32m"));
    assert!(!on_terminal("list", &[("NO_COLOR", "1")]).contains('\x1b'));
    assert!(!on_terminal("list", &[("TERM", "dumb")]).contains('\x1b'));
    assert!(!run(&["list"]).expect(0).text().contains('\x1b'));
    assert!(!on_terminal("--help", &[("NO_COLOR", "1")]).contains('\x1b'));
}

#[test]
fn a_request_that_is_too_large_is_refused_before_memory_is_taken() {
    let channel = Name::new("huge");
    let buffer = channel.suffixed("_request");
    let server = start(&["duplex-server", &channel, "--buffer-size", "1M"]);
    wait_until("the request buffer", || buffer.paths()[0].exists());
    for size in ["99999999999", "16777215G", "18446744073709551615", "2M"] {
        let binary = env!("CARGO_BIN_EXE_zerobuffer");
        let mut shell = Command::new("sh");
        let client = format!("exec {binary} duplex-client {} -n 1 --size {size} --concurrency 64", &*channel);
        shell.args(["-c", &format!("ulimit -v 2000000; {client}")]).stdin(Stdio::null());
        let done = shell.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{size}: {said}");
        assert!(
            said.contains("does not fit into the server's buffer") && said.contains("--buffer-size"),
            "{said}"
        );
    }
    server.interrupt();
    server.finish().expect(130);
    buffer.assert_nothing_left();
}

#[test]
fn duplex_buffers_have_the_mode_and_the_memory_asked_for() {
    let channel = Name::new("duplex-mode");
    let options = ["--buffer-size", "1M", "--permissions", "0660", "--preallocate"];
    let server = start(
        &[&["duplex-server", &*channel, "--handler", "sleep", "--sleep-ms", "60000"], &options[..]].concat(),
    );
    let requests = channel.suffixed("_request");
    wait_until("the request buffer", || inspect::snapshot(&requests).is_ok_and(|view| view.memory > 1 << 20));
    let client =
        start(&[&["duplex-client", &*channel, "-n", "1", "--timeout-ms", "-1"], &options[..]].concat());
    let responses = channel.suffixed("_response");
    wait_until("the response buffer", || {
        inspect::snapshot(&responses).is_ok_and(|view| view.memory > 1 << 20)
    });
    for buffer in [&requests, &responses] {
        assert_eq!(inspect::snapshot(buffer).unwrap().mode, 0o660);
    }
    for running in [client, server] {
        running.interrupt();
        running.finish().expect(130);
    }
}
