//! How often a process wakes that has nothing to do.

use std::time::Duration;

use super::{Peer, runs_of};

/// How often the threads of an idle process ran in two seconds: the least of a few tries, as the machine may stop and start a
/// thread that does nothing.
pub fn runs_when_quiet(peer: &Peer) -> u64 {
    // The watcher looks once more a second after the last event.
    let tries = (0..5).map(|_| {
        std::thread::sleep(Duration::from_millis(1500));
        let before = runs_of(peer.pid());
        std::thread::sleep(Duration::from_secs(2));
        runs_of(peer.pid()) - before
    });
    let mut least = u64::MAX;
    for runs in tries {
        least = least.min(runs);
        if least == 0 {
            break;
        }
    }
    least
}
