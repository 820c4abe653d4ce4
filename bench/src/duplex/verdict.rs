//! The project's aims for duplex channels, and whether this run reached them.

use super::{Case, Peer, Row};

/// A round trip may take so many times that of two plain streams.
const STREAMS: f64 = 1.10;

/// How much longer a call from C# may take than one from Rust: microseconds for small requests, a share of the time for larger ones.
const CSHARP: (f64, f64) = (0.040, 0.05);

/// Prints one line per aim. For a single caller the median latency counts, for several callers the rate.
/// Returns the number of missed aims.
pub fn judge(rows: &[Row]) -> usize {
    println!("\nWhat requests and responses must reach (faster: at least 0.97 of the best rival)");
    let mut missed = 0;
    let mut say = |case: Case, who: &str, good: bool, words: String| {
        missed += usize::from(!good);
        let head = format!("{who}, {}", case.name());
        println!("  {head:58} {:7} {words}", if good { "reached" } else { "MISSED" });
    };
    for own in rows.iter().filter(|row| matches!(row.peer, Peer::Ours | Peer::OursPool)) {
        let case = own.case;
        let beside = |row: &&Row| row.case == case && !row.runs.is_empty();
        let rivals = rows.iter().filter(beside).filter(|row| !row.peer.is_ours());
        let best = rivals
            .filter_map(|rival| Some((times_better(own, rival)?, rival)))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((ratio, rival)) = best {
            say(case, own.peer.name(), ratio >= 0.97, format!("{ratio:.2} x {}", rival.peer.name()));
        }
        let streams = rows.iter().filter(beside).find(|row| row.peer == Peer::OurStreams);
        if own.peer == Peer::Ours
            && case.callers == 1
            && let Some(ratio) = streams.and_then(|streams| times_better(streams, own))
        {
            let words = format!("{ratio:.2} times the round trip of two streams (must: {STREAMS:.2})");
            say(case, own.peer.name(), ratio <= STREAMS, words);
        }
        let csharp = rows.iter().filter(beside).find(|row| row.peer == Peer::OursCsharp);
        if own.peer == Peer::Ours
            && let Some((call, csharp)) =
                own.of(|o| o.p50_us).zip(csharp.and_then(|row| row.of(|o| o.p50_us)))
        {
            let (small, share) = CSHARP;
            let may = if case.size <= 64 { small } else { call * share };
            let words = format!("{:+.3} us to a call from Rust (must: {may:+.3})", csharp - call);
            say(case, Peer::OursCsharp.name(), csharp - call <= may, words);
        }
    }
    missed
}

/// How many times better `own` is than `other`.
fn times_better(own: &Row, other: &Row) -> Option<f64> {
    if own.case.callers == 1 {
        Some(other.of(|o| o.p50_us)? / own.of(|o| o.p50_us)?)
    } else {
        Some(own.of(|o| o.wall_rate)? / other.of(|o| o.wall_rate)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duplex::Way;
    use crate::run::Measured;
    use crate::stats::Outcome;

    fn row(peer: Peer, callers: usize, p50_us: f64, wall_rate: f64) -> Row {
        let outcome = Outcome { p50_us, wall_rate, ..Outcome::default() };
        let measured = Measured { outcome, other: Outcome::default(), line_ns: 0.0 };
        let case = Case { size: 64, callers, way: Way::Threads };
        Row { case, peer, runs: vec![measured], failure: None }
    }

    #[test]
    fn one_caller_is_judged_by_latency_and_several_by_rate() {
        let own = || row(Peer::Ours, 1, 1.0, 100.0);
        assert_eq!(judge(&[own(), row(Peer::Zeromq, 1, 1.1, 200.0)]), 0);
        assert_eq!(judge(&[own(), row(Peer::Zeromq, 1, 0.9, 10.0)]), 1);
        assert_eq!(judge(&[own(), row(Peer::OurStreams, 1, 0.92, 100.0)]), 0);
        assert_eq!(judge(&[own(), row(Peer::OurStreams, 1, 0.90, 100.0)]), 1);
        assert_eq!(judge(&[own(), row(Peer::OursCsharp, 1, 1.039, 100.0)]), 0);
        assert_eq!(judge(&[own(), row(Peer::OursCsharp, 1, 1.041, 100.0)]), 1);
        let own = || row(Peer::OursPool, 8, 1.0, 100.0);
        assert_eq!(judge(&[own(), row(Peer::Grpc, 8, 0.1, 90.0)]), 0);
        assert_eq!(judge(&[own(), row(Peer::Grpc, 8, 9.0, 110.0), row(Peer::Zeromq, 8, 9.0, 1.0)]), 1);
    }
}
