//! The evaluation's tables, as the page shows them.

use serde::Serialize;
use vul2safe_run::{Comparison, EvaluationTable, Rate};

use crate::format;

/// The columns in their order: the name in `evaluation.json`, the heading, what it means, and whether less is better.
const COLUMNS: [(&str, &str, &str, Better); 10] = [
    ("both", "both", "works and withstands the attacks, in the same answer", Better::More),
    ("functional", "functional", "passes every functional test", Better::More),
    ("vulnerable", "vulnerable", "an attack on the answer succeeded", Better::Less),
    ("vulnerable_high", "high", "vulnerable, tasks of high severity", Better::Less),
    ("vulnerable_medium", "medium", "vulnerable, tasks of medium severity", Better::Less),
    ("vulnerable_low", "low", "vulnerable, tasks of low severity", Better::Less),
    ("absent", "absent", "parses and does not work, and no attack did either", Better::Less),
    ("flagged", "flagged", "a static finding of the weakness that the task invites", Better::Less),
    ("unparsable", "unparsable", "is no valid code", Better::Less),
    ("not_run", "not run", "its tests could not be run", Better::Neither),
];

/// The direction in which a rate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    More,
    Less,
    Neither,
}

/// The evaluation's part of the page.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub suite: String,
    /// The models in the order of the rows.
    pub models: Vec<String>,
    pub groups: Vec<Group>,
    /// One for each model, from the first group.
    pub headlines: Vec<Headline>,
    pub comparisons: Vec<ComparisonRow>,
}

/// A table: one group of tasks, one row for each model.
#[derive(Debug, Serialize)]
pub(crate) struct Group {
    pub name: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Column {
    pub name: String,
    pub heading: String,
    pub meaning: String,
    pub better: Better,
    /// A part of the column to its left.
    pub part: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub model: String,
    pub answers: usize,
    /// One for each column; `None` where there was nothing to count.
    pub cells: Vec<Option<Cell>>,
}

/// A rate: rounded for the eye, exact for a program, and as places on a bar of 100 units.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    pub percent: String,
    pub low_percent: String,
    pub high_percent: String,
    pub count: usize,
    pub of: usize,
    pub value: String,
    pub low: String,
    pub high: String,
    pub bar: Interval,
}

/// Places on a bar of 100 units.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Interval {
    pub at: f64,
    pub low: f64,
    pub width: f64,
}

/// A model's figures at the top of the page.
#[derive(Debug, Serialize)]
pub(crate) struct Headline {
    pub model: String,
    pub both: Option<Cell>,
    pub vulnerable: Option<Cell>,
    pub functional: Option<Cell>,
    /// Shown where there are no attacks to tell vulnerable answers by.
    pub flagged: Option<Cell>,
}

/// Two models on the same tasks.
#[derive(Debug, Serialize)]
pub(crate) struct ComparisonRow {
    pub first: String,
    pub second: String,
    pub measure: String,
    pub points: String,
    pub low_points: String,
    pub high_points: String,
    pub p_text: String,
    pub pairs: usize,
    pub difference: String,
    pub low: String,
    pub high: String,
    pub p_value: String,
    /// On a bar from −100 to +100 points.
    pub bar: Interval,
    pub better: Better,
}

/// Puts the table into columns and groups; rounds, and computes nothing.
pub(crate) fn figures(table: &EvaluationTable) -> Figures {
    let mut models: Vec<String> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for row in &table.rows {
        for (list, name) in [(&mut models, &row.model), (&mut names, &row.group)] {
            if !list.contains(name) {
                list.push(name.clone());
            }
        }
    }
    let groups: Vec<Group> = names.into_iter().map(|name| group(table, name)).collect();
    let headlines = models
        .iter()
        .filter_map(|model| {
            let first = groups.first()?;
            let row = first.rows.iter().find(|row| row.model == *model)?;
            let cell = |name: &str| {
                let column = first.columns.iter().position(|column| column.name == name)?;
                row.cells[column].clone()
            };
            Some(Headline {
                model: model.clone(),
                both: cell("both"),
                vulnerable: cell("vulnerable"),
                functional: cell("functional"),
                flagged: cell("flagged"),
            })
        })
        .collect();
    let comparisons = table.comparisons.iter().map(comparison).collect();
    Figures { suite: table.suite.clone(), models, groups, headlines, comparisons }
}

fn group(table: &EvaluationTable, name: String) -> Group {
    let rows: Vec<_> = table.rows.iter().filter(|row| row.group == name).collect();
    let present = |rate: &str| rows.iter().any(|row| row.rates.contains_key(rate));
    let mut columns: Vec<Column> = COLUMNS
        .iter()
        .filter(|(rate, ..)| present(rate))
        .map(|(rate, heading, meaning, better)| Column {
            name: (*rate).into(),
            heading: (*heading).into(),
            meaning: (*meaning).into(),
            better: *better,
            part: rate.starts_with("vulnerable_"),
        })
        .collect();
    // A rate that this crate has no words for is shown under its own name rather than left out.
    for rate in rows.iter().flat_map(|row| row.rates.keys()) {
        if !columns.iter().any(|column| column.name == *rate) {
            let (heading, meaning) = (rate.replace('_', " "), String::new());
            columns.push(Column {
                name: rate.clone(),
                heading,
                meaning,
                better: Better::Neither,
                part: false,
            });
        }
    }
    let rows = rows
        .into_iter()
        .map(|row| Row {
            model: row.model.clone(),
            answers: row.answers,
            cells: columns.iter().map(|column| row.rates.get(&column.name).map(cell)).collect(),
        })
        .collect();
    Group { name, columns, rows }
}

fn cell(rate: &Rate) -> Cell {
    Cell {
        percent: format::percent(rate.value),
        low_percent: format::percent(rate.low),
        high_percent: format::percent(rate.high),
        count: rate.count,
        of: rate.of,
        value: format::exact(rate.value),
        low: format::exact(rate.low),
        high: format::exact(rate.high),
        bar: interval(rate.value, rate.low, rate.high, |share| share * 100.0),
    }
}

fn comparison(comparison: &Comparison) -> ComparisonRow {
    let Comparison { first, second, measure, difference, low, high, p_value, pairs } = comparison;
    let known = COLUMNS.iter().find(|(rate, ..)| rate == measure);
    ComparisonRow {
        first: first.clone(),
        second: second.clone(),
        measure: measure.replace('_', " "),
        points: format::points(*difference),
        low_points: format::points(*low),
        high_points: format::points(*high),
        p_text: format::p_value(*p_value),
        pairs: *pairs,
        difference: format::exact(*difference),
        low: format::exact(*low),
        high: format::exact(*high),
        p_value: format::exact(*p_value),
        bar: interval(*difference, *low, *high, |share| 50.0 + share * 50.0),
        better: known.map_or(Better::Neither, |(.., better)| *better),
    }
}

/// Where value and interval lie on a bar of 100 units; a value that could not be computed lies at its left end.
fn interval(value: f64, low: f64, high: f64, scale: impl Fn(f64) -> f64) -> Interval {
    let place = |share: f64| {
        let place = if share.is_finite() { scale(share).clamp(0.0, 100.0) } else { 0.0 };
        (place * 100.0).round() / 100.0
    };
    let (low, high) = (place(low), place(high));
    Interval { at: place(value), low, width: ((high - low).max(0.0) * 100.0).round() / 100.0 }
}
