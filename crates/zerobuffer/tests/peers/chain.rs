//! A chain of three processes with payload sharing: a camera writes IN, a relay forwards its frames to OUT, a viewer reads OUT.
//!
//! Each obeys commands, one a line, and answers each with one message. Every frame says which one it is, and every byte of it
//! depends on that.
#![allow(dead_code, unreachable_pub, reason = "not every binary of tests uses all of it")]

use std::collections::VecDeque;
use std::process::Command;
use std::time::{Duration, Instant};

use zerobuffer::{
    BufferConfig, Error, ErrorKind, Forwarded, Frame, Reader, SharedWriter, Writer, WriterOptions,
};

use crate::support::{self, Name, PATIENCE, Peer, fill, hear, is_filled, role, say};

support::peers!(camera, relay, viewer);

/// Bytes of a frame.
pub const LEN: usize = 50_000;
/// More frames than fit IN.
pub const MOST: u64 = 30;

const SECOND: Duration = Duration::from_secs(1);

/// Runs one of the three as another user.
pub const USER: &str = "ZEROBUFFER_CHAIN_USER";
/// Mode of the buffers that one of the three makes, in octal digits.
pub const MODE: &str = "ZEROBUFFER_CHAIN_MODE";
/// MiB of their payload.
pub const SIZE: &str = "ZEROBUFFER_CHAIN_SIZE";
/// Limits the memory of one of the three to what it has when it is ready, and so many MiB more.
pub const MEMORY: &str = "ZEROBUFFER_CHAIN_MEMORY";

fn setting(name: &str, radix: u32) -> Option<u32> {
    let text = std::env::var(name).ok()?;
    Some(u32::from_str_radix(&text, radix).expect("a number"))
}

pub fn config() -> BufferConfig {
    let size = setting(SIZE, 10).unwrap_or(1) as usize;
    let config = BufferConfig::default().payload_size(size << 20).allow_payload_sharing(true);
    setting(MODE, 8).map_or(config.clone(), |mode| config.mode(mode))
}

/// Says that the peer is ready, after what its settings ask for.
fn ready() {
    if let Some(more) = setting(MEMORY, 10) {
        let pages = std::fs::read_to_string("/proc/self/statm").expect("statm");
        let pages: u64 = pages.split(' ').next().and_then(|size| size.parse().ok()).expect("a number");
        support::confine::limit(libc::RLIMIT_AS, pages * 4096 + (u64::from(more) << 20));
    }
    say("ready");
}

/// Becomes the user that the settings ask for.
fn begin() {
    if std::env::var_os(USER).is_some() {
        support::confine::become_nobody();
    }
}

pub fn options() -> WriterOptions {
    let options = WriterOptions::default().connect_timeout(3 * SECOND).write_timeout(Duration::ZERO);
    options.request_payload_sharing(true)
}

fn content(index: u64) -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    fill(index, &mut bytes);
    bytes[..8].copy_from_slice(&index.to_le_bytes());
    bytes
}

/// Number of the frame, if all of its bytes are that frame's.
fn index_of(bytes: &[u8]) -> Option<u64> {
    let index = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let mut first = vec![0; 8];
    fill(index, &mut first);
    let rest = [&first, &bytes[8..]].concat();
    (bytes.len() == LEN && is_filled(index, &rest)).then_some(index)
}

pub fn failed(error: &Error) -> String {
    format!("{:?}", error.kind())
}

/// Obeys commands until one ends the process. `answer` gets the command's words.
pub fn obey(mut answer: impl FnMut(&[&str]) -> Option<String>) {
    while let Some(line) = hear() {
        let words: Vec<&str> = line.split(' ').collect();
        match answer(&words) {
            Some(message) => say(message),
            None => return,
        }
    }
}

/// Writes frames. Arguments: IN, the first number.
pub fn camera(arguments: &[String]) {
    begin();
    let mut next: u64 = arguments[1].parse().expect("a number");
    let mut writer = match Writer::connect_with(&arguments[0], options()) {
        Ok(writer) => writer,
        Err(error) => return say(failed(&error)),
    };
    ready();
    obey(|words| match *words {
        ["write", count] => {
            for written in 0..count.parse().expect("a number") {
                match writer.try_write_frame(&content(next)) {
                    Ok(Some(_)) => next += 1,
                    Ok(None) => return Some(format!("{written}")),
                    Err(error) => return Some(failed(&error)),
                }
            }
            Some(count.to_owned())
        }
        // Writes a frame, and waits for space as long as it takes.
        ["push"] => {
            writer.set_write_timeout(PATIENCE);
            let written = writer.write_frame(&content(next)).map(|_| next += 1);
            writer.set_write_timeout(Duration::ZERO);
            Some(written.map_or_else(|error| failed(&error), |()| "written".into()))
        }
        _ => None,
    });
}

/// Sleeps in an event loop until there is a frame.
fn polled_frame(reader: &mut Reader) -> String {
    loop {
        match reader.try_read_frame() {
            Ok(Some(_)) => return "a frame".into(),
            Ok(None) if support::poll(reader.descriptor().expect("a descriptor"), PATIENCE) => {}
            Ok(None) => return "nothing".into(),
            Err(error) => return failed(&error),
        }
    }
}

enum Output {
    Plain(Box<Writer>),
    Shared(Box<SharedWriter>),
}

impl Output {
    fn writer(&mut self) -> &mut Writer {
        match self {
            Output::Plain(writer) => writer,
            Output::Shared(shared) => shared,
        }
    }
}

/// Forwards frames. Arguments: IN, OUT, `shared` if it makes OUT itself.
pub fn relay(arguments: &[String]) {
    begin();
    let [input, output, mode] = arguments else { panic!("IN, OUT, mode") };
    let mut reader = match Reader::create(input, config()) {
        Ok(reader) => Some(reader),
        Err(error) => return say(failed(&error)),
    };
    let made = match mode.as_str() {
        "shared" => SharedWriter::create(output, reader.as_ref().expect("open"))
            .map(|made| Output::Shared(Box::new(made))),
        _ => Writer::connect_with(output, options()).map(|writer| Output::Plain(Box::new(writer))),
    };
    let mut writer = match made {
        Ok(output) => Some(output),
        Err(error) => return say(failed(&error)),
    };
    ready();
    let mut kept = Vec::new();
    obey(|words| match *words {
        // Forwards what comes, as many as asked for; tells how many were shared, and how many copied.
        ["forward", count] => {
            let (mut shared, mut copied) = (0, 0);
            for _ in 0..count.parse::<u64>().expect("a number") {
                let frame = match reader.as_mut().expect("open").read_frame(2 * SECOND) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => return Some("nothing".into()),
                    Err(error) => return Some(failed(&error)),
                };
                match writer.as_mut().expect("open").writer().forward(frame) {
                    Ok(Forwarded::Shared) => shared += 1,
                    Ok(Forwarded::Copied) => copied += 1,
                    Err((error, _)) => return Some(failed(&error)),
                }
            }
            Some(format!("{shared} {copied}"))
        }
        // Reads what there is, and gives it back.
        ["drop"] => {
            let mut count = 0;
            while let Ok(Some(_)) = reader.as_mut().expect("open").try_read_frame() {
                count += 1;
            }
            Some(format!("{count}"))
        }
        // Waits for a frame, in a call or in an event loop, and gives it back.
        ["await"] => match reader.as_mut().expect("open").read_frame(PATIENCE) {
            Ok(frame) => Some(if frame.is_some() { "a frame" } else { "nothing" }.into()),
            Err(error) => Some(failed(&error)),
        },
        ["poll"] => Some(polled_frame(reader.as_mut().expect("open"))),
        // Reads a frame and keeps it.
        ["keep"] => {
            kept.extend(reader.as_mut().expect("open").read_frame(SECOND).ok().flatten());
            Some(format!("{}", kept.len()))
        }
        ["lent"] => Some(format!("{}", reader.as_ref().expect("open").payload_share_count())),
        ["connect", name] => {
            writer = None;
            writer = Writer::connect_with(name, options()).ok().map(|writer| Output::Plain(Box::new(writer)));
            Some(format!("{}", writer.is_some()))
        }
        ["close-out"] => {
            writer = None;
            Some("closed".into())
        }
        ["close-in"] => {
            reader = None;
            Some("closed".into())
        }
        _ => None,
    });
}

/// Reads frames and keeps them. Arguments: OUT.
pub fn viewer(arguments: &[String]) {
    begin();
    let mut reader = match Reader::create(&arguments[0], config()) {
        Ok(reader) => Some(reader),
        Err(error) => return say(failed(&error)),
    };
    ready();
    let mut held: VecDeque<(u64, Frame)> = VecDeque::new();
    obey(|words| match *words {
        // Reads frames and keeps them; tells the numbers, each with an `s` if it is shared. `take` waits for none.
        [how @ ("read" | "take"), count] => {
            let limit = if how == "read" { 2 * SECOND } else { Duration::ZERO };
            let mut told = Vec::new();
            for _ in 0..count.parse::<u64>().expect("a number") {
                match reader.as_mut().expect("open").read_frame(limit) {
                    Ok(Some(frame)) => {
                        let Some(index) = index_of(&frame) else { return Some("wrong bytes".into()) };
                        told.push(format!("{index}{}", if frame.is_shared() { "s" } else { "" }));
                        held.push_back((index, frame));
                    }
                    Ok(None) => told.push("nothing".into()),
                    Err(error) => told.push(failed(&error)),
                }
            }
            Some(told.join(" "))
        }
        // Reads what there is, and gives it back; tells how many frames there were.
        ["pass"] => {
            let mut count = 0;
            loop {
                match reader.as_mut().map(Reader::try_read_frame) {
                    Some(Ok(Some(frame))) if index_of(&frame).is_none() => return Some("wrong bytes".into()),
                    Some(Ok(Some(_))) => count += 1,
                    // The end of a writer is told once.
                    Some(Err(error))
                        if matches!(error.kind(), ErrorKind::WriterDead | ErrorKind::WriterClosed) => {}
                    Some(Err(error)) => return Some(failed(&error)),
                    Some(Ok(None)) | None => return Some(format!("{count}")),
                }
            }
        }
        // Whether every frame that it holds still has its bytes.
        ["check"] => {
            let changed = held.iter().find(|(index, frame)| index_of(frame) != Some(*index));
            Some(changed.map_or(format!("same {}", held.len()), |(index, _)| format!("{index} has changed")))
        }
        ["release", count] => {
            held.drain(..held.len().min(count.parse().expect("a number")));
            Some(format!("{}", held.len()))
        }
        ["close"] => {
            reader = None;
            Some("closed".into())
        }
        // What a forked child sees of the shared frames.
        ["fork"] => Some(in_child(|| {
            held.iter().all(|(_, frame)| !frame.is_shared() || frame.iter().all(|b| *b == 0))
        })),
        _ => None,
    });
}

fn in_child(body: impl FnOnce() -> bool) -> String {
    // SAFETY: the child calls `body`, which takes no lock, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = i32::from(!body());
        // SAFETY: _exit() runs nothing of this process.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: the child is this process's own, and `status` has room for the result.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if status == 0 { "zeroes" } else { "bytes" }.to_owned()
}

/// Who of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Camera,
    Relay,
    Viewer,
}

/// One process of several that obey commands.
pub struct Member {
    pub peer: Peer,
    /// Answers that it has still to give, as it was stopped.
    owed: u32,
}

impl Member {
    /// Awaits its first message. Returns whether it got ready.
    pub fn new(peer: Peer) -> (Member, bool) {
        let mut member = Member { peer, owed: 0 };
        let heard = member.hear(PATIENCE);
        member.owed = u32::from(heard.is_none());
        (member, heard.is_some_and(|message| message == "ready"))
    }

    /// Its answer; `None` if it ended, stands still, or says nothing in time.
    fn hear(&mut self, limit: Duration) -> Option<String> {
        let start = Instant::now();
        loop {
            let peer = &mut self.peer;
            if let Some(message) = peer.hear_within(Duration::from_millis(5)) {
                return Some(message);
            }
            if peer.ended().is_some() {
                // What it said before its end may be on its way.
                return peer.hear_within(Duration::from_millis(50));
            }
            if peer.is_stopped() || start.elapsed() > limit {
                return None;
            }
        }
    }

    /// The answer to what was told before; `None` as for `ask`.
    pub fn hear_from(&mut self) -> Option<String> {
        self.owed = 0;
        self.hear(PATIENCE)
    }

    /// Tells it to do something. Returns its answer, `None` if it ended or stands still.
    pub fn ask(&mut self, command: &str) -> Option<String> {
        if self.peer.ended().is_some() || self.peer.is_stopped() {
            return None;
        }
        self.peer.try_tell(command)?;
        for _ in 0..std::mem::take(&mut self.owed) {
            self.hear(PATIENCE);
        }
        let answer = self.hear(PATIENCE);
        self.owed += u32::from(answer.is_none());
        answer
    }
}

/// Processes that are told what to do.
pub trait Members {
    type Who: Copy + std::fmt::Debug;

    fn member(&mut self, who: Self::Who) -> &mut Member;

    fn peer(&mut self, who: Self::Who) -> &mut Peer {
        &mut self.member(who).peer
    }

    /// Tells one to do something. Returns its answer, `None` if it ended or stands still.
    fn ask(&mut self, who: Self::Who, command: &str) -> Option<String> {
        self.member(who).ask(command)
    }

    /// The answer that must come.
    #[track_caller]
    fn get(&mut self, who: Self::Who, command: &str) -> String {
        self.ask(who, command).unwrap_or_else(|| panic!("{who:?} did not answer `{command}`"))
    }

    #[track_caller]
    fn expect(&mut self, who: Self::Who, command: &str, answer: &str) {
        assert_eq!(self.get(who, command), answer, "{who:?}: {command}");
    }
}

impl Members for Chain {
    type Who = Who;

    fn member(&mut self, who: Who) -> &mut Member {
        self.peers[who as usize].as_mut().expect("started")
    }
}

/// The three processes.
pub struct Chain {
    pub names: [Name; 2],
    peers: [Option<Member>; 3],
    shared: bool,
    /// Number of the next camera's first frame.
    pub written: u64,
}

impl Chain {
    /// Starts the chain. `shared`: the relay makes OUT. `change` may change each one's command.
    pub fn start(what: &str, shared: bool, change: impl Fn(Who, &mut Command)) -> Chain {
        let names = ["in", "out"].map(|end| Name::new(&format!("{what}-{end}")));
        let mut chain = Chain { names, peers: [None, None, None], shared, written: 0 };
        let order = if shared { [Who::Relay, Who::Viewer] } else { [Who::Viewer, Who::Relay] };
        for who in order {
            chain.start_one(who, |command| change(who, command));
        }
        chain.start_one(Who::Camera, |command| change(Who::Camera, command));
        chain
    }

    /// Starts one of the three; returns whether it got ready.
    pub fn start_one(&mut self, who: Who, change: impl FnOnce(&mut Command)) -> bool {
        let [input, output] = &self.names;
        let (first, mode) = (self.written.to_string(), if self.shared { "shared" } else { "" });
        let peer = match who {
            Who::Camera => Peer::start_with(role!(camera), &[input, &first], change),
            Who::Relay => Peer::start_with(role!(relay), &[input, output, mode], change),
            Who::Viewer => Peer::start_with(role!(viewer), &[output], change),
        };
        let (member, is_ready) = Member::new(peer);
        self.peers[who as usize] = Some(member);
        is_ready
    }

    /// The next relay is one that connects to the OUT that there is.
    pub fn joins_from_now_on(&mut self) {
        self.shared = false;
    }

    /// The answer to what was told before; `None` as for `ask`.
    pub fn hear_from(&mut self, who: Who) -> Option<String> {
        self.member(who).hear_from()
    }

    /// Lets the camera write up to `count` frames; returns how many found room.
    #[track_caller]
    pub fn write(&mut self, count: u64) -> u64 {
        let written = self.get(Who::Camera, &format!("write {count}"));
        let written = written.parse().unwrap_or_else(|_| panic!("the camera: {written}"));
        self.written += written;
        written
    }

    /// Waits until `command` is answered with `answer`.
    #[track_caller]
    pub fn await_answer(&mut self, who: Who, command: &str, answer: &str) {
        let start = Instant::now();
        loop {
            let heard = self.get(who, command);
            if heard == answer {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{who:?}: `{command}` is answered with {heard}, not {answer}"
            );
        }
    }

    /// Lets the camera write and the relay drop, until the source has gone round, or is full for good. Returns frames written.
    #[track_caller]
    pub fn pump(&mut self) -> u64 {
        let (mut total, mut in_vain) = (0, 0);
        while total < 3 * MOST && in_vain < 3 {
            let written = self.write(5);
            self.get(Who::Relay, "drop");
            total += written;
            in_vain = if written == 0 { in_vain + 1 } else { 0 };
        }
        total
    }

    /// All space of the source has come back: the camera goes round as often as it likes.
    #[track_caller]
    pub fn assert_all_is_back(&mut self) {
        self.await_answer(Who::Relay, "lent", "0");
        self.get(Who::Relay, "drop");
        assert!(self.pump() >= 3 * MOST, "space is missing");
    }

    /// Lets all of them close. Nothing is left.
    #[track_caller]
    pub fn end(mut self) {
        for who in [Who::Camera, Who::Relay, Who::Viewer] {
            let peer = self.peer(who);
            peer.signal(libc::SIGCONT);
            peer.close_input();
        }
        for who in [Who::Camera, Who::Relay, Who::Viewer] {
            self.peer(who).wait();
        }
        clean_up(&self.names);
        self.names.iter().for_each(Name::assert_nothing_left);
    }
}

/// Removes what readers of these buffers left behind that were killed: a clean-up's task.
pub fn clean_up(names: &[Name]) {
    for leftover in zerobuffer::cleanup::leftovers().expect("a list") {
        if names.iter().any(|name| **name == *leftover.name()) {
            leftover.remove().expect("removed");
        }
    }
}
