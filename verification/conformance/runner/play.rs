//! Plays a scenario with peers of given languages.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use zerobuffer_verification::{content, sum};

use crate::peer::{Answer, PATIENCE, Peer};
use crate::scenario::{Scenario, Side};

/// A language: its name in reports, and how its peer is started.
#[derive(Debug, Clone)]
pub(crate) struct Language {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
}

impl Language {
    /// Whether it is the 1.x library, which is a black box.
    pub(crate) fn is_foreign(&self) -> bool {
        self.name == "1.x"
    }
}

/// Outcome of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// A peer has no such operation.
    NotApplicable(String),
    Failed(String),
}

/// Peers that are alive and have nothing open, by language.
#[derive(Default)]
pub(crate) struct Pool(BTreeMap<String, Vec<Peer>>);

impl Pool {
    fn take(&mut self, language: &Language) -> Result<Peer> {
        match self.0.get_mut(&language.name).and_then(Vec::pop) {
            Some(peer) => Ok(peer),
            None => Peer::start(&language.command),
        }
    }

    /// Takes a peer back, unless it cannot be used once more.
    fn give(&mut self, language: &Language, mut peer: Peer) {
        let reset = Map::from_iter([("do".to_owned(), "reset".into())]);
        if !peer.spent && peer.pending.is_none() && peer.ask(reset).is_ok() {
            self.0.entry(language.name.clone()).or_default().push(peer);
        }
    }
}

/// Languages of the reader's, the writer's and the relay's side, and the kind of ring.
#[derive(Clone)]
pub(crate) struct Case<'a> {
    pub(crate) languages: Vec<&'a Language>,
    pub(crate) classic: bool,
}

impl Case<'_> {
    fn language(&self, side: Side) -> &Language {
        match side {
            Side::Reader => self.languages[0],
            Side::Writer => self.languages[1],
            Side::Relay => self.languages[2],
        }
    }

    /// As reports call it: in the direction in which frames go.
    pub(crate) fn label(&self) -> String {
        let names: Vec<&str> = match &self.languages[..] {
            [reader, writer, relay] => vec![&writer.name, &relay.name, &reader.name],
            [reader, writer] => vec![&writer.name, &reader.name],
            _ => unreachable!("two or three languages"),
        };
        names.join(" > ") + if self.classic { " (classic)" } else { "" }
    }
}

/// Not a failure: the scenario does not apply.
#[derive(Debug)]
struct Unsupported(String);

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unsupported {}

struct Play<'a> {
    case: &'a Case<'a>,
    scenario: &'a Scenario,
    pool: &'a mut Pool,
    peers: BTreeMap<String, Peer>,
    name: String,
    /// The last kill, close or stop, from which `within_ms` counts.
    mark: Instant,
}

pub(crate) fn play(scenario: &Scenario, case: &Case<'_>, pool: &mut Pool) -> Outcome {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("zbtest-conf-{}-{count}", std::process::id());
    let mut play =
        Play { case, scenario, pool, peers: BTreeMap::new(), name: name.clone(), mark: Instant::now() };
    let result = play.steps(&scenario.steps);
    let peers = std::mem::take(&mut play.peers);
    for (actor, mut peer) in peers {
        // A peer may be in any state after a failure.
        peer.spent |= result.is_err();
        pool.give(case.language(scenario.actors[&actor]), peer);
    }
    for suffix in ["", "_request", "_response", "-2"] {
        files(&format!("{name}{suffix}")).iter().for_each(|path| {
            let _ = std::fs::remove_file(path);
        });
    }
    match result {
        Ok(()) => Outcome::Passed,
        Err(error) => match error.downcast_ref::<Unsupported>() {
            Some(Unsupported(what)) => Outcome::NotApplicable(what.clone()),
            None => Outcome::Failed(format!("{error:#}")),
        },
    }
}

/// Files of a buffer that exist.
fn files(name: &str) -> Vec<PathBuf> {
    let paths = [
        format!("/dev/shm/{name}"),
        format!("/dev/shm/sem.sem-w-{name}"),
        format!("/dev/shm/sem.sem-r-{name}"),
        format!("/tmp/zerobuffer/{name}.lock"),
    ];
    paths.into_iter().map(PathBuf::from).filter(|path| path.symlink_metadata().is_ok()).collect()
}

fn text<'a>(step: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    step.get(key).and_then(Value::as_str)
}

fn number(step: &Map<String, Value>, key: &str) -> Option<u64> {
    step.get(key).and_then(Value::as_u64)
}

impl Play<'_> {
    fn steps(&mut self, steps: &[Map<String, Value>]) -> Result<()> {
        for (index, step) in steps.iter().enumerate() {
            self.step(step).with_context(|| format!("step {} {}", index + 1, Value::from(step.clone())))?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Map<String, Value>) -> Result<()> {
        if let Some(count) = number(step, "repeat") {
            let steps = step.get("steps").and_then(Value::as_array).context("`repeat` without `steps`")?;
            let steps: Vec<_> = steps.iter().filter_map(|step| step.as_object().cloned()).collect();
            return (0..count).try_for_each(|_| self.steps(&steps));
        }
        if let Some(actor) = text(step, "kill") {
            self.mark = Instant::now();
            return self.peer(actor)?.kill();
        }
        if let Some(actor) = text(step, "ended") {
            return self.peer(actor)?.wait();
        }
        if let Some(actor) = text(step, "forget") {
            // A new process plays the actor from now on.
            self.peers.remove(actor);
            return Ok(());
        }
        if let Some(actor) = text(step, "asleep") {
            return self.until_asleep(actor);
        }
        if step.contains_key("race") {
            return self.race(step);
        }
        if let Some(count) = number(step, "files") {
            let there = files(&self.name_of(step));
            ensure!(there.len() as u64 == count, "{count} files should be there, but these are: {there:?}");
            return Ok(());
        }
        if step.contains_key("spoil") {
            return self.spoil(step);
        }
        if let Some(bytes) = number(step, "until_free_below") {
            let name = self.name_of(step);
            return until(&format!("less than {bytes} bytes are free"), || {
                zerobuffer::inspect::snapshot(&name).is_ok_and(|snapshot| snapshot.payload_free < bytes)
            });
        }
        let actor = text(step, "on").context("a step of no kind that there is")?.to_owned();
        if text(step, "do") == Some("await") {
            let peer = self.peer(&actor)?;
            let id = peer.pending.take().context("nothing is pending")?;
            let (answer, at) = peer.answer(id)?;
            return self.judge(step, &answer, at);
        }
        let order = self.order(step);
        let peer = self.peer(&actor)?;
        if text(step, "do") == Some("die") {
            peer.tell(order)?;
            return peer.wait();
        }
        if step.get("start").and_then(Value::as_bool) == Some(true) {
            peer.pending = Some(peer.tell(order)?);
            return Ok(());
        }
        if matches!(text(step, "do"), Some("close" | "interrupt" | "stop" | "hang_up")) {
            self.mark = Instant::now();
        }
        let peer = self.peer(&actor)?;
        peer.spent |= text(step, "do") == Some("become_user");
        let (answer, at) = peer.ask(order)?;
        self.judge(step, &answer, at)
    }

    /// The peer that plays `actor`; a killed one is replaced.
    fn peer(&mut self, actor: &str) -> Result<&mut Peer> {
        if !self.peers.contains_key(actor) {
            let side = self.scenario.actors.get(actor).with_context(|| format!("no actor `{actor}`"))?;
            let peer = self.pool.take(self.case.language(*side))?;
            self.peers.insert(actor.to_owned(), peer);
        }
        Ok(self.peers.get_mut(actor).expect("just made sure of"))
    }

    fn name_of(&self, step: &Map<String, Value>) -> String {
        text(step, "of").unwrap_or("{name}").replace("{name}", &self.name)
    }

    /// The step for the peer: without the runner's fields, and with the buffer's name.
    fn order(&self, step: &Map<String, Value>) -> Map<String, Value> {
        let mut order = step.clone();
        for key in ["on", "start", "expect", "bytes", "error", "within_ms", "reversed", "inverted"] {
            order.remove(key);
        }
        for key in ["name", "channel"] {
            let name = text(&order, key).unwrap_or("{name}").replace("{name}", &self.name);
            order.insert(key.to_owned(), name.into());
        }
        if self.case.classic && matches!(text(step, "do"), Some("create" | "serve" | "dial")) {
            order.insert("classic".to_owned(), true.into());
        }
        order
    }

    fn judge(&self, step: &Map<String, Value>, answer: &Answer, at: Instant) -> Result<()> {
        let wanted = step.get("error").map(|kinds| match kinds {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().map_or(vec![], |kind| vec![kind]),
        });
        let fields = match (answer, wanted) {
            (Answer::Error { kind, message }, _) if kind == "Unsupported" => {
                return Err(Unsupported(message.clone()).into());
            }
            // 1.x has a single exception for all other errors, so any refusal counts.
            (Answer::Error { kind, .. }, Some(_)) if kind == "Unspecific" => &Map::new(),
            (Answer::Error { kind, message }, Some(wanted)) => {
                ensure!(
                    wanted.contains(&kind.as_str()),
                    "{kind} instead of {}: {message}",
                    wanted.join(" or ")
                );
                &Map::new()
            }
            (Answer::Error { kind, message }, None) => bail!("{kind}: {message}"),
            (Answer::Done(fields), Some(wanted)) => {
                bail!("no error, where {} is due, but {}", wanted.join(" or "), Value::from(fields.clone()));
            }
            (Answer::Done(fields), None) => fields,
        };
        if let Some(expected) = step.get("expect").and_then(Value::as_object) {
            for (key, value) in expected {
                let got = fields.get(key).unwrap_or(&Value::Null);
                ensure!(got == value, "`{key}` is {got} instead of {value}");
            }
        }
        for (key, change) in CHANGES {
            if let Some(of) = step.get(key).and_then(Value::as_object) {
                let mut bytes = match text(of, "text") {
                    Some(text) => text.as_bytes().to_vec(),
                    None => {
                        content(number(of, "seed").unwrap_or(1), number(of, "size").unwrap_or(0) as usize)
                    }
                };
                change(&mut bytes);
                ensure!(
                    number(fields, "size") == Some(bytes.len() as u64)
                        && number(fields, "sum") == Some(sum(&bytes).into()),
                    "{} instead of {} bytes with the sum {}",
                    Value::from(fields.clone()),
                    bytes.len(),
                    sum(&bytes)
                );
            }
        }
        if let Some(limit) = number(step, "within_ms") {
            let took = at.saturating_duration_since(self.mark);
            ensure!(took <= Duration::from_millis(limit), "took {took:?}, {limit} ms are promised");
        }
        Ok(())
    }

    /// Several actors do one step at once: one succeeds, the others get `error`.
    fn race(&mut self, step: &Map<String, Value>) -> Result<()> {
        let actors = step.get("race").and_then(Value::as_array).context("`race` names actors")?;
        let actors: Vec<String> = actors.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let mut order = self.order(step);
        order.remove("race");
        let mut ids = Vec::new();
        for actor in &actors {
            self.peer(actor)?;
        }
        for actor in &actors {
            ids.push(self.peer(actor)?.tell(order.clone())?);
        }
        let mut won = 0;
        for (actor, id) in actors.iter().zip(ids) {
            match self.peer(actor)?.answer(id)? {
                (Answer::Done(_), _) => won += 1,
                (error @ Answer::Error { .. }, at) => self.judge(step, &error, at)?,
            }
        }
        ensure!(won == 1, "{won} of {} won", actors.len());
        Ok(())
    }

    /// Overwrites bytes of the segment.
    fn spoil(&self, step: &Map<String, Value>) -> Result<()> {
        let path = format!("/dev/shm/{}", self.name);
        let file = OpenOptions::new().read(true).write(true).open(&path).with_context(|| path.clone())?;
        let mut at = number(step, "at").unwrap_or(0);
        match text(step, "spoil") {
            Some("segment") => {}
            Some("payload") => {
                let mut size = [0; 8];
                file.read_exact_at(&mut size, 0x08)?;
                at += 128 + u64::from_le_bytes(size).next_multiple_of(64);
            }
            _ => bail!("what is to be spoilt? segment or payload"),
        }
        match (step.get("u64").and_then(Value::as_i64), text(step, "hex")) {
            (Some(value), _) => file.write_all_at(&value.to_le_bytes(), at)?,
            (None, Some(hex)) => {
                let bytes: Result<Vec<u8>, _> =
                    (0..hex.len() / 2).map(|index| u8::from_str_radix(&hex[index * 2..][..2], 16)).collect();
                file.write_all_at(&bytes?, at)?;
            }
            _ => bail!("nothing to write"),
        }
        Ok(())
    }

    /// Waits until the peer is blocked in its pending step. It is not enough that the step is pending: a step
    /// that has not reached its wait would pass too, but test less.
    fn until_asleep(&mut self, actor: &str) -> Result<()> {
        let peer = self.peer(actor)?;
        until("the peer sleeps", || peer.is_asleep())
    }
}

type Change = fn(&mut Vec<u8>);
const CHANGES: [(&str, Change); 3] = [
    ("bytes", |_| {}),
    ("reversed", |bytes| bytes.reverse()),
    ("inverted", |bytes| bytes.iter_mut().for_each(|byte| *byte = !*byte)),
];

fn until(what: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !ready() {
        ensure!(Instant::now() < end, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}
