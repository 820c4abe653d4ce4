//! Plain plots as SVG text: lines over two logarithmic axes, and spans over one.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 80.0;
const TOP: f64 = 46.0;
/// Where the plot ends; the names of the series stand to the right of it.
const RIGHT: f64 = WIDTH - 170.0;

/// Told apart in any order, by most colour-blind people, too (Okabe and Ito), and then again with dashes.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#b8a600"];

/// An axis: its words, and how a value is written at a tick.
pub struct Axis<'a> {
    pub label: &'a str,
    pub tick: fn(f64) -> String,
}

/// A name and the points of a line.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A name, and the values of a span (first to last, each marked).
pub struct Span {
    pub name: String,
    pub values: Vec<f64>,
}

/// Lines over two logarithmic axes. Values that are not above zero cannot be shown, and are left out.
pub fn lines(title: &str, x: &Axis<'_>, y: &Axis<'_>, lines: &[Line]) -> String {
    let bottom = 420.0;
    let shown = |line: &Line| -> Vec<(f64, f64)> {
        line.points.iter().copied().filter(|&(x, y)| x > 0.0 && y > 0.0).collect()
    };
    let all: Vec<(f64, f64)> = lines.iter().flat_map(shown).collect();
    let across = Scale::new(all.iter().map(|point| point.0), LEFT, RIGHT, false);
    let up = Scale::new(all.iter().map(|point| point.1), bottom, TOP, true);
    let mut svg = open(title, bottom + 50.0);
    let mut at: Vec<f64> = all.iter().map(|point| point.0).collect();
    at.sort_by(f64::total_cmp);
    at.dedup();
    // Ticks where something was measured.
    let stride = at.len().div_ceil(12).max(1);
    for &value in at.iter().step_by(stride) {
        vertical(&mut svg, across.at(value), bottom, &(x.tick)(value));
    }
    for value in up.decades() {
        let place = up.at(value);
        let _ = writeln!(svg, r##"<path d="M{LEFT} {place:.1}H{RIGHT}" stroke="#ddd"/>"##);
        text(&mut svg, LEFT - 6.0, place + 4.0, "end", &(y.tick)(value));
    }
    frame(&mut svg, bottom);
    text(&mut svg, f64::midpoint(LEFT, RIGHT), bottom + 38.0, "middle", x.label);
    let middle = f64::midpoint(TOP, bottom);
    let _ = writeln!(
        svg,
        r#"<text transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">{}</text>"#,
        escape(y.label)
    );
    for (index, line) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        // ZeroBuffer's line is thicker.
        let width = if line.name == "ours" { 4 } else { 2 };
        let dashes = if index >= COLOURS.len() { r#" stroke-dasharray="6 3""# } else { "" };
        let points = shown(line).into_iter().map(|(x, y)| (across.at(x), up.at(y)));
        let path: Vec<String> = points.clone().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes}/>"#,
            path.join(" ")
        );
        for (x, y) in points {
            let _ = writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#);
        }
        let place = TOP + 10.0 + 20.0 * index as f64;
        let (from, to) = (RIGHT + 14.0, RIGHT + 38.0);
        let _ = writeln!(
            svg,
            r#"<path d="M{from} {place}H{to}" stroke="{colour}" stroke-width="{width}"{dashes}/>"#
        );
        text(&mut svg, RIGHT + 44.0, place + 4.0, "start", &line.name);
    }
    svg + "</svg>\n"
}

/// Spans over one logarithmic axis, a row each; `marks` says what their values are.
pub fn spans(title: &str, x: &Axis<'_>, marks: &str, spans: &[Span]) -> String {
    let left = 170.0;
    let bottom = TOP + 24.0 * spans.len() as f64 + 8.0;
    let values = spans.iter().flat_map(|span| span.values.iter().copied());
    let across = Scale::new(values, left, RIGHT + 130.0, true);
    let mut svg = open(title, bottom + 66.0);
    for value in across.decades() {
        vertical(&mut svg, across.at(value), bottom, &(x.tick)(value));
    }
    text(&mut svg, f64::midpoint(left, RIGHT + 130.0), bottom + 38.0, "middle", x.label);
    text(&mut svg, f64::midpoint(left, RIGHT + 130.0), bottom + 56.0, "middle", marks);
    for (index, span) in spans.iter().enumerate() {
        let place = TOP + 16.0 + 24.0 * index as f64;
        let colour = if span.name.starts_with("ours") { COLOURS[1] } else { COLOURS[0] };
        text(&mut svg, left - 8.0, place + 4.0, "end", &span.name);
        let shown: Vec<f64> =
            span.values.iter().filter(|&&value| value > 0.0).map(|&v| across.at(v)).collect();
        let (Some(first), Some(last)) = (shown.first(), shown.last()) else { continue };
        let _ = writeln!(
            svg,
            r#"<path d="M{first:.1} {place}H{last:.1}" stroke="{colour}" stroke-width="3" opacity="0.5"/>"#
        );
        for (number, x) in shown.iter().enumerate() {
            let radius = if number == 0 { 5.0 } else { 3.0 };
            let _ = writeln!(svg, r#"<circle cx="{x:.1}" cy="{place}" r="{radius}" fill="{colour}"/>"#);
        }
    }
    svg + "</svg>\n"
}

fn open(title: &str, height: f64) -> String {
    let mut svg = format!(
        concat!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" "#,
            r#"font-family="sans-serif" font-size="12">"#,
            "\n",
            r#"<rect width="100%" height="100%" fill="white"/>"#,
            "\n"
        ),
        width = WIDTH,
        height = height
    );
    let _ = writeln!(svg, r#"<text x="{LEFT}" y="26" font-size="16">{}</text>"#, escape(title));
    svg
}

fn frame(svg: &mut String, bottom: f64) {
    let (width, height) = (RIGHT - LEFT, bottom - TOP);
    let _ = writeln!(
        svg,
        r##"<rect x="{LEFT}" y="{TOP}" width="{width}" height="{height}" fill="none" stroke="#888"/>"##
    );
}

fn vertical(svg: &mut String, place: f64, bottom: f64, tick: &str) {
    let _ = writeln!(svg, r##"<path d="M{place:.1} {TOP}V{bottom}" stroke="#ddd"/>"##);
    text(svg, place, bottom + 18.0, "middle", tick);
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = escape(words);
    let _ = writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{words}</text>"#);
}

fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A logarithmic scale from values to places.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// `whole`: from a power of ten to a power of ten, so that there are ticks at both ends.
    fn new(values: impl Iterator<Item = f64>, from: f64, to: f64, whole: bool) -> Scale {
        let logs: Vec<f64> = values.filter(|&value| value > 0.0).map(f64::log10).collect();
        let mut low = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let mut high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !low.is_finite() {
            (low, high) = (0.0, 1.0);
        }
        if whole {
            (low, high) = (low.floor(), high.ceil());
        }
        if high <= low {
            (low, high) = (low - 0.5, low + 0.5);
        }
        Scale { low, high, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value.log10() - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        (self.low.ceil() as i32..=self.high.floor() as i32).map(|power| 10_f64.powi(power))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greater_values_lie_further_up_and_all_lie_inside() {
        let axis = Axis { label: "a < b", tick: |value| format!("{value}") };
        let points = vec![(1.0, 5.0), (10.0, 50.0), (100.0, 0.0)];
        let svg = lines("t", &axis, &axis, &[Line { name: "x".into(), points }]);
        assert!(svg.contains("a &lt; b"));
        assert!(svg.contains(&format!(r#"points="{LEFT:.1},"#)));
        assert_eq!(svg.matches("<circle").count(), 2);
        let scale = Scale::new([5.0, 50.0].into_iter(), 420.0, TOP, true);
        assert!(scale.at(50.0) < scale.at(5.0) && scale.at(5.0) < 420.0 && scale.at(50.0) > TOP);
        assert_eq!(scale.decades().collect::<Vec<_>>(), [1.0, 10.0, 100.0]);
        // Nothing measured, or one value only, is no reason to fail.
        lines("t", &axis, &axis, &[]);
        spans("t", &axis, "", &[Span { name: "x".into(), values: vec![3.0] }]);
    }
}
