//! Ends: killed, stopped and closed, with requests pending; and what is left behind.

use std::thread;
use std::time::{Duration, Instant};

use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
use zerobuffer::{BufferConfig, ErrorKind};

use super::roles::client;
use super::{Channel, SOON};
use crate::support::ledger::Stopwatch;
use crate::support::{PATIENCE, Peer, role};

/// The errors that a client may get when its server dies.
fn is_death(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WriterDead | ErrorKind::ReaderDead)
}

#[test]
fn a_server_killed_in_a_request_is_known_to_all_callers_within_100_ms() {
    for options in [&[][..], &["pool"], &["classic"], &["in-place"], &["in-place", "classic"]] {
        let channel = Channel::new("killed");
        let mut server = channel.server(options);
        let client = channel.client();
        // It has answered before, or never; the client must not need that.
        if options == ["pool"] {
            client.call(b"hello", PATIENCE).unwrap();
        }
        let mut times = vec![];
        let mut watch = Stopwatch::start();
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| (client.call(b"!hold 30000", PATIENCE), Instant::now()));
            assert!(server.hear().starts_with("sleeping"));
            let mut waiting = vec![sleeper];
            for _ in 0..4 {
                waiting.push(scope.spawn(|| (client.call(b"!hold 30000", PATIENCE), Instant::now())));
            }
            let receiver = scope.spawn(|| (client.receive_response(PATIENCE).map(|_| ()), Instant::now()));
            thread::sleep(Duration::from_millis(30));
            let killed = Instant::now();
            watch = Stopwatch::start();
            server.kill();
            for (result, noticed) in waiting.into_iter().map(|thread| thread.join().unwrap()) {
                assert!(is_death(result.unwrap_err().kind()));
                times.push(noticed - killed);
            }
            let (result, noticed) = receiver.join().unwrap();
            assert!(is_death(result.unwrap_err().kind()));
            times.push(noticed - killed);
        });
        times.sort();
        eprintln!("{options:?}: known after {:?} to {:?}", times[0], times[times.len() - 1]);
        watch.assert_took(times[times.len() / 2], SOON);
        watch.assert_took(times[times.len() - 1], SOON * 5);
        for _ in 0..3 {
            assert!(is_death(client.call(b"x", PATIENCE).unwrap_err().kind()));
            assert!(is_death(client.receive_response(PATIENCE).unwrap_err().kind()));
        }
        assert!(!client.is_server_connected());
        drop(client);
        channel.assert_nothing_left();
    }
}

#[test]
fn a_servers_death_is_known_to_who_is_filling_a_request_and_to_all_others_within_100_ms() {
    for (receives, sends) in [(true, true), (true, false), (false, true)] {
        let channel = Channel::new("ends");
        let mut server = channel.server(&[]);
        let client = channel.client();
        let mut request = client.acquire_request_buffer(4).unwrap();
        thread::scope(|scope| {
            let receiver = || (client.receive_response(PATIENCE).map(drop), Instant::now());
            let receiver = receives.then(|| scope.spawn(receiver));
            let sender = || (client.send_request(b"late").map(drop), Instant::now());
            let sender = sends.then(|| scope.spawn(sender));
            thread::sleep(Duration::from_millis(50));
            assert!(client.is_server_connected());
            server.kill();
            let (killed, watch) = (Instant::now(), Stopwatch::start());
            assert!(!client.is_server_connected());
            for waiter in [receiver, sender].into_iter().flatten() {
                let (result, told) = waiter.join().unwrap();
                assert!(is_death(result.unwrap_err().kind()));
                watch.assert_took(told - killed, SOON);
            }
        });
        // Also to the one thread that does both.
        let error = client.receive_response(PATIENCE).unwrap_err();
        assert!(is_death(error.kind()), "{error}");
        request.fill(1);
        assert!(is_death(request.commit().unwrap_err().kind()));
        drop(client);
        channel.assert_nothing_left();
    }
}

#[test]
fn responses_sent_before_the_server_died_are_delivered() {
    let channel = Channel::new("killed");
    let mut server = channel.server(&[]);
    let client = channel.client();
    let sent: Vec<u64> = (0..5).map(|_| client.send_request(b"before").unwrap()).collect();
    client.send_request(b"!hold 30000").unwrap();
    server.expect("sleeping 6");
    server.kill();
    for sequence in sent {
        assert_eq!(client.receive_response(PATIENCE).unwrap().expect("delivered").sequence(), sequence);
    }
    assert!(is_death(client.receive_response(PATIENCE).unwrap_err().kind()));
}

#[test]
fn a_server_that_dies_of_its_own_handler_is_known_too() {
    for options in [&[][..], &["in-place"], &["in-place", "classic"]] {
        let channel = Channel::new("abort");
        let _server = channel.server(options);
        let client = channel.client();
        assert!(is_death(client.call(b"!kill", PATIENCE).unwrap_err().kind()));
    }
}

#[test]
fn a_server_whose_client_is_killed_in_a_request_takes_the_next_one() {
    for options in [&[][..], &["pool"], &["classic"], &["in-place"], &["in-place", "classic"]] {
        let channel = Channel::new("next");
        let mut server = channel.server(options);
        for round in 0..5 {
            let mut client = Peer::start(role!(client), &[&channel.name, "!hold 20", "!hold 20", "!hold 20"]);
            client.expect("sent");
            assert!(server.hear().starts_with("sleeping"));
            client.kill();
            let killed = Stopwatch::start();
            let next = channel.client();
            let response = next.call(format!("round {round}").as_bytes(), PATIENCE).unwrap();
            assert_eq!(*response, *format!("round {round}").as_bytes());
            killed.assert_within(SOON * 5);
            // Nothing of the dead client's reaches the next one.
            assert!(next.receive_response(Duration::from_millis(70)).unwrap().is_none());
            drop((response, next));
            while server.hear_within(Duration::from_millis(1)).is_some() {}
        }
        server.tell("stop");
        assert!(server.hear().starts_with("stopped"));
        channel.assert_nothing_left();
    }
}

#[test]
fn a_server_stuck_behind_a_full_response_buffer_is_freed_by_its_clients_death() {
    for options in [&[][..], &["pool"], &["in-place"]] {
        let channel = Channel::new("stuck");
        let _server = channel.server(options);
        // It fetches one and keeps it; two do not fit its 256 MiB.
        let mut client = Peer::start(role!(client), &[&channel.name, "!large 150000000", "!large 150000001"]);
        client.expect("sent");
        client.kill();
        let next = channel.client();
        assert_eq!(*next.call(b"freed", PATIENCE).unwrap(), *b"freed");
    }
}

#[test]
fn a_pool_whose_answers_wait_for_space_stops_within_100_ms() {
    let channel = Channel::new("stop-full");
    let mut server = channel.server(&["pool", "threads=8"]);
    let client = channel.client_with(BufferConfig::default().payload_size(64 << 10));
    for _ in 0..100 {
        client.send_request(&[1; 4000]).unwrap();
    }
    let mut last = 0;
    loop {
        server.tell("started");
        let started: u64 = server.hear().parse().unwrap();
        if started >= 15 && started == last {
            break;
        }
        last = started;
        thread::sleep(Duration::from_millis(30));
    }
    let watch = Stopwatch::start();
    server.tell("stop");
    let told = server.hear();
    let time = told.strip_prefix("stopped ").unwrap_or_else(|| panic!("the server said {told}"));
    watch.assert_took(Duration::from_millis(time.parse().unwrap()), SOON);
    drop(client);
}

#[test]
fn no_handler_is_started_for_a_client_that_died_while_one_was_running() {
    for options in [&[][..], &["in-place"]] {
        start_no_handler_for_the_dead(options);
    }
}

fn start_no_handler_for_the_dead(options: &[&str]) {
    let channel = Channel::new("long-dead");
    let mut server = channel.server(options);
    let requests = [&["quick"; 5][..], &["!hold 300"; 4]].concat();
    let mut client = Peer::start(role!(client), &[&[&*channel.name][..], &requests].concat());
    client.expect("sent");
    assert!(server.hear().starts_with("sleeping"));
    client.kill();
    let next = channel.client();
    assert_eq!(*next.call(b"mine", PATIENCE).unwrap(), *b"mine");
    let told = server.hear();
    assert!(told.starts_with("error WriterDead None"), "the server is told of its client's death: {told}");
    server.tell("started");
    // The quick ones, the long one, and that of the next client.
    assert_eq!(server.hear(), "7");
}

#[test]
fn an_idle_server_stops_within_100_ms_and_its_callers_learn_of_it() {
    let channel = Channel::new("stop");
    let mut server = channel.server(&[]);
    let client = channel.client();
    client.call(b"hello", PATIENCE).unwrap();
    thread::scope(|scope| {
        let receiver = scope.spawn(|| client.receive_response(PATIENCE).unwrap_err());
        thread::sleep(Duration::from_millis(20));
        let watch = Stopwatch::start();
        server.tell("stop");
        let (word, time) = server.hear().split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert_eq!(word, "stopped");
        watch.assert_took(Duration::from_millis(time.parse().unwrap()), SOON);
        assert_eq!(receiver.join().unwrap().kind(), ErrorKind::ReaderDead);
    });
    server.tell("is-running");
    server.expect("false");
    drop(client);
    channel.assert_nothing_left();
    server.tell("start");
    server.expect("running");
    assert_eq!(*channel.client().call(b"again", PATIENCE).unwrap(), *b"again");
}

#[test]
fn a_server_with_a_busy_handler_stops_in_time_says_so_and_frees_its_names_at_once() {
    for options in [&[][..], &["pool"], &["in-place"]] {
        let channel = Channel::new("busy");
        let mut server = channel.server(options);
        let client = channel.client();
        client.send_request(b"!hold 600").unwrap();
        server.expect("sleeping 1");
        let watch = Stopwatch::start();
        server.tell("stop");
        let heard = server.hear();
        let (word, time) = heard.split_once(' ').unwrap();
        assert_eq!(word, "HandlerBusy");
        watch.assert_took(Duration::from_millis(time.parse().unwrap()), Duration::from_millis(150));
        assert!(is_death(client.receive_response(PATIENCE).unwrap_err().kind()), "the client knows at once");
        server.tell("is-running");
        server.expect("false");
        drop(client);
        channel.assert_nothing_left();
        // The same object, and the names, are free for the next start, the old handler still at work.
        server.tell("start");
        server.expect("running");
        assert_eq!(*channel.client().call(b"again", PATIENCE).unwrap(), *b"again");
    }
}

#[test]
fn a_stop_tells_a_handler_that_asks() {
    let channel = Channel::new("busy");
    let mut server = channel.server(&[]);
    let client = channel.client();
    client.send_request(b"!wait").unwrap();
    server.expect("waiting 1");
    server.tell("stop");
    server.expect("cancelled 1");
    assert!(server.hear().starts_with("stopped"));
    drop(client);
    channel.assert_nothing_left();
}

#[test]
fn closing_a_client_ends_all_its_calls_and_frees_the_channel_at_once() {
    let channel = Channel::new("close");
    let mut server = channel.server(&["payload=65536"]);
    for _ in 0..5 {
        server.tell("shut");
        server.expect("shut");
        let client = channel.client();
        thread::scope(|scope| {
            let waiters: Vec<_> =
                (0..6).map(|_| scope.spawn(|| client.call(b"!gate", PATIENCE).unwrap_err())).collect();
            // One more waits for space.
            let sender = scope.spawn(|| {
                loop {
                    if let Err(error) = client.send_request(&[b'x'; 9000]) {
                        break error;
                    }
                }
            });
            let receiver = scope.spawn(|| {
                loop {
                    match client.receive_response(PATIENCE) {
                        Ok(_) => {}
                        Err(error) => break error,
                    }
                }
            });
            assert!(server.hear().starts_with("at the gate"));
            client.close();
            for thread in waiters.into_iter().chain([sender, receiver]) {
                assert_eq!(thread.join().unwrap().kind(), ErrorKind::Closed);
            }
        });
        assert!(!channel.buffers[1].paths()[0].exists(), "the response buffer is still there");
        server.tell("open");
        // At once: no time-out for connecting.
        let next = DuplexChannelFactory::new().create_client(&channel.name).unwrap();
        assert_eq!(*next.call(b"next", PATIENCE).unwrap(), *b"next");
        drop(next);
        while server.hear_within(Duration::from_millis(1)).is_some() {}
    }
    drop(server);
}

#[test]
fn requests_of_a_client_that_has_gone_are_not_started_however_fast_it_was() {
    for options in [&[][..], &["in-place"]] {
        start_few_for_a_client_that_has_gone(options);
    }
}

fn start_few_for_a_client_that_has_gone(options: &[&str]) {
    let channel = Channel::new("hurry");
    let mut server = channel.server(options);
    let client = channel.client();
    // So many small answers that the server no longer looks at its client before each.
    for _ in 0..30 {
        (0..200).for_each(|_| _ = client.send_request(b"x").unwrap());
        (0..200).for_each(|_| _ = client.receive_response(PATIENCE).unwrap().expect("in time"));
    }
    (0..40).for_each(|_| _ = client.send_request(b"!hold 20").unwrap());
    assert!(server.hear().starts_with("sleeping"));
    drop(client);
    let next = channel.client();
    assert_eq!(*next.call(b"next", PATIENCE).unwrap(), *b"next");
    let mut started = 1;
    while server.hear_within(Duration::from_millis(1)).is_some() {
        started += 1;
    }
    assert!(started <= 4, "{started} of 40 handlers were started, all but one for a client that has gone");
}

#[test]
fn responses_outlive_their_client() {
    let channel = Channel::new("outlive");
    let _server = channel.server(&[]);
    let client = channel.client();
    let response = client.call(b"still here", PATIENCE).unwrap();
    drop(client);
    assert_eq!(*response, *b"still here");
}

/// Open descriptors, threads and mappings of a process.
fn resources(pid: u32) -> [usize; 3] {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    [count("fd"), count("task"), maps.lines().count()]
}

fn thread_names(pid: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok()).collect()
}

/// Returns once the process has the thread that comes with its first sleep.
fn await_watcher(pid: u32) {
    let until = Instant::now() + PATIENCE;
    while !thread_names(pid).iter().any(|name| name.trim_end() == "zb-watcher") {
        assert!(Instant::now() < until, "{:?}", thread_names(pid));
        thread::sleep(Duration::from_millis(1));
    }
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

#[test]
fn a_thousand_clients_leave_nothing_behind_in_either_process() {
    let channel = Channel::new("cycles");
    let mut server = channel.server(&["pool"]);
    let own = std::process::id();
    let factory = DuplexChannelFactory::new();
    let pid = server.pid();
    let mut cycle = |index: u32| {
        let client = factory.create_client(&channel.name).unwrap();
        // Some never ask; some do not wait for the answer.
        match index % 3 {
            0 => {}
            1 => assert_eq!(*client.call(b"hello", PATIENCE).unwrap(), *b"hello"),
            _ => {
                client.send_request(b"!empty").unwrap();
            }
        }
    };
    (0..50).for_each(&mut cycle);
    // A busy server has not slept yet.
    await_watcher(pid);
    let before = resources(pid);
    let memory = [own, pid].map(resident_kib);
    let start = Instant::now();
    (0..1000).for_each(&mut cycle);
    eprintln!("1,000 clients in {:?}", start.elapsed());
    // The last one's end may be in the making.
    let until = Instant::now() + PATIENCE;
    let settled = |now: [usize; 3]| now[0] <= before[0] && now[1] <= before[1] && now[2] <= before[2] + 8;
    while !settled(resources(pid)) {
        assert!(Instant::now() < until, "{before:?} became {:?}: {:?}", resources(pid), thread_names(pid));
        thread::sleep(Duration::from_millis(5));
    }
    let after = [own, pid].map(resident_kib);
    eprintln!("resident KiB of client and server: {memory:?}, then {after:?}");
    assert!(after[1] < memory[1] + 4096, "the server grew from {} to {} KiB", memory[1], after[1]);
    server.tell("stop");
    assert!(server.hear().starts_with("stopped"));
    channel.assert_nothing_left();
}

#[test]
fn a_thousand_starts_and_stops_of_a_server_leave_nothing_behind() {
    let channel = Channel::new("starts");
    let factory = DuplexChannelFactory::new();
    let server = factory.create_immutable_server(&channel.name, BufferConfig::default()).unwrap();
    for round in 0..300 {
        let mode = if round % 2 == 0 { ProcessingMode::SingleThread } else { ProcessingMode::ThreadPool };
        server.start(|request| Ok((&**request).into()), mode).unwrap();
        assert!(server.is_running());
        assert_eq!(
            server.start(|request| Ok((&**request).into()), mode).unwrap_err().kind(),
            ErrorKind::InvalidState
        );
        if round % 10 == 0 {
            assert_eq!(*factory.create_client(&channel.name).unwrap().call(b"x", PATIENCE).unwrap(), *b"x");
        }
        server.stop().unwrap();
        assert!(!server.is_running());
        channel.assert_nothing_left();
    }
}

#[test]
fn two_servers_of_one_name_are_one_too_many() {
    let channel = Channel::new("two");
    let _server = channel.server(&[]);
    let refused = DuplexChannelFactory::new()
        .create_mutable_server(&channel.name, BufferConfig::default())
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReaderAlreadyConnected);
}
