//! Rates of the evaluation in groups of tasks, for every model and seed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use vul2safe_corpus::read_primevul_plus;
use vul2safe_evaluate::{Answered, Item, rates_where};

use super::analysis::{Collected, MEASURES};
use crate::failure::Result;
use crate::recipe::Recipe;
use crate::stages::evaluate::{answers_file, suite};
use crate::stages::{build, derive_seed, read_lines};

/// A name, and which tasks belong to it.
type Group<'a> = (String, Box<dyn Fn(&Item) -> bool + 'a>);

/// One run's tasks and answers.
pub(super) struct Answers {
    seed: u64,
    items: Vec<Item>,
    by_model: Vec<(String, Vec<Answered>)>,
}

/// Reads them from the run's folder; the tasks are drawn again.
pub(super) fn read_answers(run: &Recipe, path: &Path) -> Result<Answers> {
    let pairs = read_primevul_plus(&path.join(build::PAIRS))?;
    let items = suite(&run.evaluation, &pairs, derive_seed(run.seed, "evaluation"))?.items;
    let mut models = vec!["base"];
    models.extend(run.sft.enabled.then_some("sft"));
    models.extend(run.arms.keys().map(String::as_str));
    let by_model = models
        .into_iter()
        .map(|model| Ok((model.to_owned(), read_lines(&path.join(answers_file(model)))?)))
        .collect::<Result<_>>()?;
    Ok(Answers { seed: run.seed, items, by_model })
}

/// The family of a task of the range.
fn family(item: &Item) -> &str {
    item.id.split('/').next().unwrap_or_default()
}

/// Rates of every model and seed in groups of tasks.
pub(super) fn evaluation(models: &mut BTreeMap<String, Collected>, runs: &[Answers]) -> Result<()> {
    let places: BTreeMap<&str, usize> =
        vul2safe_range::families().iter().map(|family| (family.name, family.sites.len())).collect();
    let rare = rare_families(runs)?;
    let lengths: BTreeSet<usize> = runs
        .iter()
        .flat_map(|run| &run.items)
        .filter_map(|item| item.reference.as_ref().map(String::len))
        .collect();
    let median = lengths.iter().nth(lengths.len() / 2).copied().unwrap_or(0);
    let length = |item: &Item| item.reference.as_ref().map(String::len);
    let place_count = |item: &Item| places.get(family(item)).copied();
    for run in runs {
        let mut groups: Vec<Group<'_>> = vec![
            ("all".into(), Box::new(|item: &Item| !item.is_harmless())),
            ("harmless".into(), Box::new(Item::is_harmless)),
            ("one place".into(), Box::new(move |item: &Item| place_count(item) == Some(1))),
            ("several places".into(), Box::new(move |item: &Item| place_count(item) > Some(1))),
            (
                "short answers".into(),
                Box::new(move |item: &Item| {
                    !item.is_harmless() && length(item).is_some_and(|len| len < median)
                }),
            ),
            (
                "long answers".into(),
                Box::new(move |item: &Item| {
                    !item.is_harmless() && length(item).is_some_and(|len| len >= median)
                }),
            ),
            (
                "common flaws".into(),
                Box::new(|item: &Item| !item.is_harmless() && rare.get(family(item)) == Some(&false)),
            ),
            (
                "rare flaws".into(),
                Box::new(|item: &Item| !item.is_harmless() && rare.get(family(item)) == Some(&true)),
            ),
        ];
        let levels: BTreeSet<&str> = run.items.iter().map(|item| item.group.as_str()).collect();
        for level in levels {
            groups.push((
                level.to_owned(),
                Box::new(move |item: &Item| item.group == level && !item.is_harmless()),
            ));
        }
        for (model, answered) in &run.by_model {
            let Some(collected) = models.get_mut(model) else { continue };
            collected.seeds.insert(run.seed);
            for (group, wanted) in &groups {
                let rates = rates_where(model, &run.items, answered, wanted)?;
                for (measure, rate) in
                    rates.iter().filter(|(name, _)| MEASURES.iter().any(|(known, _)| known == name))
                {
                    collected.put(group, measure, run.seed, rate.value);
                }
            }
        }
    }
    Ok(())
}

/// By family that invites a weakness: whether its flaw is rarer in the answers of the model that the arms start from (of the
/// base model where there is no SFT) than in the middle family's, over all runs.
fn rare_families(runs: &[Answers]) -> Result<BTreeMap<String, bool>> {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for run in runs {
        let start = run.by_model.iter().find(|(model, _)| model == "sft").or_else(|| run.by_model.first());
        let Some((model, answered)) = start else { continue };
        let families: BTreeSet<&str> =
            run.items.iter().filter(|item| !item.is_harmless()).map(family).collect();
        for name in families {
            let rates = rates_where(model, &run.items, answered, &|item| family(item) == name)?;
            if let Some(rate) = rates.get("vulnerable") {
                let count = counts.entry(name.to_owned()).or_default();
                *count = (count.0 + rate.count, count.1 + rate.of);
            }
        }
    }
    let share = |(count, of): (usize, usize)| count as f64 / of.max(1) as f64;
    let mut shares: Vec<f64> = counts.values().map(|&count| share(count)).collect();
    shares.sort_by(f64::total_cmp);
    let middle = shares.get(shares.len() / 2).copied().unwrap_or(0.0);
    Ok(counts.into_iter().map(|(name, count)| (name, share(count) < middle)).collect())
}
