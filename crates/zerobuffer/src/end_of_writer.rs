//! What a reader knows of its writers: which of their ends it has told, and which it is to tell next.

use std::time::{Duration, Instant};

use crate::buffer::Buffer;
use crate::error::{Error, ErrorKind, Result};
use crate::lifecycle::liveness::{WriterId, WriterState, WriterWords};
use crate::lifecycle::registry::OwnedFiles;

/// Which writers' ends have been told.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct EndsTold {
    /// The last writer whose end was told.
    last: Option<WriterId>,
    /// A 1.x writer has been seen whose end was not told.
    foreign: bool,
    /// Frames were delivered since the last end was told.
    frames: bool,
    /// The ends of native writers up to this epoch have been told. Ends that fall together are told as one, and a death
    /// among them as a death.
    epoch: u32,
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

    /// Whether frames of a writer were delivered whose end was not told.
    pub(crate) fn owes_end(&self) -> bool {
        self.frames
    }

    /// Whether the frames being read may be a 1.x writer's.
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// The end that the writer's state shows and that was not told, if any.
    pub(crate) fn news(&mut self, state: WriterState) -> Option<News> {
        let (id, died) = match state {
            WriterState::Alive(id) => {
                self.foreign |= matches!(id, WriterId::Foreign { .. });
                return None;
            }
            WriterState::Dead(id) => (Some(id), true),
            WriterState::Closed(id) => (Some(id), false),
            WriterState::None => (None, false),
        };
        let is_new = self.frames || self.foreign || (id.is_some() && id != self.last);
        is_new.then_some(News { id, died })
    }

    /// Tells an end. `words` are the writer's as of now.
    pub(crate) fn tell(&mut self, buffer: &Buffer, news: News, words: WriterWords) -> Error {
        let mut died = news.died;
        let mut epoch = self.epoch;
        if let Some(WriterId::Ours { epoch: ended }) = news.id {
            // The last one's own fate is known; those of its predecessors are in its word, or its successor's.
            died |= words.word.died_among(epoch, ended.saturating_sub(1));
            epoch = ended;
        }
        *self = EndsTold { last: news.id.or(self.last), foreign: false, frames: false, epoch };
        end_of_writer(buffer, died)
    }

    /// Tells the end of the writer whose frames were read, as the next frame is another one's. `words` are the last writer's.
    ///
    /// Which writers ended here is not known exactly if several came and went since the last end was told: some may have
    /// written nothing. So all but the last one are taken together.
    pub(crate) fn tell_restart(&mut self, buffer: &Buffer, words: WriterWords) -> Error {
        let epoch = words.word.epoch().saturating_sub(1);
        let died = if epoch > self.epoch {
            words.word.died_among(self.epoch, epoch)
        } else {
            words.word.predecessor_died()
        };
        *self = EndsTold { frames: false, epoch: epoch.max(self.epoch), ..*self };
        end_of_writer(buffer, words.is_ours() && died)
    }
}

fn end_of_writer(buffer: &Buffer, died: bool) -> Error {
    let (kind, what) = match died {
        true => (ErrorKind::WriterDead, "the writer died; all that it had committed has been delivered"),
        false => (ErrorKind::WriterClosed, "the writer has closed; all that it wrote has been delivered"),
    };
    buffer.error(kind, format!("{what}: read again to wait for the next writer"))
}

/// How often a waiting reader makes sure that its names still lead to its buffer.
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

    /// Fails if the names are lost and no writer is connected.
    pub(crate) fn check(&mut self, buffer: &Buffer, files: &OwnedFiles, state: WriterState) -> Result<()> {
        if self.checked.elapsed() < NAMES_CHECK {
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
    fn an_end_is_told_of_whoever_left_frames_or_was_seen() {
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
        assert!(seen.is_foreign() && !seen.owes_end());
        assert_eq!(news(seen, WriterState::None), Some((None, false)));
    }
}
