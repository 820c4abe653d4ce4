//! The processes that the demo starts.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::peers::Note;
use super::{LOOK, failed};
use crate::exit::Failure;
use crate::stop::Stop;

/// A process that has reported nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process of the demo. It is ended when this is dropped, if not before.
pub(super) struct Peer {
    child: Child,
    pub(super) notes: Receiver<Note>,
    heard: Instant,
    pub(super) last: Option<Note>,
}

impl Peer {
    pub(super) fn start(mut command: Command) -> io::Result<Peer> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (sender, notes) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if let Ok(note) = serde_json::from_str(&line)
                        && sender.send(note).is_err()
                    {
                        return;
                    }
                }
            });
        }
        Ok(Peer { child, notes, heard: Instant::now(), last: None })
    }

    /// The next note, if one comes within `limit`.
    pub(super) fn poll(&mut self, stop: &Stop, limit: Duration) -> Result<Option<Note>, Failure> {
        if stop.requested() {
            return Err(Failure::Interrupted);
        }
        match self.notes.recv_timeout(limit) {
            Ok(Note::Failed { message }) => Err(failed(&message)),
            Ok(note) => {
                self.heard = Instant::now();
                Ok(Some(note))
            }
            Err(RecvTimeoutError::Timeout) if self.heard.elapsed() < PATIENCE => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(failed("a process of the demo says nothing any more")),
            // A Ctrl-C reaches the peers as well, and sometimes first.
            Err(RecvTimeoutError::Disconnected) if !stop.sleep(Duration::from_millis(100)) => {
                Err(Failure::Interrupted)
            }
            Err(RecvTimeoutError::Disconnected) => Err(failed("a process of the demo has ended early")),
        }
    }

    /// The next note, from a process that may have had nothing to say until now.
    pub(super) fn hear(&mut self, stop: &Stop) -> Result<Note, Failure> {
        self.heard = Instant::now();
        loop {
            if let Some(note) = self.poll(stop, LOOK)? {
                return Ok(note);
            }
        }
    }

    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().map_err(|error| failed(&error.to_string()))
    }

    /// Waits for the process to end by itself.
    pub(super) fn wait(&mut self, stop: &Stop) -> Result<(), Failure> {
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if stop.requested() {
                return Err(Failure::Interrupted);
            }
            if start.elapsed() > PATIENCE {
                return Err(failed("a process of the demo does not end"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Closing its standard input asks it for an orderly end.
        drop(self.child.stdin.take());
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > Duration::from_secs(2) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
