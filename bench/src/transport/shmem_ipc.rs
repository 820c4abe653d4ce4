//! shmem-ipc: a ring of bytes in a memfd. It has no frames, so both sides agree on one size. The descriptors travel over
//! a Unix socket.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use shmem_ipc::sharedring::{Receiver, Sender};

use super::{Channel, Next, Sink, Source, Spin, until};

/// Bytes to ask for: what was fastest of 64 KiB to 4 MiB, but room for four frames.
fn capacity(size: usize) -> usize {
    (4 * size).max(if size < 512 { 64 << 10 } else { 2 << 20 })
}

/// Bytes that a ring of this capacity really has: it fills its last page, and keeps 64 bytes for its counter.
fn length(capacity: usize) -> usize {
    (capacity + 64).next_multiple_of(4096) - 64
}

fn error(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("shmem-ipc: {error}")
}

/// Where the next byte of the ring lies, so that a frame can be split at the end of the ring and nowhere else.
struct Place {
    at: usize,
    length: usize,
}

impl Place {
    fn new(channel: &Channel) -> Place {
        Place { at: 0, length: length(capacity(channel.size)) }
    }

    /// How many of `wanted` bytes to move now, of which `there` lie in a row.
    #[inline]
    fn step(&mut self, wanted: usize, there: usize) -> usize {
        let to_end = self.length - self.at;
        let step = if there >= wanted {
            wanted
        } else if there == to_end {
            there
        } else {
            0
        };
        self.at = if step == to_end { 0 } else { self.at + step };
        step
    }
}

/// `EVENTS`: the sides wake each other through the ring's eventfds; without, both poll.
pub struct ShmemIpcSink<const EVENTS: bool> {
    sender: Sender<u8>,
    place: Place,
    _stream: UnixStream,
}

impl<const EVENTS: bool> Sink for ShmemIpcSink<EVENTS> {
    fn connect(channel: &Channel) -> Result<Self> {
        let stream = until("a listener", || Ok(UnixStream::connect(&channel.path).ok()))?;
        let [memory, empty, full] = receive_files(&stream)?;
        let sender = Sender::open(capacity(channel.size), memory, empty, full).map_err(error)?;
        Ok(ShmemIpcSink { sender, place: Place::new(channel), _stream: stream })
    }

    #[inline]
    fn send(&mut self, data: &[u8]) -> Result<()> {
        let mut sent = 0;
        let mut spin = Spin::default();
        while sent < data.len() {
            let rest = &data[sent..];
            let place = &mut self.place;
            let write = |target: *mut u8, there: usize| {
                let step = place.step(rest.len(), there);
                // SAFETY: the ring gave `there` bytes at `target`, which is at least `step`, as `rest` has.
                unsafe { target.copy_from_nonoverlapping(rest.as_ptr(), step) };
                sent += step;
                step
            };
            if EVENTS {
                self.sender.send_raw(write).map_err(error)?;
            } else {
                self.sender.sender_mut().send(write).map_err(error)?;
            }
            if sent < data.len() {
                // Room for the whole rest of it, or up to the ring's end.
                let wanted = (data.len() - sent).min(self.place.length - self.place.at);
                while self.sender.sender_mut().write_count().map_err(error)? < wanted {
                    if EVENTS {
                        self.sender.block_until_writable().map_err(error)?;
                    }
                    spin.turn()?;
                }
            }
        }
        Ok(())
    }
}

pub struct ShmemIpcSource<const EVENTS: bool> {
    receiver: Receiver<u8>,
    place: Place,
    listener: UnixListener,
    stream: Option<UnixStream>,
}

impl<const EVENTS: bool> Source for ShmemIpcSource<EVENTS> {
    fn listen(channel: &Channel) -> Result<Self> {
        let receiver = Receiver::new(capacity(channel.size)).map_err(error)?;
        let listener = UnixListener::bind(&channel.path)?;
        Ok(ShmemIpcSource { receiver, place: Place::new(channel), listener, stream: None })
    }

    fn accept(&mut self) -> Result<()> {
        let stream = self.listener.accept()?.0;
        let ring = &self.receiver;
        send_files(&stream, [ring.memfd().as_file(), ring.empty_signal(), ring.full_signal()])?;
        self.stream = Some(stream);
        Ok(())
    }

    #[inline]
    fn receive<R>(&mut self, target: &mut [u8], look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let mut got = 0;
        while got < target.len() {
            self.wait(target.len() - got)?;
            let place = &mut self.place;
            let rest = &mut target[got..];
            let read = |source: *const u8, there: usize| {
                let step = place.step(rest.len(), there);
                // SAFETY: the ring gave `there` bytes at `source`, which is at least `step`, as `rest` has.
                unsafe { rest.as_mut_ptr().copy_from_nonoverlapping(source, step) };
                got += step;
                step
            };
            take::<EVENTS>(&mut self.receiver, read)?;
        }
        Ok(look(target))
    }

    /// Takes all whole frames that lie in a row at once, as the crate lets its users do.
    fn receive_each(&mut self, target: &mut [u8], mut look: impl FnMut(&[u8]) -> Next) -> Result<()> {
        loop {
            if self.place.length - self.place.at < target.len() {
                // This one is split at the ring's end.
                if self.receive(target, &mut look)??.is_break() {
                    return Ok(());
                }
                continue;
            }
            self.wait(target.len())?;
            let place = &mut self.place;
            let mut next = Ok(std::ops::ControlFlow::Continue(()));
            let read = |source: *const u8, there: usize| {
                let mut taken = 0;
                while there - taken >= target.len() && matches!(next, Ok(std::ops::ControlFlow::Continue(())))
                {
                    // SAFETY: the ring gave `there` bytes at `source`; this frame ends within them.
                    unsafe {
                        target.as_mut_ptr().copy_from_nonoverlapping(source.add(taken), target.len());
                    }
                    taken += target.len();
                    next = look(target);
                }
                place.step(taken, there)
            };
            take::<EVENTS>(&mut self.receiver, read)?;
            if next?.is_break() {
                return Ok(());
            }
        }
    }
}

impl<const EVENTS: bool> ShmemIpcSource<EVENTS> {
    /// Waits for `wanted` bytes, or for all up to the ring's end.
    #[inline]
    fn wait(&mut self, wanted: usize) -> Result<()> {
        let wanted = wanted.min(self.place.length - self.place.at);
        let mut spin = Spin::default();
        while self.receiver.receiver_mut().read_count().map_err(error)? < wanted {
            if EVENTS {
                self.receiver.block_until_readable().map_err(error)?;
            }
            spin.turn()?;
        }
        Ok(())
    }
}

#[inline]
fn take<const EVENTS: bool>(
    receiver: &mut Receiver<u8>,
    read: impl FnOnce(*const u8, usize) -> usize,
) -> Result<()> {
    if EVENTS {
        receiver.receive_raw(read).map_err(error)?;
    } else {
        receiver.receiver_mut().recv(read).map_err(error)?;
    }
    Ok(())
}

fn send_files(stream: &UnixStream, files: [&File; 3]) -> Result<()> {
    let files = files.map(AsFd::as_fd);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(control.push(SendAncillaryMessage::ScmRights(&files)), "no room for three descriptors");
    sendmsg(stream, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())?;
    Ok(())
}

fn receive_files(stream: &UnixStream) -> Result<[File; 3]> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(stream, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let files: Vec<OwnedFd> = files.flatten().collect();
    let files: [OwnedFd; 3] = files.try_into().ok().context("three descriptors were to come")?;
    Ok(files.map(File::from))
}
