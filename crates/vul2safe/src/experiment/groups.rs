//! Rates of the evaluation in groups of tasks, for every model and seed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use vul2safe_corpus::read_primevul_plus;
use vul2safe_evaluate::{Answered, Curve, Item, rates_where};

use super::analysis::{Collected, MEASURES, endpoints};
use crate::failure::Result;
use crate::recipe::Recipe;
use crate::stages::arm::{ValidationPoint, family, of_family};
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

/// A group of tasks, and the families that it is made of.
pub(super) type FamilyGroup = (&'static str, BTreeSet<String>);

/// The families that invite a weakness, by how many places they have, how long their answers are, and how often the flaw is there
/// before the training. A group without a family is left out.
pub(super) fn family_groups(runs: &[Answers]) -> Result<Vec<FamilyGroup>> {
    let places: BTreeMap<&str, usize> =
        vul2safe_range::families().iter().map(|family| (family.name, family.sites.len())).collect();
    let rare = rare_families(runs)?;
    let mut lengths: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for item in runs.iter().flat_map(|run| &run.items).filter(|item| !item.is_harmless()) {
        lengths.entry(family(item)).or_default().extend(item.reference.as_ref().map(String::len));
    }
    let lengths: BTreeMap<&str, usize> = lengths
        .into_iter()
        .filter_map(|(name, mut of_answers)| {
            of_answers.sort_unstable();
            Some((name, *of_answers.get(of_answers.len() / 2)?))
        })
        .collect();
    let mut sorted: Vec<usize> = lengths.values().copied().collect();
    sorted.sort_unstable();
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    let chosen = |wanted: &dyn Fn(&str) -> bool| -> BTreeSet<String> {
        rare.keys().filter(|name| wanted(name.as_str())).cloned().collect()
    };
    let groups = [
        ("one place", chosen(&|name| places.get(name) == Some(&1))),
        ("several places", chosen(&|name| places.get(name).is_some_and(|&count| count > 1))),
        ("short answers", chosen(&|name| lengths.get(name).is_some_and(|&length| length < middle))),
        ("long answers", chosen(&|name| lengths.get(name).is_some_and(|&length| length >= middle))),
        ("common flaws", chosen(&|name| rare.get(name) == Some(&false))),
        ("rare flaws", chosen(&|name| rare.get(name) == Some(&true))),
    ];
    Ok(groups.into_iter().filter(|(_, families)| !families.is_empty()).collect())
}

/// Endpoints of the curves of every arm and seed in the groups.
pub(super) fn while_training(models: &mut BTreeMap<String, Collected>, groups: &[FamilyGroup]) {
    for collected in models.values_mut() {
        let mut found = Vec::new();
        for (&seed, points) in &collected.points {
            for (group, families) in groups {
                let curve = |measure: &str| {
                    let points = points.iter().filter_map(|(point, _)| {
                        Some((point.rollouts as f64, share_in(point, families, measure)?))
                    });
                    Curve::new(points.collect())
                };
                let figures = endpoints(curve("vulnerable").as_ref(), curve("both").as_ref());
                found.extend(
                    figures.into_iter().filter_map(|(measure, value)| Some((*group, measure, seed, value?))),
                );
            }
        }
        for (group, measure, seed, value) in found {
            collected.put(group, measure, seed, value);
        }
    }
}

/// A rate at a point, of the tasks of these families together; none where it is known of none of them.
fn share_in(point: &ValidationPoint, families: &BTreeSet<String>, measure: &str) -> Option<f64> {
    let rates = families.iter().filter_map(|name| point.rates.get(&of_family(name))?.get(measure));
    let (count, of) = rates.fold((0, 0), |(count, of), rate| (count + rate.count, of + rate.of));
    (of > 0).then(|| count as f64 / of as f64)
}

/// Rates of every model and seed in groups of tasks.
pub(super) fn evaluation(
    models: &mut BTreeMap<String, Collected>,
    runs: &[Answers],
    of_families: &[FamilyGroup],
) -> Result<()> {
    for run in runs {
        let mut groups: Vec<Group<'_>> = vec![
            ("all".into(), Box::new(|item: &Item| !item.is_harmless())),
            ("harmless".into(), Box::new(Item::is_harmless)),
        ];
        for (group, families) in of_families {
            groups.push(((*group).to_owned(), Box::new(|item: &Item| families.contains(family(item)))));
        }
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

#[cfg(test)]
mod tests {
    use vul2safe_run::Rate;

    use super::*;

    #[test]
    fn a_groups_curve_is_that_of_its_families_together() {
        let rate = |count: usize, of: usize| Rate { count, of, value: 0.0, low: 0.0, high: 1.0 };
        let point = |update: u64, one: (usize, usize), other: (usize, usize)| {
            let of = |(count, of)| BTreeMap::from([("vulnerable".to_owned(), rate(count, of))]);
            let rates = BTreeMap::from([(of_family("a"), of(one)), (of_family("b"), of(other))]);
            (ValidationPoint { update, rollouts: 100 * update, rates }, 0.0)
        };
        let mut collected = Collected::default();
        collected.points.insert(7, vec![point(0, (6, 10), (2, 10)), point(1, (2, 10), (0, 10))]);
        let mut models = BTreeMap::from([("arm".to_owned(), collected)]);
        let groups = [
            ("both", BTreeSet::from(["a".to_owned(), "b".to_owned()])),
            ("one", BTreeSet::from(["c".to_owned()])),
        ];
        while_training(&mut models, &groups);
        let figure = |group: &str, measure: &str| models["arm"].figure(group, measure, 7);
        // From 8 of 20 to 2 of 20: half of 0.4 is reached at two thirds of the way.
        assert!((figure("both", "rollouts_to_half").expect("a figure") - 200.0 / 3.0).abs() < 1e-9);
        assert!((figure("both", "vulnerable_area").expect("a figure") - 0.25).abs() < 1e-9);
        assert_eq!(figure("one", "vulnerable_area"), None, "no task of the family was measured");
    }
}
