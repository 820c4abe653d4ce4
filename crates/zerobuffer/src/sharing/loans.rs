//! The books of a reader that lends its frames: to whom, and until when.
//!
//! A loan ends by evidence only: the output's tail has passed the reference, or the borrower's lock is free. It does not end
//! when the output's writer closes or connects to another buffer: the borrower may still look. When the reader closes, its
//! loans are forgotten and its tail stays where it is, as its writer may go on for some milliseconds.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, Weak};

use crate::buffer::{Buffer, HasBuffer};
use crate::error::Result;
use crate::layout::{BORROWER_ROLE_BYTE, BellLine, Cursor};
use crate::memory::Memory;
use crate::os::{self, FifoId, FileId};
use crate::peer_watch::PeerWatch;
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
    /// The reader is closed: there are no lanes any more, and no new ones.
    closed: bool,
    lanes: Vec<Lane>,
    /// The highest ticket that was lent.
    newest: u64,
}

/// An output through which a reader lends.
struct LentThrough(Arc<Buffer>);

impl LentThrough {
    fn new(output: &Arc<Buffer>) -> LentThrough {
        output.loans_bell.add_lender();
        LentThrough(Arc::clone(output))
    }
}

impl Drop for LentThrough {
    fn drop(&mut self) {
        self.0.loans_bell.remove_lender();
    }
}

impl std::ops::Deref for LentThrough {
    type Target = Arc<Buffer>;

    fn deref(&self) -> &Arc<Buffer> {
        &self.0
    }
}

/// The loans that went through one output.
struct Lane {
    output: LentThrough,
    /// The output's file, which shows the borrower's lock.
    segment: Arc<os::Segment>,
    /// Tells the lender of the borrower's end, from the first sleep on.
    watch: PeerWatch,
    lender: Weak<dyn HasBuffer>,
    /// Number of the offer.
    offer: u64,
    loans: VecDeque<Loan>,
    /// The borrower is gone, and does not come back: a buffer has one reader in its life.
    gone: bool,
    /// The coarse clock when the lock was tested last.
    checked: u64,
    /// What the output's doorbell said when this reader set it last.
    armed: Option<u32>,
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

    /// Begins to keep books of `lender`'s about an output, whose file is `segment`. Its writer makes `offer`. Returns
    /// whether it did: not if the lender has closed.
    pub(crate) fn open_lane(
        &self,
        lender: Weak<dyn HasBuffer>,
        output: &Arc<Buffer>,
        segment: &Arc<os::Segment>,
        offer: u64,
    ) -> bool {
        let mut books = self.books();
        if books.closed {
            return false;
        }
        match books.lanes.iter_mut().find(|lane| Arc::ptr_eq(&lane.output, output)) {
            Some(lane) => lane.offer = offer,
            None => books.lanes.push(Lane {
                output: LentThrough::new(output),
                segment: Arc::clone(segment),
                watch: PeerWatch::default(),
                lender,
                offer,
                loans: VecDeque::new(),
                gone: false,
                checked: 0,
                armed: None,
            }),
        }
        // Outputs that are done with: no writer has them any more.
        books.lanes.retain(|lane| !lane.loans.is_empty() || Arc::strong_count(&lane.output) > 1);
        true
    }

    /// Enters the loan of `ticket` to `output`; `commit` commits the reference, and returns the cursor behind it. `None` if
    /// nothing can be lent there (any more).
    ///
    /// The books are locked meanwhile, so no other thread sees the reference without its loan. Returns whether no older
    /// frame may be lent: a reader that sleeps does not listen to this borrower yet.
    pub(crate) fn enter(
        &self,
        output: *const Buffer,
        ticket: u64,
        commit: impl FnOnce() -> Result<Cursor>,
    ) -> Result<Option<bool>> {
        let mut books = self.books();
        let lane = books.lanes.iter_mut().find(|lane| Arc::as_ptr(&lane.output) == output);
        let Some(lane) = lane.filter(|lane| !lane.gone) else { return Ok(None) };
        let end = commit()?;
        lane.loans.push_back(Loan { end, ticket });
        lane.show_count();
        let is_oldest = !self.any() || ticket < books.newest;
        books.newest = ticket.max(books.newest);
        // Relaxed: the lock publishes the loan. After one that may be the oldest the caller wakes the lender, and the fence of that
        // pairs with that of arm(): a lender that arms sees this, or is woken.
        self.any.store(true, Ordering::Relaxed);
        Ok(Some(is_oldest))
    }

    /// Takes the loans that have ended out of the books, and hands their tickets to `ended`, which does not come back here. Tests the
    /// locks of those borrowers for whose output `surely` says so, of the others now and then.
    pub(crate) fn settle(&self, surely: impl Fn(&Arc<Buffer>) -> bool, mut ended: impl FnMut(u64)) {
        let mut books = self.books();
        for lane in &mut books.lanes {
            lane.settle(surely(&lane.output), &mut ended);
        }
        let any = books.lanes.iter().any(|lane| !lane.loans.is_empty());
        // Relaxed: a hint; the books under the lock decide.
        self.any.store(any, Ordering::Relaxed);
    }

    /// Whether something was given back since the last settlement.
    pub(crate) fn has_returned(&self) -> bool {
        self.any() && self.books().lanes.iter().any(Lane::has_returned)
    }

    /// The loan of the oldest frame that is lent: of several, to the output that was added last, whose borrower was told last.
    pub(crate) fn oldest(&self) -> Option<OldestLoan> {
        let books = self.books();
        let oldest_of = |lane: &Lane| {
            lane.loans.iter().min_by_key(|loan| loan.ticket).map(|loan| (loan.ticket, loan.end))
        };
        let lanes = books.lanes.iter().rev().filter_map(|lane| oldest_of(lane).map(|oldest| (oldest, lane)));
        let ((_, end), lane) = lanes.min_by_key(|((ticket, _), _)| *ticket)?;
        Some(OldestLoan { output: Arc::clone(&lane.output), end })
    }

    /// Sets the doorbell that the borrower of `loan` rings, for a reader that sleeps. Returns what it says, `None` if it is not this
    /// reader's any more; and whether the watcher tells the reader of that borrower's end. Comes before the test of its lock.
    pub(crate) fn arm_for(&self, loan: &OldestLoan) -> (Option<u32>, bool) {
        let mut books = self.books();
        let lane = books.lanes.iter_mut().find(|lane| Arc::ptr_eq(&lane.output, &loan.output));
        let arm = |lane: &mut Lane| {
            lane.arm_to_sleep();
            (lane.armed, lane.watch.stands_over_borrower(&lane.lender, &lane.segment))
        };
        lane.map_or((None, false), arm)
    }

    /// Whether `loan` is still in the books.
    pub(crate) fn is_lent(&self, loan: &OldestLoan) -> bool {
        let books = self.books();
        let lane = books.lanes.iter().find(|lane| Arc::ptr_eq(&lane.output, &loan.output));
        lane.is_some_and(|lane| lane.loans.iter().any(|other| other.end == loan.end))
    }

    /// Hands over the outputs through which something is lent: their borrowers ring when they give it back. Returns whether
    /// the watcher tells the lender of each borrower's end. Comes before the locks are tested.
    pub(crate) fn for_each_output(&self, mut each: impl FnMut(&Arc<Buffer>)) -> bool {
        let mut told = true;
        if !self.any() {
            return told;
        }
        for lane in self.books().lanes.iter_mut().filter(|lane| !lane.loans.is_empty()) {
            told &= lane.watch.stands_over_borrower(&lane.lender, &lane.segment);
            each(&lane.output);
        }
        told
    }

    /// Arms the doorbells of what is lent for the reader's descriptor, whose FIFO is `fifo`.
    pub(crate) fn arm(&self, fifo: Option<FifoId>) {
        for lane in self.books().lanes.iter_mut().filter(|lane| !lane.loans.is_empty()) {
            stop_point!("sharing:arm");
            lane.arm_for_descriptor(fifo);
        }
    }

    /// Whether each doorbell of what is lent is armed, or needs not be.
    pub(crate) fn are_armed(&self) -> bool {
        let lent = |lane: &&Lane| !lane.loans.is_empty() && !lane.output.has_left();
        !self.any() || self.books().lanes.iter().filter(lent).all(Lane::is_armed)
    }

    /// The reader closes. The doorbells stay as they are: a borrower that rings one wakes no one.
    pub(crate) fn close(&self) {
        let mut books = self.books();
        books.closed = true;
        let lanes = std::mem::take(&mut books.lanes);
        // Relaxed: a hint; the books under the lock decide.
        self.any.store(false, Ordering::Relaxed);
        drop(books);
        drop(lanes);
    }
}

/// The loan whose end a lender waits for.
pub(crate) struct OldestLoan {
    output: Arc<Buffer>,
    end: Cursor,
}

impl OldestLoan {
    pub(crate) fn output(&self) -> &Arc<Buffer> {
        &self.output
    }

    /// Whether the frame was given back. A wrong `no` is harmless.
    pub(crate) fn has_returned(&self) -> bool {
        has_passed(&self.output, self.end)
    }
}

/// Whether the tail of `output` has passed `end`. A wrong `no` is harmless.
fn has_passed(output: &Buffer, end: Cursor) -> bool {
    // Acquire pairs with the borrower's Release store in ReleaseQueue::give_back: it has read the bytes that the source's
    // writer overwrites soon.
    end.is_passed_by(Cursor(output.mapping.control().read.tail.load(Ordering::Acquire)))
}

impl Lane {
    fn has_returned(&self) -> bool {
        self.loans.front().is_some_and(|loan| has_passed(&self.output, loan.end))
    }

    /// Whether the doorbell still says what this reader has set it to, for its descriptor.
    fn is_armed(&self) -> bool {
        self.has_set(doorbell::is_armed)
    }

    fn arm_for_descriptor(&mut self, fifo: Option<FifoId>) {
        let line = self.output.loans_line();
        self.armed = line.and_then(|line| self.output.loans_bell.arm_for_descriptor(line, fifo));
    }

    /// Sets the doorbell for a sleep, unless that was done and nothing has changed since.
    fn arm_to_sleep(&mut self) {
        if self.output.has_left() || !self.has_set(|bell| !doorbell::is_armed(bell)) {
            self.armed = self.output.loans_line().and_then(|line| self.output.loans_bell.arm_to_sleep(line));
        }
    }

    /// Whether the doorbell still says what this reader has set it to, and that is something to `be`.
    fn has_set(&self, be: impl FnOnce(u32) -> bool) -> bool {
        // Acquire: a publisher's byte that was just taken out of the FIFO came behind its change of the doorbell.
        let says = |line: &BellLine| Some(line.bell.load(Ordering::Acquire)) == self.armed;
        self.armed.is_some_and(be) && self.output.loans_line().is_some_and(says)
    }

    fn settle(&mut self, surely: bool, ended: &mut impl FnMut(u64)) {
        let before = self.loans.len();
        while let Some(loan) = self.loans.front().filter(|loan| has_passed(&self.output, loan.end)) {
            ended(loan.ticket);
            self.loans.pop_front();
        }
        if !self.loans.is_empty() {
            let now = os::coarse_now();
            if surely || now.saturating_sub(self.checked) >= LOCK_CHECK {
                self.checked = now;
                if matches!(self.segment.role_is_held(BORROWER_ROLE_BYTE), Ok(false)) {
                    self.gone = true;
                    self.watch.end();
                    self.loans.drain(..).for_each(|loan| ended(loan.ticket));
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
