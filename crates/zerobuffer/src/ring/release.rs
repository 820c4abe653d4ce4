//! The queue of what was read and not given back, for rings of either kind: frames are released in any order, and go back in
//! ring order only (spec failure 2).

use std::collections::VecDeque;

/// Entries in ring order, each released or not.
pub(crate) struct InOrder<T> {
    entries: VecDeque<(T, bool)>,
    /// Ticket of the oldest entry.
    first: u64,
}

impl<T> InOrder<T> {
    pub(crate) fn new() -> InOrder<T> {
        InOrder { entries: VecDeque::new(), first: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, oldest first, each with whether it is released.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(T, bool)> {
        self.entries.iter()
    }

    /// Appends an entry and returns its ticket.
    pub(crate) fn push(&mut self, entry: T, released: bool) -> u64 {
        self.entries.push_back((entry, released));
        self.first + (self.entries.len() as u64 - 1)
    }

    /// What was pushed for `ticket`, if it has not been taken out.
    pub(crate) fn get(&mut self, ticket: u64) -> Option<&mut T> {
        self.entry(ticket).map(|(entry, _)| entry)
    }

    /// Takes the newest entry out, if it is that of `ticket`.
    pub(crate) fn pop_newest(&mut self, ticket: u64) {
        if self.first + self.entries.len() as u64 == ticket.wrapping_add(1) {
            self.entries.pop_back();
        }
    }

    /// Marks the entry of `ticket` released.
    pub(crate) fn release(&mut self, ticket: u64) {
        match self.entry(ticket) {
            Some((_, released)) => *released = true,
            None => debug_assert!(false, "ticket {ticket} released twice"),
        }
    }

    /// Changes the entry of `ticket`.
    pub(crate) fn change(&mut self, ticket: u64, change: impl FnOnce(&mut T)) {
        if let Some((entry, _)) = self.entry(ticket) {
            change(entry);
        }
    }

    fn entry(&mut self, ticket: u64) -> Option<&mut (T, bool)> {
        let index = ticket.wrapping_sub(self.first);
        usize::try_from(index).ok().and_then(|index| self.entries.get_mut(index))
    }

    /// Takes the oldest entry, if it is released.
    pub(crate) fn pop_released(&mut self) -> Option<T> {
        self.entries.front().filter(|(_, released)| *released)?;
        self.first += 1;
        self.entries.pop_front().map(|(entry, _)| entry)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::InOrder;

    #[test]
    fn entries_come_back_in_order_whatever_the_order_of_release() {
        let mut queue = InOrder::new();
        let tickets: Vec<u64> = (0..4).map(|entry| queue.push(entry, entry == 3)).collect();
        assert_eq!(queue.pop_released(), None);
        queue.release(tickets[1]);
        assert_eq!(queue.pop_released(), None, "its elder is held");
        queue.release(tickets[0]);
        assert_eq!(
            [queue.pop_released(), queue.pop_released(), queue.pop_released()],
            [Some(0), Some(1), None]
        );
        let later = queue.push(4, false);
        queue.release(tickets[2]);
        queue.release(later);
        assert_eq!(std::iter::from_fn(|| queue.pop_released()).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(queue.is_empty());
    }
}
