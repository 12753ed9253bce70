//! Preference training on the tokens that differ between the sides.

use serde_json::{Value, json};
use vul2safe_corpus::Side;
use vul2safe_train::{Preference, PreferenceConfig, prefer};

use super::data::{none_fits, side_tokens, start, training_pairs};
use crate::failure::Result;
use crate::recipe::{ArmConfig, ArmSettings};
use crate::stages::base::save_model;
use crate::stages::prompts::prompt_ids;
use crate::stages::{Context, StepLog};
use crate::words::thousands;

pub(super) fn run(
    context: &Context<'_>,
    name: &str,
    arm: &ArmConfig,
    settings: &ArmSettings,
) -> Result<Value> {
    let (reference, tokenizer) = start(context)?;
    let longest = context.recipe.sft.maximum_tokens.min(reference.config().max_position_embeddings);
    let (mut pairs, mut too_long) = (Vec::new(), 0);
    for pair in training_pairs(context, name, arm)? {
        let (chosen, chosen_counts) = side_tokens(&tokenizer, &pair, Side::Secure);
        let (rejected, rejected_counts) = side_tokens(&tokenizer, &pair, Side::Vulnerable);
        for prompt in prompt_ids(&tokenizer, &pair)? {
            if prompt.len() + chosen.len().max(rejected.len()) > longest {
                too_long += 1;
                continue;
            }
            pairs.push(Preference {
                prompt,
                chosen: chosen.clone(),
                rejected: rejected.clone(),
                chosen_counts: chosen_counts.clone(),
                rejected_counts: rejected_counts.clone(),
            });
        }
    }
    if pairs.is_empty() {
        return Err(none_fits(too_long, "pairs", longest));
    }
    let config = PreferenceConfig {
        seed: context.seed_for("preference", settings.preference.seed),
        ..settings.preference.clone()
    };
    let model = reference.duplicate()?;
    let mut log = StepLog::new(context, name, config.steps(pairs.len()) as u64);
    let summary = prefer(&model, &reference, &pairs, &config, &mut |step, values| log.step(step, values))?;
    save_model(context, &model, &tokenizer, &context.model_folder(name))?;
    Ok(json!({
        "line": format!(
            "{} pairs, {} steps, loss {:.3} → {:.3}; {too_long} longer than {longest} tokens left out",
            thousands(pairs.len()), summary.steps, summary.first_loss, summary.last_loss
        ),
        "pairs": pairs.len(),
        "too_long": too_long,
        "loss": summary.last_loss,
    }))
}
