//! How near ZeroBuffer comes to the hardware: against bare rings and the fastest rivals, in one interleaved run, judged for each
//! state of the machine apart.

use crate::duplex;
use crate::machine::State;
use crate::musts::PICTURE;
use crate::report::Row;
use crate::role::Mode;
use crate::run::{Measured, Pair, Scenario};
use crate::stats::median;
use crate::transport::Transport::{self, *};

/// All that take part.
pub const TRANSPORTS: [Transport; 11] = [
    Ours,
    OursSmall,
    Bare,
    BareAway,
    BareAhead,
    BareAwayAhead,
    BareLarge,
    Tachyon,
    TachyonBatched,
    Iceoryx2,
    ShmemIpc,
];

/// Fewer runs in a state say nothing about it.
const FEWEST: usize = 3;

/// Percent of windows below half of the median that ZeroBuffer may have more than the bare ring: what chance makes of it.
const SLOW: f64 = 1.0;

/// One row of the table: what must be reached, as a share of the best bare ring (bad state, the other two) and times the best of
/// some rivals.
struct Bar {
    scenario: Scenario,
    bare: Option<[f64; 2]>,
    rivals: &'static [Transport],
    times: f64,
    /// Frames a second that must be reached in the good state.
    least: Option<f64>,
}

fn bars() -> Vec<Bar> {
    let stream = |size, mode, bare, rivals, times| Bar {
        scenario: Scenario::Stream { size, mode },
        bare: Some(bare),
        rivals,
        times,
        least: None,
    };
    let copied = |size, bare, rivals, times| stream(size, Mode::CopyIn, bare, rivals, times);
    let through = |size| stream(size, Mode::Copy, [1.0, 0.95], &[], 0.0);
    let in_place = |size, bare, times| stream(size, Mode::Marked, bare, &[Tachyon], times);
    let trip = |size, bare, rivals, times| Bar {
        scenario: Scenario::RoundTrip { size, pace: 0 },
        bare,
        rivals,
        times,
        least: None,
    };
    const LARGE: &[Transport] = &[Tachyon, Iceoryx2];
    const TRIPS: &[Transport] = &[Tachyon, ShmemIpc];
    let mut bars = vec![
        copied(64, [0.8, 0.65], &[Tachyon], 1.5),
        copied(256, [0.8, 0.65], &[Tachyon], 1.5),
        copied(1024, [0.75, 0.65], &[Tachyon], 1.1),
        copied(4096, [0.75, 0.85], &[Tachyon], 1.1),
        copied(16_384, [0.7, 0.9], LARGE, 1.0),
        copied(65_536, [0.85, 0.95], LARGE, 1.0),
        copied(1 << 20, [0.85, 0.95], LARGE, 1.0),
        copied(PICTURE, [0.85, 0.95], LARGE, 1.0),
    ];
    bars.extend([1024, 4096, 16_384, 65_536, 1 << 20, PICTURE].map(through));
    bars.extend([
        Bar { least: Some(60e6), ..in_place(64, [0.5, 0.35], 1.0) },
        in_place(1024, [0.5, 0.35], 1.0),
        in_place(4096, [0.5, 0.35], 1.0),
        in_place(65_536, [0.85, 0.5], 1.0),
        trip(64, Some([1.0, 0.7]), TRIPS, 1.1),
        trip(1024, Some([0.9, 0.8]), TRIPS, 1.1),
        trip(4096, Some([0.9, 0.8]), TRIPS, 1.1),
        trip(16_384, Some([0.9, 0.8]), TRIPS, 1.1),
        trip(65_536, Some([0.95, 0.95]), TRIPS, 1.1),
        trip(PICTURE, None, &[Iceoryx2], 1.0),
        Bar {
            scenario: Scenario::Relay { size: PICTURE, pace: 60, work: 0 },
            ..trip(0, None, &[Iceoryx2], 1.0)
        },
        stream(16 << 20, Mode::Fresh, [0.8, 0.8], &[], 0.0),
        stream(64 << 20, Mode::Fresh, [0.8, 0.8], &[], 0.0),
    ]);
    bars
}

pub fn scenarios() -> Vec<Scenario> {
    bars().into_iter().map(|bar| bar.scenario).collect()
}

/// Whether the pair has a part in the row.
pub fn wants(scenario: Scenario, pair: Pair) -> bool {
    let Some(bar) = bars().into_iter().find(|bar| bar.scenario == scenario) else { return false };
    let trip = !matches!(scenario, Scenario::Stream { .. });
    let fresh = matches!(scenario, Scenario::Stream { mode: Mode::Fresh, .. });
    // Of 1 MiB, its frames never arrive through a ring of four of them.
    let tachyon = bar.rivals.contains(&Tachyon) && scenario.size() <= 65_536;
    match pair.sender {
        Ours => true,
        OursSmall => !trip && !fresh,
        // One frame at a time comes no sooner to a reader that stays away, and of the largest copies no line is foreseen.
        BareAway | BareAwayAhead => bar.bare.is_some() && !trip && !fresh,
        BareAhead => bar.bare.is_some() && !fresh,
        Bare => bar.bare.is_some(),
        // It differs from the others only where frames are small.
        BareLarge => bar.bare.is_some() && !trip && scenario.size() <= 4096,
        Tachyon => tachyon,
        TachyonBatched => tachyon && !trip,
        Iceoryx2 => {
            bar.rivals.contains(&Iceoryx2) || matches!(scenario, Scenario::Stream { mode: Mode::Marked, .. })
        }
        other => bar.rivals.contains(&other),
    }
}

/// What one pair reached in a state.
struct Figure {
    name: String,
    runs: usize,
    value: f64,
    stalled: f64,
    slow: f64,
    first: f64,
}

/// The figure that counts of one run, and whether more of it is better.
fn value(scenario: Scenario, run: &Measured) -> (f64, bool) {
    match scenario {
        Scenario::Stream { mode: Mode::Fresh, .. } => (run.outcome.wall_rate, true),
        Scenario::Stream { .. } => (run.outcome.steady_rate, true),
        _ => (run.outcome.p50_us, false),
    }
}

fn figure(name: String, runs: &[Measured], state: State, value: impl Fn(&Measured) -> f64) -> Option<Figure> {
    let runs: Vec<&Measured> = runs.iter().filter(|run| State::of(run.line_ns) == state).collect();
    if runs.len() < FEWEST {
        return None;
    }
    let of = |field: &dyn Fn(&Measured) -> f64| {
        median(&mut runs.iter().map(|run| field(run)).collect::<Vec<_>>()).unwrap_or(f64::NAN)
    };
    Some(Figure {
        name,
        runs: runs.len(),
        value: of(&value),
        stalled: of(&|run| run.outcome.stalled_percent),
        slow: of(&|run| run.outcome.slow_percent),
        first: of(&|run| run.outcome.first_us),
    })
}

/// Prints the table, and returns the number of bars that were missed.
pub fn judge(rows: &[Row], requests: &[duplex::Row]) -> usize {
    println!(
        "
How near to the hardware, and ahead of whom (streams: M/s, or frames/s, over stretches without stalls; trips: p50 in us; of the state's runs;
\"stall\": share of time in stalls, \"slow\": share of 2 ms windows below half of the median, in %: ours / best bare ring)
{:39} {:5} {:>4} {:>9} {:>9} {:>26} {:>13} {:>29} {:>13} {:>13}",
        "", "state", "runs", "ours", "4 MiB", "best bare ring", "share (must)", "best rival", "times (must)", "stall"
    );
    let mut missed = 0;
    for bar in bars() {
        for state in State::ALL {
            missed += bar.judge(rows, state).unwrap_or(0);
        }
    }
    for state in State::ALL {
        missed += judge_calls(requests, state).unwrap_or(0);
    }
    println!("{missed} missed");
    missed
}

impl Bar {
    /// Prints the line of a state, if there are enough runs in it. Returns the number of bars that were missed.
    fn judge(&self, rows: &[Row], state: State) -> Option<usize> {
        let more = value(self.scenario, &Measured::default()).1;
        let of = |transport: Transport| {
            let row =
                rows.iter().find(|row| row.scenario == self.scenario && row.pair == Pair::same(transport))?;
            figure(row.pair.name(), &row.runs, state, |run| value(self.scenario, run).0)
        };
        let ours = of(Ours)?;
        let times = |other: &Figure| if more { ours.value / other.value } else { other.value / ours.value };
        let best = |of_them: Vec<Figure>| of_them.into_iter().min_by(|a, b| times(a).total_cmp(&times(b)));
        let shown = |value: f64| match more {
            true if value < 1e5 => format!("{value:.1}/s"),
            true => format!("{:.3}", value / 1e6),
            false => format!("{value:.2}"),
        };
        let mut missed = Vec::new();

        let bare =
            best([Bare, BareAway, BareAhead, BareAwayAhead, BareLarge].into_iter().filter_map(of).collect());
        let (mut bare_words, mut share) = ("-".to_owned(), "-".to_owned());
        if let (Some(bare), Some(bars)) = (&bare, self.bare) {
            let bar = bars[usize::from(state != State::Bad)];
            bare_words = format!("{} {}", bare.name, shown(bare.value));
            share = format!("{:.2} ({bar:.2})", times(bare));
            if !reached(times(bare), bar) {
                missed.push("bare ring");
            }
            if ours.slow > bare.slow + SLOW {
                missed.push("steady");
            }
            let first = |figure: &Figure| if figure.first > 0.0 { figure.first } else { f64::NAN };
            if first(&ours) * bar > first(bare) / 0.97 {
                missed.push("first trips");
            }
        }
        let rival = best(self.rivals.iter().copied().filter_map(of).collect());
        let (mut rival_words, mut ratio) = ("-".to_owned(), "-".to_owned());
        if let Some(rival) = &rival {
            rival_words = format!("{} {}", rival.name, shown(rival.value));
            ratio = format!("{:.2} ({:.2})", times(rival), self.times);
            if !reached(times(rival), self.times) {
                missed.push("rival");
            }
        }
        if self.least.is_some_and(|least| state != State::Bad && ours.value < least) {
            missed.push("60 M/s");
        }
        // Three times iceoryx2 in place.
        if let (Scenario::Stream { mode: Mode::Marked, .. }, Some(other)) = (self.scenario, of(Iceoryx2))
            && !reached(times(&other), 3.0)
        {
            missed.push("3 x iceoryx2");
        }
        let small = of(OursSmall).map_or("-".to_owned(), |small| shown(small.value));
        let pair = |field: fn(&Figure) -> f64| {
            format!("{:.0}/{:.0}", field(&ours), bare.as_ref().map_or(f64::NAN, field))
        };
        let verdict =
            if missed.is_empty() { "pass".to_owned() } else { format!("MISSED: {}", missed.join(", ")) };
        let more_words = match self.scenario {
            Scenario::RoundTrip { .. } => {
                let bare = bare.as_ref().map_or(f64::NAN, |bare| bare.first);
                format!("first 256: {:.2} / {bare:.2}", ours.first)
            }
            Scenario::Stream { .. } => {
                let slow = pair(|figure| figure.slow);
                let batched = of(TachyonBatched).map_or(String::new(), |other| {
                    format!("  batched {} {:.2}", shown(other.value), times(&other))
                });
                format!("{} slow {slow}{batched}", pair(|figure| figure.stalled))
            }
            _ => String::new(),
        };
        println!(
            "{:39} {:5} {:>4} {:>9} {small:>9} {bare_words:>26} {share:>13} {rival_words:>29} {ratio:>13} {more_words:>13}  {verdict}",
            self.scenario.name(),
            state.name(),
            ours.runs,
            shown(ours.value),
        );
        Some(missed.len())
    }
}

/// One caller of a duplex channel: 1.1 times Tachyon's.
fn judge_calls(rows: &[duplex::Row], state: State) -> Option<usize> {
    const TIMES: f64 = 1.1;
    let of = |peer| {
        let row = rows.iter().find(|row| row.peer == peer && row.case.callers == 1 && row.case.size == 64)?;
        figure(row.case.name(), &row.runs, state, |run| run.outcome.p50_us)
    };
    let (ours, rival) = (of(duplex::Peer::Ours)?, of(duplex::Peer::Tachyon)?);
    let times = rival.value / ours.value;
    let good = reached(times, TIMES);
    println!(
        "{:39} {:5} {:>4} {:>9.2} {:>9} {:>26} {:>13} {:>29} {:>13} {:>13}  {}",
        ours.name,
        state.name(),
        ours.runs,
        ours.value,
        "-",
        "-",
        "-",
        format!("tachyon {:.2}", rival.value),
        format!("{times:.2} ({TIMES:.2})"),
        "",
        if good { "pass" } else { "MISSED: rival" }
    );
    Some(usize::from(!good))
}

/// "As good as" leaves room for what the machine does.
fn reached(value: f64, bar: f64) -> bool {
    value >= bar * 0.97
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Outcome;

    fn row(scenario: Scenario, transport: Transport, runs: &[(f64, f64)]) -> Row {
        let mut row = Row::new(scenario, Pair::same(transport));
        row.runs.extend(runs.iter().map(|&(line_ns, value)| Measured {
            outcome: Outcome { steady_rate: value, p50_us: value, ..Outcome::default() },
            line_ns,
            ..Measured::default()
        }));
        row
    }

    #[test]
    fn states_are_judged_apart_against_the_best_bare_ring() {
        let scenario = Scenario::Stream { size: 1024, mode: Mode::CopyIn };
        let runs = |bad, good| [(400.0, bad), (100.0, good)].repeat(3);
        let ours = || row(scenario, Ours, &runs(7.5e6, 6.5e6));
        let bare = || row(scenario, Bare, &runs(1e6, 10e6));
        assert_eq!(judge(&[ours(), bare()], &[]), 0);
        // Another bare ring is better in the bad state.
        assert_eq!(judge(&[ours(), bare(), row(scenario, BareAway, &runs(10e6, 1e6))], &[]), 0);
        assert_eq!(judge(&[ours(), bare(), row(scenario, BareAway, &runs(11e6, 11e6))], &[]), 2);
        assert_eq!(judge(&[ours(), bare(), row(scenario, Tachyon, &runs(1e6, 6.5e6))], &[]), 1);
        // On one core the ring is three times as fast, which says nothing of the good state.
        let mixed = |good, core| [(100.0, good), (25.0, core)].repeat(3);
        assert_eq!(
            judge(&[row(scenario, Ours, &mixed(7e6, 21e6)), row(scenario, Bare, &mixed(10e6, 30e6))], &[]),
            0
        );
        // Two runs in a state say nothing.
        let few = [(400.0, 1e6), (400.0, 1e6), (100.0, 6.5e6), (100.0, 6.5e6), (100.0, 6.5e6)];
        assert_eq!(judge(&[row(scenario, Ours, &few), bare()], &[]), 0);
    }

    #[test]
    fn round_trips_are_better_when_they_take_less() {
        let scenario = Scenario::RoundTrip { size: 64, pace: 0 };
        let runs = |us| [(400.0, us)].repeat(3);
        let judged = |us| judge(&[row(scenario, Ours, &runs(1.0)), row(scenario, Bare, &runs(us))], &[]);
        assert_eq!((judged(1.1), judged(0.9)), (0, 1));
    }
}
