//! Tables on the terminal, and the plots of a comparison.

use crate::role::Mode;
use crate::run::{Measured, Pair, Scenario, human};
use crate::stats::{Outcome, median};
use crate::svg::{self, Axis, Line, Span};

/// A line of a table: one scenario, measured over one pair.
pub struct Row {
    pub scenario: Scenario,
    pub pair: Pair,
    pub runs: Vec<Measured>,
    /// Why there are no more runs.
    pub failure: Option<String>,
}

impl Row {
    pub fn new(scenario: Scenario, pair: Pair) -> Row {
        Row { scenario, pair, runs: Vec::new(), failure: None }
    }

    /// The median of the receiver's measurements.
    pub fn of(&self, field: fn(&Outcome) -> f64) -> Option<f64> {
        median(&mut self.runs.iter().map(|run| field(&run.outcome)).collect::<Vec<_>>())
    }

    fn shown(&self, field: fn(&Outcome) -> f64) -> f64 {
        self.of(field).unwrap_or(f64::NAN)
    }

    fn other(&self, field: fn(&Outcome) -> f64) -> f64 {
        median(&mut self.runs.iter().map(|run| field(&run.other)).collect::<Vec<_>>()).unwrap_or(f64::NAN)
    }

    /// The one figure that counts, and whether more of it is better.
    pub fn figure(&self) -> (Option<f64>, bool) {
        match self.scenario {
            Scenario::Stream { mode: Mode::Fresh, .. } => (self.of(|o| o.wall_rate), true),
            Scenario::Stream { .. } | Scenario::RelayedStream { .. } => (self.of(|o| o.active_rate), true),
            Scenario::RoundTrip { .. } | Scenario::Relay { .. } => (self.of(|o| o.p50_us), false),
            Scenario::IdleReader => (self.of(|o| o.cpu_percent), false),
        }
    }

    /// How many times better `self` is than `other`.
    pub fn ratio(&self, other: &Row) -> Option<f64> {
        let ((Some(own), more), (Some(other), _)) = (self.figure(), other.figure()) else { return None };
        Some(if more { own / other } else { other / own })
    }
}

/// Medians of the runs, one line a pair.
pub fn table(rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    let ours = rows.iter().find(|row| row.pair.name() == "ours" && !row.runs.is_empty());
    println!("\n{}   ({})", first.scenario.name(), legend(first.scenario));
    let lines = || rows.iter().flat_map(|row| &row.runs).map(|run| run.line_ns);
    let (low, high) = (lines().fold(f64::INFINITY, f64::min), lines().fold(0.0, f64::max));
    if high > 0.0 {
        let word = if high > 2.0 * low { "; the machine was not the same all the time" } else { "" };
        println!("  (a cache line's round trip just before each run: {low:.0} to {high:.0} ns{word})");
    }
    for row in rows {
        let pair = row.pair.name();
        if row.runs.is_empty() {
            println!("  {pair:20} failed: {}", row.failure.as_deref().unwrap_or("never ran"));
            continue;
        }
        let ratio =
            ours.and_then(|ours| ours.ratio(row)).map_or(String::new(), |ratio| format!("{ratio:7.2}"));
        let cpu = format!("{:3.0}/{:3.0}", row.other(|o| o.cpu_percent), row.shown(|o| o.cpu_percent));
        let memory = |kib: f64| kib / 1024.0;
        let memory = format!(
            "{:5.0}/{:5.0}",
            memory(row.other(|o| o.resident_kib as f64)),
            memory(row.shown(|o| o.resident_kib as f64))
        );
        let figures = match row.scenario {
            Scenario::Stream { .. } | Scenario::RelayedStream { .. } => {
                let bytes = |rate: f64| match row.scenario {
                    Scenario::Stream { size, mode } if !matches!(mode, Mode::InPlace | Mode::Marked) => {
                        format!(" {:6.2} GB/s", rate * size as f64 / 1e9)
                    }
                    _ => String::new(),
                };
                let (active, wall) = (row.shown(|o| o.active_rate), row.shown(|o| o.wall_rate));
                let all = || row.runs.iter().map(|run| run.outcome.active_rate / 1e6);
                format!(
                    "{:9.4}{} ({:.4} to {:.4})  {:9.4}{}",
                    active / 1e6,
                    bytes(active),
                    all().fold(f64::INFINITY, f64::min),
                    all().fold(0.0, f64::max),
                    wall / 1e6,
                    bytes(wall)
                )
            }
            Scenario::RoundTrip { .. } | Scenario::Relay { .. } => format!(
                "{:9.2} {:9.2} {:9.2} {:9.1} {:9.1}",
                row.shown(|o| o.p50_us),
                row.shown(|o| o.p90_us),
                row.shown(|o| o.p99_us),
                row.shown(|o| o.p999_us),
                row.shown(|o| o.max_us)
            ),
            Scenario::IdleReader => format!("{:9.2} %", row.shown(|o| o.cpu_percent)),
        };
        println!("  {pair:20} {figures}  {cpu} %  {memory} MiB  {ratio}");
        if let Some(failure) = &row.failure {
            println!("  {pair:20} failed after {} runs: {failure}", row.runs.len());
        }
    }
}

fn legend(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Stream { .. } => {
            "active M/s, lowest to highest, wall M/s; CPU and memory of sender/receiver; ours is so many times better"
        }
        Scenario::RelayedStream { .. } => {
            "active M/s, lowest to highest, wall M/s; CPU and memory of relay/receiver; ours is so many times better"
        }
        Scenario::RoundTrip { .. } => {
            "p50, p90, p99, p99.9, max in us; CPU and memory of echo/starter; ours is so many times better"
        }
        Scenario::Relay { .. } => {
            "p50, p90, p99, p99.9, max in us; CPU and memory of relay/display; ours is so many times better"
        }
        Scenario::IdleReader => "CPU; then CPU and memory of sender/reader",
    }
}

/// The plots of all that was measured, with names.
pub fn plots(rows: &[Row]) -> Vec<(String, String)> {
    let mut plots = Vec::new();
    for (mode, name, title) in [
        (Mode::Copy, "stream-copied", "Streaming, copied once at each end"),
        (Mode::InPlace, "stream-in-place", "Streaming in place, frames untouched"),
    ] {
        let lines = streams(rows, mode);
        if !lines.is_empty() {
            let x = Axis { label: "frame size", tick: |size| human(size as usize) };
            let y = Axis { label: "frames a second (active)", tick: rate };
            plots.push((name.to_owned(), svg::lines(title, &x, &y, &lines)));
        }
    }
    let mut scenarios: Vec<Scenario> = rows.iter().map(|row| row.scenario).collect();
    scenarios.dedup();
    for scenario in scenarios {
        if !matches!(scenario, Scenario::RoundTrip { .. } | Scenario::Relay { .. }) {
            continue;
        }
        let mut spans: Vec<Span> = rows
            .iter()
            .filter(|row| row.scenario == scenario && !row.runs.is_empty())
            .map(|row| Span {
                name: row.pair.name(),
                values: vec![row.shown(|o| o.p50_us), row.shown(|o| o.p90_us), row.shown(|o| o.p99_us)],
            })
            .collect();
        spans.sort_by(|a, b| a.values[0].total_cmp(&b.values[0]));
        let x = Axis { label: "microseconds", tick: |us| format!("{us}") };
        let name = scenario.name();
        let plot = svg::spans(&name, &x, "large dot: p50; small dots: p90, p99", &spans);
        plots.push((name.replace([' ', '.'], "-").to_lowercase(), plot));
    }
    plots
}

fn streams(rows: &[Row], mode: Mode) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for row in rows {
        let Scenario::Stream { size, mode: found } = row.scenario else { continue };
        let Some(rate) = row.of(|o| o.active_rate).filter(|_| found == mode) else { continue };
        let name = row.pair.name();
        let point = (size as f64, rate);
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name, points: vec![point] }),
        }
    }
    lines
}

/// A rate at a tick.
pub fn rate(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M/s", value / 1e6),
        value if value >= 1e3 => format!("{} k/s", value / 1e3),
        value => format!("{value} /s"),
    }
}
