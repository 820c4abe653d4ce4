//! A lane of one duplex channel: a server and a client, of which one or both are killed, replaced or closed.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use zerobuffer::BufferConfig;
use zerobuffer::duplex::{ClientOptions, DuplexChannelFactory, DuplexClient, ProcessingMode, Response};

use crate::content::{Random, fill, is_filled};
use crate::lane::{Lane, Outcome, Peer};
use crate::ledger::{CLOSED, Ledger, READY, STARTED, Seat, TOLD, Totals, Victim, add, is_death};

/// The head of a request: its client's salt, its number, and the order for the handler.
const HEAD: usize = 24;
const WAIT: u64 = 1;

#[derive(Default)]
struct Pair {
    server: Option<Peer>,
    client: Option<Peer>,
    /// The client may belong to a server that is dead: look before anything is done to it.
    unsettled: bool,
}

fn buffers(lane: &Lane) -> [String; 2] {
    ["request", "response"].map(|suffix| format!("{}_{suffix}", lane.name))
}

/// Runs until it is told to stop, or something is wrong.
pub(crate) fn run(lane: &mut Lane) -> Outcome {
    let mut pair = Pair::default();
    while !lane.totals.is_stopped() {
        round(lane, &mut pair)?;
    }
    settle(lane, &mut pair)?;
    orderly_end(lane, &mut pair)
}

/// Both sides are running, and an answer has been received.
fn settle(lane: &mut Lane, pair: &mut Pair) -> Outcome {
    loop {
        complete(lane, pair);
        let client = pair.client.as_ref().expect("complete");
        let (ledger, seat, salt) = (lane.ledger, client.seat, client.salt);
        let count = ledger.received(salt).load(SeqCst);
        lane.wait("a request is answered", || seat.is(TOLD) || ledger.received(salt).load(SeqCst) > count)?;
        pair.unsettled = false;
        if !seat.is(TOLD) {
            return Ok(());
        }
        // It had met a server that was killed.
        lane.close(pair.client.take().expect("complete"))?;
    }
}

fn complete(lane: &mut Lane, pair: &mut Pair) {
    let (ledger, totals) = (lane.ledger, lane.totals);
    if pair.server.is_none() {
        let (name, classic, seed) = (lane.name.clone(), lane.classic, lane.random.next());
        let work = move |seat: &'static Seat| server(&name, classic, seed, seat, ledger);
        let csharp = lane.start_csharp(Victim::Server, 0, seed);
        pair.server = Some(csharp.unwrap_or_else(|| lane.start(Victim::Server, work)));
    }
    if pair.client.is_none() {
        let (name, classic, seed) = (lane.name.clone(), lane.classic, lane.random.next());
        let salt = lane.next_salt();
        let work = move |seat: &'static Seat| client(&name, classic, salt, seed, seat, ledger, totals);
        let csharp = lane.start_csharp(Victim::Client, salt, seed);
        let mut client = csharp.unwrap_or_else(|| lane.start(Victim::Client, work));
        client.salt = salt;
        pair.client = Some(client);
    }
}

fn round(lane: &mut Lane, pair: &mut Pair) -> Outcome {
    complete(lane, pair);
    if lane.random.one_in(4) && !pair.unsettled {
        lane.moment(2000);
    } else {
        settle(lane, pair)?;
        lane.moment(3000);
    }
    match lane.random.between(0, 32) {
        0..14 => {
            let mut client = pair.client.take().expect("complete");
            if lane.random.one_in(8) {
                client.seat.order_close();
                lane.moment(200);
            }
            lane.kill(&mut client);
            // `settle` waits until the server has accepted the next client.
            Ok(())
        }
        14..28 => kill_server(lane, pair),
        28..30 => {
            let mut both = [pair.server.take().expect("complete"), pair.client.take().expect("complete")];
            if lane.random.one_in(2) {
                both.reverse();
            }
            both.iter_mut().for_each(|peer| {
                lane.kill(peer);
            });
            Ok(())
        }
        30 => {
            settle(lane, pair)?;
            orderly_end(lane, pair)
        }
        _ => {
            settle(lane, pair)?;
            add(&lane.totals.orderly, 1);
            lane.close(pair.client.take().expect("complete"))
        }
    }
}

fn kill_server(lane: &mut Lane, pair: &mut Pair) -> Outcome {
    let mut server = pair.server.take().expect("complete");
    let closing = lane.random.one_in(8);
    if closing {
        server.seat.order_close();
        lane.moment(200);
    }
    let client = pair.client.as_ref().expect("complete").seat;
    let connected = !client.is(STARTED);
    let killed = lane.kill(&mut server);
    if !connected {
        // It connects to the next peer, or has connected to the dead one.
        pair.unsettled = true;
        return Ok(());
    }
    lane.wait("the client knows of its server's end", || client.is(TOLD))?;
    lane.noticed(Victim::Client, client, killed.filter(|_| !closing));
    if lane.random.one_in(4) {
        // The next server comes before the client has closed.
        let client = pair.client.take();
        complete(lane, pair);
        let mut next = pair.client.take().expect("complete");
        lane.close(client.expect("complete"))?;
        // This one may have found the response buffer's name taken, and waits; or has connected.
        lane.kill(&mut next);
        return Ok(());
    }
    lane.close(pair.client.take().expect("complete"))?;
    lane.assert_nothing_left(&buffers(lane))
}

fn orderly_end(lane: &mut Lane, pair: &mut Pair) -> Outcome {
    lane.close(pair.client.take().expect("complete"))?;
    lane.close(pair.server.take().expect("complete"))?;
    add(&lane.totals.orderly, 1);
    lane.assert_nothing_left(&buffers(lane))
}

/// Answers each request with its bytes in reverse order, until it is told to close.
fn server(name: &str, classic: bool, seed: u64, seat: &Seat, ledger: &'static Ledger) {
    let mut random = Random(seed);
    let config =
        BufferConfig::default().classic(classic).payload_size(64 * random.between(64, 1024) as usize);
    let mode = [ProcessingMode::SingleThread, ProcessingMode::ThreadPool][random.between(0, 2) as usize];
    let server = DuplexChannelFactory::new().create_immutable_server(name, config).expect("a server");
    server.set_pool_size(2);
    let started = server.start(
        |request| {
            if request.get(16) == Some(&(WAIT as u8)) {
                std::thread::sleep(Duration::from_micros(500));
            }
            Ok(request.iter().rev().copied().collect::<Vec<u8>>().into())
        },
        mode,
    );
    started.expect("started");
    seat.state.store(READY, SeqCst);
    ledger.ring();
    seat.await_order();
    server.stop().expect("stopped");
    drop(server);
    seat.state.store(CLOSED, SeqCst);
    ledger.ring();
}

/// A request, and its expected answer.
fn request(salt: u64, number: u64, random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; HEAD + random.between(0, 400) as usize];
    bytes[..8].copy_from_slice(&salt.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes[16] = if random.one_in(8) { WAIT as u8 } else { 0 };
    // The content of a first frame names its writer once more; any other number does as well here.
    fill(salt, number + 1, &mut bytes[HEAD..]);
    bytes
}

/// The request of this client that an answer belongs to, or what is wrong with the answer. `None`: it answers
/// a request of another client.
fn judge(salt: u64, response: &Response) -> Option<Result<u64, String>> {
    let request: Vec<u8> = response.iter().rev().copied().collect();
    if request.len() < HEAD {
        return Some(Err(format!("an answer of {} bytes", request.len())));
    }
    let word = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().expect("8 bytes"));
    let (owner, number) = (word(0), word(8));
    if !is_filled(owner, number + 1, &request[HEAD..]) {
        return Some(Err("a torn answer".to_owned()));
    }
    if owner != salt {
        return None;
    }
    Some(Ok(number))
}

/// Sends requests, and checks their answers, until it is told to close, or its server ends.
fn client(
    name: &str,
    classic: bool,
    salt: u64,
    seed: u64,
    seat: &Seat,
    ledger: &'static Ledger,
    totals: &'static Totals,
) {
    let mut random = Random(seed);
    let config =
        BufferConfig::default().classic(classic).payload_size(64 * random.between(64, 1024) as usize);
    let options = ClientOptions::default()
        .connect_timeout(Duration::MAX)
        .request_timeout(Duration::MAX)
        .response_config(config);
    let client = DuplexChannelFactory::new().create_client_with(name, options).expect("a client");
    seat.state.store(READY, SeqCst);
    ledger.ring();
    let mut number = 0;
    let several = random.one_in(2);
    let idle = random.one_in(2);
    while !seat.is_ordered() {
        let count = if several { random.between(1, 6) } else { 1 };
        match exchange(&client, salt, number, count, &mut random, classic, totals) {
            Ok(()) => {}
            Err(error) => {
                assert!(is_death(error.kind()), "{error:?}");
                seat.rest(ledger);
                break;
            }
        }
        number += count;
        ledger.received(salt).store(number, SeqCst);
        ledger.ring();
        add(&totals.answers, count);
        if idle {
            std::thread::sleep(Duration::from_micros(random.between(0, 2000)));
        }
    }
    client.close();
    drop(client);
    seat.state.store(CLOSED, SeqCst);
    ledger.ring();
}

/// Sends `count` requests behind `number`, and receives their answers.
fn exchange(
    client: &DuplexClient,
    salt: u64,
    number: u64,
    count: u64,
    random: &mut Random,
    classic: bool,
    totals: &Totals,
) -> zerobuffer::Result<()> {
    let sent: Vec<Vec<u8>> = (1..=count).map(|index| request(salt, number + index, random)).collect();
    let responses: Vec<(u64, Response)> = if count == 1 {
        vec![(number + 1, client.call(&sent[0], Duration::MAX)?)]
    } else {
        let first = client.send_request(&sent[0])?;
        for request in &sent[1..] {
            client.send_request(request)?;
        }
        let receive = || client.receive_response(Duration::MAX);
        let mut responses = Vec::new();
        for _ in 0..count {
            let response = receive()?.expect("no time-out was set");
            responses.push((number + 1 + response.sequence() - first, response));
        }
        responses
    };
    let mut answered: Vec<u64> = Vec::new();
    for (number, response) in &responses {
        match judge(salt, response) {
            Some(Ok(told)) if told == *number => answered.push(told),
            Some(Ok(told)) => panic!("request {number} of client {salt} got the answer to {told}"),
            None if classic => add(&totals.strays, 1),
            None => panic!("request {number} of client {salt} got an answer to another client's"),
            Some(Err(why)) => {
                add(&totals.torn, 1);
                panic!("request {number} of client {salt} got {why}");
            }
        }
    }
    answered.sort_unstable();
    answered.dedup();
    assert!(classic || answered.len() as u64 == count, "{count} requests, answered were {answered:?}");
    Ok(())
}
