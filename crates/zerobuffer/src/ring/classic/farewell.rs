//! How a writer's close reaches a 1.x reader that waits for a frame.
//!
//! A 1.x reader looks at the writer's pid only when its wait ends: with its time-out, or with a token. While a pid is there, it
//! takes a token for a frame. So a token that stands for a close must never be left for later. It is posted to a reader that waits
//! at this moment and has read everything. The writer keeps its role until the token was taken, so no native writer connects
//! meanwhile, and takes the token back if a 1.x writer does, or if the reader stands still.

use std::time::Duration;

use crate::buffer::Buffer;
use crate::sync::Ordering;
use crate::testing::stop::stop_point;
use crate::wait::Deadline;

/// How long a closing writer waits for the reader to have read everything and wait for more, and then for it to take the token.
const LINGER: Duration = Duration::from_millis(20);

/// How long the writer keeps its role once the token is taken: until the reader has looked at the pid.
const SETTLE: Duration = Duration::from_millis(10);

/// Pause between two looks at the semaphore.
const PAUSE: Duration = Duration::from_micros(500);

/// Wakes the 1.x reader, if it waits. The writer's pid is cleared, and its role is held.
pub(crate) fn wake_reader(buffer: &Buffer) {
    let deadline = Deadline::after(LINGER);
    while !waits_for_more(buffer) {
        if !is_alone(buffer) || !deadline.pause(PAUSE) {
            return;
        }
    }
    if !is_alone(buffer) {
        return;
    }
    stop_point!("close:tell-reader");
    buffer.sem_w.post();
    let deadline = Deadline::after(LINGER);
    while buffer.sem_w.value() > 0 {
        if !is_alone(buffer) || !deadline.pause(PAUSE) {
            stop_point!("close:take-back");
            buffer.sem_w.try_wait();
            return;
        }
    }
    std::thread::sleep(SETTLE);
}

/// Whether no other writer has connected.
fn is_alone(buffer: &Buffer) -> bool {
    // Acquire pairs with the store by which a writer that connects shows its pid.
    buffer.mapping.oieb().writer_pid.load(Ordering::Acquire) == 0
}

/// Whether the reader waits, and will take a token for a close: it compares the counts.
fn waits_for_more(buffer: &Buffer) -> bool {
    let oieb = buffer.mapping.oieb();
    // Acquire pairs with the reader's stores, the addition last.
    let free = oieb.payload_free_bytes.load(Ordering::Acquire);
    let read = oieb.payload_read_count.load(Ordering::Acquire);
    // Relaxed: only this writer stores it.
    let written = oieb.payload_written_count.load(Ordering::Relaxed);
    free == buffer.mapping.geometry().payload_size
        && written <= read
        && buffer.sem_w.value() == 0
        && buffer.sem_w.waiters() > 0
}
