//! ZeroMQ: PUSH and PULL over a Unix socket, each with the usual thread of its own for input and output.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::{Channel, PATIENCE, Sink, Source, until};

/// Frames that either side keeps before the sender waits: ZeroMQ's default, but not more than 64 MiB of them.
fn high_water_mark(size: usize) -> i32 {
    (((64 << 20) / size).clamp(2, 1000)) as i32
}

fn address(channel: &Channel) -> Result<String> {
    Ok(format!("ipc://{}", channel.path.with_extension("zmq").to_str().context("not a UTF-8 path")?))
}

fn socket(kind: zmq::SocketType, channel: &Channel) -> Result<zmq::Socket> {
    let socket = zmq::Context::new().socket(kind)?;
    socket.set_sndhwm(high_water_mark(channel.size))?;
    socket.set_rcvhwm(high_water_mark(channel.size))?;
    socket.set_sndtimeo(PATIENCE.as_millis() as i32)?;
    socket.set_rcvtimeo(PATIENCE.as_millis() as i32)?;
    socket.set_linger(PATIENCE.as_millis() as i32)?;
    Ok(socket)
}

pub struct ZeromqSink {
    socket: zmq::Socket,
    ready: PathBuf,
}

impl Sink for ZeromqSink {
    fn connect(channel: &Channel) -> Result<ZeromqSink> {
        let socket = socket(zmq::PUSH, channel)?;
        // If it tried before the other side listens, the next try would take long.
        until("a listener", || Ok(channel.path.exists().then_some(())))?;
        socket.connect(&address(channel)?)?;
        Ok(ZeromqSink { socket, ready: channel.path.clone() })
    }

    fn send(&mut self, data: &[u8]) -> Result<()> {
        Ok(self.socket.send(data, 0)?)
    }

    /// A receiver loses what it has not yet read from the socket when the sender closes, whatever its linger.
    fn finish(&mut self) -> Result<()> {
        until("the receiver's end", || Ok((!self.ready.exists()).then_some(())))
    }
}

pub struct ZeromqSource {
    socket: zmq::Socket,
    /// Is there as long as this is.
    ready: PathBuf,
}

impl Drop for ZeromqSource {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.ready);
    }
}

impl Source for ZeromqSource {
    fn listen(channel: &Channel) -> Result<ZeromqSource> {
        let socket = socket(zmq::PULL, channel)?;
        socket.bind(&address(channel)?)?;
        std::fs::write(&channel.path, [])?;
        Ok(ZeromqSource { socket, ready: channel.path.clone() })
    }

    fn accept(&mut self) -> Result<()> {
        Ok(())
    }

    fn receive<R>(&mut self, target: &mut [u8], look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let len = self.socket.recv_into(target, 0)?;
        ensure!(len == target.len(), "a frame of {len} bytes");
        Ok(look(target))
    }
}
