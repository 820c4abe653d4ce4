//! From one reader to any number of outputs.

mod interrupt;
mod output;
mod pool;

pub use interrupt::TeeInterruptHandle;
pub use output::TeeOutput;

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::frame::Frame;
use crate::reader::Reader;
use crate::sharing::forward::LENT_FROM;
use crate::tee::pool::{Pool, Slot};
use crate::writer::Writer;

/// A frame's number and the address of its bytes.
type Mark = (u64, usize);

/// Passes the frames of one reader on to any number of outputs.
///
/// - A **block output** gets every frame. While it is full, the tee waits, and so does the source in the end. It is
///   [lent](Writer::forward) the source's bytes where its writer requests sharing and both readers allow it.
/// - A **drop output** has at most so many frames that its reader has not given back; what comes then is dropped, and counted. The
///   tee never waits for it, and a viewer that is slow or stopped never keeps the source waiting. It is not lent the source's
///   bytes. Two and more such outputs are lent one copy, where they request and allow sharing: the tee makes a buffer for it, whose
///   name is the source's with `_tee` behind it.
///
/// Block outputs are served first. An output whose reader dies or closes *ends*: it gets nothing more, and the others go on.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::{BufferConfig, Reader, Tee, Writer, WriterOptions};
///
/// # let [camera, display, archive] = ["camera", "display", "archive"].map(|what| format!("doc-tee-{what}-{}", std::process::id()));
/// let config = BufferConfig::default().allow_payload_sharing(true);
/// let mut recorder = Reader::create(&archive, config.clone())?; // these two usually in other processes
/// let mut viewer = Reader::create(&display, config.clone())?;
///
/// let options = WriterOptions::default().request_payload_sharing(true);
/// let mut tee = Tee::new(Reader::create(&camera, config)?);
/// tee.add_block_output(Writer::connect_with(&archive, options.clone())?);
/// tee.add_drop_output(Writer::connect_with(&display, options)?, 2);
///
/// let mut source = Writer::connect(&camera)?; // in another process, too
/// for number in 0..5 {
///     source.write_frame(&[number; 100_000])?;
///     assert!(tee.step(Duration::from_secs(1))?);
///     assert_eq!(recorder.read_frame(Duration::from_secs(1))?.expect("a frame")[0], number);
/// }
/// // The recorder learned of the tee with the first frame. The viewer has not looked yet.
/// let [archive, display] = tee.outputs() else { panic!() };
/// assert_eq!((archive.frames_shared(), archive.frames_copied()), (4, 1));
/// assert_eq!((display.frames_copied(), display.frames_dropped()), (2, 3));
/// assert_eq!(viewer.read_frame(Duration::from_secs(1))?.expect("a frame")[0], 0);
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct Tee {
    /// Frames that an output still waits for, oldest first.
    frames: VecDeque<Frame>,
    /// The frame that is on its way, which an output has kept back.
    on_way: Option<Mark>,
    /// What its way came upon: the error of an output that has ended, or that cannot hold it.
    trouble: Option<Error>,
    outputs: Vec<TeeOutput>,
    pool: Pool,
    reader: Reader,
    interrupts: TeeInterruptHandle,
}

impl Tee {
    /// Frames that a drop output usually has at most: one that its viewer looks at, and one that comes next.
    pub const DROP_FRAMES: usize = 2;

    /// A tee without outputs: its frames are read and given back.
    pub fn new(reader: Reader) -> Tee {
        Tee {
            frames: VecDeque::new(),
            on_way: None,
            trouble: None,
            outputs: Vec::new(),
            pool: Pool::new(reader.name()),
            interrupts: TeeInterruptHandle::new(reader.interrupt_handle()),
            reader,
        }
    }

    /// Adds an output that gets every frame from the next one on. How long the tee waits for space in it is the writer's write
    /// time-out ([`Writer::set_write_timeout`]).
    ///
    /// It takes the place of an output of that name that has ended.
    pub fn add_block_output(&mut self, writer: Writer) {
        self.add(TeeOutput::new(writer, None));
    }

    /// Adds an output that has at most `frames` frames (at least one; usually [`Tee::DROP_FRAMES`]) that its reader has not given
    /// back. What comes then is dropped.
    ///
    /// It takes the place of an output of that name that has ended.
    pub fn add_drop_output(&mut self, writer: Writer, frames: usize) {
        self.add(TeeOutput::new(writer, Some(frames.max(1))));
    }

    fn add(&mut self, output: TeeOutput) {
        self.outputs.retain(|other| other.ended().is_none() || other.name() != output.name());
        self.outputs.push(output);
        self.update_interrupts();
    }

    /// Takes the output that writes the buffer `name` out; returns its writer. `None` if there is none.
    ///
    /// What it got stays with its reader, and counts as held by this tee's reader until that has released it. A frame that only
    /// this output waits for is given back.
    pub fn remove_output(&mut self, name: &str) -> Option<Writer> {
        let index = self.outputs.iter().position(|output| output.name() == name)?;
        let output = self.outputs.remove(index);
        self.update_interrupts();
        Some(output.writer)
    }

    /// Sets the metadata of all outputs that have not ended, for metadata that comes when frames are on their way already.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::set_metadata`], of the first output that cannot take it, whose buffer the error names. Those behind it have
    /// none then.
    pub fn set_metadata(&mut self, metadata: &[u8]) -> Result<()> {
        let mut outputs = self.outputs.iter_mut().filter(|output| output.ended().is_none());
        outputs.try_for_each(|output| output.writer.set_metadata(metadata))
    }

    fn update_interrupts(&self) {
        // A drop output is never waited for.
        let blocking = self.outputs.iter().filter(|output| output.is_block());
        self.interrupts.set_outputs(blocking.map(|output| output.writer.interrupt_handle()));
    }

    /// The outputs, also those that have ended, in the order in which they were added.
    pub fn outputs(&self) -> &[TeeOutput] {
        &self.outputs
    }

    /// The reader.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The reader, for example to wait for a writer.
    pub fn reader_mut(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// Waits up to `timeout` for a frame, and passes it on. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::read_frame`] and of [`Tee::forward`]. The error names its buffer.
    pub fn step(&mut self, timeout: Duration) -> Result<bool> {
        match self.read_frame(timeout)? {
            Some(frame) => self.forward(frame).map(|()| true),
            None => Ok(false),
        }
    }

    /// Passes frames on until their writer closes, for as long as it takes.
    ///
    /// # Errors
    ///
    /// Those of [`Tee::step`] other than `WriterClosed`. After the error of an output a further call goes on.
    pub fn run(&mut self) -> Result<()> {
        loop {
            match self.step(Duration::MAX) {
                Err(error) if error.kind() == ErrorKind::WriterClosed => return Ok(()),
                stepped => stepped.map(drop)?,
            }
        }
    }

    /// Waits up to `timeout` for a frame, for a program that looks at it or changes it ([`Frame::make_mut`]) before it passes it on
    /// ([`Tee::forward`]). `None` when the time is over. Frames that a full output has kept back go first.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::read_frame`] and of [`Tee::flush`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use zerobuffer::{BufferConfig, Reader, Tee, Writer};
    ///
    /// # let [camera, display] = ["camera", "display"].map(|what| format!("doc-tee-filter-{what}-{}", std::process::id()));
    /// let mut viewer = Reader::create(&display, BufferConfig::default())?; // usually in another process
    /// let mut tee = Tee::new(Reader::create(&camera, BufferConfig::default())?);
    /// tee.add_block_output(Writer::connect(&display)?);
    /// Writer::connect(&camera)?.write_frame(&[1, 2, 3])?;
    /// if let Some(mut frame) = tee.read_frame(Duration::from_secs(1))? {
    ///     frame.make_mut().expect("it is not lent").reverse();
    ///     tee.forward(frame)?;
    /// }
    /// assert_eq!(&*viewer.read_frame(Duration::from_secs(1))?.expect("a frame"), &[3, 2, 1]);
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn read_frame(&mut self, timeout: Duration) -> Result<Option<Frame>> {
        self.flush()?;
        let read = self.reader.read_frame(timeout);
        self.met(read)
    }

    /// Passes `frame` on to all outputs: to block outputs, one after the other, waiting for space in each up to its write time-out;
    /// then to drop outputs.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::forward`], of a block output, whose buffer the error names. In any case the tee has taken the frame:
    ///
    /// - `BufferFull`, `OutOfMemory` and `Interrupted`: the outputs from that one on have still to get it. The next call goes on there.
    /// - `FrameTooLarge`: that output does without the frame, which counts as dropped there. The others have got it.
    /// - All else, as `ReaderDead`: that output has ended. The others have got the frame.
    pub fn forward(&mut self, frame: Frame) -> Result<()> {
        self.frames.push_back(frame);
        self.flush()
    }

    /// Goes on with a frame that an output has kept back; without one it does nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Tee::forward`].
    pub fn flush(&mut self) -> Result<()> {
        while let Some(frame) = self.frames.pop_front() {
            let passed = self.pass(&frame);
            if self.on_way.is_some() {
                self.frames.push_front(frame);
            }
            passed?;
        }
        Ok(())
    }

    /// As [`Tee::forward`], for a frame that the caller keeps. After `BufferFull`, `OutOfMemory` and `Interrupted` call it again with that
    /// frame: it goes on where it stopped. Outputs that still wait for the frame when another one comes do without it.
    ///
    /// # Errors
    ///
    /// Those of [`Tee::forward`].
    pub fn forward_to(&mut self, frame: &Frame) -> Result<()> {
        self.flush()?;
        self.pass(frame)
    }

    /// Passes a frame on to the outputs that have not got it. If one of them keeps it back, it is on its way afterwards.
    fn pass(&mut self, frame: &Frame) -> Result<()> {
        let mark = (frame.sequence(), frame.as_ptr().addr());
        if self.on_way.replace(mark) != Some(mark) {
            self.outputs.iter_mut().for_each(TeeOutput::begin);
            self.trouble = None;
        }
        for output in self.outputs.iter_mut().filter(|output| output.waits && output.is_block()) {
            if let Err(error) = output.block(frame) {
                if output.waits {
                    return self.met(Err(error));
                }
                self.trouble.get_or_insert(error);
            }
        }
        let mut pool = use_pool(&mut self.pool, &self.outputs, frame);
        let mut slot = Slot::Open;
        for output in self.outputs.iter_mut().filter(|output| output.waits) {
            output.offer(frame, pool.as_deref_mut(), &mut slot);
        }
        self.on_way = None;
        self.trouble.take().map_or(Ok(()), Err)
    }

    /// Sets how long the tee waits for space in each of its block outputs.
    pub fn set_write_timeout(&mut self, timeout: Duration) {
        for output in self.outputs.iter_mut().filter(|output| output.is_block()) {
            output.writer.set_write_timeout(timeout);
        }
    }

    /// After a call that may have met an interrupt, which was one for all handles.
    fn met<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| {
            if error.kind() == ErrorKind::Interrupted {
                self.interrupts.clear();
            }
        })
    }

    /// What ends a blocked call from another thread.
    pub fn interrupt_handle(&self) -> TeeInterruptHandle {
        self.interrupts.clone()
    }

    /// Ends the tee: its outputs are closed. Frames that an output has not got yet are given back.
    pub fn into_reader(self) -> Reader {
        self.interrupts.set_outputs(std::iter::empty());
        self.reader
    }
}

/// The pool, if it is of use for `frame`, and has room for it.
fn use_pool<'a>(pool: &'a mut Pool, outputs: &[TeeOutput], frame: &Frame) -> Option<&'a mut Pool> {
    let bounds = outputs.iter().filter_map(TeeOutput::bound_of_borrower);
    let (outputs, frames) =
        bounds.fold((0, 1_usize), |(n, frames), bound| (n + 1, frames.saturating_add(bound)));
    // For a single one, a copy in its own buffer costs the same.
    (outputs > 1 && frame.len() >= LENT_FROM && pool.prepare(frames, frame.len())).then_some(pool)
}

impl std::fmt::Debug for Tee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tee").field("name", &self.reader.name()).field("outputs", &self.outputs).finish()
    }
}
