//! Learning curves: which metrics of which stages share a chart.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use vul2safe_run::MetricLine;

use crate::chart::{Chart, Series, chart};

/// A stage that logs this is an arm of reinforcement learning; all arms share their charts.
const ARM_METRIC: &str = "reward_mean";
/// If an arm logs this, it is what its curves are drawn over.
const ROLLOUTS: &str = "rollouts";
/// Styles of series that the page knows.
const STYLES: usize = 6;

/// The metrics that are shown first, with what they mean. Others follow by name, folded away.
const KNOWN: [(&str, &str, &str); 35] = [
    ("reward_mean", "Reward", "mean sum of token rewards of an answer"),
    ("failure_rate", "Failed answers", "share that is empty, unparsable, cut off or fails a functional test"),
    ("evidence_share", "Answers with evidence", "share in which a secure or vulnerable pattern was found"),
    ("kl_reference", "KL to the reference", "how far the policy has moved from where it started, a token"),
    ("entropy", "Entropy", "of the next token; low values mean that the model has stopped to explore"),
    ("loss", "Loss", "mean negative log-likelihood of a target token"),
    ("validation_loss", "Validation loss", "the loss on held-out examples"),
    ("reward_positive", "Rewards", "mean sum of the positive token rewards of an answer"),
    ("reward_negative", "Penalties", "mean sum of the negative token rewards of an answer"),
    ("rewarded_token_share", "Rewarded tokens", "share of tokens whose reward is not 0"),
    ("response_length", "Answer length", "mean number of tokens of an answer"),
    ("finished_share", "Finished answers", "share that ended by itself, within the longest length"),
    ("unscored", "Unscored answers", "number that could not be scored and was left out"),
    ("kl_reference_answer", "KL to the reference, whole answer", "summed over the tokens of an answer"),
    ("kl_coefficient", "KL coefficient", "how strongly distance from the reference is penalised"),
    ("policy_loss", "Policy loss", "the clipped surrogate objective; its level means little"),
    ("value_loss", "Value loss", "squared error of the value head"),
    ("explained_variance", "Explained variance", "of the returns by the value head; 1 is perfect"),
    ("clip_fraction", "Clipped tokens", "share whose probability ratio left the clip range"),
    ("clip_fraction_rewarded", "Clipped rewarded tokens", "the same, of the tokens with a reward"),
    ("kl_update", "KL of the update", "between the policy before and after the update"),
    ("ratio_max", "Largest ratio", "of a token's probability after and before the update"),
    (
        "first_ratio_error",
        "Ratio error at the first step",
        "distance from 1, which it is on policy; rounding only",
    ),
    (
        "sampling_difference",
        "Sampler against trainer",
        "mean difference of their log-probabilities; rounding only",
    ),
    ("stopped_early", "Stopped early", "1 if the update ended because the KL grew too large"),
    ("steps", "Optimiser steps", "in the update"),
    ("gradient_norm", "Gradient norm", "before clipping"),
    ("value_gradient_norm", "Gradient norm of the value head", "before clipping"),
    ("learning_rate", "Learning rate", "of the optimiser"),
    ("epoch", "Epoch", "passes over the data"),
    ("tokens", "Tokens", "seen so far"),
    ("tokens_per_second", "Tokens a second", "speed of training"),
    ("seconds_sample", "Seconds sampling", "time to write the answers of an update"),
    ("seconds_score", "Seconds scoring", "time to judge and reward them, after the last was sampled"),
    ("seconds_update", "Seconds updating", "time to train on them"),
];
/// So many of them are in plain view.
const IN_VIEW: usize = 7;

/// The charts of one stage, or of all arms together.
#[derive(Debug, Serialize)]
pub(crate) struct Family {
    pub title: String,
    pub charts: Vec<Chart>,
    /// Charts that are folded away.
    pub more: Vec<Chart>,
    /// Metrics without a single finite value.
    pub empty: Vec<String>,
}

/// Lays out all curves: the arms first, then each other stage in the order in which it logged.
pub(crate) fn families(lines: &[MetricLine]) -> Vec<Family> {
    let mut stages: Vec<&str> = Vec::new();
    let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in lines {
        if !stages.contains(&line.stage.as_str()) {
            stages.push(&line.stage);
        }
        names.entry(&line.stage).or_default().extend(line.values.keys().map(String::as_str));
    }
    let is_arm = |stage: &&str| names.get(stage).is_some_and(|names| names.contains(ARM_METRIC));
    let (arms, others): (Vec<&str>, Vec<&str>) = stages.into_iter().partition(is_arm);
    let mut families = Vec::new();
    if !arms.is_empty() {
        let title = format!("Reinforcement learning: {}", arms.join(", "));
        families.push(family(title, &arms, lines, "update"));
    }
    families
        .extend(others.into_iter().map(|stage| family(format!("Stage {stage}"), &[stage], lines, "step")));
    families
}

fn family(title: String, stages: &[&str], lines: &[MetricLine], step_label: &str) -> Family {
    let over_rollouts =
        stages.iter().all(|stage| of_stage(lines, stage).all(|line| line.values.contains_key(ROLLOUTS)));
    let x_label = if over_rollouts { ROLLOUTS } else { step_label };
    let mut metrics: BTreeSet<&str> = stages
        .iter()
        .flat_map(|stage| of_stage(lines, stage))
        .flat_map(|line| line.values.keys())
        .map(String::as_str)
        .collect();
    if over_rollouts {
        metrics.remove(ROLLOUTS);
    }
    let mut family = Family { title, charts: Vec::new(), more: Vec::new(), empty: Vec::new() };
    let known = KNOWN.iter().map(|known| known.0);
    let ordered = known.clone().filter(|name| metrics.contains(name));
    let unknown = metrics.iter().copied().filter(|name| !known.clone().any(|known| known == *name));
    for metric in ordered.chain(unknown) {
        let series: Vec<Series<'_>> = stages
            .iter()
            .enumerate()
            .map(|(index, stage)| Series {
                name: stage,
                style: index % STYLES,
                points: of_stage(lines, stage)
                    .filter_map(|line| {
                        let x = if over_rollouts { line.values[ROLLOUTS] } else { line.step as f64 };
                        Some((x, *line.values.get(metric)?)).filter(|point| point.0.is_finite())
                    })
                    .collect(),
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        let place = KNOWN.iter().position(|known| known.0 == metric);
        let words = metric.replace('_', " ");
        let (shown, meaning) = place.map_or((words.as_str(), ""), |place| (KNOWN[place].1, KNOWN[place].2));
        match chart(metric, shown, meaning, x_label, &series) {
            Some(chart) if place.is_some_and(|place| place < IN_VIEW) => family.charts.push(chart),
            Some(chart) => family.more.push(chart),
            None => family.empty.push(metric.to_owned()),
        }
    }
    // With nothing in plain view there is no reason to fold the rest away.
    if family.charts.is_empty() {
        family.charts = std::mem::take(&mut family.more);
    }
    family
}

fn of_stage<'a>(lines: &'a [MetricLine], stage: &'a str) -> impl Iterator<Item = &'a MetricLine> {
    lines.iter().filter(move |line| line.stage == stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stage: &str, step: u64, values: &[(&str, f64)]) -> MetricLine {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        MetricLine { stage: stage.into(), step, time: 0.0, values }
    }

    #[test]
    fn arms_share_charts_and_other_stages_have_their_own() {
        let lines = [
            line("base", 1, &[("loss", 6.0)]),
            line("sft", 1, &[("loss", 3.0), ("odd", f64::NAN)]),
            line("token", 1, &[("reward_mean", 0.1), ("rollouts", 64.0), ("policy_loss", 0.0)]),
            line("last", 1, &[("reward_mean", 0.0), ("rollouts", 64.0), ("policy_loss", 0.1)]),
        ];
        let families = families(&lines);
        let titles: Vec<&str> = families.iter().map(|family| family.title.as_str()).collect();
        assert_eq!(titles, ["Reinforcement learning: token, last", "Stage base", "Stage sft"]);
        let arms = &families[0];
        assert_eq!(arms.charts.len(), 1);
        assert_eq!(arms.charts[0].x_label, "rollouts");
        assert_eq!(
            arms.charts[0].lines.iter().map(|line| line.name.as_str()).collect::<Vec<_>>(),
            ["token", "last"]
        );
        assert_eq!(arms.more.iter().map(|chart| chart.name.as_str()).collect::<Vec<_>>(), ["policy_loss"]);
        assert_eq!(families[2].empty, ["odd"], "a metric that was never finite is named");
    }
}
