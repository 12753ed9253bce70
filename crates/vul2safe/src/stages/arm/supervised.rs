//! Supervised baselines: SFT on secure spans alone, and SFT with vulnerable spans unlearned.

use serde_json::{Value, json};
use vul2safe_corpus::Side;
use vul2safe_train::{Checkpoint, Example, SftConfig, sft_from};

use super::data::{none_fits, side_tokens, start, training_pairs};
use crate::failure::Result;
use crate::recipe::{ArmConfig, ArmMethod, ArmSettings};
use crate::stages::base::save_model;
use crate::stages::prompts::prompt_ids;
use crate::stages::{Context, StepLog};
use crate::words::thousands;

pub(super) fn training_checkpoint(context: &Context<'_>, name: &str) -> Checkpoint {
    Checkpoint::new(
        context.run.file(&format!("checkpoints/{name}-training")),
        context.recipe.sft.checkpoint_every,
    )
}

pub(super) fn run(
    context: &Context<'_>,
    name: &str,
    arm: &ArmConfig,
    settings: &ArmSettings,
) -> Result<Value> {
    let (model, tokenizer) = start(context)?;
    let longest = context
        .recipe
        .sft
        .maximum_tokens
        .min(settings.supervised.maximum_length)
        .min(model.config().max_position_embeddings);
    let (mut examples, mut too_long) = (Vec::new(), 0);
    for pair in training_pairs(context, name, arm)? {
        let (secure, secure_spans) = side_tokens(&tokenizer, &pair, Side::Secure);
        let (vulnerable, vulnerable_spans) = side_tokens(&tokenizer, &pair, Side::Vulnerable);
        let weights = |spans: &[bool], inside: f32| -> Vec<f32> {
            spans.iter().map(|is_inside| if *is_inside { inside } else { 0.0 }).collect()
        };
        let answers = match arm.method {
            ArmMethod::Unlikelihood => {
                vec![(secure, None), (vulnerable, Some(weights(&vulnerable_spans, -1.0)))]
            }
            _ => vec![(secure, Some(weights(&secure_spans, 1.0)))],
        };
        for prompt in prompt_ids(&tokenizer, &pair)? {
            for (completion, weights) in &answers {
                if prompt.len() + completion.len() > longest {
                    too_long += 1;
                    continue;
                }
                let (completion, weights) = (completion.clone(), weights.clone());
                examples.push(Example { prompt: prompt.clone(), completion, weights });
            }
        }
    }
    if examples.is_empty() {
        return Err(none_fits(too_long, "examples", longest));
    }
    let training = SftConfig {
        seed: context.seed_for("supervised-arm", settings.supervised.seed),
        ..settings.supervised.clone()
    };
    let lengths: Vec<usize> =
        examples.iter().map(|example| example.prompt.len() + example.completion.len()).collect();
    let mut log = StepLog::new(context, name, training.steps(&lengths) as u64);
    let checkpoint = training_checkpoint(context, name);
    let summary = sft_from(&model, &examples, &training, Some(&checkpoint), &mut |step, values| {
        log.step(step, values)
    })?;
    save_model(context, &model, &tokenizer, &context.model_folder(name))?;
    Ok(json!({
        "line": format!(
            "{} examples, {} steps, loss {:.3} → {:.3}; {too_long} longer than {longest} tokens left out",
            thousands(examples.len()), summary.steps, summary.first_loss, summary.last_loss
        ),
        "examples": examples.len(),
        "too_long": too_long,
        "loss": summary.last_loss,
    }))
}
