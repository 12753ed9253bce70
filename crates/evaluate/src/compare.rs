//! Two models on the same tasks.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bootstrap::{bootstrap_difference, sign_flips};
use crate::summary::{Group, by_task, groups, measure};
use crate::{Entry, mcnemar, paired_difference};

/// Measures on which models are compared.
const COMPARED: [&str; 6] = ["functional", "vulnerable", "both", "flagged", "unparsable", "refused"];

/// One measure of two models on the tasks of which it is known for both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// The model whose rate is taken.
    pub first: String,
    /// The model whose rate is subtracted from it.
    pub second: String,
    /// The group of tasks.
    pub group: String,
    /// The measure.
    pub measure: String,
    /// Tasks of which it is known for both.
    pub tasks: usize,
    /// Mean over these tasks of the first model's rate.
    pub first_rate: f64,
    /// The same of the second's.
    pub second_rate: f64,
    /// First minus second.
    pub difference: f64,
    /// Lower end of the difference's 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Tasks on which the first model's rate is higher.
    pub only_first: usize,
    /// Tasks on which the second's is.
    pub only_second: usize,
    /// Two-sided.
    pub p_value: f64,
    /// How interval and p-value were made.
    pub test: PairedTest,
}

/// How a difference is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PairedTest {
    /// One answer a task: Newcombe's interval (method 10), McNemar's mid-p value.
    Mcnemar,
    /// Several answers a task: bootstrap over tasks, randomisation of the signs of their differences.
    ByTask,
}

/// Every measure in every group, for models (name and entries) with answers to the same tasks.
pub fn compare(first: (&str, &[Entry]), second: (&str, &[Entry])) -> Vec<Compared> {
    let every: Vec<&Entry> = first.1.iter().chain(second.1).collect();
    let mut found = Vec::new();
    for (group, members) in groups(&every) {
        for name in COMPARED {
            found.extend(compare_one(first, second, (&group, &members), name));
        }
    }
    found
}

fn compare_one(
    first: (&str, &[Entry]),
    second: (&str, &[Entry]),
    (group, members): (&str, &Group),
    name: &str,
) -> Option<Compared> {
    let property = measure(name)?;
    let of = |entries| -> BTreeMap<&str, Vec<f64>> {
        let entries: &[Entry] = entries;
        by_task(&entries.iter().filter(|entry| members.holds(entry)).collect::<Vec<_>>(), property)
    };
    let (first_values, second_values) = (of(first.1), of(second.1));
    let pairs: Vec<(&Vec<f64>, &Vec<f64>)> =
        first_values.iter().filter_map(|(task, values)| Some((values, second_values.get(task)?))).collect();
    if pairs.is_empty() {
        return None;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let rates: Vec<(f64, f64)> = pairs.iter().map(|(one, other)| (mean(one), mean(other))).collect();
    let count = rates.len() as f64;
    let single = pairs.iter().all(|(one, other)| one.len() == 1 && other.len() == 1);
    let (difference, interval, p_value) = if single {
        let known: Vec<(bool, bool)> = rates.iter().map(|&(one, other)| (one == 1.0, other == 1.0)).collect();
        let (difference, interval) = paired_difference(&known);
        (difference, interval, mcnemar(&known).p_value)
    } else {
        let differences: Vec<f64> = rates.iter().map(|(one, other)| one - other).collect();
        let difference = differences.iter().sum::<f64>() / count;
        (difference, bootstrap_difference(&differences), sign_flips(&differences))
    };
    Some(Compared {
        first: first.0.to_owned(),
        second: second.0.to_owned(),
        group: group.to_owned(),
        measure: name.to_owned(),
        tasks: rates.len(),
        first_rate: rates.iter().map(|rate| rate.0).sum::<f64>() / count,
        second_rate: rates.iter().map(|rate| rate.1).sum::<f64>() / count,
        difference,
        low: interval.low,
        high: interval.high,
        only_first: rates.iter().filter(|(one, other)| one > other).count(),
        only_second: rates.iter().filter(|(one, other)| one < other).count(),
        p_value,
        test: if single { PairedTest::Mcnemar } else { PairedTest::ByTask },
    })
}
