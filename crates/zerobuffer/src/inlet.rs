//! How frames get out of the ring: the fast path, and the slow one, which looks, waits and learns of the writer's end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::attention::Attention;
use crate::config::WaitStrategy;
use crate::end_of_writer::{CLEARED_GRACE, EndsTold, NamesWatch, News, UNMAPPED_GRACE};
use crate::error::{ErrorKind, Result};
use crate::layout::{HeaderWord, WRITER_ROLE_BYTE};
use crate::lifecycle::create::{Locks, Parts};
use crate::lifecycle::liveness::{self, WriterState, WriterWords};
use crate::lifecycle::registry::OwnedFiles;
use crate::memory::reserve::Reserver;
use crate::os;
use crate::peer_watch::{self, PeerWatch};
use crate::ring::{FaultKind, FrameRecord, Lender, Look, ReadRing, RingFault};
use crate::sharing::borrower::Borrower;
use crate::stats::ReaderStats;
use crate::sync::Ordering;
use crate::testing::stop::stop_point;
use crate::wait::{Deadline, Doubt, FIRST_SLICE, SLICE, Spin, UNSURE_SLICE};
use crate::writer_watch::WriterWatch;

mod attend;

/// The working half of a [`crate::Reader`].
pub(crate) struct Inlet {
    pub(crate) lender: Arc<Lender>,
    pub(crate) ring: ReadRing,
    files: OwnedFiles,
    /// `Some` until closed.
    locks: Option<Locks>,
    told: EndsTold,
    names: NamesWatch,
    watch: PeerWatch,
    /// The last frame read; meaningless before the first. Kept in one place, as copying it costs more than a small frame.
    pub(crate) last: FrameRecord,
    pub(crate) spin: Spin,
    pub(crate) crowded: bool,
    doubt: Doubt,
    /// What is known to have memory, so that no forged position leads to where there is none.
    pub(crate) reserver: Reserver,
    pub(crate) frames_read: u64,
    pub(crate) bytes_read: u64,
    /// Frames passed over on the way to a newer one.
    pub(crate) frames_skipped: u64,
    /// `bytes_read` at the last wait.
    bytes_before_wait: u64,
    /// `Some` if the reader takes frames by reference.
    borrower: Option<Borrower>,
    /// The writer that a poll found alive, and the coarse clock then.
    polled: (Option<WriterWords>, u64),
    attention: Attention,
}

impl Inlet {
    /// `shares`: the config allows payload sharing.
    pub(crate) fn new(parts: Parts, wait: WaitStrategy, shares: bool) -> Inlet {
        let Parts { buffer, files, locks, reserver } = parts;
        let borrower = Borrower::new(&buffer, shares);
        let lends = borrower.as_ref().map(|_| files.segment);
        Inlet {
            ring: ReadRing::new(&buffer),
            lender: Arc::new(Lender::new(buffer, lends)),
            borrower,
            names: NamesWatch::new(),
            watch: PeerWatch::default(),
            files,
            locks: Some(locks),
            told: EndsTold::default(),
            last: FrameRecord::NONE,
            spin: Spin::new(wait),
            crowded: false,
            doubt: Doubt::default(),
            reserver,
            frames_read: 0,
            bytes_read: 0,
            frames_skipped: 0,
            bytes_before_wait: 0,
            polled: (None, 0),
            attention: Attention::Ready,
        }
    }

    /// Takes a frame that is known to be there, if there is nothing else to think of: the fast path of [`Inlet::next`].
    #[inline(always)]
    pub(crate) fn take_fast(&mut self) -> bool {
        if !self.lender.buffer.is_mine() || !self.ring.take(&self.lender, &mut self.last) {
            return false;
        }
        self.note();
        true
    }

    /// The slow path to the next frame. An interrupt ends it only if there is no frame.
    #[inline(never)]
    pub(crate) fn next(&mut self, timeout: Duration) -> Result<bool> {
        self.lender.buffer.check_mine()?;
        if timeout.is_zero() {
            return self.look_now(true);
        }
        self.leave_armed();
        self.ring.stay_away();
        let found = self.look()?;
        self.ring.learn(found.then_some(&self.last));
        Ok(found || self.wait_for_frame(timeout)?)
    }

    pub(crate) fn stats(&self) -> ReaderStats {
        ReaderStats {
            frames_read: self.frames_read,
            bytes_read: self.bytes_read,
            waits: self.lender.buffer.waits(),
            held: self.lender.held(),
            lent: self.lender.extended.count_lent(),
            frames_shared: self.lender.borrowed.frames(),
            bytes_shared: self.lender.borrowed.bytes(),
        }
    }

    #[inline(never)]
    fn wait_for_frame(&mut self, timeout: Duration) -> Result<bool> {
        self.lender.buffer.count_wait();
        self.lender.buffer.take_interrupt()?;
        if self.told.is_foreign() {
            self.ring.reserve_ahead(&self.lender, &mut self.reserver, true);
        }
        self.spin.moved(if self.crowded { 0 } else { self.bytes_read - self.bytes_before_wait });
        self.bytes_before_wait = self.bytes_read;
        // A frame that comes within a microsecond or so shall cost no look at the clock.
        if self.ring.spin(&self.lender, &mut self.spin, None) && self.look()? {
            return Ok(true);
        }
        let _uncancelled = os::Uncancelled::new();
        let began = Instant::now();
        let deadline = Deadline::after(timeout);
        let mut longest = FIRST_SLICE;
        loop {
            if self.ring.settle_tokens(&self.lender) && self.look()? {
                return Ok(true);
            }
            // Behind the taking of tokens, one of which may have been the interrupt's.
            self.lender.buffer.take_interrupt()?;
            let watched = !self.spin.is_endless() && self.is_watched();
            let renamed = self.lender.buffer.take_news();
            let words = self.writer_words();
            if self.judge_writer(renamed)? {
                return Ok(true);
            }
            let slice = match self.doubt.is_on() {
                true => UNSURE_SLICE,
                false => peer_watch::slice(watched && self.is_woken(), longest),
            };
            let Some(left) = deadline.left(slice) else { return Ok(false) };
            let found = if self.spin.is_endless() {
                self.ring.spin(&self.lender, &mut self.spin, Some(began));
                self.look()?
            } else {
                stop_point!("read:wait");
                let by_token = self.sleep(left, words);
                let found = self.look()?;
                self.ring.slept(&self.lender, by_token, found) && self.look()? || found
            };
            if found {
                self.ring.end_wait(&self.lender);
                self.spin.learn(began.elapsed());
                return Ok(true);
            }
            longest = SLICE;
        }
    }

    /// Whether the watcher tells of the writer's end, and of a 1.x writer that comes.
    fn is_watched(&mut self) -> bool {
        self.watch.stands(&self.lender, self.reserver.segment())
    }

    /// After a judgement of the writer: whether it, or the watcher, wakes the reader for all that may happen. A 1.x writer goes
    /// without a sound, and an entry may stand still.
    fn is_woken(&mut self) -> bool {
        self.ring.is_native() || !self.told.is_foreign() && !self.ring.is_being_entered(&self.lender)
    }

    /// Sleeps for up to `limit`, until there is something to look at: a frame, an interrupt, or other news of the writer
    /// than `words` tell. Returns whether a token ended the sleep.
    fn sleep(&self, limit: Duration, words: WriterWords) -> bool {
        // A writer that closes stores its word, gives its role up, and rings. So what it had not done before this look it
        // does before it rings.
        let closed = words.is_ours() && words.word.is_closed();
        let news = || {
            self.lender.buffer.has_news()
                || self.writer_words() != words
                || closed && self.role_is_held(WRITER_ROLE_BYTE) == Some(false)
        };
        self.ring.sleep(&self.lender, limit, news)
    }

    /// One look at the ring and, if there is nothing, one at the writer.
    #[inline(never)]
    pub(crate) fn poll(&mut self) -> Result<bool> {
        self.lender.buffer.check_mine()?;
        self.look_now(false)
    }

    /// One look at the ring and, if there is nothing, at an interrupt if that is wanted, and at the writer.
    #[inline]
    fn look_now(&mut self, interruptible: bool) -> Result<bool> {
        let found = self.glance(interruptible);
        if self.lender.buffer.descriptor().is_none() { found } else { self.attend(found, interruptible) }
    }

    #[inline]
    fn glance(&mut self, interruptible: bool) -> Result<bool> {
        if self.look()? {
            return Ok(true);
        }
        if interruptible {
            self.lender.buffer.take_interrupt()?;
        }
        self.poll_writer()
    }

    fn poll_writer(&mut self) -> Result<bool> {
        // An orderly end shows in the writer's words. Only a death has to be asked for, once in a tick of the coarse clock.
        let seen = (Some(self.writer_words()), os::coarse_now());
        if seen == self.polled && !self.doubt.is_on() {
            return Ok(false);
        }
        self.polled = (None, 0);
        let _uncancelled = os::Uncancelled::new();
        let renamed = self.lender.buffer.take_news();
        let found = self.judge_writer(renamed)?;
        let lives = seen.0.is_some_and(|words| words.is_ours() && !words.word.is_closed());
        if !found && lives {
            self.polled = seen;
        }
        Ok(found)
    }

    /// One look at the ring.
    #[inline]
    fn look(&mut self) -> Result<bool> {
        if self.ring.take_new(&self.lender, &mut self.reserver, &mut self.last) {
            self.note();
            return Ok(true);
        }
        self.look_closer()
    }

    /// One look that tells nothing but whether there is a frame: what else it finds, the next call finds too.
    pub(crate) fn look_again(&mut self) -> bool {
        // A writer's end is found again only as long as it counts as untold.
        let told = self.told;
        self.look().unwrap_or_else(|_| {
            self.told = told;
            false
        })
    }

    /// Keeps the books of the frame that was taken.
    #[inline]
    fn note(&mut self) {
        self.doubt.end();
        self.told.frame();
        self.frames_read += 1;
        self.bytes_read += self.last.len() as u64;
    }

    #[inline(never)]
    fn look_closer(&mut self) -> Result<bool> {
        // While the end of the writer whose frames were read is untold, its successor's first frame waits for it.
        let told = &mut self.told;
        match self.ring.look(&self.lender, &mut self.reserver, |word| told.begins(word)) {
            Look::Frame(mut record) => {
                if record.flags() & (HeaderWord::SHARED | HeaderWord::OFFER | HeaderWord::SIGNED) != 0 {
                    self.dereference(&mut record)?;
                }
                if self.told.is_foreign() {
                    self.ring.reserve_ahead(&self.lender, &mut self.reserver, false);
                }
                self.know_author(record.sequence);
                self.last = record;
                self.note();
                Ok(true)
            }
            Look::Empty => {
                self.doubt.end();
                self.look_for_offer();
                Ok(false)
            }
            Look::Restart(next) => {
                let words = self.writer_words();
                Err(self.told.tell_restart(&self.lender.buffer, next, words))
            }
            Look::Unsure(fault) => self.resolve(fault).map(|()| false),
        }
    }

    /// Answers the writer's offer of another buffer, if there is a new one.
    #[inline]
    pub(crate) fn look_for_offer(&mut self) {
        if let Some(borrower) = &mut self.borrower {
            borrower.look(&self.lender, self.reserver.segment());
        }
    }

    /// Makes `record` the frame that it stands for, if it is a reference; answers an offer first. A signed frame is the first of
    /// its writer.
    #[cold]
    fn dereference(&mut self, record: &mut FrameRecord) -> Result<()> {
        self.look_for_offer();
        let Some(borrower) = &mut self.borrower else {
            if record.flags() & HeaderWord::SHARED == 0 {
                return Ok(());
            }
            self.ring.put_back(record);
            let message = "a frame refers to another buffer, though this reader takes no references";
            return Err(self.lender.buffer.error(ErrorKind::CorruptBuffer, message));
        };
        if let Some(word) = self.lender.author(record) {
            borrower.begins(word);
        }
        if record.flags() & HeaderWord::SHARED != 0 {
            *record = borrower.resolve(&self.lender, record).inspect_err(|_| self.ring.put_back(record))?;
            // A spin is worth while for bytes that were moved.
            self.bytes_before_wait += record.len() as u64;
        }
        Ok(())
    }

    /// Makes a reference again of the frame that was taken last, if it was one.
    pub(crate) fn reference_again(&mut self) {
        let Some(reference) = self.lender.unhold_borrowed(&self.last) else { return };
        self.lender.borrowed.take_back(self.last.len() as u64);
        self.last = reference;
    }

    /// Makes the frame that was taken last the one that it stands for, if it is a reference.
    pub(crate) fn resolve_newest(&mut self) -> Result<()> {
        if self.last.flags() & HeaderWord::SHARED == 0 {
            return Ok(());
        }
        let mut record = self.last;
        self.dereference(&mut record)?;
        self.last = record;
        Ok(())
    }

    /// Learns from a frame who may have written it.
    #[inline]
    fn know_author(&mut self, sequence: u64) {
        if let Some(pid) = self.told.take_cleared()
            && sequence != 1
            && self.ring.checks_sequence()
        {
            self.put_pid_back(pid);
        }
        if sequence == 1 {
            self.told.began(self.writer_words());
        }
    }

    /// A 1.x writer goes on, though its pid was missing when everything had been read (spec failure 21). Without the pid, another
    /// writer could connect beside it.
    #[cold]
    fn put_pid_back(&mut self, pid: u64) {
        let buffer = &self.lender.buffer;
        stop_point!("read:writer-pid");
        // Release pairs with the Acquire of an entry that looks at the pid; Acquire, with the store that cleared it. A writer that
        // comes meanwhile keeps its own pid there.
        let shown = &buffer.mapping.oieb().writer_pid;
        if shown.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.told.goes_on(pid);
            log::warn!(
                "buffer `{}`: another writer cleared the pid of the 1.x writer {pid}, which goes on; it has been put back",
                buffer.name()
            );
        }
    }

    /// Whether `news` may be no end, but the pid of a connected 1.x writer that another one cleared (spec failure 21).
    fn is_doubtful(&mut self, news: News) -> bool {
        let Some((pid, since)) = self.told.cleared(news) else { return false };
        if !os::process_exists(pid) {
            return false;
        }
        let mapped = os::process_maps(pid, self.files.segment) != Some(false);
        since.elapsed() < if mapped { CLEARED_GRACE } else { UNMAPPED_GRACE }
    }

    /// Tolerates contradictory words for a while, then repairs them or fails.
    fn resolve(&mut self, fault: RingFault) -> Result<()> {
        if !self.doubt.has_lasted() {
            return Ok(());
        }
        if fault.kind != FaultKind::LostUpdate {
            return Err(self.lender.buffer.fault(fault));
        }
        if let Some(bytes) = self.ring.repair(&self.lender, &mut self.reserver) {
            log::warn!(
                "buffer `{}`: the count of free bytes was {bytes} short and has been repaired; a 1.x writer loses \
                 updates where libatomic is missing",
                self.lender.buffer.name()
            );
        }
        self.doubt.end();
        Ok(())
    }

    fn locks(&self) -> Result<&Locks> {
        let closed = || self.lender.buffer.error(ErrorKind::Closed, "the reader is closed: create a new one");
        self.locks.as_ref().ok_or_else(closed)
    }

    fn writer_words(&self) -> WriterWords {
        WriterWords::load(self.lender.buffer.mapping.oieb())
    }

    /// Whether another process holds the role of `byte`; `None` if that cannot be told.
    fn role_is_held(&self, byte: i64) -> Option<bool> {
        self.locks.as_ref()?.role.role_is_held(byte).ok()
    }

    fn writer_state(&self) -> Result<WriterState> {
        liveness::writer_state(|| Ok(self.writer_words()), &self.locks()?.role)
            .map_err(|error| self.lender.buffer.os_error("test the writer's role lock", error))
    }

    /// Looks at the writer; tells its end if all that it committed has been read, and the end was not told. Returns whether
    /// a frame was found meanwhile. `renamed`: the buffer may have lost its name.
    fn judge_writer(&mut self, renamed: bool) -> Result<bool> {
        if let Some(locks) = &self.locks {
            self.ring.end_entry(&self.lender, &mut self.reserver, &locks.role);
        }
        let words = self.writer_words();
        stop_point!("read:judge");
        let state = self.writer_state()?;
        let Some(news) = self.told.news(state) else {
            if self.told.is_foreign() {
                self.ring.reserve_ahead(&self.lender, &mut self.reserver, false);
            }
            self.names.check(&self.lender.buffer, &self.files, state, renamed)?;
            return Ok(false);
        };
        // Its last frames may have been committed after the last look at the ring, but before its end.
        if self.look()? {
            return Ok(true);
        }
        if self.doubt.is_on() || self.is_doubtful(news) {
            return Ok(false);
        }
        if news.died {
            self.ring.withdraw_uncommitted(&self.lender, words);
        }
        if let Some(liveness::WriterId::Ours { epoch }) = news.id {
            self.ring.settle_writers(epoch);
        }
        Err(self.told.tell(&self.lender.buffer, news, self.writer_words()))
    }

    // ---- the writer's coming, the reader's going ----

    /// Whether there are frames that have not been read.
    pub(crate) fn has_unread(&mut self) -> bool {
        self.ring.has_unread(&self.lender)
    }

    /// Whether a writer lives, even if frames are unread.
    pub(crate) fn writer_lives(&self) -> bool {
        matches!(self.writer_state(), Ok(WriterState::Alive(_))) || self.told.doubts_close()
    }

    /// Waits up to `timeout` for a writer. Returns whether one is there, or left frames.
    pub(crate) fn wait_for_writer(&mut self, timeout: Duration) -> Result<bool> {
        let _uncancelled = os::Uncancelled::new();
        let deadline = Deadline::after(timeout);
        self.leave_armed();
        loop {
            self.lender.buffer.check_mine()?;
            let watched = self.is_watched();
            let renamed = self.lender.buffer.take_news();
            let words = self.writer_words();
            if self.ring.has_unread(&self.lender) || matches!(self.writer_state()?, WriterState::Alive(_)) {
                return Ok(true);
            }
            self.lender.buffer.take_interrupt()?;
            self.names.check(&self.lender.buffer, &self.files, WriterState::None, renamed)?;
            let slice = peer_watch::slice(watched && self.is_woken(), SLICE);
            let Some(left) = deadline.left(slice) else { return Ok(false) };
            // A native writer posts and rings when it connects; of a 1.x writer the watcher tells.
            self.sleep(left, words);
        }
    }

    /// What tells from any thread whether the writer is connected.
    pub(crate) fn writer_watch(&self) -> Result<WriterWatch> {
        let view = self.locks()?.role.view();
        let view = view.map_err(|error| self.lender.buffer.os_error("copy its descriptor", error))?;
        Ok(WriterWatch::new(Arc::clone(&self.lender), view))
    }

    /// Closes the reader and removes the buffer's names. Frames still held stay valid.
    pub(crate) fn shut(&mut self) {
        let Some(locks) = self.locks.take() else { return };
        self.close_descriptor();
        let buffer = &self.lender.buffer;
        if !buffer.is_mine() {
            // A forked child inherited this handle: the buffer stays the parent's (spec failure 9).
            return;
        }
        self.watch.end();
        self.lender.stop_sharing();
        // A writer that fills the ring of a reader which never looked waits as writers of extended rings do.
        self.ring.decide(&self.lender);
        let pid = u64::from(std::process::id());
        stop_point!("close:reader-pid");
        // Only this reader's own pid is cleared. Release pairs with the writer's Acquire load in liveness::reader_words.
        let shown = &buffer.mapping.oieb().reader_pid;
        let _ = shown.compare_exchange(pid, 0, Ordering::AcqRel, Ordering::Relaxed);
        self.files.remove(buffer.name());
        // The role lock last but for the name: a writer that finds it free finds the pid cleared.
        stop_point!("close:role-unlock");
        drop(locks.role);
        self.ring.close(&self.lender);
        locks.name.remove();
    }
}
