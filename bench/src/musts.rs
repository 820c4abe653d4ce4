//! The project's aims, and whether this run reached them.

use crate::report::Row;
use crate::role::Mode;
use crate::run::{Pair, Scenario};
use crate::transport::Transport::{self, *};

/// The video frame of the table: 1920 x 1080, 12 bits a pixel.
pub const PICTURE: usize = 3_110_400;

/// One aim.
struct Must {
    scenario: Scenario,
    pair: Pair,
    /// The best of these counts; of none of them, `bound` does.
    rivals: Vec<Pair>,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    /// Times better than the best rival, or, without rivals, a figure that must be reached.
    Is(f64),
    /// So many nanoseconds more than the rival for each frame of a stream.
    Behind(f64),
}

const OURS: Pair = Pair::same(Ours);

fn copy(size: usize) -> Scenario {
    Scenario::Stream { size, mode: Mode::Copy }
}

fn musts() -> Vec<Must> {
    let against = |scenario, rivals: &[Transport], bound| Must {
        scenario,
        pair: OURS,
        rivals: rivals.iter().copied().map(Pair::same).collect(),
        bound: Bound::Is(bound),
    };
    let mut musts = vec![
        against(copy(64), &[Aeron], 1.3),
        // Ten times what 1.x C++ reached on the development machine, where it could be measured.
        against(copy(64), &[], 31e6),
        against(copy(1024), &[Aeron], 1.3),
        against(copy(65_536), &[Iceoryx2], 1.0),
        against(copy(1 << 20), &[Iceoryx2], 1.0),
        against(copy(PICTURE), &[Iceoryx2], 1.0),
    ];
    for size in [64, 1024, 65_536, 1 << 20, PICTURE] {
        musts.push(against(Scenario::Stream { size, mode: Mode::InPlace }, &[Iceoryx2], 3.0));
    }
    let relay_to = |work| Scenario::Relay { size: PICTURE, pace: 60, work };
    let relay = relay_to(0);
    let polling = [Iceoryx2, Aeron, ShmemIpc];
    let blocking = [Iceoryx2Events, ShmemIpcEvents, Zeromq, IpcChannel, UnixSocket, Pipe, Python1x];
    musts.extend([
        against(Scenario::RoundTrip { size: 64, pace: 0 }, &polling, 1.0),
        against(Scenario::RoundTrip { size: 64, pace: 1000 }, &blocking, 1.0),
        against(Scenario::IdleReader, &[], 2.0),
        against(Scenario::RoundTrip { size: PICTURE, pace: 0 }, &[Iceoryx2, Iceoryx2Events], 1.0),
        against(relay, &[Iceoryx2Events], 1.0),
        Must { pair: Pair::same(OursClassic), ..against(copy(64), &[], 4.7e6) },
    ]);
    let by = |transport, must: Must| Must { pair: Pair::same(transport), ..must };
    musts.extend([
        // At most 0.6 of the time of a relay that copies.
        by(OursShared, against(relay, &[Ours], 1.0 / 0.6)),
        by(OursShared, against(relay, &[Iceoryx2, Iceoryx2Events], 1.0)),
        by(OursShared, against(relay_to(10), &[Ours], 1.0 / 0.6)),
        by(OursShared, against(relay_to(10), &[Iceoryx2, Iceoryx2Events], 1.0)),
        by(OursCpp, against(copy(PICTURE), &[Ours], 0.95)),
        Must { bound: Bound::Behind(30.0), ..by(OursCpp, against(copy(64), &[Ours], 0.0)) },
        by(OursCsharp, against(copy(PICTURE), &[Ours], 0.95)),
        by(OursPython, against(copy(PICTURE), &[Ours], 0.9)),
        by(OursPython, against(copy(64), &[Python1x], 20.0)),
    ]);
    for size in [64, 1024, 65_536, PICTURE] {
        for (sender, receiver) in [(Ours, Python1x), (Python1x, Ours)] {
            let pair = Pair { sender, receiver };
            musts.push(Must { pair, ..against(copy(size), &[Python1x], 1.0) });
        }
    }
    musts
}

/// "As good as" leaves room for what the machine does.
fn reached(value: f64, bound: f64) -> bool {
    value >= if bound == 1.0 { 0.97 } else { bound }
}

/// Prints one line per aim: reached, missed, or (if all transports were to be measured) why that is unknown.
/// Returns the number of missed aims.
pub fn judge(rows: &[Row], all: Option<&[Transport]>) -> usize {
    println!(
        "
What we must reach (1.00 x: at least 0.97 of the rival's median)"
    );
    let mut missed = 0;
    for must in musts() {
        let find = |pair| {
            rows.iter().find(|row| row.scenario == must.scenario && row.pair == pair && !row.runs.is_empty())
        };
        let head = format!("{}, {}", must.pair.name(), must.scenario.name());
        let Some(own) = find(must.pair) else {
            let asked = |side| all.is_some_and(|all| all.contains(&side));
            if asked(must.pair.sender) && asked(must.pair.receiver) {
                println!("  {head:55} not measured");
            }
            continue;
        };
        let Some((value, more)) = own.figure().0.zip(Some(own.figure().1)) else { continue };
        let (good, words) = match must.bound {
            Bound::Is(bound) if must.rivals.is_empty() => {
                let good = if more { value >= bound } else { value <= bound };
                (good, format!("{} (must: {})", plain(value, more), plain(bound, more)))
            }
            bound => {
                let rivals = must.rivals.iter().filter_map(|&pair| find(pair));
                // The best rival is the one with the least distance to ZeroBuffer.
                let best = rivals
                    .filter_map(|rival| Some((own.ratio(rival)?, rival)))
                    .min_by(|a, b| a.0.total_cmp(&b.0));
                let Some((ratio, rival)) = best else {
                    let names: Vec<String> = must.rivals.iter().map(|pair| pair.name()).collect();
                    if all.is_some() {
                        println!("  {head:55} no rival was measured ({})", names.join(", "));
                    }
                    continue;
                };
                compared(bound, value, ratio, &rival.pair.name())
            }
        };
        missed += usize::from(!good);
        println!("  {head:55} {:7} {words}", if good { "reached" } else { "MISSED" });
    }
    missed
}

/// Whether `value`, which is `ratio` times that of `rival`, is enough, and in words.
fn compared(bound: Bound, value: f64, ratio: f64, rival: &str) -> (bool, String) {
    match bound {
        Bound::Is(bound) => (reached(ratio, bound), format!("{ratio:.2} x {rival} (must: {bound:.2})")),
        Bound::Behind(bound) => {
            let behind = (1.0 - ratio) * 1e9 / value;
            (behind <= bound, format!("{behind:+.0} ns a frame to {rival} (must: {bound:+.0} at most)"))
        }
    }
}

fn plain(value: f64, rate: bool) -> String {
    if rate { format!("{:.2} M/s", value / 1e6) } else { format!("{value:.2} %") }
}

/// Judges the creation of the default buffer.
pub fn judge_creation(p50_us: f64, resident_kib: u64) {
    let good = p50_us < 1000.0 && resident_kib < 2048;
    let words =
        format!("{:.3} ms, {resident_kib} KiB resident (must: under 1 ms, under 2 MiB)", p50_us / 1000.0);
    println!("  {:55} {:7} {words}", "ours, creation of 256 MiB", if good { "reached" } else { "MISSED" });
}

/// Judges Python's overhead for a frame that is there already.
pub fn judge_python(p50_us: f64) {
    let good = p50_us < 2.0;
    let words = format!("{p50_us:.3} us (must: under 2)");
    let head = "ours-python, read_frame + as_numpy + release";
    println!("  {head:55} {:7} {words}", if good { "reached" } else { "MISSED" });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Measured;
    use crate::stats::Outcome;

    #[test]
    fn a_rate_must_be_so_many_times_the_rivals() {
        let row = |transport, active_rate| {
            let mut row = Row::new(copy(1024), Pair::same(transport));
            let outcome = Outcome { active_rate, ..Outcome::default() };
            row.runs.push(Measured { outcome, other: Outcome::default(), line_ns: 0.0 });
            row
        };
        // 1 KiB must be 1.3 times Aeron.
        assert_eq!(judge(&[row(Ours, 1.31e6), row(Aeron, 1e6)], None), 0);
        assert_eq!(judge(&[row(Ours, 1.29e6), row(Aeron, 1e6)], None), 1);
        assert!(reached(0.97, 1.0) && !reached(0.96, 1.0) && !reached(1.29, 1.3));
    }
    #[test]
    fn a_frame_may_cost_so_many_nanoseconds_more_than_the_rivals() {
        // 10 M/s are 100 ns a frame.
        let good = |own: f64| compared(Bound::Behind(30.0), own, own / 10e6, "ours").0;
        assert!(good(1e9 / 129.0) && good(20e6) && !good(1e9 / 131.0));
    }
}
