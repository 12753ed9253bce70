//! Curves out of run folders, and the figures of an experiment as text.

use std::path::Path;

use vul2safe_evaluate::Curve;
use vul2safe_run::{Estimate, ExperimentTable};

use crate::failure::Result;
use crate::stages::arm::{ValidationPoint, validation_file};
use crate::stages::read_lines;

/// What was measured while an arm of the run in `folder` was trained.
pub(super) fn points(folder: &Path, arm: &str) -> Result<Vec<ValidationPoint>> {
    read_lines(&folder.join(validation_file(arm)))
}

/// A rate over the answers trained on, of the points that have it (where no answer ran, nothing is known of attacks); none: of
/// fewer than two.
pub(super) fn curve(points: &[ValidationPoint], rate: &str) -> Option<Curve> {
    Curve::new(points.iter().filter_map(|point| Some((point.rollouts as f64, point.rate(rate)?))).collect())
}

/// A figure with its interval: percent of rates, plain numbers otherwise.
fn cell(estimate: Option<&Estimate>, percent: bool) -> String {
    let Some(estimate) = estimate else { return "–".to_owned() };
    let (factor, digits) = if percent { (100.0, 1) } else { (1.0, usize::from(estimate.mean.abs() < 100.0)) };
    let mean = format!("{:.digits$}", factor * estimate.mean);
    if !estimate.low.is_finite() {
        return mean;
    }
    format!("{mean} [{:.digits$}, {:.digits$}]", factor * estimate.low, factor * estimate.high)
}

/// Whether a measure is a share.
pub(super) fn is_share(measure: &str) -> bool {
    !["rollouts_to_half", "kl"].contains(&measure)
}

/// The main rows as text.
pub fn render_experiment(table: &ExperimentTable) -> String {
    const COLUMNS: [(&str, &str); 9] = [
        ("training", "rollouts_to_half"),
        ("training", "vulnerable_area"),
        ("all", "vulnerable"),
        ("all", "vulnerable_high"),
        ("all", "absent"),
        ("all", "functional"),
        ("all", "both"),
        ("harmless", "functional"),
        ("training", "kl"),
    ];
    let mut text = format!("{}: means over seeds with 95 % intervals; rates in percent\n\n", table.name);
    text.push_str(&format!("{:<22} {:>5}", "", "seeds"));
    for (group, measure) in COLUMNS {
        let name =
            if group == "harmless" { format!("harmless {measure}") } else { measure.replace('_', " ") };
        text.push_str(&format!(" {name:>21}"));
    }
    for arm in &table.arms {
        text.push_str(&format!("\n{:<22} {:>5}", arm.arm, arm.seeds.len()));
        for (group, measure) in COLUMNS {
            text.push_str(&format!(" {:>21}", cell(arm.figure(group, measure), is_share(measure))));
        }
    }
    let shown = [
        ("training", "rollouts_to_half"),
        ("training", "vulnerable_area"),
        ("all", "vulnerable"),
        ("all", "functional"),
        ("all", "both"),
    ];
    let mut firsts: Vec<&str> = Vec::new();
    for difference in &table.differences {
        if !firsts.contains(&difference.first.as_str()) {
            firsts.push(&difference.first);
        }
    }
    for first in firsts {
        text.push_str(&format!("\n\n{first}, less each other arm\n{:<22} {:>5}", "", "seeds"));
        for (_, measure) in shown {
            text.push_str(&format!(" {:>28}", measure.replace('_', " ")));
        }
        for arm in table.arms.iter().filter(|arm| arm.arm != first) {
            let found = |(group, measure): (&str, &str)| {
                table.differences.iter().find(|one| {
                    one.first == first
                        && one.second == arm.arm
                        && one.group == group
                        && one.measure == measure
                })
            };
            let seeds = shown.iter().find_map(|&column| found(column)).map_or(0, |one| one.seeds);
            text.push_str(&format!("\n{:<22} {seeds:>5}", arm.arm));
            for column in shown {
                let cell = found(column).map_or("–".to_owned(), |one| {
                    let values = Vec::new();
                    let estimate = Estimate { mean: one.difference, low: one.low, high: one.high, values };
                    format!("{} p {:.3}", cell(Some(&estimate), is_share(column.1)), one.p_value)
                });
                text.push_str(&format!(" {cell:>28}"));
            }
        }
    }
    if !table.collapsed.is_empty() {
        text.push_str("\n\ncollapsed, and so in no figure of that seed");
    }
    for one in &table.collapsed {
        text.push_str(&format!("\n{}, seed {}: {}", one.arm, one.seed, one.why));
    }
    text
}
