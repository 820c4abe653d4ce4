//! A peer's process, driven over its stdin and stdout.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};

/// Longest wait for an answer; a peer that needs longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A peer's answer to a step.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Done(Map<String, Value>),
    Error { kind: String, message: String },
}

pub(crate) struct Peer {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<Value>,
    next: u64,
    /// Answers that came while another one was awaited.
    early: BTreeMap<u64, (Value, Instant)>,
    /// The step whose answer has not been awaited.
    pub(crate) pending: Option<u64>,
    /// Not to be used for another scenario.
    pub(crate) spent: bool,
}

impl Peer {
    pub(crate) fn start(command: &[String]) -> Result<Peer> {
        let (program, arguments) = command.split_first().context("a peer's command is empty")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Other output of a library is no answer.
                if let Ok(answer @ Value::Object(_)) = serde_json::from_str::<Value>(&line)
                    && sender.send(answer).is_err()
                {
                    return;
                }
            }
        });
        Ok(Peer { child, stdin, answers, next: 0, early: BTreeMap::new(), pending: None, spent: false })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a step, whose answer must be awaited.
    pub(crate) fn tell(&mut self, mut step: Map<String, Value>) -> Result<u64> {
        self.next += 1;
        step.insert("id".to_owned(), self.next.into());
        let line = Value::Object(step).to_string();
        writeln!(self.stdin, "{line}").and_then(|()| self.stdin.flush()).context("the peer has ended")?;
        Ok(self.next)
    }

    /// The answer to step `id`, and when it came.
    pub(crate) fn answer(&mut self, id: u64) -> Result<(Answer, Instant)> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some((answer, at)) = self.early.remove(&id) {
                return Ok((understood(&answer)?, at));
            }
            match self.answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(answer) => {
                    let of = answer["id"].as_u64().unwrap_or(0);
                    self.early.insert(of, (answer, Instant::now()));
                }
                Err(RecvTimeoutError::Timeout) => bail!("no answer within {PATIENCE:?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the peer has ended: {:?}", self.child.wait()?);
                }
            }
        }
    }

    pub(crate) fn ask(&mut self, step: Map<String, Value>) -> Result<(Answer, Instant)> {
        let id = self.tell(step)?;
        self.answer(id)
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.spent = true;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until the peer, which is ending, has ended.
    pub(crate) fn wait(&mut self) -> Result<()> {
        self.spent = true;
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > until {
                bail!("the peer does not end");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether every thread of the peer sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.pid())) else { return false };
        tasks.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // The name in parentheses may hold anything; the state is the field behind it (proc(5)).
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn understood(answer: &Value) -> Result<Answer> {
    match (&answer["ok"], &answer["error"]) {
        (Value::Object(fields), _) => Ok(Answer::Done(fields.clone())),
        (_, Value::String(kind)) => {
            let message = answer["message"].as_str().unwrap_or_default().to_owned();
            Ok(Answer::Error { kind: kind.clone(), message })
        }
        _ => Err(anyhow!("no answer that the protocol knows: {answer}")),
    }
}
