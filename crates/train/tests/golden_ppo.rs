//! `math` against veRL 0.9.1's pure functions (torch 2.9.1, float32); see `golden/README.md` beside the numbers.

mod golden;

use serde_json::Value;
use vul2safe_train::math::{
    AdaptiveKl, Aggregation, BatchTotals, KlEstimator, PolicyClip, PolicyTokens, ValueTokens, gae,
    group_advantages, kl, masked_whiten, policy_loss, token_weights, value_loss, weighted_sum,
};

/// A padded batch, row by row, flattened.
fn flat(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().flat_map(golden::numbers).collect()
}

fn close(name: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (place, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= 2e-6 * (1.0 + b.abs()), "{name}, place {place}: {a} is not {b}");
    }
}

fn near(name: &str, ours: f64, theirs: &Value) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() <= 1e-6 * (1.0 + theirs.abs()), "{name}: {ours} is not {theirs}");
}

/// The weights of a padded batch: those of its valid tokens, and 0 elsewhere.
fn padded_weights(mask: &[bool], width: usize, aggregation: Aggregation) -> Vec<f32> {
    let lengths: Vec<usize> =
        mask.chunks(width).map(|row| row.iter().filter(|valid| **valid).count()).collect();
    let mut weights =
        token_weights(&lengths, aggregation, BatchTotals::of(lengths.iter().copied())).into_iter();
    mask.iter().map(|valid| if *valid { weights.next().unwrap() } else { 0.0 }).collect()
}

fn aggregation(name: &str) -> Aggregation {
    match name {
        "token-mean" => Aggregation::TokenMean,
        "token-sum" => Aggregation::TokenSum,
        "seq-mean-token-sum" => Aggregation::SequenceMeanTokenSum,
        "seq-mean-token-mean" => Aggregation::SequenceMeanTokenMean,
        other => panic!("unknown aggregation {other}"),
    }
}

#[test]
fn math_equals_verl() {
    let Some(path) = golden::path("ppo.json") else { return };
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let width = golden["mask"][0].as_array().unwrap().len();
    let mask: Vec<bool> = flat(&golden["mask"]).iter().map(|valid| *valid == 1.0).collect();
    let (rewards, values) = (flat(&golden["rewards"]), flat(&golden["values"]));

    for case in golden["gae"].as_array().unwrap() {
        let (gamma, lambda) = (case["gamma"].as_f64().unwrap(), case["lambda"].as_f64().unwrap());
        let (mut advantages, mut returns) = (Vec::new(), Vec::new());
        for row in 0..mask.len() / width {
            let row = row * width..(row + 1) * width;
            let result = gae(&rewards[row.clone()], &values[row.clone()], Some(&mask[row]), gamma, lambda);
            advantages.extend(result.advantages);
            returns.extend(result.returns);
        }
        let name = format!("gae γ {gamma} λ {lambda}");
        close(&name, &masked_whiten(&advantages, &mask, true), &flat(&case["whitened_advantages"]));
        close(&name, &returns, &flat(&case["returns"]));
    }

    let whiten = &golden["whiten"];
    close("whiten", &masked_whiten(&flat(&whiten["in"]), &mask, true), &flat(&whiten["out"]));
    close("whiten", &masked_whiten(&flat(&whiten["in"]), &mask, false), &flat(&whiten["out_no_shift"]));

    let (new, old) = (flat(&golden["logprob"]["new"]), flat(&golden["logprob"]["old"]));
    let reference = flat(&golden["logprob"]["ref"]);
    let estimators = [
        ("k1", KlEstimator::K1),
        ("abs", KlEstimator::Abs),
        ("k2", KlEstimator::K2),
        ("k3", KlEstimator::K3),
    ];
    for (name, estimator) in estimators {
        let ours: Vec<f32> = (0..new.len())
            .map(|place| if mask[place] { kl(new[place], reference[place], estimator) } else { 0.0 })
            .collect();
        close(name, &ours, &flat(&golden["kl"][name]));
    }

    let advantages = flat(&golden["advantages"]);
    for (name, expected) in golden["aggregate"].as_object().unwrap() {
        let weights = padded_weights(&mask, width, aggregation(name));
        near(name, weighted_sum(&values, &weights), expected);
    }

    for case in golden["policy_loss"].as_array().unwrap() {
        let number = |key: &str| case[key].as_f64().unwrap() as f32;
        let weights = padded_weights(&mask, width, aggregation(case["aggregate"].as_str().unwrap()));
        let tokens =
            PolicyTokens { log_prob: &new, old_log_prob: &old, advantages: &advantages, weights: &weights };
        let clip =
            PolicyClip { low: number("clip_low"), high: number("clip_high"), dual: number("dual_clip") };
        let result = policy_loss(&tokens, clip);
        let name = format!("policy {clip:?}");
        near(&name, result.loss, &case["loss"]);
        close(&name, &result.gradient, &flat(&case["grad_new_logprob"]));
        let valid = mask.iter().filter(|valid| **valid).count() as f64;
        let share = |flags: &[bool]| flags.iter().filter(|flag| **flag).count() as f64 / valid;
        near(&name, share(&result.clipped), &case["metrics"]["actor/pg_clipfrac"]);
        near(&name, share(&result.dual_clipped), &case["metrics"]["actor/pg_clipfrac_lower"]);
    }

    let case = &golden["value_loss"];
    let (new_values, returns) = (flat(&case["new_values"]), flat(&case["returns"]));
    let weights = padded_weights(&mask, width, Aggregation::TokenMean);
    let tokens =
        ValueTokens { values: &new_values, old_values: &values, returns: &returns, weights: &weights };
    let result = value_loss(&tokens, case["clip"].as_f64().unwrap() as f32);
    near("value loss", result.loss, &case["loss"]);
    close("value loss", &result.gradient, &flat(&case["grad"]));
    let valid = mask.iter().filter(|valid| **valid).count() as f64;
    let clipped = result.clipped.iter().filter(|flag| **flag).count() as f64;
    near("value clip", clipped / valid, &case["clipped_fraction"]);

    let case = &golden["grpo"];
    let (mut answers, mut groups) = (Vec::new(), Vec::new());
    for (row, name) in mask.chunks(width).zip(case["groups"].as_array().unwrap()) {
        let start = answers.len() * width;
        answers.push((0..width).filter(|place| row[*place]).map(|place| rewards[start + place]).collect());
        groups.push(usize::from(name.as_str() == Some("b")));
    }
    let mut advantages = group_advantages(&answers, &groups).concat().into_iter();
    let padded: Vec<f32> =
        mask.iter().map(|valid| if *valid { advantages.next().unwrap() } else { 0.0 }).collect();
    close("grpo", &padded, &flat(&case["advantages"]));

    let case = &golden["adaptive_kl"];
    let controller =
        AdaptiveKl { target: case["target"].as_f64().unwrap(), horizon: case["horizon"].as_f64().unwrap() };
    let mut coefficient = case["initial"].as_f64().unwrap();
    for update in case["updates"].as_array().unwrap() {
        let answers = update["steps"].as_u64().unwrap() as usize;
        coefficient = controller.update(coefficient, update["kl"].as_f64().unwrap(), answers);
        near("adaptive kl", coefficient, &update["coefficient"]);
    }
}
