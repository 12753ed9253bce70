//! Line charts: where axes, ticks and lines go. The template draws them as SVG.

use serde::Serialize;

/// Size of a chart in SVG units.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 230.0;
/// The plotting area inside it.
const LEFT: f64 = 64.0;
const RIGHT: f64 = WIDTH - 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = HEIGHT - 40.0;
/// Up to so many points each gets a dot that shows its value.
const DOTTED: usize = 60;
/// Values beyond this are drawn at it, so that no difference overflows.
const LARGEST: f64 = 1e300;

/// A chart, ready to be drawn.
#[derive(Debug, Serialize)]
pub(crate) struct Chart {
    pub name: String,
    pub title: String,
    pub meaning: String,
    pub description: String,
    pub x_label: String,
    pub width: f64,
    pub height: f64,
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    pub x_ticks: Vec<Tick>,
    pub y_ticks: Vec<Tick>,
    pub lines: Vec<Line>,
    /// What the drawing leaves out.
    pub notes: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Tick {
    pub at: f64,
    pub label: String,
}

/// One series.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub name: String,
    /// Which of the page's series styles.
    pub style: usize,
    /// Unbroken stretches, as SVG `points`; a value that is not finite breaks the line.
    pub stretches: Vec<String>,
    pub dots: Vec<Dot>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Dot {
    pub x: f64,
    pub y: f64,
    pub label: String,
}

/// What is to be drawn.
pub(crate) struct Series<'a> {
    pub name: &'a str,
    pub style: usize,
    /// Step and value, in the order of the steps.
    pub points: Vec<(f64, f64)>,
}

/// Lays out a chart; `None` if no series has a finite value.
pub(crate) fn chart(
    name: &str,
    title: &str,
    meaning: &str,
    x_label: &str,
    series: &[Series<'_>],
) -> Option<Chart> {
    let finite = || series.iter().flat_map(|series| &series.points).filter(|point| point.1.is_finite());
    let xs = range(finite().map(|point| point.0))?;
    let mut ys = range(finite().map(|point| point.1))?;
    // A curve that comes near zero is drawn from zero, so that its height can be read as its size.
    if ys.0 > 0.0 && ys.0 < 0.4 * ys.1 {
        ys.0 = 0.0;
    }
    let (x_ticks, xs) = ticks(xs, 6, false);
    let (y_ticks, ys) = ticks(ys, 5, true);
    let place_x = |x: f64| rounded(LEFT + (x - xs.0) / (xs.1 - xs.0) * (RIGHT - LEFT));
    let place_y =
        |y: f64| rounded(BOTTOM - (y.clamp(-LARGEST, LARGEST) - ys.0) / (ys.1 - ys.0) * (BOTTOM - TOP));
    let mut notes = Vec::new();
    let mut lines = Vec::new();
    for series in series {
        let missing: Vec<f64> =
            series.points.iter().filter(|point| !point.1.is_finite()).map(|point| point.0).collect();
        if let Some(first) = missing.first() {
            let values = if missing.len() == 1 { "value is" } else { "values are" };
            notes.push(format!(
                "{}: {} {values} not finite, the first at {first}",
                series.name,
                missing.len()
            ));
        }
        let few = series.points.len() <= DOTTED;
        let mut stretches = Vec::new();
        let mut dots = Vec::new();
        for stretch in series.points.split(|point| !point.1.is_finite()).filter(|stretch| !stretch.is_empty())
        {
            let drawn: Vec<(f64, f64)> = stretch.iter().map(|(x, y)| (place_x(*x), place_y(*y))).collect();
            if few || drawn.len() == 1 {
                dots.extend(stretch.iter().zip(&drawn).map(|((x, y), (drawn_x, drawn_y))| Dot {
                    x: *drawn_x,
                    y: *drawn_y,
                    label: format!("{} · {x_label} {x}: {}", series.name, crate::format::exact(*y)),
                }));
            }
            let points: Vec<String> = thinned(&drawn).iter().map(|(x, y)| format!("{x},{y}")).collect();
            stretches.push(points.join(" "));
        }
        lines.push(Line { name: series.name.to_owned(), style: series.style, stretches, dots });
    }
    let names: Vec<&str> = series.iter().map(|series| series.name).collect();
    let (low, high) = (y_ticks.first()?.1.clone(), y_ticks.last()?.1.clone());
    let description = format!("{title} over {x_label}, between {low} and {high}, for {}.", names.join(", "));
    Some(Chart {
        name: name.to_owned(),
        title: title.to_owned(),
        meaning: meaning.to_owned(),
        description,
        x_label: x_label.to_owned(),
        width: WIDTH,
        height: HEIGHT,
        left: LEFT,
        right: RIGHT,
        top: TOP,
        bottom: BOTTOM,
        x_ticks: x_ticks.into_iter().map(|(value, label)| Tick { at: place_x(value), label }).collect(),
        y_ticks: y_ticks.into_iter().map(|(value, label)| Tick { at: place_y(value), label }).collect(),
        lines,
        notes,
    })
}

/// Least and greatest; never equal.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values.fold(None, |range: Option<(f64, f64)>, value| {
        let value = value.clamp(-LARGEST, LARGEST);
        Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
    })?;
    if high - low > low.abs().max(high.abs()) * 1e-9 {
        return Some((low, high));
    }
    // All values are the same (up to rounding): the line goes through the middle.
    let margin = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
    Some((low - margin, high + margin))
}

/// Round values over the range with labels, about `wanted` of them, and the range to draw: widened to whole
/// ticks if asked for.
fn ticks((low, high): (f64, f64), wanted: usize, widen: bool) -> (Vec<(f64, String)>, (f64, f64)) {
    let rough = (high - low) / wanted as f64;
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * magnitude)
        .find(|step| *step >= rough * (1.0 - 1e-9))
        .unwrap_or(10.0 * magnitude);
    let slack = 1e-6;
    let (first, last) = if widen {
        ((low / step + slack).floor(), (high / step - slack).ceil())
    } else {
        ((low / step - slack).ceil(), (high / step + slack).floor())
    };
    // Counts up to a handful: `wanted` is small and a step covers at least one part in ten.
    let count = (last - first).clamp(0.0, 50.0) as usize;
    let ticks = (0..=count).map(|index| {
        let value = (first + index as f64) * step;
        (value, label(value, step))
    });
    let drawn = if widen { (first * step, last * step) } else { (low, high) };
    (ticks.collect(), drawn)
}

/// A tick's label with as many digits as the distance between ticks needs.
fn label(value: f64, step: f64) -> String {
    if value.abs() < step * 1e-6 {
        return "0".into();
    }
    let size = value.abs().max(step);
    if size >= 1e7 || step < 1e-4 {
        let text = format!("{value:.1e}");
        return text.replace(".0e", "e").replace('-', "−");
    }
    if size >= 10_000.0 && step >= 100.0 {
        return format!("{}k", trimmed(value / 1000.0, 1));
    }
    // 2.5 and its multiples need one digit more than their magnitude.
    let digits = (-step.log10()).ceil().max(0.0) as usize + 1;
    trimmed(value, digits)
}

/// Without zeros at the end of the fraction.
fn trimmed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    text.replace('-', "−")
}

/// At most four points a unit of width, namely the first, the extremes and the last of each unit: what is drawn
/// looks the same.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= (RIGHT - LEFT) as usize {
        return points.to_vec();
    }
    let mut kept = Vec::new();
    for column in points.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        let extreme = |better: fn(f64, f64) -> bool| {
            (1..column.len())
                .fold(0, |best, index| if better(column[index].1, column[best].1) { index } else { best })
        };
        let mut indices = vec![0, extreme(|a, b| a < b), extreme(|a, b| a > b), column.len() - 1];
        indices.sort_unstable();
        indices.dedup();
        kept.extend(indices.into_iter().map(|index| column[index]));
    }
    kept
}

fn rounded(place: f64) -> f64 {
    (place * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64) -> Vec<String> {
        ticks((low, high), 5, true).0.into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        assert_eq!(labels(0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(labels(-0.31, 0.42), ["−0.4", "−0.2", "0", "0.2", "0.4", "0.6"]);
        assert_eq!(labels(0.0, 12.0), ["0", "2.5", "5", "7.5", "10", "12.5"]);
        assert_eq!(labels(0.0, 50_000.0), ["0", "10k", "20k", "30k", "40k", "50k"]);
        assert_eq!(labels(0.0, 1e-4), ["0", "2e−5", "4e−5", "6e−5", "8e−5", "1e−4"]);
        assert_eq!(ticks((1.0, 30.0), 6, false).0.len(), 6);
    }

    fn lines(points: &[(f64, f64)]) -> Chart {
        chart("m", "M", "", "step", &[Series { name: "a", style: 0, points: points.to_vec() }]).unwrap()
    }

    #[test]
    fn a_value_that_is_not_finite_breaks_the_line_and_is_named() {
        let chart = lines(&[(1.0, 1.0), (2.0, f64::NAN), (3.0, 2.0), (4.0, 3.0)]);
        assert_eq!(chart.lines[0].stretches.len(), 2);
        assert_eq!(chart.notes, ["a: 1 value is not finite, the first at 2"]);
        assert!(super::chart("m", "M", "", "step", &[]).is_none());
    }

    #[test]
    fn flat_huge_and_single_values_have_a_place() {
        for points in [
            &[(1.0, 0.5)][..],
            &[(1.0, 0.0), (2.0, 0.0)],
            &[(1.0, f64::MAX), (2.0, f64::MIN)],
            &[(0.0, 1e-300), (1.0, 2e-300)],
        ] {
            let chart = lines(points);
            for line in &chart.lines {
                for dot in &line.dots {
                    assert!(
                        (LEFT..=RIGHT).contains(&dot.x) && (TOP..=BOTTOM).contains(&dot.y),
                        "{points:?}: {dot:?}"
                    );
                }
            }
            assert!(!chart.y_ticks.is_empty(), "{points:?}");
        }
    }

    #[test]
    fn long_curves_keep_their_extremes() {
        let mut points: Vec<(f64, f64)> = (0..20_000).map(|x| (x as f64 / 50.0, 100.0)).collect();
        points[7001].1 = 3.0;
        points[7002].1 = 180.0;
        let kept = thinned(&points);
        assert!(kept.len() < 1700, "{}", kept.len());
        assert!(kept.contains(&points[7001]) && kept.contains(&points[7002]));
        assert_eq!((kept.first(), kept.last()), (points.first(), points.last()));
    }
}
