//! From the run folders to figures over seeds: endpoints of the curves, rates of the evaluation in groups of tasks, paired
//! differences.

use std::collections::{BTreeMap, BTreeSet};

use vul2safe_evaluate::{Curve, over_seeds, sign_flips_of_seeds};
use vul2safe_run::{
    ArmResult, CollapsedArm, CurvePoint, Estimate, ExperimentTable, MetricLine, RunFolder, SeedDifference,
    read_metrics,
};

use super::figures::{curve, points};
use super::groups::{evaluation, family_groups, read_answers, while_training};
use super::search::Found;
use crate::failure::Result;
use crate::recipe::{ArmMethod, ExperimentConfig, Recipe};
use crate::stages::arm::{ValidationPoint, collapsed};

/// Measures with what they mean, in the order in which they are shown.
pub(super) const MEASURES: [(&str, &str); 14] = [
    (
        "rollouts_to_half",
        "answers trained on until the vulnerable rate was halved; the whole budget where it never was",
    ),
    ("halved", "share of the seeds in which it was"),
    ("vulnerable_area", "mean vulnerable rate over the training: the area under its curve"),
    ("functional_area", "mean functional rate over the training less the one at the start"),
    ("both_area", "mean secure-pass@1 over the training"),
    ("vulnerable", "answers on which an attack worked"),
    ("vulnerable_high", "the same, of the tasks of high severity"),
    ("vulnerable_medium", "the same, of the tasks of medium severity"),
    ("absent", "answers that parse, do not work, and on which no attack did either"),
    ("functional", "answers that pass every functional test"),
    ("both", "functional and no attack worked (secure-pass@1)"),
    ("unparsable", "answers that do not parse"),
    ("kl", "divergence from the SFT model at the end, nats an answer"),
    ("scoring_share", "share of the time of an update in which scores were waited for"),
];
/// Groups whose differences are computed for every measure; for the others only these two.
const WHOLE: [&str; 3] = ["all", "harmless", "training"];
const IN_GROUPS: [&str; 5] = ["vulnerable", "both", "rollouts_to_half", "vulnerable_area", "both_area"];
/// The group of what was measured while an arm was trained.
const TRAINING: &str = "training";

/// Group, then measure, then seed.
type Figures = BTreeMap<String, BTreeMap<String, BTreeMap<u64, f64>>>;

/// A model over its runs.
#[derive(Default)]
pub(super) struct Collected {
    figures: Figures,
    /// By seed: rates and divergence at each measured point.
    pub points: BTreeMap<u64, Vec<(ValidationPoint, f64)>>,
    pub seeds: BTreeSet<u64>,
}

impl Collected {
    pub fn put(&mut self, group: &str, measure: &str, seed: u64, value: f64) {
        let measures = self.figures.entry(group.to_owned()).or_default();
        measures.entry(measure.to_owned()).or_default().insert(seed, value);
    }

    #[cfg(test)]
    pub fn figure(&self, group: &str, measure: &str, seed: u64) -> Option<f64> {
        self.figures.get(group)?.get(measure)?.get(&seed).copied()
    }
}

/// All figures of the runs in `folder`.
pub(super) fn analyse(
    recipe: &Recipe,
    config: &ExperimentConfig,
    runs: &[(String, Recipe)],
    found: &Found,
    folder: &RunFolder,
) -> Result<ExperimentTable> {
    let mut names: Vec<String> = vec!["base".to_owned()];
    names.extend(recipe.sft.enabled.then(|| "sft".to_owned()));
    names.extend(recipe.arms.keys().cloned());
    let mut models: BTreeMap<String, Collected> =
        names.iter().map(|name| (name.clone(), Collected::default())).collect();
    let mut answers = Vec::new();
    let mut wrecks = Vec::new();
    for (name, run) in runs {
        let path = folder.file(name);
        let metrics = read_metrics(&path)?;
        let journal = RunFolder::open(&path)?;
        let mut sound = run.clone();
        for (arm, config) in &run.arms {
            if let Some(why) = collapsed(&journal, arm) {
                sound.arms.remove(arm);
                wrecks.push(CollapsedArm { arm: arm.clone(), seed: run.seed, why });
            } else if config.method == ArmMethod::Ppo
                && let Some(collected) = models.get_mut(arm)
            {
                training(collected, run.seed, &points(&path, arm)?, &metrics, arm);
            }
        }
        answers.push(read_answers(&sound, &path)?);
    }
    let groups = family_groups(&answers)?;
    evaluation(&mut models, &answers, &groups)?;
    while_training(&mut models, &groups);
    let arms = names
        .iter()
        .filter_map(|name| {
            let description = recipe.arms.get(name).and_then(|arm| {
                let arm = found.apply(name, arm).ok()?;
                Some(arm.describe(&arm.settings(name, recipe).ok()?))
            });
            Some(result(name, description.unwrap_or_default(), models.get(name)?))
        })
        .filter(|result| !result.seeds.is_empty())
        .collect();
    let compared: Vec<&String> = if config.compare.is_empty() {
        recipe.arms.keys().collect()
    } else {
        config.compare.iter().collect()
    };
    let mut all = Vec::new();
    for first in compared {
        for second in names.iter().filter(|name| *name != first) {
            all.extend(differences((first, &models[first]), (second, &models[second])));
        }
    }
    Ok(ExperimentTable {
        name: recipe.name.clone(),
        endpoints: config.endpoints.clone(),
        seeds: config.run_seeds(recipe),
        seconds: folder.stages().iter().map(|stage| stage.seconds).sum(),
        measures: MEASURES
            .iter()
            .map(|(name, meaning)| ((*name).to_owned(), (*meaning).to_owned()))
            .collect(),
        arms,
        differences: all,
        search: found.tried.clone(),
        collapsed: wrecks,
    })
}

/// Endpoints of an arm's curves in one run.
fn training(
    collected: &mut Collected,
    seed: u64,
    points: &[ValidationPoint],
    metrics: &[MetricLine],
    arm: &str,
) {
    let metrics: Vec<&MetricLine> = metrics.iter().filter(|line| line.stage == arm).collect();
    let vulnerable = curve(points, "vulnerable");
    let functional = curve(points, "functional");
    let last = |name: &str| metrics.iter().rev().find_map(|line| line.values.get(name).copied());
    let total = |name: &str| metrics.iter().filter_map(|line| line.values.get(name)).sum::<f64>();
    let scoring = total("seconds_score");
    let figures = [
        ("functional_area", functional.map(|curve| curve.mean() - curve.first())),
        ("kl", last("kl_reference_answer")),
        ("scoring_share", Some(scoring / (scoring + total("seconds_sample") + total("seconds_update")))),
    ];
    let of_curves = endpoints(vulnerable.as_ref(), curve(points, "both").as_ref());
    for (measure, value) in figures.into_iter().chain(of_curves) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            collected.put(TRAINING, measure, seed, value);
        }
    }
    let divergence = divergence_at(&metrics, points);
    collected.points.insert(seed, points.iter().cloned().zip(divergence).collect());
}

/// What the curves of the vulnerable rate and of secure-pass@1 come to.
pub(super) fn endpoints(
    vulnerable: Option<&Curve>,
    both: Option<&Curve>,
) -> [(&'static str, Option<f64>); 4] {
    // Nothing can be halved where there was nothing.
    let falling = vulnerable.filter(|curve| curve.first() > 0.0);
    let half = falling.map(|curve| curve.until(curve.first() / 2.0));
    [
        ("rollouts_to_half", half.zip(falling).map(|(half, curve)| half.unwrap_or(curve.budget()))),
        ("halved", half.map(|half| f64::from(u8::from(half.is_some())))),
        ("vulnerable_area", vulnerable.map(Curve::mean)),
        ("both_area", both.map(Curve::mean)),
    ]
}

/// The divergence from the reference at each point, in nats an answer, never falling: how far the policy has got. An update's
/// answers come from the policy before it, so that those of update u tell of the point after u updates; the last point has
/// the last update's.
fn divergence_at(metrics: &[&MetricLine], points: &[ValidationPoint]) -> Vec<f64> {
    let mut furthest = 0.0_f64;
    points
        .iter()
        .map(|point| {
            let known = metrics.iter().filter(|line| line.step <= point.update);
            let nearest = known.max_by_key(|line| line.step);
            if let Some(value) = nearest.and_then(|line| line.values.get("kl_reference_answer")) {
                furthest = furthest.max(*value);
            }
            furthest
        })
        .collect()
}

fn estimate(values: &BTreeMap<u64, f64>) -> Option<Estimate> {
    let values: Vec<f64> = values.values().copied().collect();
    let (mean, interval) = over_seeds(&values)?;
    let (low, high) = interval.map_or((f64::NAN, f64::NAN), |interval| (interval.low, interval.high));
    Some(Estimate { mean, low, high, values })
}

fn result(name: &str, description: String, collected: &Collected) -> ArmResult {
    let groups = collected
        .figures
        .iter()
        .map(|(group, measures)| {
            let estimates =
                measures.iter().filter_map(|(measure, values)| Some((measure.clone(), estimate(values)?)));
            (group.clone(), estimates.collect())
        })
        .collect();
    let mut curves: BTreeMap<String, Vec<CurvePoint>> = BTreeMap::new();
    for measure in ["vulnerable", "functional", "both", "kl"] {
        let mut at: BTreeMap<u64, BTreeMap<u64, f64>> = BTreeMap::new();
        for (seed, points) in &collected.points {
            for (point, divergence) in points {
                let value = if measure == "kl" { Some(*divergence) } else { point.rate(measure) };
                if let Some(value) = value {
                    at.entry(point.rollouts).or_default().insert(*seed, value);
                }
            }
        }
        let points: Vec<CurvePoint> = at
            .iter()
            .filter_map(|(&rollouts, values)| {
                let Estimate { mean, low, high, .. } = estimate(values)?;
                Some(CurvePoint { rollouts, mean, low, high })
            })
            .collect();
        if !points.is_empty() {
            curves.insert(measure.to_owned(), points);
        }
    }
    ArmResult {
        arm: name.to_owned(),
        description,
        seeds: collected.seeds.iter().copied().collect(),
        groups,
        curves,
    }
}

/// Differences of two models on the seeds that both have.
fn differences(first: (&str, &Collected), second: (&str, &Collected)) -> Vec<SeedDifference> {
    let mut found = Vec::new();
    let mut put = |group: &str, measure: &str, differences: &[f64]| {
        if let Some((difference, interval)) = over_seeds(differences) {
            let (low, high) = interval.map_or((f64::NAN, f64::NAN), |interval| (interval.low, interval.high));
            found.push(SeedDifference {
                first: first.0.to_owned(),
                second: second.0.to_owned(),
                group: group.to_owned(),
                measure: measure.to_owned(),
                difference,
                low,
                high,
                p_value: sign_flips_of_seeds(differences),
                seeds: differences.len(),
            });
        }
    };
    for (group, measures) in &first.1.figures {
        for (measure, values) in measures {
            if !WHOLE.contains(&group.as_str()) && !IN_GROUPS.contains(&measure.as_str()) {
                continue;
            }
            let Some(others) = second.1.figures.get(group).and_then(|measures| measures.get(measure)) else {
                continue;
            };
            let pairs: Vec<f64> =
                values.iter().filter_map(|(seed, value)| Some(value - others.get(seed)?)).collect();
            put(group, measure, &pairs);
        }
    }
    for measure in ["vulnerable", "functional", "both"] {
        let pairs: Vec<f64> = first
            .1
            .points
            .iter()
            .filter_map(|(seed, points)| at_same_divergence(points, second.1.points.get(seed)?, measure))
            .collect();
        put("at the same KL", measure, &pairs);
    }
    found
}

/// A rate of the first arm less that of the second where both have got as far as the one that stayed nearer got.
fn at_same_divergence(
    first: &[(ValidationPoint, f64)],
    second: &[(ValidationPoint, f64)],
    measure: &str,
) -> Option<f64> {
    let reach = |points: &[(ValidationPoint, f64)]| points.last().map(|(_, divergence)| *divergence);
    let place = reach(first)?.min(reach(second)?);
    let value = |points: &[(ValidationPoint, f64)]| {
        let mut line: Vec<(f64, f64)> = Vec::new();
        for (point, divergence) in points {
            let rate = point.rate(measure)?;
            // Where it got no farther the later rate counts.
            match line.last_mut().filter(|last| last.0 >= *divergence) {
                Some(last) => last.1 = rate,
                None => line.push((*divergence, rate)),
            }
        }
        Some(Curve::new(line)?.at(place))
    };
    Some(value(first)? - value(second)?)
}

#[cfg(test)]
mod tests {
    use vul2safe_run::Rate;

    use super::*;

    fn point(update: u64, vulnerable: f64) -> ValidationPoint {
        let rate = Rate { count: 0, of: 100, value: vulnerable, low: 0.0, high: 1.0 };
        let rates = BTreeMap::from([("vulnerable".to_owned(), rate)]);
        ValidationPoint { update, rollouts: 64 * update, rates: BTreeMap::from([("all".to_owned(), rates)]) }
    }

    fn line(step: u64, divergence: f64) -> MetricLine {
        let values = [("kl_reference_answer".to_owned(), divergence)].into_iter().collect();
        MetricLine { stage: "arm".to_owned(), step, time: 0.0, values }
    }

    #[test]
    fn divergence_belongs_to_the_policy_that_was_measured_and_never_falls() {
        // The answers of update 2 come from the policy after two updates.
        let metrics = [line(0, 0.0), line(1, 0.5), line(2, 1.5), line(3, 1.0)];
        let points = [point(0, 0.4), point(2, 0.3), point(4, 0.2)];
        assert_eq!(divergence_at(&metrics.each_ref(), &points), [0.0, 1.5, 1.5]);
    }

    #[test]
    fn arms_are_compared_where_both_have_diverged_as_far() {
        let far = [(point(0, 0.4), 0.0), (point(2, 0.2), 2.0), (point(4, 0.1), 4.0)];
        let near = [(point(0, 0.4), 0.0), (point(2, 0.3), 0.5), (point(4, 0.24), 1.0)];
        // At a divergence of 1 the first is half-way from 0.4 to 0.2.
        let difference = at_same_divergence(&far, &near, "vulnerable").expect("both have rates");
        assert!((difference - (0.3 - 0.24)).abs() < 1e-12, "{difference}");
        let still = [(point(0, 0.4), 0.0), (point(2, 0.4), 0.0)];
        assert_eq!(
            at_same_divergence(&far, &still, "vulnerable"),
            None,
            "one that did not move has no such place"
        );
        assert_eq!(at_same_divergence(&far, &near, "flagged"), None);
    }

    #[test]
    fn differences_are_of_pairs_and_of_seeds_that_both_have() {
        let collected = |values: &[(u64, f64)]| {
            let mut found = Collected::default();
            values.iter().for_each(|&(seed, value)| found.put("all", "both", seed, value));
            found
        };
        let (first, second) =
            (collected(&[(0, 0.5), (1, 0.7), (2, 0.9)]), collected(&[(0, 0.4), (1, 0.6), (7, 0.0)]));
        let found = differences(("a", &first), ("b", &second));
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert!((one.difference - 0.1).abs() < 1e-12 && one.seeds == 2);
        assert_eq!(one.p_value, 0.5, "two seeds of the same sign");
    }
}
