//! `zerobuffer duplex-server` and `zerobuffer duplex-client`: every option, exit code and field.

mod common;

use common::{Name, Running, run, start, start_reader, wait_until};
use serde_json::json;

/// A channel's name; the files of its buffers go with it.
struct Channel(Name, [Name; 2]);

impl Channel {
    fn new() -> Channel {
        let name = Name::new("cli-duplex");
        let buffers = [name.suffixed("_request"), name.suffixed("_response")];
        Channel(name, buffers)
    }

    /// Starts the server and waits until it can be connected to.
    #[track_caller]
    fn server(&self, arguments: &[&str]) -> Running {
        let server = start(&[&["duplex-server", &*self.0], arguments].concat());
        wait_until("the request buffer", || self.1[0].paths()[0].exists());
        server
    }
}

#[test]
fn every_handler_answers_and_is_verified_and_reported() {
    for (handler, options) in [
        ("echo", &[][..]),
        ("reverse", &["--mode", "thread-pool", "--threads", "3"]),
        ("xor", &["--xor-key", "90"]),
        ("sleep", &["--sleep-ms", "1", "--mode", "thread-pool"]),
    ] {
        let channel = Channel::new();
        let server = channel.server(&[&["--handler", handler, "--json-output"], options].concat());
        let name = &*channel.0;
        let key: &[&str] = if handler == "xor" { &["--xor-key", "90"] } else { &[] };
        let client = [
            "duplex-client",
            name,
            "-n",
            "200",
            "-s",
            "3K",
            "--concurrency",
            "4",
            "--verify",
            "--json-output",
        ];
        let report = run(&[&client[..], &["--handler", handler], key].concat()).expect(0).json();
        assert_eq!(report["operation"], "duplex-client");
        assert_eq!(report["channel_name"], *name);
        assert_eq!((&report["requests"], &report["request_errors"]), (&json!(200), &json!(0)));
        assert_eq!((&report["concurrency"], &report["handler"]), (&json!(4), &json!(handler)));
        assert_eq!((&report["bytes"], &report["frame_size"]), (&json!(200 * 3072), &json!(3072)));
        assert_eq!((&report["verification_errors"], &report["errors"]), (&json!(0), &json!([])));
        let latency = ["p50", "p90", "p99", "max"].map(|key| report["latency_us"][key].as_f64().unwrap());
        assert!(latency[0] > 0.0 && latency.is_sorted(), "{latency:?}");
        assert!(handler != "sleep" || latency[0] >= 1000.0, "{latency:?}");

        server.interrupt();
        let report = server.finish().expect(130).json();
        assert_eq!(report["operation"], "duplex-server");
        assert_eq!((&report["channel_name"], &report["handler"]), (&json!(name), &json!(handler)));
        assert_eq!((&report["requests"], &report["bytes"]), (&json!(200), &json!(200 * 3072)));
        assert_eq!((&report["interrupted"], &report["request_errors"]), (&json!(true), &json!(0)));
        channel.1.iter().for_each(Name::assert_nothing_left);
    }
}

#[test]
fn a_wrong_answer_is_found() {
    let channel = Channel::new();
    let _server = channel.server(&["--handler", "xor"]);
    let done = run(&["duplex-client", &channel.0, "-n", "5", "--verify", "--json-output"]);
    let done = done.expect_error(4, "5 of 5 responses are not what the handler echo makes of their requests");
    assert_eq!(done.json()["verification_errors"], 5);
}

#[test]
fn summaries_are_for_people() {
    let channel = Channel::new();
    let server = channel.server(&[]);
    let done = run(&["duplex-client", &channel.0, "-n", "3", "-s", "1"]).expect(0);
    assert!(done.text().starts_with("answered: 3 requests, 3 B, in ") && done.text().contains("latency p50"));
    server.interrupt();
    let text = server.finish().expect(130).text();
    assert!(text.starts_with("handled 3 requests, 3 B, in ") && text.contains("; interrupted"), "{text}");
}

#[test]
fn a_client_waits_for_its_server_and_says_when_there_is_none() {
    let channel = Channel::new();
    let client = start(&["duplex-client", &channel.0, "-n", "10", "--timeout-ms", "-1"]);
    let _server = channel.server(&[]);
    client.finish().expect(0);
    let unserved = Channel::new();
    run(&["duplex-client", &unserved.0, "--timeout-ms", "20"]).expect_error(1, "duplex-server");
    run(&["duplex-client", "a/b"]).expect_error(3, "a/b");
    run(&["duplex-client", &unserved.0, "--concurrency", "0"]).expect_error(3, "between 1 and 4096");
    run(&["duplex-server", &"x".repeat(300)]).expect_error(3, "are possible");
}

#[test]
fn a_second_server_and_a_second_client_are_refused() {
    let channel = Channel::new();
    let _server = channel.server(&["--handler", "sleep", "--sleep-ms", "60000"]);
    run(&["duplex-server", &channel.0]).expect_error(1, "reader");
    let first = start(&["duplex-client", &channel.0, "-n", "1", "--timeout-ms", "-1"]);
    wait_until("the response buffer", || channel.1[1].paths()[0].exists());
    run(&["duplex-client", &channel.0]).expect_error(1, "another client is connected");
    first.interrupt();
    first.finish().expect(130);
}

#[test]
fn an_answer_that_is_too_large_is_told_with_the_way_out() {
    let channel = Channel::new();
    let server = channel.server(&["--json-output"]);
    let told = "its answer of 100000 bytes is too large for the response buffer: the client must create that";
    let client = ["duplex-client", &channel.0, "-n", "1", "-s", "100000", "--buffer-size", "64K"];
    run(&client).expect_error(2, &format!("channel `{}`: {told}", &*channel.0));
    server.interrupt();
    let report = server.finish().expect(130).json();
    assert_eq!(report["request_errors"], 1);
    assert!(report["errors"][0].as_str().unwrap().contains(told), "{report}");
}

#[test]
fn what_is_about_no_request_is_no_failed_request() {
    let channel = Channel::new();
    let server = channel.server(&["--json-output"]);
    std::fs::remove_file(&channel.1[0].paths()[0]).unwrap();
    let taker = start_reader(&channel.1[0], &["--timeout-ms", "-1"]);
    let done = server.finish().expect_error(2, "another process has taken its name");
    let report = done.json();
    assert_eq!(report["request_errors"], 0);
    assert!(report["errors"].as_array().unwrap().len() > 1, "{report}");
    taker.interrupt();
    taker.finish().expect(130);
}

#[test]
fn calls_that_take_too_long_and_servers_that_die_are_told() {
    let channel = Channel::new();
    let server = channel.server(&["--handler", "sleep", "--sleep-ms", "60000"]);
    let done = run(&["duplex-client", &channel.0, "-n", "2", "--timeout-ms", "50", "--json-output"]);
    let done = done.expect_error(2, "2 of 2 requests failed");
    let report = done.json();
    assert_eq!(report["request_errors"], 2);
    let errors = report["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 3, "both causes and their sum: {errors:?}");
    let cause = errors[0].as_str().unwrap();
    // The handler notices the end of the time as well, and on a busy machine its word comes first.
    let causes = ["request 1 was not answered", "the answer is no longer wanted"];
    let expected = causes.map(|cause| format!("channel `{}`: {cause}", &*channel.0));
    assert!(expected.iter().any(|text| cause.starts_with(text)), "{cause}");
    let client = start(&["duplex-client", &channel.0, "--timeout-ms", "-1", "--json-output"]);
    wait_until("the response buffer", || channel.1[1].paths()[0].exists());
    server.kill();
    client.finish().expect_error(2, "create a new client");
    channel.1.iter().for_each(Name::assert_nothing_left);
}

#[test]
fn help_has_every_option_and_exit_code() {
    let server = run(&["duplex-server", "--help"]).expect(0).text();
    let client = run(&["duplex-client", "--help"]).expect(0).text();
    for option in [
        "--handler",
        "--xor-key",
        "--sleep-ms",
        "--mode",
        "--threads",
        "--buffer-size",
        "--json-output",
        "--verbose",
    ] {
        assert!(server.contains(option), "{option}");
    }
    for option in [
        "-n, --requests",
        "-s, --size",
        "--concurrency",
        "--verify",
        "--handler",
        "--timeout-ms",
        "--buffer-size",
        "--json-output",
        "--verbose",
    ] {
        assert!(client.contains(option), "{option}");
    }
    assert!(server.contains("Exit codes") && client.contains("Exit codes"));
}
