//! Steps of readers and writers.

use std::sync::{Arc, Mutex};

use serde_json::{Map, Value};
use zerobuffer::{BufferConfig, Forwarded, Frame, InterruptHandle, Reader, Writer, WriterOptions, inspect};
use zerobuffer_verification::content;

use crate::steps::{Answer, Step, described, fields, told};

/// The interrupt handles of this process.
#[derive(Clone, Default)]
pub(crate) struct Interrupts {
    reader: Arc<Mutex<Option<InterruptHandle>>>,
    writer: Arc<Mutex<Option<InterruptHandle>>>,
}

impl Interrupts {
    pub(crate) fn interrupt(&self, of: &str) {
        let handle = if of == "writer" { &self.writer } else { &self.reader };
        if let Some(handle) = &*handle.lock().expect("not poisoned") {
            handle.interrupt();
        }
    }
}

#[derive(Default)]
pub(crate) struct Streams {
    reader: Option<Reader>,
    writer: Option<Writer>,
    held: Vec<Option<Frame>>,
    interrupts: Interrupts,
}

fn missing(what: &str) -> (String, String) {
    ("BadStep".to_owned(), format!("there is no {what}"))
}

fn done() -> Answer {
    Ok(Map::new())
}

fn frame(read: zerobuffer::Result<Option<Frame>>) -> Result<Option<Frame>, (String, String)> {
    read.map_err(told)
}

impl Streams {
    pub(crate) fn interrupts(&self) -> Interrupts {
        self.interrupts.clone()
    }

    pub(crate) fn reset(&mut self) {
        self.held.clear();
        (self.reader, self.writer) = (None, None);
    }

    pub(crate) fn play(&mut self, verb: &str, step: &Step) -> Option<Answer> {
        Some(match verb {
            "create" => self.create(step),
            "read" | "hold" => self.read(step, verb == "hold"),
            "latest" => self.latest(step),
            "check" => self.check(step),
            "release" => self.release(step),
            "receive" => self.receive(step),
            "drain" => self.drain(step),
            "metadata" => self.metadata(),
            "connect" => self.connect(step),
            "write" | "try_write" => self.write(step, verb == "try_write"),
            "acquire" => self.acquire(step),
            "commit" => self.commit(step),
            "discard" => self.discard(),
            "send" => self.send(step),
            "set_metadata" => self.set_metadata(step),
            "write_timeout" => self.write_timeout(step),
            "relay" => self.relay(step),
            "forward" => self.forward(step),
            "connected" => self.connected(step),
            "counters" => self.counters(),
            "inspect" => inspected(step),
            "become_user" => become_user(step),
            "defaults" => self.defaults(step),
            "close" => self.close(step),
            _ => return None,
        })
    }

    fn reader(&mut self) -> Result<&mut Reader, (String, String)> {
        self.reader.as_mut().ok_or_else(|| missing("reader"))
    }

    fn writer(&mut self) -> Result<&mut Writer, (String, String)> {
        self.writer.as_mut().ok_or_else(|| missing("writer"))
    }

    fn create(&mut self, step: &Step) -> Answer {
        let mut config = BufferConfig::default().classic(step.flag("classic"));
        config = config.allow_payload_sharing(step.flag("sharing"));
        if step.has("payload") {
            config = config.payload_size(step.size("payload", 0));
        }
        if step.has("metadata") {
            config = config.metadata_size(step.size("metadata", 0));
        }
        if step.has("mode") {
            config = config.mode(step.number("mode", 0) as u32);
        }
        let reader = Reader::create(step.text("name")?, config).map_err(told)?;
        *self.interrupts.reader.lock().expect("not poisoned") = Some(reader.interrupt_handle());
        self.reader = Some(reader);
        done()
    }

    fn connect(&mut self, step: &Step) -> Answer {
        let options = WriterOptions::default().request_payload_sharing(step.flag("sharing"));
        let options = if step.has("connect_timeout_ms") {
            options.connect_timeout(step.timeout("connect_timeout_ms"))
        } else {
            options
        };
        let writer = Writer::connect_with(step.text("name")?, options).map_err(told)?;
        *self.interrupts.writer.lock().expect("not poisoned") = Some(writer.interrupt_handle());
        self.writer = Some(writer);
        done()
    }

    fn read(&mut self, step: &Step, hold: bool) -> Answer {
        let Some(frame) = frame(self.reader()?.read_frame(step.timeout("timeout_ms")))? else {
            return fields([("none", true.into())]);
        };
        let mut answer = described(&frame, frame.sequence())?;
        answer.insert("shared".to_owned(), frame.is_shared().into());
        if hold {
            self.held.push(Some(frame));
        } else {
            frame.release();
        }
        Ok(answer)
    }

    fn latest(&mut self, step: &Step) -> Answer {
        let Some(frame) = frame(self.reader()?.read_latest_frame(step.timeout("timeout_ms")))? else {
            return fields([("none", true.into())]);
        };
        let mut answer = described(&frame, frame.sequence())?;
        answer.insert("skipped".to_owned(), self.reader()?.frames_skipped().into());
        Ok(answer)
    }

    fn held(&mut self, step: &Step) -> Result<&mut Option<Frame>, (String, String)> {
        let which = step.size("which", 0);
        self.held.get_mut(which).ok_or_else(|| missing(&format!("frame {which}")))
    }

    fn check(&mut self, step: &Step) -> Answer {
        let frame = self.held(step)?.as_ref().ok_or_else(|| missing("frame that is still held"))?;
        described(frame, frame.sequence())
    }

    fn release(&mut self, step: &Step) -> Answer {
        self.held(step)?.take();
        done()
    }

    fn receive(&mut self, step: &Step) -> Answer {
        let timeout = step.timeout("timeout_ms");
        for (number, (seed, size)) in (step.number("sequence", 1)..).zip(step.stream()) {
            let frame = frame(self.reader()?.read_frame(timeout))?;
            let frame =
                frame.ok_or_else(|| ("WrongFrame".to_owned(), format!("frame {number} did not come")))?;
            if frame.sequence() != number || *frame != *content(seed, size) {
                let text = format!(
                    "frame {number}, {size} bytes: got {} with {} bytes",
                    frame.sequence(),
                    frame.len()
                );
                return Err(("WrongFrame".to_owned(), text));
            }
        }
        done()
    }

    /// Reads until something else than a frame comes.
    fn drain(&mut self, step: &Step) -> Answer {
        let timeout = step.timeout("timeout_ms");
        while frame(self.reader()?.read_frame(timeout))?.is_some() {}
        fields([("none", true.into())])
    }

    fn metadata(&mut self) -> Answer {
        match self.reader()?.metadata().map_err(told)? {
            Some(bytes) => described(&bytes, 0),
            None => fields([("none", true.into())]),
        }
    }

    fn write(&mut self, step: &Step, only_try: bool) -> Answer {
        let bytes = step.bytes();
        let writer = self.writer()?;
        let sequence = if only_try {
            writer.try_write_frame(&bytes).map_err(told)?
        } else {
            Some(writer.write_frame(&bytes).map_err(told)?)
        };
        fields([("written", sequence.is_some().into())])
    }

    fn acquire(&mut self, step: &Step) -> Answer {
        let bytes = step.bytes();
        let writer = self.writer()?;
        writer.acquire_frame_buffer(bytes.len()).map_err(told)?;
        writer.acquired().expect("acquired just now").copy_from_slice(&bytes);
        done()
    }

    fn commit(&mut self, step: &Step) -> Answer {
        let len = step.has("len").then(|| step.size("len", 0));
        self.writer()?.commit_frame(len).map_err(told)?;
        done()
    }

    fn discard(&mut self) -> Answer {
        self.writer()?.discard_frame();
        done()
    }

    /// Alternates between copying and writing in place.
    fn send(&mut self, step: &Step) -> Answer {
        for (seed, size) in step.stream() {
            let bytes = content(seed, size);
            let writer = self.writer()?;
            if seed % 2 == 0 {
                writer.write_frame(&bytes).map_err(told)?;
            } else {
                let mut frame = writer.acquire_frame(size).map_err(told)?;
                frame.copy_from_slice(&bytes);
                frame.commit().map_err(told)?;
            }
        }
        done()
    }

    /// Reads frames and writes them on.
    fn relay(&mut self, step: &Step) -> Answer {
        for number in 0..step.number("count", 1) {
            let frame = frame(self.reader()?.read_frame(step.timeout("timeout_ms")))?;
            let frame =
                frame.ok_or_else(|| ("WrongFrame".to_owned(), format!("frame {number} did not come")))?;
            self.writer()?.write_frame(&frame).map_err(told)?;
        }
        done()
    }

    /// Reads frames and forwards them, inverted in place if asked for.
    fn forward(&mut self, step: &Step) -> Answer {
        let (mut shared, mut copied) = (0, 0);
        for number in 0..step.number("count", 1) {
            let frame = frame(self.reader()?.read_frame(step.timeout("timeout_ms")))?;
            let mut frame =
                frame.ok_or_else(|| ("WrongFrame".to_owned(), format!("frame {number} did not come")))?;
            if step.flag("invert") {
                let bytes = frame.make_mut().ok_or_else(|| missing("frame that can be changed"))?;
                bytes.iter_mut().for_each(|byte| *byte = !*byte);
            }
            match self.writer()?.forward(frame).map_err(|(error, _)| told(error))? {
                Forwarded::Shared => shared += 1,
                Forwarded::Copied => copied += 1,
            }
        }
        fields([("shared", shared.into()), ("copied", copied.into())])
    }

    fn set_metadata(&mut self, step: &Step) -> Answer {
        let bytes = step.bytes();
        self.writer()?.set_metadata(&bytes).map_err(told)?;
        done()
    }

    fn write_timeout(&mut self, step: &Step) -> Answer {
        let timeout = step.timeout("ms");
        self.writer()?.set_write_timeout(timeout);
        done()
    }

    fn connected(&mut self, step: &Step) -> Answer {
        let there = match (&mut self.reader, &self.writer) {
            (Some(reader), _) if step.has("timeout_ms") => {
                reader.wait_for_writer(step.timeout("timeout_ms")).map_err(told)?
            }
            (Some(reader), _) => reader.is_writer_connected(),
            (None, Some(writer)) => writer.is_reader_connected(),
            (None, None) => return Err(missing("handle")),
        };
        fields([("connected", there.into())])
    }

    fn counters(&mut self) -> Answer {
        match (&self.reader, &self.writer) {
            (Some(reader), _) => {
                fields([("frames", reader.frames_read().into()), ("bytes", reader.bytes_read().into())])
            }
            (None, Some(writer)) => {
                fields([("frames", writer.frames_written().into()), ("bytes", writer.bytes_written().into())])
            }
            (None, None) => Err(missing("handle")),
        }
    }

    /// The defaults of a reader and a writer, as shown by their objects and the buffer.
    fn defaults(&mut self, step: &Step) -> Answer {
        let name = step.text("name")?;
        let _reader = Reader::create(name, BufferConfig::default()).map_err(told)?;
        let writer = Writer::connect(name).map_err(told)?;
        let snapshot = inspect::snapshot(name).map_err(told)?;
        fields([
            ("payload_size", snapshot.payload_size.into()),
            ("metadata_size", snapshot.metadata_size.into()),
            ("mode", snapshot.mode.into()),
            ("write_timeout_ms", (writer.write_timeout().as_millis() as u64).into()),
        ])
    }

    fn close(&mut self, step: &Step) -> Answer {
        let of = step.text_or("of", "both");
        if of != "reader"
            && let Some(writer) = self.writer.take()
        {
            writer.close().map_err(told)?;
        }
        if of != "writer"
            && let Some(reader) = self.reader.take()
        {
            reader.close().map_err(told)?;
        }
        done()
    }
}

/// Gives up root's rights, for good.
fn become_user(step: &Step) -> Answer {
    let id = step.number("uid", 65534) as libc::uid_t;
    // SAFETY: plain system calls; glibc changes all threads.
    if unsafe { libc::setgid(id) != 0 || libc::setuid(id) != 0 } {
        return Err(("Unsupported".to_owned(), "only root can become somebody else".to_owned()));
    }
    done()
}

fn inspected(step: &Step) -> Answer {
    let snapshot = inspect::snapshot(step.text("name")?).map_err(told)?;
    let present = |peer: inspect::Peer| Value::from(format!("{:?}", peer.presence));
    fields([
        ("payload_size", snapshot.payload_size.into()),
        ("metadata_size", snapshot.metadata_size.into()),
        ("reader", present(snapshot.reader)),
        ("writer", present(snapshot.writer)),
        ("health", format!("{:?}", snapshot.health()).into()),
    ])
}
