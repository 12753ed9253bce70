//! The requests that an arm samples answers to: prompts of the training pairs, and harmless ones among them.

use vul2safe_corpus::RepairPair;
use vul2safe_evaluate::{Item, items_from_tasks};
use vul2safe_range::{Level, Selection};
use vul2safe_tokens::Tokenizer;

use crate::failure::{Failure, Result};
use crate::recipe::{Recipe, SuiteKind};
use crate::scoring::{References, Target};
use crate::stages::derive_seed;
use crate::stages::prompts::{prompt_ids, request_text};

/// A prompt to sample answers to, with what belongs to it.
pub struct Request {
    /// Of the pair or the task.
    pub id: String,
    /// What is asked.
    pub text: String,
    /// The same as the model reads it.
    pub ids: Vec<u32>,
    /// Place of the harmless task; none: it is a pair's.
    item: Option<usize>,
}

impl Request {
    /// Whether it invites no weakness.
    pub fn is_harmless(&self) -> bool {
        self.item.is_some()
    }

    /// What its answers are held against.
    pub fn target<'a>(&self, references: &'a References, items: &'a [Item]) -> Result<Target<'a>> {
        match self.item {
            Some(place) => Ok(Target::Harmless(&items[place])),
            None => references
                .get(&self.id)
                .map(Target::Pair)
                .ok_or_else(|| Failure::program(format!("the pair `{}` has no reference", self.id))),
        }
    }
}

/// Prompts of the training pairs that fit, and the number of those that do not.
pub fn of_pairs(
    train: &[&RepairPair],
    tokenizer: &Tokenizer,
    longest: usize,
) -> Result<(Vec<Request>, usize)> {
    let mut found = Vec::new();
    let mut too_long = 0;
    for pair in train {
        for (ids, prompt) in prompt_ids(tokenizer, pair)?.into_iter().zip(&pair.prompts) {
            if ids.len() > longest {
                too_long += 1;
            } else {
                found.push(Request { id: pair.id.clone(), text: request_text(prompt), ids, item: None });
            }
        }
    }
    if found.is_empty() { Err(none_fits(too_long, longest)) } else { Ok((found, too_long)) }
}

/// The harmless tasks of the recipe that have tests; none where the share is 0.
///
/// # Errors
/// A suite that cannot be read, and one without such a task.
pub fn harmless_items(recipe: &Recipe, share: f64) -> Result<Vec<Item>> {
    if share <= 0.0 {
        return Ok(Vec::new());
    }
    let config = &recipe.ppo.harmless;
    let all = match (config.suite, &config.data) {
        (SuiteKind::Public(format), Some(path)) => format.read(path)?.items,
        _ => {
            let names = if config.families.is_empty() { &recipe.data.families } else { &config.families };
            // Names of the records: those of an evaluation stay unseen.
            let tasks = Selection::of(names)?.tasks(
                Level::Train,
                config.per_family,
                derive_seed(recipe.seed, "harmless"),
            );
            items_from_tasks(&tasks)
        }
    };
    let read = all.len();
    let items: Vec<Item> =
        all.into_iter().filter(|item| item.is_harmless() && item.functional.is_some()).collect();
    if items.is_empty() {
        return Err(Failure::user(format!(
            "`ppo.harmless`: none of {read} tasks invites no weakness and has functional tests"
        ))
        .with_hint(
            "name harmless families (`vul2safe range list`), or a suite with tests such as `humaneval`",
        ));
    }
    Ok(items)
}

/// As many prompts of `items` as make `share` of all beside those of the pairs, each in its turn, and how many are too long.
/// As prompts are walked through before any is drawn again, this is the share of the answers as well.
pub fn of_items(
    items: &[Item],
    share: f64,
    of_pairs: usize,
    tokenizer: &Tokenizer,
    longest: usize,
) -> Result<(Vec<Request>, usize)> {
    if items.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let mut fitting = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let ids = tokenizer.chat_prompt(&item.request)?;
        if ids.len() <= longest {
            fitting.push((place, ids));
        }
    }
    let too_long = items.len() - fitting.len();
    if fitting.is_empty() {
        return Err(none_fits(too_long, longest));
    }
    let wanted = (share / (1.0 - share) * of_pairs as f64).round().max(1.0) as usize;
    let requests = (0..wanted)
        .map(|index| {
            // Where fewer are wanted than there are, spread over all of them.
            let chosen =
                if wanted < fitting.len() { index * fitting.len() / wanted } else { index % fitting.len() };
            let (place, ids) = &fitting[chosen];
            let item = &items[*place];
            Request { id: item.id.clone(), text: item.request.clone(), ids: ids.clone(), item: Some(*place) }
        })
        .collect();
    Ok((requests, too_long))
}

fn none_fits(too_long: usize, longest: usize) -> Failure {
    Failure::user(format!("every one of the {too_long} prompts has more than {longest} tokens")).with_hint(
        "raise `ppo.maximum_prompt_tokens`, or lower `ppo.training.maximum_new_tokens`: both must fit the model's positions",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_prompts_make_their_share() {
        let tokenizer =
            Tokenizer::train(["def f(x): return x + 1"; 4].into_iter(), 300).expect("a tokenizer");
        let tasks = Selection::of(&["count_rows".to_owned()]).expect("a family").tasks(Level::Train, 6, 1);
        let items = items_from_tasks(&tasks);
        for (share, of_pairs, wanted) in [(0.25, 300, 100), (0.5, 8, 8), (0.25, 9, 3), (0.01, 3, 1)] {
            let (requests, too_long) =
                of_items(&items, share, of_pairs, &tokenizer, 10_000).expect("they fit");
            assert_eq!((requests.len(), too_long), (wanted, 0), "{share} beside {of_pairs}");
            let ids: std::collections::BTreeSet<&str> =
                requests.iter().map(|request| request.id.as_str()).collect();
            assert_eq!(ids.len(), wanted.min(items.len()), "each in its turn");
            assert!(requests.iter().all(Request::is_harmless));
        }
        assert!(of_items(&items, 0.25, 10, &tokenizer, 1).is_err(), "none fits");
        assert!(of_items(&[], 0.0, 10, &tokenizer, 1).expect("none wanted").0.is_empty());
    }
}
