//! A kill, and a halt, at every stop point of the protocol (src/testing/stop.rs): the survivor, its next partner, and what is
//! left behind. Needs the feature `stop-points`.

mod cases;
#[path = "../peers/chain.rs"]
mod chain;
mod clients;
mod descriptors;
mod duplex;
mod entry;
#[path = "../peers/fan.rs"]
mod fan;
mod focused;
mod leaps;
mod mutable;
mod rare_cases;
mod roles;
mod sharing;
mod successors;
#[path = "../support/mod.rs"]
mod support;
mod tee;
mod tee_ends;
mod victim;

use std::collections::{BTreeMap, BTreeSet};

use cases::{latest_reader_case, reader_case, sleeping_writer_case, writer_case};
use rare_cases::{
    adopter_case, bereaved_reader_case, clean_up_case, cleaner_case, foreign_writer_case, huge_creator_case,
    keeper_case, overtaken_writer_case, refused_writer_case,
};
use victim::{Action, Ring, run_all};

#[derive(PartialEq, Clone, Copy)]
enum Points {
    All,
    /// Those that no scenario before passed.
    New,
    /// All, but only kills.
    Kills,
}

type Scenario = (&'static str, fn(&Action, Ring) -> bool, Points);

const SCENARIOS: [Scenario; 21] = [
    ("writer, drained", |action, ring| writer_case(action, ring, "drain"), Points::All),
    ("writer, full", |action, ring| writer_case(action, ring, ""), Points::New),
    ("leaping writer", leaps::leaping_writer_case, Points::New),
    ("reader, survivor closes", |action, ring| reader_case(action, ring, false, false), Points::All),
    ("reader, successor first", |action, ring| reader_case(action, ring, false, true), Points::All),
    ("reader of the newest frames", latest_reader_case, Points::All),
    ("reader over leftovers", |action, ring| reader_case(action, ring, true, false), Points::New),
    ("reader, writer asleep", sleeping_writer_case, Points::New),
    ("clean-up", clean_up_case, Points::New),
    ("1.x writer", foreign_writer_case, Points::New),
    ("overtaken", |action, ring| overtaken_writer_case(action, ring, "connect:writer-pid"), Points::New),
    (
        "overtaken in the entry",
        |action, ring| ring == Ring::Classic || overtaken_writer_case(action, ring, "enter:free"),
        Points::New,
    ),
    ("adopter", |action, ring| adopter_case(action, ring, "stop-a"), Points::New),
    ("adopter in huge pages", |action, ring| adopter_case(action, ring, "stop-a-huge"), Points::New),
    ("creator of huge pages", huge_creator_case, Points::New),
    ("keeper", keeper_case, Points::New),
    ("cleaner", cleaner_case, Points::New),
    ("refused writer", refused_writer_case, Points::New),
    ("reader of a dead writer", bereaved_reader_case, Points::New),
    ("duplex server", duplex::server_case, Points::Kills),
    ("duplex client", duplex::client_case, Points::Kills),
];

/// Points that have nothing to do with the kind of ring: seen over one, they are left out over the other.
const NEUTRAL: [&str; 6] = ["create:", "lock:", "clean:", "adopt:", "kept:", "metadata:"];

/// Points that the scenarios here do not come to; the test named does.
const ELSEWHERE: [(&str, &str); 27] = [
    ("bell:clear", "a_writer_halted_at_any_step_of_a_ring_delays_its_frame_and_loses_nothing"),
    ("bell:rouse", "a_writer_halted_at_any_step_of_a_ring_delays_its_frame_and_loses_nothing"),
    ("bell:rouse-futex", "a_writer_halted_at_any_step_of_a_ring_delays_its_frame_and_loses_nothing"),
    ("bell:wake", "no_frame_is_lost_with_a_writer_that_dies_before_it_wakes_and_a_successor_at_once"),
    ("descriptor:create", "an_owner_that_dies_at_any_step_leaves_at_most_a_fifo_that_is_cleaned_up"),
    ("descriptor:inode", "an_owner_that_dies_at_any_step_leaves_at_most_a_fifo_that_is_cleaned_up"),
    ("descriptor:number", "an_owner_that_dies_at_any_step_leaves_at_most_a_fifo_that_is_cleaned_up"),
    ("descriptor:forget", "an_owner_that_dies_at_any_step_leaves_at_most_a_fifo_that_is_cleaned_up"),
    ("descriptor:unlink", "an_owner_that_dies_at_any_step_leaves_at_most_a_fifo_that_is_cleaned_up"),
    ("descriptor:open", "a_frame_whose_writer_dies_before_it_rings_makes_the_descriptor_ready"),
    ("descriptor:ring", "a_frame_whose_writer_dies_before_it_rings_makes_the_descriptor_ready"),
    ("descriptor:remove-orphan", "a_dead_owners_fifo_is_removed_wherever_the_process_that_removes_it_dies"),
    ("clean:unlink-fifo", "a_dead_owners_fifo_is_removed_wherever_the_process_that_removes_it_dies"),
    ("clean:fifo", "a_dead_owners_fifo_is_removed_wherever_the_process_that_removes_it_dies"),
    ("close:tell-reader", "a_writer_killed_or_halted_while_it_tells_a_1x_reader_of_its_close_has_closed"),
    ("close:take-back", "a_writer_killed_or_halted_while_it_tells_a_1x_reader_of_its_close_has_closed"),
    ("read:writer-pid", "a_reader_killed_or_halted_while_it_puts_a_pid_back_leaves_no_wrong_one"),
    ("connect:dead-pid", "a_successor_goes_on_exactly_wherever_its_predecessors_were_killed"),
    ("connect:tail", "a_successor_goes_on_exactly_wherever_its_predecessors_were_killed"),
    ("connect:write-pos", "a_successor_goes_on_exactly_wherever_its_predecessors_were_killed"),
    ("connect:leap", "a_leap_that_was_not_committed_was_not_made"),
    ("connect:writer-word-again", "a_1x_writer_that_crosses_the_entry_is_refused_or_makes_the_ring_classic"),
    ("enter:mend", "a_1x_writer_that_crosses_the_entry_is_refused_or_makes_the_ring_classic"),
    ("enter:unmark", "a_1x_writer_that_crosses_the_entry_is_refused_or_makes_the_ring_classic"),
    ("enter:give-back", "what_a_dead_writer_took_on_its_way_in_is_given_back"),
    ("duplex:look", "an_answer_that_comes_just_before_its_server_ends_reaches_a_lone_caller"),
    ("metadata:forget", "a_client_that_ends_while_it_takes_metadata_back_leaves_a_channel_that_works"),
];

/// How often a scenario passes each point.
fn trace(scenario: fn(&Action, Ring) -> bool, ring: Ring) -> BTreeMap<String, u64> {
    // A trace carries the name of its case's buffer, which only the case knows.
    let before = traces();
    assert!(scenario(&Action::Trace, ring));
    let mut points = BTreeMap::new();
    for path in traces().difference(&before) {
        for point in std::fs::read_to_string(path).unwrap().lines() {
            *points.entry(point.to_owned()).or_insert(0) += 1;
        }
        std::fs::remove_file(path).unwrap();
    }
    points
}

fn traces() -> BTreeSet<std::path::PathBuf> {
    let mine = format!("-{}-", std::process::id());
    let entries = std::fs::read_dir(std::env::temp_dir()).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".trace") && name.contains(&mine)
        })
        .collect()
}

/// The points in the sources.
fn points_in_sources() -> BTreeSet<String> {
    fn collect(dir: &std::path::Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for part in text.split("stop_point!(\"").skip(1) {
                found.insert(part.split('"').next().unwrap().to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"), &mut found);
    found
}

#[test]
fn every_stop_point_is_survived_killed_or_halted() {
    let mut cases: Vec<(String, Box<dyn Fn() + Send + Sync>)> = Vec::new();
    let mut known = BTreeSet::new();
    for ring in [Ring::Extended, Ring::Classic] {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let before = known.clone();
        for (what, scenario, points) in SCENARIOS {
            for (point, times) in trace(scenario, ring) {
                let is_new = seen.insert(point.clone());
                let is_neutral = NEUTRAL.iter().any(|prefix| point.starts_with(prefix));
                if points == Points::New && !is_new || is_neutral && before.contains(&point) {
                    continue;
                }
                let passes = if times > 2 { vec![1, times / 2] } else { vec![1] };
                for nth in passes {
                    let (kill, halt) = (Action::Kill(point.clone(), nth), Action::Halt(point.clone(), nth));
                    for action in
                        [Some(kill), Some(halt).filter(|_| points != Points::Kills)].into_iter().flatten()
                    {
                        let name = format!("{ring:?}, {what}: {action:?}");
                        cases.push((name, Box::new(move || come_to_it(scenario, ring, &action))));
                    }
                }
            }
        }
        known.append(&mut seen);
    }
    known.extend(ELSEWHERE.iter().map(|(point, _)| (*point).to_owned()));
    // sharing.rs and tee.rs have tests of these.
    let sharing = [&sharing::RELAY[..], &sharing::VIEWER, &sharing::RARE, &tee::TEE];
    known.extend(sharing.concat().iter().map(|point| (*point).to_owned()));
    assert_eq!(known, points_in_sources(), "points without a test, or tests without a point");
    run_all(cases);
    duplex::assert_heard_soon();
}

/// Runs the case; where the victim does not pass the point that often this time, with a smaller number. A point of a wake-up is
/// passed only if the other side sleeps just then: it is tried a few times.
fn come_to_it(scenario: fn(&Action, Ring) -> bool, ring: Ring, action: &Action) {
    let mut action = action.clone();
    let mut missed = 0;
    while !scenario(&action, ring) {
        let (Action::Kill(_, nth) | Action::Halt(_, nth)) = &mut action else { unreachable!() };
        missed += u32::from(*nth == 1);
        *nth = (*nth / 2).max(1);
        if missed == 10 {
            eprintln!("{action:?}: not passed in {missed} runs");
            return;
        }
    }
}
