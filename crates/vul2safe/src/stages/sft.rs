//! Stage 4: supervised fine-tuning on prompt → secure function.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use vul2safe_corpus::{RepairPair, Split, read_primevul_plus};
use vul2safe_tokens::Tokenizer;
use vul2safe_train::{Checkpoint, Example, SftConfig, sft_from};

use super::base::{save_model, with_adapter};
use super::prompts::{answer_ids, prompt_ids};
use super::{Context, Purpose, StepLog, build};
use crate::failure::{Failure, Result};
use crate::words::thousands;

/// Training examples, and how many prompts were too long for them.
pub struct Examples {
    /// Prompt and secure function as ids.
    pub examples: Vec<Example>,
    /// Prompts left out because prompt and function have more tokens than allowed.
    pub too_long: usize,
    /// Pairs none of whose prompts is left.
    pub pairs_left_out: usize,
}

/// The examples of the training pairs.
pub fn examples(pairs: &[RepairPair], tokenizer: &Tokenizer, longest: usize) -> Result<Examples> {
    let mut found = Examples { examples: Vec::new(), too_long: 0, pairs_left_out: 0 };
    for pair in pairs.iter().filter(|pair| pair.split == Split::Train) {
        let completion = answer_ids(tokenizer, &pair.secure);
        let before = found.examples.len();
        for prompt in prompt_ids(tokenizer, pair)? {
            if prompt.len() + completion.len() > longest {
                found.too_long += 1;
            } else {
                found.examples.push(Example { prompt, completion: completion.clone(), weights: None });
            }
        }
        found.pairs_left_out += usize::from(found.examples.len() == before);
    }
    Ok(found)
}

/// Where SFT is kept to continue from.
fn training_checkpoint(context: &Context<'_>) -> Checkpoint {
    Checkpoint::new(context.run.file("checkpoints/sft-training"), context.recipe.sft.checkpoint_every)
}

/// Removes what the finished stage no longer needs to continue from.
pub fn forget_training(context: &Context<'_>) -> Result<()> {
    Ok(training_checkpoint(context).remove()?)
}

/// The stage.
pub fn run(context: &Context<'_>) -> Result<Value> {
    let recipe = context.recipe;
    let start = context.model_folder("base");
    let (model, tokenizer) = context.open(&start, Purpose::Train)?;
    let model = with_adapter(context, model)?;
    let pairs = read_primevul_plus(&context.run.file(build::PAIRS))?;
    // The training's own bound counts as well, so that what it would leave out is counted here.
    let longest = recipe
        .sft
        .maximum_tokens
        .min(recipe.sft.training.maximum_length)
        .min(model.config().max_position_embeddings);
    let mut found = examples(&pairs, &tokenizer, longest)?;
    if found.examples.is_empty() {
        return Err(Failure::user(format!(
            "every one of the {} examples has more than {longest} tokens",
            found.too_long
        ))
        .with_hint(
            "raise `sft.maximum_tokens` and `sft.training.maximum_length` (and `base.maximum_positions` for a model made from nothing)",
        ));
    }
    let mut generator = ChaCha8Rng::seed_from_u64(context.seed("sft-examples"));
    found.examples.shuffle(&mut generator);
    let all = found.examples.len();
    if recipe.sft.maximum_examples > 0 {
        found.examples.truncate(recipe.sft.maximum_examples);
    }

    let training =
        SftConfig { seed: context.seed_for("sft", recipe.sft.training.seed), ..recipe.sft.training.clone() };
    let lengths: Vec<usize> =
        found.examples.iter().map(|example| example.prompt.len() + example.completion.len()).collect();
    let total = training.steps(&lengths) as u64;
    let checkpoint = training_checkpoint(context);
    let mut log = StepLog::new(context, "sft", total);
    let summary = sft_from(&model, &found.examples, &training, Some(&checkpoint), &mut |step, values| {
        log.step(step, values)
    })?;
    let last_loss = summary.last_loss;
    let folder = context.model_folder("sft");
    save_model(context, &model, &tokenizer, &folder)?;
    Ok(json!({
        "line": format!(
            "{} of {} examples, loss {last_loss:.3}; left out as longer than {longest} tokens: {} prompts, {} pairs altogether",
            thousands(found.examples.len()), thousands(all), found.too_long, found.pairs_left_out
        ),
        "examples": found.examples.len(),
        "too_long": found.too_long,
        "pairs_left_out": found.pairs_left_out,
        "loss": last_loss,
    }))
}
