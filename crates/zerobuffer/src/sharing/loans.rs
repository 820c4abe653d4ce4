//! The books of a reader that lends its frames: to whom, and until when.
//!
//! A loan ends by evidence only: the output's tail has passed the reference, or the borrower's lock is free. It does not end
//! when the output's writer closes or connects to another buffer: the borrower may still look. When the reader closes, its
//! loans are forgotten and its tail stays where it is, as its writer may go on for some milliseconds.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use crate::buffer::Buffer;
use crate::error::Result;
use crate::layout::{BORROWER_ROLE_BYTE, Cursor};
use crate::memory::Memory;
use crate::os::{self, FileId};
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering};
use crate::testing::stop::stop_point;
use crate::wait::doorbell;

/// How often the borrower's lock is tested while loans are given to it, in nanoseconds.
const LOCK_CHECK: u64 = 5_000_000;

/// What a reader has lent.
pub(crate) struct Loans {
    /// The file of the reader's buffer; `None` if it does not lend.
    file: Option<FileId>,
    /// There are loans.
    any: AtomicBool,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    /// The reader is closed: nothing more is lent, and nothing that was lent is given back.
    closed: bool,
    lanes: Vec<Lane>,
}

/// The loans that went through one output.
struct Lane {
    output: Arc<Buffer>,
    /// Sees the borrower's lock.
    view: os::LockView,
    /// Number of the offer.
    offer: u64,
    loans: VecDeque<Loan>,
    /// The borrower is gone, and does not come back: a buffer has one reader in its life.
    gone: bool,
    /// The coarse clock when the lock was tested last.
    checked: u64,
}

struct Loan {
    /// Behind the reference, in the output.
    end: Cursor,
    /// The frame's ticket in the release queue.
    ticket: u64,
}

impl Loans {
    pub(crate) fn new(file: Option<FileId>) -> Loans {
        Loans { file, any: AtomicBool::new(false), books: Mutex::new(Books::default()) }
    }

    /// The file that is offered, if the reader lends.
    pub(crate) fn file(&self) -> Option<FileId> {
        self.file
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing in the critical sections panics half-way through a change, so poisoned books are still whole.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something is lent; may be wrong for a moment.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        // Relaxed: a hint, and settle() looks under the lock.
        self.any.load(Ordering::Relaxed)
    }

    /// Whether the reader has closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.books().closed
    }

    /// Begins to keep books about an output. Its writer makes `offer`.
    pub(crate) fn open_lane(&self, output: &Arc<Buffer>, view: os::LockView, offer: u64) {
        let mut books = self.books();
        let fresh =
            Lane { output: Arc::clone(output), view, offer, loans: VecDeque::new(), gone: false, checked: 0 };
        match books.lanes.iter_mut().find(|lane| Arc::ptr_eq(&lane.output, output)) {
            Some(lane) => (lane.view, lane.offer) = (fresh.view, offer),
            None => books.lanes.push(fresh),
        }
        // Outputs that are done with: no writer has them any more.
        books.lanes.retain(|lane| !lane.loans.is_empty() || Arc::strong_count(&lane.output) > 1);
    }

    /// Enters the loan of `ticket` to `output`; `commit` commits the reference, and returns the cursor behind it. `None` if
    /// nothing can be lent there (any more).
    ///
    /// The books are locked meanwhile, so no other thread sees the reference without its loan. Returns whether nothing was lent before.
    pub(crate) fn enter(
        &self,
        output: &Arc<Buffer>,
        ticket: u64,
        commit: impl FnOnce() -> Result<Cursor>,
    ) -> Result<Option<bool>> {
        let mut books = self.books();
        if books.closed {
            return Ok(None);
        }
        let lane = books.lanes.iter_mut().find(|lane| Arc::ptr_eq(&lane.output, output));
        let Some(lane) = lane.filter(|lane| !lane.gone) else { return Ok(None) };
        let end = commit()?;
        lane.loans.push_back(Loan { end, ticket });
        lane.show_count();
        Ok(Some(!self.any.swap(true, Ordering::Relaxed)))
    }

    /// Takes the loans that have ended out of the books; returns their tickets. Tests the borrowers' locks if `surely`, else now and then.
    pub(crate) fn settle(&self, surely: bool) -> Vec<u64> {
        let mut ended = Vec::new();
        let mut books = self.books();
        if books.closed {
            return ended;
        }
        for lane in &mut books.lanes {
            lane.settle(surely, &mut ended);
        }
        let any = books.lanes.iter().any(|lane| !lane.loans.is_empty());
        self.any.store(any, Ordering::Relaxed);
        ended
    }

    /// Whether a loan may have ended since the last settlement.
    pub(crate) fn has_news(&self) -> bool {
        let books = self.books();
        books.lanes.iter().any(|lane| lane.loans.front().is_some_and(|loan| lane.has_passed(loan.end)))
    }

    /// Outputs, `most` at most, in which something is lent: their borrowers ring when they give it back.
    pub(crate) fn outputs(&self, most: usize) -> Vec<Arc<Buffer>> {
        let books = self.books();
        let lanes = books.lanes.iter().filter(|lane| !lane.loans.is_empty());
        lanes.take(most).map(|lane| Arc::clone(&lane.output)).collect()
    }

    /// The reader closes.
    pub(crate) fn close(&self) {
        let mut books = self.books();
        books.closed = true;
        let lanes = std::mem::take(&mut books.lanes);
        self.any.store(false, Ordering::Relaxed);
        drop(books);
        for lane in &lanes {
            if let Some(sharing) = lane.output.mapping.sharing() {
                doorbell::set(&sharing.loans.loans_bell.bell, 0);
            }
        }
    }
}

impl Lane {
    /// Whether the output's tail has passed `end`. A wrong `no` is harmless.
    fn has_passed(&self, end: Cursor) -> bool {
        // Acquire pairs with the borrower's Release store in ReleaseQueue::give_back: it has read the bytes that the source's
        // writer overwrites soon.
        let tail = Cursor(self.output.mapping.control().read.tail.load(Ordering::Acquire));
        end.is_passed_by(tail)
    }

    fn settle(&mut self, surely: bool, ended: &mut Vec<u64>) {
        let before = self.loans.len();
        while let Some(loan) = self.loans.front().filter(|loan| self.has_passed(loan.end)) {
            ended.push(loan.ticket);
            self.loans.pop_front();
        }
        if !self.loans.is_empty() {
            let now = os::coarse_now();
            if surely || now.saturating_sub(self.checked) >= LOCK_CHECK {
                self.checked = now;
                if matches!(self.view.role_is_held(BORROWER_ROLE_BYTE), Ok(false)) {
                    self.gone = true;
                    ended.extend(self.loans.drain(..).map(|loan| loan.ticket));
                }
            }
        }
        if self.loans.len() != before {
            self.show_count();
        }
    }

    /// Shows tools how much is lent.
    fn show_count(&self) {
        let Some(sharing) = self.output.mapping.sharing() else { return };
        // Relaxed throughout: figures. Another writer of the output has other loans.
        if sharing.offer.offer.load(Ordering::Relaxed) == self.offer {
            stop_point!("sharing:count");
            sharing.offer.payload_share_count.store(self.loans.len() as u64, Ordering::Relaxed);
        }
    }
}
