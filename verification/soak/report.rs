//! The report of a soak.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use serde::Serialize;

use crate::ledger::{Times, Totals, VICTIMS, times};

/// The sums of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) version: &'static str,
    pub(crate) seed: u64,
    pub(crate) lanes: u64,
    /// Without the time that the run was stopped.
    pub(crate) seconds_at_work: u64,
    pub(crate) seconds_in_all: u64,
    pub(crate) failures: u64,
    pub(crate) kills: u64,
    pub(crate) kills_by_victim: BTreeMap<String, u64>,
    pub(crate) kills_of_csharp_peers: u64,
    pub(crate) orderly_ends: u64,
    pub(crate) frames_delivered: u64,
    pub(crate) bytes_delivered: u64,
    pub(crate) frames_shared: u64,
    pub(crate) held_frames_compared: u64,
    pub(crate) requests_answered: u64,
    pub(crate) frames_missing: u64,
    pub(crate) frames_torn: u64,
    /// Only in classic rings, where docs/PROTOCOL.md promises no better.
    pub(crate) answers_to_a_predecessor_in_classic_rings: u64,
    pub(crate) checks_for_leftovers: u64,
    pub(crate) files_left_behind: u64,
    pub(crate) leftovers_cleaned_by_the_tool: u64,
    /// Half minutes that the kernel took longer to end a process whose program had ended.
    pub(crate) late_ends_in_the_kernel: u64,
    /// How soon a survivor of that side noticed a kill.
    pub(crate) noticed_by: BTreeMap<String, Times>,
    /// How late the machine woke a sleeper of the soak itself, for comparison.
    pub(crate) machine_late: Times,
}

fn get(word: &AtomicU64) -> u64 {
    word.load(SeqCst)
}

impl Summary {
    pub(crate) fn of(totals: &Totals, seed: u64, lanes: u64, worked: Duration, all: Duration) -> Summary {
        let mut kills_by_victim = BTreeMap::new();
        let mut noticed_by = BTreeMap::new();
        for victim in VICTIMS {
            for (ring, kills) in ["extended", "classic"].iter().zip(&totals.kills[victim as usize]) {
                kills_by_victim.insert(format!("{victim:?}, {ring}").to_lowercase(), get(kills));
            }
            let times = times(&totals.noticed[victim as usize]);
            if times.count > 0 {
                noticed_by.insert(format!("{victim:?}").to_lowercase(), times);
            }
        }
        Summary {
            version: zerobuffer::VERSION,
            seed,
            lanes,
            seconds_at_work: worked.as_secs(),
            seconds_in_all: all.as_secs(),
            failures: get(&totals.failures),
            kills: totals.all_kills(),
            kills_by_victim,
            kills_of_csharp_peers: get(&totals.csharp_kills),
            orderly_ends: get(&totals.orderly),
            frames_delivered: get(&totals.frames),
            bytes_delivered: get(&totals.bytes),
            frames_shared: get(&totals.shared),
            held_frames_compared: get(&totals.compared),
            requests_answered: get(&totals.answers),
            frames_missing: get(&totals.missing),
            frames_torn: get(&totals.torn),
            answers_to_a_predecessor_in_classic_rings: get(&totals.strays),
            checks_for_leftovers: get(&totals.tidy),
            files_left_behind: get(&totals.left_behind),
            leftovers_cleaned_by_the_tool: get(&totals.cleaned),
            late_ends_in_the_kernel: get(&totals.late_ends),
            noticed_by,
            machine_late: times(&totals.late),
        }
    }
}

/// One line of progress.
pub(crate) fn line(totals: &Totals, worked: Duration) -> String {
    let kills = totals.all_kills();
    format!(
        "{:6} s: {kills} kills ({:.0}/s), {} frames and {} answers delivered, {} failures",
        worked.as_secs(),
        kills as f64 / worked.as_secs_f64(),
        get(&totals.frames),
        get(&totals.answers),
        get(&totals.failures)
    )
}
