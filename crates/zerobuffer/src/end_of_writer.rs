//! What a reader knows of its writers: which of their ends it has told, and which it is to tell next.

use std::time::{Duration, Instant};

use crate::buffer::Buffer;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::WriterWord;
use crate::lifecycle::liveness::{WriterId, WriterState, WriterWords};
use crate::lifecycle::registry::OwnedFiles;

/// Which writers' ends have been told.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct EndsTold {
    /// The last writer whose end was told.
    last: Option<WriterId>,
    /// The pid of a 1.x writer that has been seen and whose end was not told.
    foreign: Option<u64>,
    /// That pid, and when it was found missing first, until another frame comes.
    cleared: Option<(u64, Instant)>,
    /// Frames were delivered since the last end was told.
    frames: bool,
    /// Epoch of the writer of those frames, if its first frame said so.
    author: Option<u32>,
    /// The ends of native writers up to this epoch have been told.
    epoch: u32,
    /// The end of one among several writers was told as a death, and it may have been another one that died. Until the reader has
    /// caught up, every end is told as a death.
    cautious: bool,
}

/// An end that is to be told, once all that was committed has been read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News {
    pub(crate) id: Option<WriterId>,
    pub(crate) died: bool,
}

impl EndsTold {
    /// A frame was delivered.
    #[inline]
    pub(crate) fn frame(&mut self) {
        self.frames = true;
    }

    /// Whether the first frame of a writer may be delivered: the end of the writer whose frames were read must have been told,
    /// and so must the deaths of writers that came between them and wrote nothing. `word` is the writer's, if it is known.
    pub(crate) fn begins(&mut self, word: Option<WriterWord>) -> bool {
        if self.frames {
            return false;
        }
        self.author = word.map(WriterWord::epoch);
        let Some(word) = word else { return true };
        let before = WriterWord::epoch_before(word.epoch());
        if word.died_among(self.epoch, before) {
            return false;
        }
        self.epoch = before;
        true
    }

    /// Whether the frames being read may be a 1.x writer's.
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign.is_some()
    }

    /// The first frame of a writer was delivered, whose words these may be.
    pub(crate) fn began(&mut self, words: WriterWords) {
        if words.pid != 0 && !words.is_ours() {
            self.foreign = Some(words.pid);
        }
    }

    /// The 1.x writer whose pid alone is missing, if `news` says no more than that, and since when. A 1.x writer that is
    /// refused may clear the pid of the one that is connected (spec failure 21).
    pub(crate) fn cleared(&mut self, news: News) -> Option<(u64, Instant)> {
        let pid = self.foreign?;
        let successor = match news.id {
            None => false,
            Some(WriterId::Ours { epoch }) => WriterWord::epochs_between(self.epoch, epoch) > 0,
            Some(WriterId::Foreign { .. }) => true,
        };
        if news.died || successor {
            return None;
        }
        Some(*self.cleared.get_or_insert_with(|| (pid, Instant::now())))
    }

    /// Whether the close that a missing pid shows is not believed yet.
    pub(crate) fn doubts_close(&self) -> bool {
        self.foreign.is_some() && self.cleared.is_some_and(|(_, since)| since.elapsed() < CLEARED_GRACE)
    }

    /// A frame came. Returns the pid that was found missing before it.
    #[inline]
    pub(crate) fn take_cleared(&mut self) -> Option<u64> {
        self.cleared.take().map(|(pid, _)| pid)
    }

    /// The 1.x writer with this pid goes on.
    pub(crate) fn goes_on(&mut self, pid: u64) {
        self.foreign = Some(pid);
    }

    /// The end that the writer's state shows and that was not told, if any.
    pub(crate) fn news(&mut self, state: WriterState) -> Option<News> {
        let (id, died) = match state {
            WriterState::Alive(id) => {
                if let WriterId::Foreign { pid } = id {
                    self.foreign = Some(pid);
                }
                self.cleared = None;
                return None;
            }
            WriterState::Dead(id) => (Some(id), true),
            WriterState::Closed(id) => (Some(id), false),
            WriterState::None => (None, false),
        };
        let is_new = self.frames || self.foreign.is_some() || (id.is_some() && id != self.last);
        is_new.then_some(News { id, died })
    }

    /// The writer whose frames were read, if it is known to have closed though a later one died, of those up to `upto`: its
    /// end is told alone.
    fn closed_before_a_death(&self, word: WriterWord, upto: u32) -> Option<u32> {
        self.author.filter(|author| {
            self.frames
                && WriterWord::epochs_between(*author, upto) > 0
                && !word.died_among(self.epoch, *author)
        })
    }

    /// Tells an end. `words` are the writer's as of now.
    pub(crate) fn tell(&mut self, buffer: &Buffer, news: News, words: WriterWords) -> Error {
        let mut told = EndsTold {
            last: news.id.or(self.last),
            epoch: self.epoch,
            cleared: self.cleared,
            ..EndsTold::default()
        };
        let mut died = news.died;
        if let Some(WriterId::Ours { epoch: ended }) = news.id {
            // The last one's own fate is known; those of its predecessors are in its word, or its successor's.
            died |= words.word.died_among(self.epoch, WriterWord::epoch_before(ended));
            told.epoch = ended;
            if died && let Some(author) = self.closed_before_a_death(words.word, ended) {
                died = false;
                told.epoch = author;
                told.last = Some(WriterId::Ours { epoch: author });
            }
        }
        *self = told;
        end_of_writer(buffer, died)
    }

    /// Tells the end of the writer whose frames were read, or of writers that wrote nothing, as the next frame is another
    /// one's. That one's word is `next`, if the frame carries it; `words` are the last writer's.
    pub(crate) fn tell_restart(
        &mut self,
        buffer: &Buffer,
        next: Option<WriterWord>,
        words: WriterWords,
    ) -> Error {
        let (epoch, died) = match next {
            Some(next) => self.ends_before(next),
            None => self.an_end_before(words),
        };
        *self = EndsTold { frames: false, author: None, cleared: None, epoch, ..*self };
        end_of_writer(buffer, died)
    }

    /// Up to which writer ends are told before the first frame of the writer of `next`, and whether one of them died.
    fn ends_before(&self, next: WriterWord) -> (u32, bool) {
        let upto = WriterWord::epoch_before(next.epoch());
        if !next.died_among(self.epoch, upto) {
            return (upto, false);
        }
        match self.closed_before_a_death(next, upto) {
            Some(author) => (author, false),
            None => (upto, true),
        }
    }

    /// Up to which writer ends are told before the first frame of another writer in a classic ring, and as what. A frame does not
    /// say whose it is there: if several writers came and went, any of them but the last may be the one whose frames were read,
    /// so all of them count.
    fn an_end_before(&mut self, words: WriterWords) -> (u32, bool) {
        let word = words.word;
        let untold = WriterWord::epochs_between(self.epoch, word.epoch());
        let (writers, last, last_died) = match words.is_ours() {
            true => (untold.saturating_sub(1), WriterWord::epoch_before(word.epoch()), false),
            // A 1.x writer came after the last native one.
            false => (untold, word.epoch(), word.epoch() != 0 && !word.is_closed()),
        };
        if writers == 0 {
            return (self.epoch, self.cautious || words.is_ours() && word.predecessor_died());
        }
        let died = last_died || word.died_among(self.epoch, last);
        self.cautious |= died && writers > 1;
        (last, died || self.cautious)
    }
}

fn end_of_writer(buffer: &Buffer, died: bool) -> Error {
    let (kind, what) = match died {
        true => (ErrorKind::WriterDead, "the writer died; all that it had committed has been delivered"),
        false => (ErrorKind::WriterClosed, "the writer has closed; all that it wrote has been delivered"),
    };
    buffer.error(kind, format!("{what}: read again to wait for the next writer"))
}

/// How long a 1.x writer may write nothing, without its pid, before that counts as a close, while its process lives and has the
/// buffer mapped, as far as is known.
pub(crate) const CLEARED_GRACE: Duration = Duration::from_millis(500);

/// How long a 1.x writer may write nothing, without its pid, before that counts as a close, while its process lives and has not
/// mapped the buffer: a close that is real shall be told soon.
pub(crate) const UNMAPPED_GRACE: Duration = Duration::from_millis(30);

/// How often a reader that wakes makes sure that its names still lead to its buffer.
const NAMES_CHECK: Duration = Duration::from_secs(1);

/// Notices that another process removed or replaced the buffer's names, as 1.x readers do when they think its reader dead.
pub(crate) struct NamesWatch {
    checked: Instant,
    lost: bool,
}

impl NamesWatch {
    pub(crate) fn new() -> NamesWatch {
        NamesWatch { checked: Instant::now(), lost: false }
    }

    /// Fails if the names are lost and no writer is connected. Looks if the kernel has told of a change, and now and then.
    pub(crate) fn check(
        &mut self,
        buffer: &Buffer,
        files: &OwnedFiles,
        state: WriterState,
        renamed: bool,
    ) -> Result<()> {
        if !renamed && self.checked.elapsed() < NAMES_CHECK {
            return Ok(());
        }
        self.checked = Instant::now();
        if !matches!(files.have_their_name(buffer.name()), Ok(false)) {
            return Ok(());
        }
        if !matches!(state, WriterState::Alive(_)) {
            let message = "another process removed or replaced the buffer's files, so no writer can connect to it any \
                           more; close the reader and create the buffer again";
            return Err(buffer.error(ErrorKind::BufferNotFound, message));
        }
        if !std::mem::replace(&mut self.lost, true) {
            log::warn!(
                "buffer `{}`: another process removed or replaced its files; the connected writer goes on, but no \
                 other can connect",
                buffer.name()
            );
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_of_each_writer_that_left_frames_or_was_seen() {
        let [ours, later] = [1, 2].map(|epoch| WriterId::Ours { epoch });
        let foreign = WriterId::Foreign { pid: 1 };
        let told = || EndsTold { last: Some(ours), ..EndsTold::default() };
        let news = |mut told: EndsTold, state| told.news(state).map(|news| (news.id, news.died));
        assert_eq!(news(told(), WriterState::None), None, "no writer came");
        assert_eq!(news(told(), WriterState::Closed(ours)), None, "that was told");
        assert_eq!(news(told(), WriterState::Closed(later)), Some((Some(later), false)));
        assert_eq!(news(told(), WriterState::Dead(foreign)), Some((Some(foreign), true)));
        // A 1.x writer that came, wrote and closed between two looks has left its frames alone.
        let mut read = told();
        read.frame();
        assert_eq!(news(read, WriterState::None), Some((None, false)));
        assert_eq!(news(read, WriterState::Closed(ours)), Some((Some(ours), false)));
        // One that was seen and wrote nothing.
        let mut seen = told();
        assert!(seen.news(WriterState::Alive(foreign)).is_none());
        assert!(seen.is_foreign() && seen.begins(None), "no frames wait for their end");
        assert_eq!(news(seen, WriterState::None), Some((None, false)));
    }
}
