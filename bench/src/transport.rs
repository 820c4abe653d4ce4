//! What is measured: a transport moves frames of one size in one direction, from a [`Sink`] to a [`Source`].
//!
//! A new rival is a variant of [`Transport`] and a pair of types here. One that is not a Rust library is a program that
//! plays the roles of `role.rs` itself; see `peers/`.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use zerobuffer::{BufferConfig, Reader, Writer, WriterOptions};

/// Longest wait for the other side; whoever reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Which program and which library stand on a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// This library, with its defaults: a buffer of 256 MiB (less beside a 1.x peer, see `Runner::payload`).
    Ours,
    /// The `zerobuffer-ipc` package that `$ZEROBUFFER_PEER_PYTHON` imports.
    #[value(name = "python-1x")]
    #[serde(rename = "python-1x")]
    Python1x,
    /// A Unix stream socket, as the kernel sets it up.
    UnixSocket,
    /// A named pipe, enlarged to 1 MiB.
    Pipe,
}

impl Transport {
    pub fn name(self) -> &'static str {
        match self {
            Transport::Ours => "ours",
            Transport::Python1x => "python-1x",
            Transport::UnixSocket => "unix-socket",
            Transport::Pipe => "pipe",
        }
    }

    /// Whether frames can be written and read where they lie.
    pub fn in_place(self) -> bool {
        self == Transport::Ours
    }
}

/// The sending end.
pub trait Sink: Sized {
    fn connect(channel: &Channel) -> Result<Self>;
    /// Copies `data` in as one frame.
    fn send(&mut self, data: &[u8]) -> Result<()>;
    /// Commits a frame of `len` bytes without writing to it.
    fn send_in_place(&mut self, _len: usize) -> Result<()> {
        bail!("this transport only copies")
    }
}

/// The receiving end; `listen` must not wait for the sender, so that two directions can be set up in any order.
pub trait Source: Sized {
    fn listen(channel: &Channel) -> Result<Self>;
    /// Waits for the sender, where that is an event of its own.
    fn accept(&mut self) -> Result<()>;
    /// Copies the next frame out to the whole of `target`; false at the end of the stream.
    fn receive(&mut self, target: &mut [u8]) -> Result<bool>;
    /// Takes a frame of `len` bytes and gives it back without reading its bytes; false at the end of the stream.
    fn receive_in_place(&mut self, _len: usize) -> Result<bool> {
        bail!("this transport only copies")
    }
}

/// One direction between two processes: a name for those that need one, and a path for those that need that.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Channel {
    pub name: String,
    pub path: PathBuf,
    /// Payload bytes of a ZeroBuffer of this name.
    pub payload: usize,
}

impl Channel {
    pub fn new(directory: &Path, name: String, payload: usize) -> Channel {
        Channel { path: directory.join(&name), name, payload }
    }

    /// Removes what a 1.x peer, or one that was killed, leaves behind.
    pub fn clean(&self) {
        let name = &self.name;
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(format!("/dev/shm/{name}"));
        let _ = std::fs::remove_file(format!("/dev/shm/sem.sem-w-{name}"));
        let _ = std::fs::remove_file(format!("/dev/shm/sem.sem-r-{name}"));
        let _ = std::fs::remove_file(format!("/tmp/zerobuffer/{name}.lock"));
    }
}

pub struct OurSink(Writer);

impl Sink for OurSink {
    fn connect(channel: &Channel) -> Result<OurSink> {
        Ok(OurSink(Writer::connect_with(&channel.name, WriterOptions::default().connect_timeout(PATIENCE))?))
    }

    #[inline]
    fn send(&mut self, data: &[u8]) -> Result<()> {
        self.0.write_frame(data)?;
        Ok(())
    }

    #[inline]
    fn send_in_place(&mut self, len: usize) -> Result<()> {
        self.0.acquire_frame(len)?.commit()?;
        Ok(())
    }
}

pub struct OurSource {
    reader: Reader,
    sequence: u64,
}

impl Source for OurSource {
    fn listen(channel: &Channel) -> Result<OurSource> {
        let config = BufferConfig::default().payload_size(channel.payload);
        Ok(OurSource { reader: Reader::create(&channel.name, config)?, sequence: 0 })
    }

    fn accept(&mut self) -> Result<()> {
        ensure!(self.reader.wait_for_writer(PATIENCE)?, "no writer came");
        Ok(())
    }

    #[inline]
    fn receive(&mut self, target: &mut [u8]) -> Result<bool> {
        match self.reader.read_frame_ref(PATIENCE) {
            Ok(Some(frame)) => {
                ensure!(frame.len() == target.len(), "a frame of {} bytes", frame.len());
                frame.copy_to(target);
                Ok(true)
            }
            Ok(None) => bail!("no frame came"),
            Err(error) if error.kind() == zerobuffer::ErrorKind::WriterClosed => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    #[inline]
    fn receive_in_place(&mut self, len: usize) -> Result<bool> {
        self.sequence += 1;
        match self.reader.read_frame_ref(PATIENCE) {
            Ok(Some(frame)) => {
                ensure!(
                    frame.len() == len && frame.sequence() == self.sequence,
                    "frame {} of {} bytes instead of frame {} of {len}",
                    frame.sequence(),
                    frame.len(),
                    self.sequence
                );
                Ok(true)
            }
            Ok(None) => bail!("no frame came"),
            Err(error) if error.kind() == zerobuffer::ErrorKind::WriterClosed => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

pub struct SocketSink(UnixStream);

impl Sink for SocketSink {
    fn connect(channel: &Channel) -> Result<SocketSink> {
        let start = Instant::now();
        loop {
            match UnixStream::connect(&channel.path) {
                Ok(stream) => return Ok(SocketSink(stream)),
                Err(_) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => return Err(error).context("nobody listens"),
            }
        }
    }

    fn send(&mut self, data: &[u8]) -> Result<()> {
        Ok(self.0.write_all(data)?)
    }
}

pub struct SocketSource {
    listener: UnixListener,
    stream: Option<UnixStream>,
}

impl Source for SocketSource {
    fn listen(channel: &Channel) -> Result<SocketSource> {
        Ok(SocketSource { listener: UnixListener::bind(&channel.path)?, stream: None })
    }

    fn accept(&mut self) -> Result<()> {
        self.stream = Some(self.listener.accept()?.0);
        Ok(())
    }

    fn receive(&mut self, target: &mut [u8]) -> Result<bool> {
        fill(self.stream.as_mut().context("not accepted")?, target)
    }
}

pub struct PipeSink(File);

impl Sink for PipeSink {
    fn connect(channel: &Channel) -> Result<PipeSink> {
        let start = Instant::now();
        loop {
            // Without O_NONBLOCK this would wait for a reader, but also for a path.
            match OpenOptions::new().write(true).open(&channel.path) {
                Ok(file) => return Ok(PipeSink(file)),
                Err(error) if error.kind() == ErrorKind::NotFound && start.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn send(&mut self, data: &[u8]) -> Result<()> {
        Ok(self.0.write_all(data)?)
    }
}

pub struct PipeSource {
    file: File,
    started: bool,
}

impl Source for PipeSource {
    fn listen(channel: &Channel) -> Result<PipeSource> {
        let path = std::ffi::CString::new(channel.path.as_os_str().as_encoded_bytes())?;
        // SAFETY: `path` is a C string that outlives the call.
        let made = unsafe { libc::mkfifo(path.as_ptr(), 0o600) };
        ensure!(made == 0, "cannot make a pipe: {}", std::io::Error::last_os_error());
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&channel.path)?;
        // SAFETY: plain system calls on an open descriptor. Where 1 MiB is refused, the pipe stays as it is.
        unsafe {
            libc::fcntl(file.as_raw_fd(), libc::F_SETPIPE_SZ, 1 << 20);
            libc::fcntl(file.as_raw_fd(), libc::F_SETFL, 0);
        }
        Ok(PipeSource { file, started: false })
    }

    fn accept(&mut self) -> Result<()> {
        Ok(())
    }

    fn receive(&mut self, target: &mut [u8]) -> Result<bool> {
        if !self.started {
            // A pipe that no writer has opened yet reads as ended, but polls as not ready.
            let mut poll = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid pollfd.
            let ready = unsafe { libc::poll(&raw mut poll, 1, PATIENCE.as_millis() as libc::c_int) };
            ensure!(ready == 1, "no writer came");
            self.started = true;
        }
        fill(&mut self.file, target)
    }
}

/// Reads exactly `target.len()` bytes, or none at the end of the stream.
fn fill(stream: &mut impl Read, target: &mut [u8]) -> Result<bool> {
    let mut filled = 0;
    while filled < target.len() {
        match stream.read(&mut target[filled..])? {
            0 if filled == 0 => return Ok(false),
            0 => bail!("the stream ended within a frame"),
            n => filled += n,
        }
    }
    Ok(true)
}
