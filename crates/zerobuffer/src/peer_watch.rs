//! What the watcher does for a reader or a writer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::buffer::{HasBuffer, Side};
use crate::layout::{BORROWER_ROLE_BYTE, KEEPER_ROLE_BYTE, READER_ROLE_BYTE, WRITER_ROLE_BYTE};
use crate::os;
use crate::wait::watcher::{PeerLook, Registration, Watched};

/// One side's eye on the other one's role.
struct PeerRole {
    buffer: Arc<dyn HasBuffer>,
    /// An open file of the buffer that holds no role.
    segment: Arc<os::Segment>,
    /// The number of the last close after which the peer was found gone. Relaxed, as `stranger`: only the watcher's thread uses them.
    left: AtomicU64,
    /// The last 1.x writer that was found connected, until none is.
    stranger: AtomicU64,
}

impl Watched for PeerRole {
    fn look(&self, close: u64) -> PeerLook {
        let held = |byte| self.segment.role_is_held(byte).unwrap_or(true);
        let buffer = self.buffer.buffer();
        let strangers = self.awaits_strangers();
        let peer_lives = match buffer.side() {
            Side::Reader => held(WRITER_ROLE_BYTE),
            Side::Writer => held(READER_ROLE_BYTE) || held(KEEPER_ROLE_BYTE),
        };
        if strangers {
            let stranger = buffer.stranger(peer_lives);
            if self.stranger.swap(stranger, Ordering::Relaxed) != stranger && stranger != 0 {
                return PeerLook::Came;
            }
            if !peer_lives {
                let is_known = close == 0 || self.left.swap(close, Ordering::Relaxed) == close;
                return if is_known { PeerLook::Quiet } else { PeerLook::Left };
            }
        }
        match peer_lives {
            false => PeerLook::Gone,
            true if buffer.may_sleep_in_vain() => PeerLook::Unsettled,
            true => PeerLook::Quiet,
        }
    }

    fn awaits_strangers(&self) -> bool {
        !self.buffer.buffer().mapping.is_extended()
    }

    fn tell(&self, names: bool) {
        self.buffer.buffer().tell_news(names);
    }
}

/// A lender's eye on the role of who borrows from it.
struct BorrowerRole {
    lender: Weak<dyn HasBuffer>,
    /// An open file of the output that holds no role.
    output: Arc<os::Segment>,
}

impl Watched for BorrowerRole {
    fn look(&self, _: u64) -> PeerLook {
        let is_held = self.output.role_is_held(BORROWER_ROLE_BYTE).unwrap_or(true);
        if is_held { PeerLook::Quiet } else { PeerLook::Gone }
    }

    fn awaits_strangers(&self) -> bool {
        false
    }

    fn tell(&self, names: bool) {
        // The output's name is no business of the lender's.
        if !names && let Some(lender) = self.lender.upgrade() {
            lender.buffer().tell_news(false);
        }
    }
}

/// How long to do without the watcher after it could not be had, in nanoseconds.
const RETRY: u64 = 1_000_000_000;

/// The watch of a handle over its peer, which begins with the first sleep.
#[derive(Default)]
pub(crate) struct PeerWatch {
    registration: Option<Registration>,
    /// The coarse clock when it could not be had.
    failed: Option<u64>,
}

impl PeerWatch {
    /// Whether the watcher tells this handle when its peer may have gone; sets the watch if there is none. Comes before the judgement of the
    /// peer that precedes a sleep.
    pub(crate) fn stands(
        &mut self,
        buffer: &Arc<impl HasBuffer + 'static>,
        segment: &Arc<os::Segment>,
    ) -> bool {
        if self.registration.is_some() {
            return true;
        }
        let [left, stranger] = [0, 0].map(AtomicU64::new);
        let role = || PeerRole { buffer: buffer.clone(), segment: Arc::clone(segment), left, stranger };
        let begun = self.begin(segment, role);
        if begun {
            // What happened to the name before is news too.
            buffer.buffer().note_renamed();
        }
        begun
    }

    /// Whether the watcher tells `lender` when the one who borrows through `output` may have gone; sets the watch if there is none.
    /// Comes before the look at the borrower's lock that precedes a sleep.
    pub(crate) fn stands_over_borrower(
        &mut self,
        lender: &Weak<dyn HasBuffer>,
        output: &Arc<os::Segment>,
    ) -> bool {
        let role = || BorrowerRole { lender: Weak::clone(lender), output: Arc::clone(output) };
        self.registration.is_some() || self.begin(output, role)
    }

    /// Sets the watch over `segment`, unless that failed a moment ago. Returns whether it stands.
    fn begin<T: Watched + 'static>(&mut self, segment: &os::Segment, role: impl FnOnce() -> T) -> bool {
        let now = os::coarse_now();
        if self.failed.is_some_and(|at| now.saturating_sub(at) < RETRY) {
            return false;
        }
        match Registration::new(segment, Arc::new(role())) {
            Ok(registration) => {
                self.registration = Some(registration);
                self.failed = None;
                true
            }
            Err(error) => {
                self.failed = Some(now);
                say_once(&error);
                false
            }
        }
    }

    /// Ends the watch, before this side's own files are closed.
    pub(crate) fn end(&mut self) {
        self.registration = None;
    }
}

/// How long a sleeper may sleep without the watcher.
pub(crate) fn slice(stands: bool, slice: Duration) -> Duration {
    if stands { Duration::MAX } else { slice }
}

fn say_once(error: &std::io::Error) {
    static SAID: std::sync::Once = std::sync::Once::new();
    SAID.call_once(|| {
        log::warn!(
            "this process cannot watch its peers ({error}), so waits look at them every 20 ms: raise \
             fs.inotify.max_user_instances or max_user_watches, or mount /proc"
        );
    });
}
