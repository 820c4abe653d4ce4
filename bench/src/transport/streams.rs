//! The kernel's transports: a Unix socket and a pipe. No framing; messages of a fixed size.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Context, Result, ensure};

use super::{Channel, PATIENCE, Sink, Source, until};

pub struct SocketSink(UnixStream);

impl Sink for SocketSink {
    fn connect(channel: &Channel) -> Result<SocketSink> {
        until("a listener", || Ok(UnixStream::connect(&channel.path).ok())).map(SocketSink)
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

    fn receive<R>(&mut self, target: &mut [u8], look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        self.stream.as_mut().context("not accepted")?.read_exact(target)?;
        Ok(look(target))
    }
}

pub struct PipeSink(File);

impl Sink for PipeSink {
    fn connect(channel: &Channel) -> Result<PipeSink> {
        // Without O_NONBLOCK this would wait for a reader, but also for a path.
        let open = || match OpenOptions::new().write(true).open(&channel.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        };
        until("a pipe", open).map(PipeSink)
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

    fn receive<R>(&mut self, target: &mut [u8], look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        if !self.started {
            // A pipe that no writer has opened yet reads as ended, but polls as not ready.
            let mut poll = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid pollfd.
            let ready = unsafe { libc::poll(&raw mut poll, 1, PATIENCE.as_millis() as libc::c_int) };
            ensure!(ready == 1, "no writer came");
            self.started = true;
        }
        self.file.read_exact(target)?;
        Ok(look(target))
    }
}
