//! A tee and its viewers, each a process: a camera writes IN, the tee passes its frames on, the viewers read.
#![allow(dead_code, unreachable_pub, reason = "not every binary of tests uses all of it")]

use std::process::Command;
use std::time::{Duration, Instant};

use zerobuffer::{Reader, Tee, Writer};

use crate::chain::{self, MOST, Member, Members, clean_up, failed, obey, options};
use crate::support::{self, Name, PATIENCE, Peer, role, say};

support::peers!(tee);

/// Passes frames on. Arguments: IN, and its outputs: `block=OUT`, `drop=OUT`, or `drop-N=OUT` with N frames at most.
pub fn tee(arguments: &[String]) {
    let mut tee = match Reader::create(&arguments[0], chain::config()) {
        Ok(reader) => Some(Tee::new(reader)),
        Err(error) => return say(failed(&error)),
    };
    let add = |tee: &mut Tee, output: &str| {
        let (kind, name) = output.split_once('=').expect("kind=name");
        let writer = Writer::connect_with(name, options())?;
        match kind {
            "block" => tee.add_block_output(writer),
            _ => {
                let bound = kind.strip_prefix("drop-").map(|frames| frames.parse().expect("a number"));
                tee.add_drop_output(writer, bound.unwrap_or(Tee::DROP_FRAMES));
            }
        }
        Ok::<(), zerobuffer::Error>(())
    };
    for output in &arguments[1..] {
        if let Err(error) = add(tee.as_mut().expect("open"), output) {
            return say(failed(&error));
        }
    }
    say("ready");
    obey(|words| {
        let open = tee.as_mut().expect("open");
        match *words {
            // Passes on what comes, as many as asked for.
            ["step", count] => {
                for _ in 0..count.parse::<u64>().expect("a number") {
                    match open.step(Duration::from_secs(2)) {
                        Ok(true) => {}
                        Ok(false) => return Some("nothing".into()),
                        Err(error) => return Some(format!("{} {}", failed(&error), error.buffer())),
                    }
                }
                Some(count.to_owned())
            }
            // Passes on what there is, whatever becomes of outputs; until one is full.
            ["drain"] => {
                let mut count = 0;
                loop {
                    match open.step(Duration::ZERO) {
                        Ok(true) => count += 1,
                        Err(error) if error.kind() == zerobuffer::ErrorKind::ReaderDead => count += 1,
                        _ => return Some(format!("{count}")),
                    }
                }
            }
            ["lent"] => Some(format!("{}", open.reader().payload_share_count())),
            // Frames shared, copied and dropped, of each output.
            ["figures"] => {
                let figures = open.outputs().iter().map(|output| {
                    format!(
                        "{}/{}/{}",
                        output.frames_shared(),
                        output.frames_copied(),
                        output.frames_dropped()
                    )
                });
                Some(figures.collect::<Vec<_>>().join(" "))
            }
            ["add", output] => {
                let added = add(open, output);
                Some(added.map_or_else(|error| failed(&error), |()| "added".into()))
            }
            ["remove", name] => Some(format!("{}", open.remove_output(name).is_some())),
            _ => None,
        }
    });
    tee = None;
    drop(tee);
}

/// Who of them; a viewer by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Camera,
    Tee,
    Viewer(usize),
}

/// The processes. The first viewer's output blocks, the others drop.
pub struct Fan {
    /// IN, the tee's own buffer, and the outputs.
    pub names: Vec<Name>,
    camera: Option<Member>,
    tee: Option<Member>,
    viewers: Vec<Member>,
    /// Frames of a drop output, at most.
    bound: usize,
    /// Number of the next camera's first frame.
    pub written: u64,
}

impl Members for Fan {
    type Who = Who;

    fn member(&mut self, who: Who) -> &mut Member {
        match who {
            Who::Camera => self.camera.as_mut().expect("started"),
            Who::Tee => self.tee.as_mut().expect("started"),
            Who::Viewer(viewer) => &mut self.viewers[viewer],
        }
    }
}

impl Fan {
    /// Starts all of them. `change` may change each one's command.
    pub fn start(what: &str, viewers: usize, change: impl Fn(Who, &mut Command)) -> Fan {
        Fan::with_bound(what, viewers, Tee::DROP_FRAMES, change)
    }

    /// As `start`, with so many frames in a drop output, at most.
    pub fn with_bound(what: &str, viewers: usize, bound: usize, change: impl Fn(Who, &mut Command)) -> Fan {
        let source = Name::new(&format!("{what}-in"));
        let mut names = vec![source.suffixed("_tee"), source];
        names.swap(0, 1);
        names.extend((0..viewers).map(|viewer| Name::new(&format!("{what}-{viewer}"))));
        let mut fan = Fan { names, camera: None, tee: None, viewers: Vec::new(), bound, written: 0 };
        for viewer in 0..viewers {
            let started = fan.new_viewer(viewer, |command| change(Who::Viewer(viewer), command));
            fan.viewers.push(started);
        }
        fan.start_tee(|command| change(Who::Tee, command));
        fan.start_camera(|command| change(Who::Camera, command));
        fan
    }

    fn new_viewer(&self, viewer: usize, change: impl FnOnce(&mut Command)) -> Member {
        Member::new(Peer::start_with(role!(chain::viewer), &[&self.names[2 + viewer]], change)).0
    }

    /// The successor of a viewer that has ended.
    pub fn restart_viewer(&mut self, viewer: usize) {
        self.viewers[viewer] = self.new_viewer(viewer, |_| {});
    }

    pub fn start_tee(&mut self, change: impl FnOnce(&mut Command)) {
        let outputs = self.outputs();
        let arguments = std::iter::once(&*self.names[0]).chain(outputs.iter().map(String::as_str));
        let arguments: Vec<&str> = arguments.collect();
        self.tee = Some(Member::new(Peer::start_with(role!(tee), &arguments, change)).0);
    }

    pub fn start_camera(&mut self, change: impl FnOnce(&mut Command)) {
        let first = self.written.to_string();
        let peer = Peer::start_with(role!(chain::camera), &[&self.names[0], &first], change);
        self.camera = Some(Member::new(peer).0);
    }

    fn outputs(&self) -> Vec<String> {
        (0..self.names.len() - 2).map(|viewer| self.output(viewer)).collect()
    }

    /// An output as the tee calls it.
    pub fn output(&self, viewer: usize) -> String {
        let kind = if viewer == 0 { "block".to_owned() } else { format!("drop-{}", self.bound) };
        format!("{kind}={}", &*self.names[2 + viewer])
    }

    /// Which file the tee's own buffer is, if it has one.
    pub fn pool_inode(&self) -> Option<u64> {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(format!("/dev/shm/{}", &*self.names[1])).ok().map(|file| file.ino())
    }

    /// Starts one more viewer, whose output the tee does not know.
    pub fn add_viewer(&mut self, what: &str) -> usize {
        let viewer = self.viewers.len();
        self.names.push(Name::new(&format!("{what}-{viewer}")));
        let started = self.new_viewer(viewer, |_| {});
        self.viewers.push(started);
        viewer
    }

    /// Lets one of them close, and waits for its end.
    #[track_caller]
    pub fn close(&mut self, who: Who) {
        self.peer(who).close_input();
        let status = self.peer(who).wait();
        assert!(status.success(), "{who:?}: {status}");
    }

    /// Whether it neither ended nor stands still.
    pub fn goes_on(&mut self, who: Who) -> bool {
        let peer = self.peer(who);
        peer.ended().is_none() && !peer.is_stopped()
    }

    /// Lets the camera write up to `count` frames; returns how many found room.
    #[track_caller]
    pub fn write(&mut self, count: u64) -> u64 {
        let written = self.get(Who::Camera, &format!("write {count}"));
        let written = written.parse().unwrap_or_else(|_| panic!("the camera: {written}"));
        self.written += written;
        written
    }

    /// Waits until nothing of the source is lent.
    #[track_caller]
    pub fn await_nothing_lent(&mut self) {
        let start = Instant::now();
        while self.get(Who::Tee, "lent") != "0" {
            assert!(start.elapsed() < PATIENCE, "something stays lent");
        }
    }

    /// No byte of a frame that one of the viewers holds has changed.
    #[track_caller]
    pub fn check(&mut self) {
        for viewer in 0..self.viewers.len() {
            let who = Who::Viewer(viewer);
            if self.goes_on(who) {
                let heard = self.get(who, "check");
                assert!(heard.starts_with("same "), "{who:?}: a byte has changed: {heard}");
            }
        }
    }

    /// Lets frames pass through the tee and those of its viewers that `pass` says, until the source has gone round several times or
    /// is full for good. Returns how many were written.
    #[track_caller]
    pub fn pump(&mut self, pass: &[usize]) -> u64 {
        let (mut total, mut in_vain) = (0, 0);
        while total < 3 * MOST && in_vain < 3 {
            let written = self.write(5);
            self.get(Who::Tee, "drain");
            for viewer in pass {
                if self.goes_on(Who::Viewer(*viewer)) {
                    let heard = self.get(Who::Viewer(*viewer), "pass");
                    assert!(heard.parse::<u64>().is_ok(), "viewer {viewer}: {heard}");
                }
            }
            total += written;
            in_vain = if written == 0 { in_vain + 1 } else { 0 };
        }
        total
    }

    /// Lets all of them close. Nothing is left.
    #[track_caller]
    pub fn end(mut self) {
        let members = self.camera.iter_mut().chain(&mut self.tee).chain(&mut self.viewers);
        let members: Vec<&mut Member> = members.collect();
        for member in members {
            member.peer.signal(libc::SIGCONT);
            member.peer.close_input();
            member.peer.wait();
        }
        clean_up(&self.names);
        self.names.iter().for_each(Name::assert_nothing_left);
    }
}
