//! The samples as a picture: memory on the left axis, descriptors, threads and tasks on the right one, over minutes.

use std::fmt::Write as _;

use crate::samples::Sample;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 60.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 45.0;
/// Lines across.
const LINES: u32 = 4;

/// One curve.
struct Curve {
    name: &'static str,
    colour: &'static str,
    value: fn(&Sample) -> f64,
    is_left: bool,
}

const CURVES: [Curve; 4] = [
    Curve {
        name: "resident memory, MiB (left)",
        colour: "#1f5fa8",
        value: |sample| sample.resident / 1024.0,
        is_left: true,
    },
    Curve {
        name: "file descriptors (right)",
        colour: "#b5541c",
        value: |sample| sample.descriptors,
        is_left: false,
    },
    Curve {
        name: "threads (right)",
        colour: "#4d7d2a",
        value: |sample| sample.threads,
        is_left: false,
    },
    Curve {
        name: "tasks (right)",
        colour: "#7a3b8f",
        value: |sample| sample.tasks,
        is_left: false,
    },
];

/// An SVG of its own.
pub fn draw(title: &str, samples: &[Sample]) -> String {
    let minutes = samples.last().map_or(1.0, |sample| sample.seconds / 60.0).max(0.1);
    let top = |is_left: bool| {
        let curves = CURVES.iter().filter(|curve| curve.is_left == is_left);
        let values = curves.flat_map(|curve| samples.iter().map(curve.value));
        round_up(values.fold(1.0, f64::max) * 1.1)
    };
    let (left, right) = (top(true), top(false));
    let x = |sample: &Sample| LEFT + sample.seconds / 60.0 / minutes * (WIDTH - LEFT - RIGHT);
    let y = |share: f64| HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut svg, (LEFT, 18.0), "start", "#222222", title);
    for line in 0..=LINES {
        let share = f64::from(line) / f64::from(LINES);
        let (at, end) = (y(share), WIDTH - RIGHT);
        add(
            &mut svg,
            &format!("<path d=\"M{LEFT} {at:.1}H{end}\" stroke=\"#dddddd\"/>"),
        );
        text(&mut svg, (LEFT - 8.0, at + 4.0), "end", "#222222", &label(left * share));
        text(
            &mut svg,
            (end + 8.0, at + 4.0),
            "start",
            "#222222",
            &label(right * share),
        );
        let across = LEFT + share * (end - LEFT);
        let time = label(minutes * share);
        text(&mut svg, (across, HEIGHT - BOTTOM + 18.0), "middle", "#222222", &time);
    }
    text(&mut svg, (WIDTH - RIGHT, HEIGHT - 8.0), "end", "#222222", "minutes");
    for (place, curve) in CURVES.iter().enumerate() {
        let most = if curve.is_left { left } else { right };
        let points = samples
            .iter()
            .map(|sample| format!("{:.1},{:.1}", x(sample), y((curve.value)(sample) / most)));
        let points = points.collect::<Vec<_>>().join(" ");
        let colour = curve.colour;
        add(
            &mut svg,
            &format!("<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{points}\"/>"),
        );
        let at = LEFT + [0.0, 190.0, 360.0, 490.0].get(place).copied().unwrap_or_default();
        text(&mut svg, (at, HEIGHT - 8.0), "start", colour, curve.name);
    }
    svg + "</svg>\n"
}

fn add(svg: &mut String, element: &str) {
    svg.push_str(element);
    svg.push('\n');
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, colour: &str, words: &str) {
    // Writing to a string cannot fail, and no text here has a sign that XML knows.
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{words}</text>"
    );
}

fn label(value: f64) -> String {
    let text = format!("{value:.1}");
    text.trim_end_matches(".0").to_owned()
}

/// To the next multiple of 4, so that the lines across have whole numbers.
fn round_up(value: f64) -> f64 {
    (value / f64::from(LINES)).ceil() * f64::from(LINES)
}
