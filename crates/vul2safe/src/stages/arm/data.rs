//! The training pairs as an arm sees them, and their spans as tokens.

use vul2safe_corpus::{LabelledSpan, RepairPair, Side, Split, read_primevul_plus};
use vul2safe_model::Model;
use vul2safe_tokens::Tokenizer;

use crate::failure::{Failure, Result};
use crate::recipe::ArmConfig;
use crate::stages::base::with_adapter;
use crate::stages::prompts::answer_ids;
use crate::stages::{Context, Purpose, build, derive_seed};

/// The model that every arm starts from, and its tokenizer. With an adapter its base's memory is shared with what is copied from it.
pub fn start(context: &Context<'_>) -> Result<(Model, Tokenizer)> {
    let (model, tokenizer) = context.open(&context.model_folder(context.arm_start()), Purpose::Train)?;
    Ok((with_adapter(context, model)?, tokenizer))
}

/// Refuses to train on nothing: every one of so many examples was too long.
pub fn none_fits(too_long: usize, what: &str, longest: usize) -> Failure {
    Failure::user(format!("every one of the {too_long} {what} has more than {longest} tokens"))
        .with_hint("raise `sft.maximum_tokens`")
}

/// The training pairs with what the arm leaves out or turns round.
pub fn training_pairs(context: &Context<'_>, name: &str, arm: &ArmConfig) -> Result<Vec<RepairPair>> {
    let mut pairs = read_primevul_plus(&context.run.file(build::PAIRS))?;
    pairs.retain(|pair| pair.split == Split::Train);
    for pair in &mut pairs {
        if !arm.spans.is_empty() {
            pair.spans.retain(|span| arm.spans.contains(&span.by));
        }
        if !arm.styles.is_empty() {
            pair.prompts.retain(|prompt| arm.styles.contains(&prompt.style));
        }
        // The same pairs for every arm and every share that takes them in.
        let drawn = derive_seed(context.seed("swapped"), &pair.id) >> 11;
        if (drawn as f64 / (1_u64 << 53) as f64) < arm.swapped_share {
            swap(pair);
        }
    }
    if pairs.iter().all(|pair| pair.prompts.is_empty()) {
        return Err(Failure::user(format!(
            "`arms.{name}.styles`: no training pair has a prompt of these styles"
        ))
        .with_hint("`vul2safe data show` prints prompts with their styles"));
    }
    if pairs.iter().all(|pair| pair.spans.is_empty()) {
        return Err(Failure::user(format!(
            "`arms.{name}.spans`: no training pair has a span of these origins"
        ))
        .with_hint("`vul2safe data show` prints spans with their origins"));
    }
    Ok(pairs)
}

/// Exchanges the sides: what was the flaw now stands as the repair.
fn swap(pair: &mut RepairPair) {
    std::mem::swap(&mut pair.vulnerable, &mut pair.secure);
    let other = |side| match side {
        Side::Vulnerable => Side::Secure,
        Side::Secure => Side::Vulnerable,
    };
    for span in &mut pair.spans {
        span.side = other(span.side);
        span.kind = other(span.kind);
    }
}

/// A side as ids with the id that ends an answer, and which of them lie in a span of that side.
pub fn side_tokens(tokenizer: &Tokenizer, pair: &RepairPair, side: Side) -> (Vec<u32>, Vec<bool>) {
    let code = match side {
        Side::Vulnerable => &pair.vulnerable,
        Side::Secure => &pair.secure,
    };
    let ids = answer_ids(tokenizer, code);
    let spans: Vec<&LabelledSpan> =
        pair.spans.iter().filter(|span| span.side == side && span.kind == side).collect();
    let in_span = tokenizer
        .spans(&ids)
        .into_iter()
        .map(|(start, end)| spans.iter().any(|span| start < span.end && end > span.start && start < end))
        .collect();
    (ids, in_span)
}
