//! A lane of cleaners: they remove leftovers of all lanes' buffers while the lanes run, and are killed
//! meanwhile.

use std::time::Duration;

use zerobuffer::cleanup;

use crate::lane::{Lane, Outcome};
use crate::ledger::{Victim, add};

/// Runs until it is told to stop; touches names that begin with `prefix`, and nothing else.
pub(crate) fn run(lane: &mut Lane, prefix: &str) -> Outcome {
    let totals = lane.totals;
    while !totals.are_cleaners_stopped() {
        let prefix = prefix.to_owned();
        let mut cleaner = lane.start(Victim::Cleaner, move |_| {
            loop {
                for one in cleanup::leftovers().expect("a list of leftovers") {
                    if one.name().starts_with(&prefix)
                        && one.obstacle().is_none()
                        && one.remove().expect("removed")
                    {
                        add(&totals.cleaned, 1);
                    }
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        // Sometimes the cleaner gets enough time to finish on a busy machine.
        let limit = if lane.random.one_in(4) { 500_000 } else { 20_000 };
        lane.moment(limit);
        lane.kill(&mut cleaner);
    }
    Ok(())
}
