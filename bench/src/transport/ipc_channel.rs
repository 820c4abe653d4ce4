//! Servo's ipc-channel: its channel of bytes, over Unix sockets; a receiver always gets a new `Vec`.

use anyhow::{Context, Result, anyhow, ensure};
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};

use super::{Channel, Sink, Source, until};

pub struct IpcChannelSink(IpcBytesSender);

impl Sink for IpcChannelSink {
    fn connect(channel: &Channel) -> Result<IpcChannelSink> {
        let server = until("a server", || Ok(std::fs::read_to_string(&channel.path).ok()))?;
        let (sender, receiver) = ipc::bytes_channel()?;
        IpcSender::connect(server)?.send(receiver)?;
        Ok(IpcChannelSink(sender))
    }

    fn send(&mut self, data: &[u8]) -> Result<()> {
        Ok(self.0.send(data)?)
    }
}

pub struct IpcChannelSource {
    server: Option<IpcOneShotServer<IpcBytesReceiver>>,
    receiver: Option<IpcBytesReceiver>,
}

impl Source for IpcChannelSource {
    fn listen(channel: &Channel) -> Result<IpcChannelSource> {
        let (server, name) = IpcOneShotServer::new()?;
        let draft = channel.path.with_extension("draft");
        std::fs::write(&draft, name)?;
        std::fs::rename(draft, &channel.path)?;
        Ok(IpcChannelSource { server: Some(server), receiver: None })
    }

    fn accept(&mut self) -> Result<()> {
        let (_, receiver) = self.server.take().context("accepted before")?.accept()?;
        self.receiver = Some(receiver);
        Ok(())
    }

    fn receive<R>(&mut self, target: &mut [u8], look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        // This is the copy to memory of its own; one more would be unfair.
        let frame =
            self.receiver.as_ref().context("not accepted")?.recv().map_err(|error| anyhow!("{error}"))?;
        ensure!(frame.len() == target.len(), "a frame of {} bytes", frame.len());
        Ok(look(&frame))
    }
}
