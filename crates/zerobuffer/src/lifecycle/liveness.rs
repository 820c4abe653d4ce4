//! Who is alive, and who owns a role.
//!
//! Between two native peers the answer is a kernel lock on one byte of the segment per role. It is atomic,
//! visible across users and namespaces, and dropped by the kernel however the process ends. For 1.x peers the
//! answer is their pid, best effort.

use std::io;

use crate::layout::{
    ExtensionWord, KEEPER_ROLE_BYTE, Oieb, OiebCopy, READER_ROLE_BYTE, ReaderWord, WRITER_ROLE_BYTE,
    WriterWord,
};
use crate::os;
use crate::sync::Ordering;

/// Identifies a writer, so that its end is reported once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriterId {
    /// A native writer, by its epoch.
    Ours { epoch: u32 },
    /// A 1.x writer, by its pid.
    Foreign { pid: u64 },
}

/// The state of the writer, for a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriterState {
    /// There is no pid, and there was no native writer.
    None,
    Alive(WriterId),
    /// It closed. A 1.x writer that closed leaves no trace, so the state is that before it.
    Closed(WriterId),
    Dead(WriterId),
}

/// The state of the reader, for a writer or a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReaderState {
    Alive,
    /// It closed its handle.
    Closed,
    Dead,
}

/// A file through which role locks can be tested.
pub(crate) trait RoleProbe {
    fn role_is_held(&self, byte: i64) -> io::Result<bool>;
}

impl RoleProbe for os::LockFile {
    fn role_is_held(&self, byte: i64) -> io::Result<bool> {
        os::LockFile::role_is_held(self, byte)
    }
}

impl RoleProbe for os::LockView {
    fn role_is_held(&self, byte: i64) -> io::Result<bool> {
        os::LockView::role_is_held(self, byte)
    }
}

impl RoleProbe for os::Segment {
    fn role_is_held(&self, byte: i64) -> io::Result<bool> {
        os::Segment::role_is_held(self, byte)
    }
}

/// The words that identify the writer. They are read together and judged together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WriterWords {
    pub(crate) pid: u64,
    pub(crate) word: WriterWord,
    /// The ring is extended: its writers are native, whatever the pid says.
    pub(crate) extended: bool,
}

impl WriterWords {
    pub(crate) fn load(oieb: &Oieb) -> WriterWords {
        // Acquire pairs with the Release stores in Writer's connect and close.
        let word = WriterWord(oieb.writer_word.load(Ordering::Acquire));
        let pid = oieb.writer_pid.load(Ordering::Acquire);
        let extended = ExtensionWord(oieb.extension.load(Ordering::Acquire)).is_extended();
        WriterWords { pid, word, extended }
    }

    /// The words in a copy of the first block.
    pub(crate) fn of(oieb: &OiebCopy) -> WriterWords {
        let extended = oieb.extension.is_extended() && oieb.reader_word.is_ours();
        WriterWords { pid: oieb.writer_pid, word: oieb.writer_word, extended }
    }

    /// The pid of the last writer, 0 if it has closed. In an extended ring `writer_pid` is the reader's pid,
    /// which keeps 1.x writers out.
    pub(crate) fn shown_pid(self) -> u64 {
        match self.extended {
            false => self.pid,
            true if self.word.is_closed() => 0,
            true => u64::from(self.word.pid()),
        }
    }

    /// Whether the last writer was a native one, alive or not.
    pub(crate) fn is_ours(self) -> bool {
        // A native writer clears its pid before it sets "closed".
        let own = !self.word.is_closed() && self.pid == u64::from(self.word.pid());
        self.word.epoch() != 0 && (self.extended || self.pid == 0 || own)
    }

    /// The state of a writer whose role lock is known to be free.
    fn without_lock(self) -> WriterState {
        let WriterWords { pid, word, extended } = self;
        let ours = WriterId::Ours { epoch: word.epoch() };
        // writer_pid alone proves nothing about a native writer: 1.x peers overwrite it or set it to 0.
        if self.is_ours() {
            return if word.is_closed() { WriterState::Closed(ours) } else { WriterState::Dead(ours) };
        }
        match pid {
            _ if extended => WriterState::None,
            0 => WriterState::None,
            pid if os::process_exists(pid) => WriterState::Alive(WriterId::Foreign { pid }),
            pid => WriterState::Dead(WriterId::Foreign { pid }),
        }
    }
}

/// How often changing words are read again before they are judged as they are. Honest peers connect and close
/// rarely; only hostile memory changes all the time.
const LOOKS: u32 = 1000;

/// Judges the writer.
pub(crate) fn writer_state(
    mut words: impl FnMut() -> io::Result<WriterWords>,
    probe: &impl RoleProbe,
) -> io::Result<WriterState> {
    // A writer takes the lock before it stores its words, and drops it after it stored "closed". So if the
    // words are equal before and after a second look at the free lock, they belong to a writer that does not
    // hold it.
    let mut seen = words()?;
    for _ in 0..LOOKS {
        if probe.role_is_held(WRITER_ROLE_BYTE)? {
            return Ok(WriterState::Alive(WriterId::Ours { epoch: words()?.word.epoch() }));
        }
        let again = words()?;
        if again == seen {
            break;
        }
        seen = again;
    }
    Ok(seen.without_lock())
}

/// Judges the reader.
pub(crate) fn reader_state(
    mut words: impl FnMut() -> io::Result<(u64, ReaderWord)>,
    probe: &impl RoleProbe,
) -> io::Result<ReaderState> {
    let mut seen = words()?;
    for _ in 0..LOOKS {
        if probe.role_is_held(READER_ROLE_BYTE)? {
            return Ok(ReaderState::Alive);
        }
        if seen.1.is_kept() && probe.role_is_held(KEEPER_ROLE_BYTE)? {
            return Ok(ReaderState::Alive);
        }
        // A reader that takes over a kept buffer locks the reader's role first and then clears the bit. So if
        // the words are equal before and after the looks at free locks, they belong to a process that holds
        // neither lock.
        let again = words()?;
        if again == seen {
            break;
        }
        seen = again;
    }
    // A native reader holds its lock before its buffer has a name, so a free lock means that the reader is
    // gone.
    let (pid, word) = seen;
    Ok(match pid {
        0 => ReaderState::Closed,
        _ if word.is_ours() => ReaderState::Dead,
        pid if os::process_exists(pid) => ReaderState::Alive,
        _ => ReaderState::Dead,
    })
}

/// Whether a live keeper holds the buffer, so that a reader may take it over.
pub(crate) fn is_kept(word: ReaderWord, probe: &impl RoleProbe) -> io::Result<bool> {
    Ok(word.is_kept() && probe.role_is_held(KEEPER_ROLE_BYTE)? && !probe.role_is_held(READER_ROLE_BYTE)?)
}

/// The words that `reader_state` judges, from a mapped block.
pub(crate) fn reader_words(oieb: &Oieb) -> (u64, ReaderWord) {
    // Acquire pairs with the Release stores at creation and close.
    let word = ReaderWord(oieb.reader_word.load(Ordering::Acquire));
    (oieb.reader_pid.load(Ordering::Acquire), word)
}
