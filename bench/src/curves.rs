//! Curves: how ZeroBuffer's rate and latency depend on properties that should not matter, or should matter in
//! a known way.

use anyhow::Result;
use serde_json::json;
use zerobuffer::{BufferConfig, Reader};

use crate::compare::Plan;
use crate::machine::{self, Machine};
use crate::record::Record;
use crate::report::rate;
use crate::role::{self, Mode};
use crate::run::{Pair, Runner, Scenario, human};
use crate::stats::{Outcome, median};
use crate::svg::{self, Axis, Line};
use crate::transport::Transport;

const OURS: Pair = Pair::same(Transport::Ours);

/// The meaning of a curve's points.
#[derive(Clone, Copy, PartialEq)]
enum Unit {
    FramesASecond,
    Microseconds,
}

/// Measures points and collects them as the lines of plots.
struct Curves<'a> {
    runner: &'a mut Runner,
    runs: usize,
    record: Record,
    curve: &'static str,
    lines: Vec<(Unit, Line)>,
}

impl Curves<'_> {
    /// Begins a new curve.
    fn begin(&mut self, curve: &'static str) {
        println!("\n{curve}");
        self.curve = curve;
        self.lines.clear();
    }

    fn point(&mut self, x: usize, name: &str, unit: Unit, value: f64) {
        let words = match unit {
            Unit::FramesASecond => format!("{:12.4} M/s", value / 1e6),
            Unit::Microseconds => format!("{value:12.3} us"),
        };
        println!(
            "  {:>10}  {name:32} {words}",
            if self.curve.contains("size") { human(x) } else { x.to_string() }
        );
        match self.lines.iter_mut().find(|line| line.0 == unit && line.1.name == name) {
            Some((_, line)) => line.points.push((x as f64, value)),
            None => self.lines.push((unit, Line { name: name.to_owned(), points: vec![(x as f64, value)] })),
        }
    }

    fn measure(&mut self, x: usize, scenario: Scenario) -> Result<()> {
        let mut outcomes: Vec<Outcome> = Vec::new();
        for run in 0..self.runs {
            let measured = self.runner.run(scenario, OURS)?;
            self.record.line(&json!({
                "curve": self.curve, "x": x, "scenario": scenario, "run": run,
                "line_ns": measured.line_ns, "outcome": measured.outcome, "other": measured.other,
            }))?;
            outcomes.push(measured.outcome);
        }
        let of = |field: fn(&Outcome) -> f64| {
            median(&mut outcomes.iter().map(field).collect::<Vec<_>>()).unwrap_or_default()
        };
        let size = human(scenario.size());
        let size = if self.curve == BY_FRAME { String::new() } else { format!("{size}, ") };
        match scenario {
            Scenario::Stream { mode, .. } => {
                let how = if mode == Mode::Copy { "copied" } else { "in place" };
                self.point(x, &format!("{size}{how}"), Unit::FramesASecond, of(|o| o.active_rate));
            }
            _ => {
                self.point(x, &format!("{size}round trip p50"), Unit::Microseconds, of(|o| o.p50_us));
                self.point(x, &format!("{size}round trip p99"), Unit::Microseconds, of(|o| o.p99_us));
            }
        }
        Ok(())
    }

    /// Plots the points measured since `begin`.
    fn end(&mut self, file: &str, x: &Axis<'_>) -> Result<()> {
        for (unit, name, y) in [
            (Unit::FramesASecond, "rate", Axis { label: "frames a second (active)", tick: rate }),
            (Unit::Microseconds, "latency", Axis { label: "microseconds", tick: |us| format!("{us}") }),
        ] {
            let lines: Vec<Line> = self
                .lines
                .iter()
                .filter(|line| line.0 == unit)
                .map(|(_, line)| Line { name: line.name.clone(), points: line.points.clone() })
                .collect();
            if !lines.is_empty() {
                self.record.plot(&format!("curve-{file}-{name}"), &svg::lines(self.curve, x, &y, &lines))?;
            }
        }
        Ok(())
    }
}

const BY_FRAME: &str = "Against the size of a frame";
const BY_BUFFER: &str = "Against the size of the buffer";
const BY_OTHERS: &str = "Against the number of other buffers alive";
const BY_HELD: &str = "Against the number of frames that the reader keeps";

/// Measures the curves whose names contain `only`.
pub fn curves(runner: &mut Runner, plan: &Plan<'_>) -> Result<()> {
    let machine = Machine::describe();
    let mut record = Record::new(plan.out, &machine.date, "curves")?;
    println!("{}", machine.line());
    record.line(&json!({ "machine": machine, "runs": plan.runs, "seconds": runner.seconds }))?;
    let mut curves = Curves { runner, runs: plan.runs, record, curve: "", lines: Vec::new() };
    let thin = |values: Vec<usize>| -> Vec<usize> {
        if plan.quick { values.into_iter().step_by(4).collect() } else { values }
    };
    let powers = |from: u32, to: u32| thin((from..=to).step_by(2).map(|power| 1 << power).collect());
    for curve in [BY_FRAME, BY_BUFFER, BY_OTHERS, BY_HELD].into_iter().filter(|curve| plan.wants(curve)) {
        curves.begin(curve);
        match curve {
            BY_FRAME => by_frame(&mut curves, &powers(4, 26))?,
            BY_BUFFER => by_buffer(&mut curves, &powers(16, 30))?,
            BY_OTHERS => by_others(&mut curves, &thin(vec![1, 3, 10, 30, 100, 300, 1000]))?,
            _ => by_held(&mut curves, &thin(vec![0, 1, 3, 10, 30, 100, 300, 1000]))?,
        }
    }
    Ok(())
}

fn by_frame(curves: &mut Curves<'_>, sizes: &[usize]) -> Result<()> {
    for &size in sizes {
        curves.measure(size, Scenario::Stream { size, mode: Mode::Copy })?;
        curves.measure(size, Scenario::Stream { size, mode: Mode::InPlace })?;
        curves.measure(size, Scenario::RoundTrip { size, pace: 0 })?;
    }
    curves.end("frame-size", &Axis { label: "bytes of a frame", tick: |bytes| human(bytes as usize) })
}

fn by_buffer(curves: &mut Curves<'_>, payloads: &[usize]) -> Result<()> {
    for &payload in payloads {
        curves.runner.payload = payload;
        for size in [64, 1024, 16_384] {
            curves.measure(payload, Scenario::Stream { size, mode: Mode::Copy })?;
        }
        curves.measure(payload, Scenario::RoundTrip { size: 64, pace: 0 })?;
    }
    curves.runner.payload = zerobuffer::DEFAULT_PAYLOAD_SIZE;
    let x = Axis { label: "payload bytes of the buffer", tick: |bytes| human(bytes as usize) };
    curves.end("buffer-size", &x)
}

fn by_held(curves: &mut Curves<'_>, counts: &[usize]) -> Result<()> {
    for &held in counts {
        curves.runner.held = Some(held);
        for size in [64, 16_384] {
            // No frame kept does not fit a logarithmic axis: it is in the table and in the data.
            curves.measure(held, Scenario::Stream { size, mode: Mode::Copy })?;
        }
    }
    curves.runner.held = None;
    curves.end("frames-kept", &Axis { label: "frames kept", tick: |count| format!("{count}") })
}

/// The others are buffers with a reader that does nothing.
fn by_others(curves: &mut Curves<'_>, counts: &[usize]) -> Result<()> {
    machine::raise_file_limit()?;
    let mut alive = Vec::new();
    for &count in counts {
        while alive.len() < count {
            let channels = curves.runner.channels(64, 0);
            let reader = Reader::create(&channels.forth.name, BufferConfig::default())?;
            // In this order: the reader is dropped first, then the files that it may have left are removed.
            alive.push((reader, channels));
        }
        curves.measure(count, Scenario::Stream { size: 64, mode: Mode::Copy })?;
        curves.measure(count, Scenario::RoundTrip { size: 64, pace: 0 })?;
        let channels = curves.runner.channels(64, 0);
        let (creation, _) = role::creations(&channels.forth.name, 20)?;
        curves
            .record
            .line(&json!({ "curve": curves.curve, "x": count, "scenario": { "kind": "creation" },
            "outcome": creation }))?;
        curves.point(count, "creation p50", Unit::Microseconds, creation.p50_us);
    }
    curves.end("other-buffers", &Axis { label: "other buffers alive", tick: |count| format!("{count}") })
}
