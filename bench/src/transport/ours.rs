//! ZeroBuffer itself.

use anyhow::{Result, bail, ensure};
use zerobuffer::{BufferConfig, Reader, Writer, WriterOptions};

use super::{Channel, PATIENCE, Sink, Source};

/// How a reader's buffer is made.
pub fn config(channel: &Channel, classic: bool) -> BufferConfig {
    BufferConfig::default().payload_size(channel.payload).classic(classic)
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
    fn send_in_place(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut frame = self.0.acquire_frame(len)?;
        write(&mut frame);
        frame.commit()?;
        Ok(())
    }
}

/// The receiving end; `CLASSIC` holds the buffer to the classic ring, `SHARED` takes frames that are lent to it.
pub struct OurSource<const CLASSIC: bool = false, const SHARED: bool = false>(Reader);

impl<const CLASSIC: bool, const SHARED: bool> Source for OurSource<CLASSIC, SHARED> {
    fn listen(channel: &Channel) -> Result<Self> {
        let config = config(channel, CLASSIC).allow_payload_sharing(SHARED);
        Ok(OurSource(Reader::create(&channel.name, config)?))
    }

    fn accept(&mut self) -> Result<()> {
        ensure!(self.0.wait_for_writer(PATIENCE)?, "no writer came");
        Ok(())
    }

    #[inline]
    fn receive<R>(&mut self, target: &mut [u8], look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let Some(frame) = self.0.read_frame_ref(PATIENCE)? else { bail!("no frame came") };
        ensure!(frame.len() == target.len(), "a frame of {} bytes", frame.len());
        frame.copy_to(target);
        frame.release();
        Ok(look(target))
    }

    #[inline]
    fn receive_in_place<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        match self.0.read_frame_ref(PATIENCE)? {
            Some(frame) => Ok(look(&frame)),
            None => bail!("no frame came"),
        }
    }
}
