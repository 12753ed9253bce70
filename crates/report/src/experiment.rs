//! The page of an experiment: figures over seeds, differences, curves, what the search tried.

use serde::Serialize;
use vul2safe_run::{ArmResult, CollapsedArm, Estimate, ExperimentTable, SeedDifference};

use crate::chart::{Chart, Series, chart};
use crate::format;

/// The main table: group, measure, heading.
const MAIN: [(&str, &str, &str); 10] = [
    ("training", "rollouts_to_half", "answers until halved"),
    ("training", "vulnerable_area", "vulnerable, mean of training"),
    ("all", "vulnerable", "vulnerable"),
    ("all", "vulnerable_high", "high"),
    ("all", "vulnerable_medium", "medium"),
    ("all", "absent", "absent"),
    ("all", "functional", "functional"),
    ("all", "both", "both"),
    ("harmless", "functional", "harmless, functional"),
    ("training", "kl", "KL"),
];
/// Differences that are shown.
const COMPARED: [(&str, &str); 8] = [
    ("training", "rollouts_to_half"),
    ("training", "vulnerable_area"),
    ("all", "vulnerable"),
    ("all", "functional"),
    ("all", "both"),
    ("all", "absent"),
    ("harmless", "functional"),
    ("at the same KL", "vulnerable"),
];
/// Groups that the main table shows already.
const WHOLE: [&str; 3] = ["all", "harmless", "training"];
/// Lines of one chart.
const LINES: usize = 6;
/// The curves: measure, title, meaning.
const CURVES: [(&str, &str, &str); 4] = [
    ("vulnerable", "Vulnerable", "share of answers on which an attack worked, mean over seeds"),
    ("functional", "Functional", "share of answers that pass every functional test"),
    ("both", "Both", "functional and no attack worked"),
    ("kl", "KL", "divergence from the SFT model, nats an answer"),
];

/// Everything that the template sees.
#[derive(Debug, Serialize)]
pub(crate) struct ExperimentPage {
    name: String,
    seeds: usize,
    time: String,
    endpoints: Vec<String>,
    measures: Vec<(String, String)>,
    main: Table,
    differences: Vec<Table>,
    groups: Vec<Table>,
    charts: Vec<Chart>,
    more: Vec<Chart>,
    search: Vec<SearchRow>,
    collapsed: Vec<CollapsedArm>,
}

#[derive(Debug, Serialize)]
struct Table {
    name: String,
    headings: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    description: String,
    seeds: usize,
    cells: Vec<Option<Cell>>,
}

#[derive(Debug, Serialize)]
struct Cell {
    text: String,
    interval: String,
    p_value: String,
    /// Unrounded.
    value: String,
}

#[derive(Debug, Serialize)]
struct SearchRow {
    arm: String,
    setting: String,
    both: String,
    vulnerable: String,
    functional_change: String,
    chosen: bool,
    /// Development seeds in which it collapsed.
    collapsed: String,
}

/// Whether a measure is no share, and so is shown as it is.
fn is_plain(measure: &str) -> bool {
    matches!(measure, "rollouts_to_half" | "kl")
}

fn figure(value: f64, plain: bool, signed: bool) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    match (plain, signed) {
        (true, true) => format!("{value:+.1}").replace('-', "−"),
        (true, false) => format!("{value:.1}").replace('-', "−"),
        (false, true) => format::points(value),
        (false, false) => format::percent(value),
    }
}

fn interval(low: f64, high: f64, plain: bool, signed: bool) -> String {
    if !low.is_finite() || !high.is_finite() {
        return String::new();
    }
    format!("{} to {}", figure(low, plain, signed), figure(high, plain, signed))
}

fn estimate(estimate: &Estimate, measure: &str) -> Cell {
    let plain = is_plain(measure);
    // A mean change of a rate is one of points.
    let signed = measure == "functional_area";
    Cell {
        text: figure(estimate.mean, plain, signed),
        interval: interval(estimate.low, estimate.high, plain, signed),
        p_value: String::new(),
        value: format::exact(estimate.mean),
    }
}

fn difference(one: &SeedDifference) -> Cell {
    let plain = is_plain(&one.measure);
    Cell {
        text: figure(one.difference, plain, true),
        interval: interval(one.low, one.high, plain, true),
        p_value: format::p_value(one.p_value),
        value: format::exact(one.difference),
    }
}

fn row(arm: &ArmResult, cells: Vec<Option<Cell>>) -> Row {
    Row { name: arm.arm.clone(), description: arm.description.clone(), seeds: arm.seeds.len(), cells }
}

/// Lays out the page.
pub(crate) fn page(table: &ExperimentTable) -> ExperimentPage {
    let main = Table {
        name: "every arm".to_owned(),
        headings: MAIN.iter().map(|(_, _, heading)| (*heading).to_owned()).collect(),
        rows: table
            .arms
            .iter()
            .map(|arm| {
                let cell = |(group, measure, _): &(&str, &str, &str)| {
                    arm.figure(group, measure).map(|found| estimate(found, measure))
                };
                row(arm, MAIN.iter().map(cell).collect())
            })
            .collect(),
    };
    let mut firsts: Vec<&str> = Vec::new();
    for one in &table.differences {
        if !firsts.contains(&one.first.as_str()) {
            firsts.push(&one.first);
        }
    }
    let (charts, more) = charts(table);
    ExperimentPage {
        name: table.name.clone(),
        seeds: table.seeds.len(),
        time: format::duration(table.seconds),
        endpoints: table.endpoints.clone(),
        measures: table.measures.clone(),
        main,
        differences: firsts.into_iter().map(|first| differences(table, first)).collect(),
        groups: groups(table),
        charts,
        more,
        search: table
            .search
            .iter()
            .map(|one| SearchRow {
                arm: one.arm.clone(),
                setting: one.setting.clone(),
                both: format::percent(one.both),
                vulnerable: format::percent(one.vulnerable),
                functional_change: format::points(one.functional_change),
                chosen: one.chosen,
                collapsed: one.collapsed.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
            })
            .collect(),
        collapsed: table.collapsed.clone(),
    }
}

fn differences(table: &ExperimentTable, first: &str) -> Table {
    let of = |second: &str, (group, measure): (&str, &str)| {
        table.differences.iter().find(|one| {
            one.first == first && one.second == second && one.group == group && one.measure == measure
        })
    };
    let heading = |(group, measure): &(&str, &str)| {
        let words = measure.replace('_', " ");
        if WHOLE.contains(group) && *group != "harmless" { words } else { format!("{group}: {words}") }
    };
    let rows = table.arms.iter().filter(|arm| arm.arm != first).map(|arm| {
        let seeds = COMPARED.iter().find_map(|&column| of(&arm.arm, column)).map_or(0, |one| one.seeds);
        let cells = COMPARED.iter().map(|&column| of(&arm.arm, column).map(difference)).collect();
        Row { seeds, ..row(arm, cells) }
    });
    Table {
        name: first.to_owned(),
        headings: COMPARED.iter().map(heading).collect(),
        rows: rows.filter(|row| row.cells.iter().any(Option::is_some)).collect(),
    }
}

/// A table of the vulnerable rate, one of both, with a column for each group of tasks.
fn groups(table: &ExperimentTable) -> Vec<Table> {
    let mut names: Vec<&str> = Vec::new();
    for group in table.arms.iter().flat_map(|arm| arm.groups.keys()) {
        if !WHOLE.contains(&group.as_str()) && !names.contains(&group.as_str()) {
            names.push(group);
        }
    }
    ["vulnerable", "functional", "both", "rollouts_to_half", "vulnerable_area"]
        .into_iter()
        .map(|measure| {
            // Some are known in some of the groups alone.
            let known = |name: &&&str| table.arms.iter().any(|arm| arm.figure(name, measure).is_some());
            let names: Vec<&str> = names.iter().filter(known).copied().collect();
            let rows = table.arms.iter().map(|arm| {
                let cell = |name: &&str| arm.figure(name, measure).map(|found| estimate(found, measure));
                row(arm, names.iter().map(cell).collect())
            });
            Table {
                name: measure.replace('_', " "),
                headings: names.iter().map(|name| (*name).to_owned()).collect(),
                rows: rows.filter(|row| row.cells.iter().any(Option::is_some)).collect(),
            }
        })
        .filter(|table| !table.rows.is_empty())
        .collect()
}

/// The curves of the arms with most seeds, and those of the others.
fn charts(table: &ExperimentTable) -> (Vec<Chart>, Vec<Chart>) {
    let mut arms: Vec<&ArmResult> = table.arms.iter().filter(|arm| !arm.curves.is_empty()).collect();
    arms.sort_by_key(|arm| std::cmp::Reverse(arm.seeds.len()));
    let draw = |arms: &[&ArmResult]| -> Vec<Chart> {
        CURVES
            .iter()
            .filter_map(|(measure, title, meaning)| {
                let series: Vec<Series<'_>> = arms
                    .iter()
                    .enumerate()
                    .filter_map(|(style, arm)| {
                        let points = arm.curves.get(*measure)?;
                        let points = points.iter().map(|point| (point.rollouts as f64, point.mean)).collect();
                        Some(Series { name: &arm.arm, style, points })
                    })
                    .collect();
                chart(measure, title, meaning, "rollouts", &series)
            })
            .collect()
    };
    let mut parts = arms.chunks(LINES);
    let first = parts.next().map(draw).unwrap_or_default();
    (first, parts.flat_map(draw).collect())
}
