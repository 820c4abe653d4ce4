//! The output of a reader's frames. A thread writes them, so that a stalled pipe cannot keep the reader from
//! ending.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use zerobuffer::Frame;

use crate::exit::{self, Failure};
use crate::open;
use crate::stop::Stop;

/// The most frames on their way to the thread.
const UNDER_WAY: usize = 32;

/// Small frames are written together, up to this many bytes.
const TOGETHER: usize = 1 << 17;

/// How often to look at a full queue.
const LOOK: Duration = Duration::from_millis(20);

/// How long an interrupted reader waits for what it has read to be written.
const GRACE: Duration = Duration::from_millis(500);

pub(super) struct Sink {
    frames: Sender<Arc<Frame>>,
    written: Receiver<()>,
    under_way: usize,
    thread: JoinHandle<io::Result<()>>,
}

impl Sink {
    /// Opens a file, or standard output (-); waits for the reader of a FIFO.
    pub(super) fn open(path: &Path, stop: &Stop) -> Result<Sink, Failure> {
        let code = exit::reader::READ_ERROR;
        let file = open::output("--output", path, code, stop)?;
        // A larger pipe buffer, if the system allows it; else the usual 64 KiB.
        let _ = rustix::pipe::fcntl_setpipe_size(&file, 1 << 20);
        let (frames, to_write) = channel();
        let (done, written) = channel();
        let thread = std::thread::Builder::new()
            .name("output".into())
            .spawn(move || write(file, &to_write, &done))
            .map_err(|error| Failure::new(code, format!("cannot start a thread: {error}")))?;
        Ok(Sink { frames, written, under_way: 0, thread })
    }

    /// Hands over a frame; waits while too many are under way. Returns false if the end is requested or the output has
    /// failed.
    pub(super) fn put(&mut self, frame: &Arc<Frame>, stop: &Stop) -> bool {
        while self.written.try_recv().is_ok() {
            self.under_way -= 1;
        }
        while self.under_way >= UNDER_WAY {
            match self.written.recv_timeout(LOOK) {
                Ok(()) => self.under_way -= 1,
                Err(RecvTimeoutError::Timeout) if !stop.requested() => {}
                Err(_) => return false,
            }
        }
        self.under_way += 1;
        self.frames.send(Arc::clone(frame)).is_ok()
    }

    /// Waits until everything is written. After an interrupt it waits only for a moment.
    pub(super) fn finish(self, stop: &Stop) -> io::Result<()> {
        let Sink { frames, written, thread, .. } = self;
        drop(frames);
        let mut deadline = None;
        loop {
            if stop.requested() && Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + GRACE) {
                return Ok(());
            }
            match written.recv_timeout(LOOK) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the output thread failed")))
    }
}

/// Writes all bytes. Waits for a stream that another process has made non-blocking.
fn write_all(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // An error of poll(2) shows at the next attempt to write.
                let _ = rustix::event::poll(
                    &mut [rustix::event::PollFd::new(&*file, rustix::event::PollFlags::OUT)],
                    None,
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn write(mut file: File, frames: &Receiver<Arc<Frame>>, done: &Sender<()>) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::with_capacity(TOGETHER);
    loop {
        // The buffer is flushed when no more frames wait, so that a live picture is shown at once.
        let next = match frames.try_recv() {
            Ok(frame) => Some(frame),
            Err(_) => {
                write_all(&mut file, &buffer)?;
                buffer.clear();
                frames.recv().ok()
            }
        };
        let Some(frame) = next else { break };
        if buffer.len() + frame.len() > TOGETHER {
            write_all(&mut file, &buffer)?;
            buffer.clear();
        }
        if frame.len() > TOGETHER / 4 {
            write_all(&mut file, &buffer)?;
            buffer.clear();
            write_all(&mut file, &frame)?;
        } else {
            buffer.extend_from_slice(&frame);
        }
        drop(frame);
        // An interrupted reader no longer counts.
        let _ = done.send(());
    }
    file.flush()
}
