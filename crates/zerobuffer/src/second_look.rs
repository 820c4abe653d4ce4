//! The second look at armed descriptors: an owner's barrier may miss a processor (docs/PROTOCOL.md), whose stores are long seen
//! [`SECOND_LOOK`] later.
//!
//! One thread of the process looks for all descriptors, at most once in that time. It sleeps without a limit while none is armed. A
//! forked child starts its own.

use std::io::Result;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, Weak};

use crate::buffer::HasBuffer;
use crate::os;
use crate::sync::Ordering;
use crate::wait::doorbell::{self, SECOND_LOOK};

/// A descriptor, and which arming of it is looked at.
type Armed = (Weak<dyn HasBuffer>, u32);

#[derive(Default)]
struct State {
    armed: Vec<Armed>,
    /// The thread runs, or is being started.
    started: bool,
    /// The thread sleeps until there is something.
    idle: bool,
}

#[derive(Default)]
struct SecondLooks {
    state: Mutex<State>,
    changed: Condvar,
}

static SECOND_LOOKS: os::OfProcess<SecondLooks> = os::OfProcess::new();

impl SecondLooks {
    fn of_process() -> Result<&'static SecondLooks> {
        SECOND_LOOKS.get_or_make(|| Ok(SecondLooks::default()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread.
    fn run(&self) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.state();
            while state.armed.is_empty() {
                state.idle = true;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.idle = false;
            std::mem::swap(&mut batch, &mut state.armed);
            drop(state);
            std::thread::sleep(SECOND_LOOK);
            batch.drain(..).for_each(|(buffer, arming)| look(&buffer, arming));
        }
    }
}

/// Makes a descriptor ready that is still armed as it was, if the other side has done something since.
fn look(buffer: &Weak<dyn HasBuffer>, arming: u32) {
    let Some(handle) = buffer.upgrade() else { return };
    let buffer = handle.buffer();
    let Some(descriptor) = buffer.descriptor().filter(|descriptor| descriptor.armings().0 == arming) else {
        return;
    };
    // Acquire pairs with the Release of the read-modify-write of ring() and rouse().
    let bell = buffer.doorbell().load(Ordering::Acquire);
    let has_news = doorbell::is_armed(bell) && buffer.peers_position() != descriptor.known();
    if has_news || handle.has_returned() {
        descriptor.ring();
    }
}

/// Starts the thread, unless it runs.
pub(crate) fn start() -> Result<()> {
    let looks = SecondLooks::of_process()?;
    if !std::mem::replace(&mut looks.state().started, true) {
        os::spawn_background("zb-second-look", || looks.run())
            .inspect_err(|_| looks.state().started = false)?;
    }
    Ok(())
}

/// Has `buffer` looked at again in a moment, whose descriptor was armed for the time `arming`.
pub(crate) fn ask(buffer: &Weak<dyn HasBuffer>, arming: u32) {
    // The descriptor of a forked child's parent is not this process's.
    let Ok(looks) = SecondLooks::of_process() else { return };
    let mut state = looks.state();
    state.armed.push((Weak::clone(buffer), arming));
    let wake = std::mem::replace(&mut state.idle, false);
    drop(state);
    if wake {
        looks.changed.notify_one();
    }
}
