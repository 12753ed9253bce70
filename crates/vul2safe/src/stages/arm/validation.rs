//! Measuring an arm while it trains: the same tasks, the same draws, every so many updates.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vul2safe_corpus::RepairPair;
use vul2safe_evaluate::{Item, rates_where, table};
use vul2safe_model::Model;
use vul2safe_run::Rate;
use vul2safe_tokens::Tokenizer;

use crate::failure::Result;
use crate::recipe::ValidationConfig;
use crate::stages::Context;
use crate::stages::base::save_model;
use crate::stages::evaluate::{Examination, answer_items, suite};

/// What an arm was worth after so many updates.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ValidationPoint {
    /// Updates done.
    pub update: u64,
    /// Answers trained on.
    pub rollouts: u64,
    /// The evaluation's rates, of the tasks that invite a weakness, of the harmless ones, and of each [family](of_family).
    pub rates: BTreeMap<String, BTreeMap<String, Rate>>,
}

impl ValidationPoint {
    /// A rate of the tasks that invite a weakness.
    pub fn rate(&self, name: &str) -> Option<f64> {
        self.rates.get("all").and_then(|rates| rates.get(name)).map(|rate| rate.value)
    }
}

/// The family of a task: what stands before the first slash of its name.
pub fn family(item: &Item) -> &str {
    item.id.split('/').next().unwrap_or_default()
}

/// The key of a family's rates.
pub fn of_family(family: &str) -> String {
    format!("family {family}")
}

/// Where the points of an arm stand, one a line.
pub fn validation_file(name: &str) -> String {
    format!("validation/{name}.jsonl")
}

/// The tasks and what is known so far.
pub(super) struct Validation<'a> {
    context: &'a Context<'a>,
    config: &'a ValidationConfig,
    name: &'a str,
    items: Vec<Item>,
    points: Vec<ValidationPoint>,
}

impl<'a> Validation<'a> {
    /// The tasks, and the points up to `update`, which an interrupted run may have gone beyond.
    pub fn open(context: &'a Context<'a>, name: &'a str, pairs: &[RepairPair], update: u64) -> Result<Self> {
        let config = &context.recipe.ppo.validation;
        let mut items = Vec::new();
        let mut points: Vec<ValidationPoint> = Vec::new();
        if config.every > 0 {
            // A seed of its own: the tasks of the evaluation at the end stay unseen.
            let all = suite(&context.recipe.evaluation, pairs, context.seed("validation"))?.items;
            let wanted = config.tasks.min(all.len());
            items.extend((0..wanted).map(|index| all[index * all.len() / wanted].clone()));
            if context.run.file(&validation_file(name)).exists() {
                points = context.read_lines(&validation_file(name))?;
                points.retain(|point| point.update <= update);
            }
        }
        Ok(Validation { context, config, name, items, points })
    }

    /// Whether this many updates are a moment to measure, and it was not measured before.
    pub fn is_due(&self, update: u64, updates: u64) -> bool {
        let every = self.config.every as u64;
        every > 0
            && (update.is_multiple_of(every) || update == updates)
            && self.points.iter().all(|point| point.update != update)
    }

    /// Measures the actor, and keeps it where it is the best so far by secure-pass@1. Gives the metrics.
    pub fn measure(
        &mut self,
        actor: &Model,
        tokenizer: &Tokenizer,
        update: u64,
        rollouts: u64,
    ) -> Result<Vec<(&'static str, f64)>> {
        let context = self.context;
        let answered = answer_items(
            actor,
            tokenizer,
            &self.items,
            &context.recipe.evaluation,
            context.seed("validation-answers"),
            &Examination { judge: &context.judge, training: None },
            context.progress,
        )?;
        let families: BTreeSet<&str> = self.items.iter().map(family).collect();
        let of_families = families
            .into_iter()
            .map(|name| {
                let rates = rates_where(self.name, &self.items, &answered, &|item| family(item) == name)?;
                Ok((of_family(name), rates))
            })
            .collect::<Result<Vec<_>>>()?;
        let table = table("validation", &self.items, &[(self.name.to_owned(), answered)])?;
        let rates = table
            .rows
            .into_iter()
            .filter(|row| matches!(row.group.as_str(), "all" | "harmless"))
            .map(|row| (row.group, row.rates))
            .chain(of_families)
            .collect();
        let point = ValidationPoint { update, rollouts, rates };
        let is_best = self.points.iter().all(|known| worth(known) < worth(&point));
        if self.config.keep_best && is_best {
            save_model(context, actor, tokenizer, &self.best_folder())?;
        }
        let names = [
            ("functional", "validation_functional"),
            ("vulnerable", "validation_vulnerable"),
            ("both", "validation_both"),
            ("unparsable", "validation_unparsable"),
        ];
        let metrics = names.iter().filter_map(|(rate, metric)| Some((*metric, point.rate(rate)?))).collect();
        self.points.push(point);
        context.write_lines(&validation_file(self.name), &self.points)?;
        Ok(metrics)
    }

    /// Where the best model so far stands, beside the last one.
    pub fn best_folder(&self) -> std::path::PathBuf {
        self.context.run.file(&format!("checkpoints/{}-best", self.name))
    }

    /// The best point so far.
    pub fn best(&self) -> Option<&ValidationPoint> {
        // The first of several equals: what came later was not worth more.
        self.points.iter().rev().max_by(|one, other| worth(one).total_cmp(&worth(other)))
    }
}

/// Secure-pass@1, or where nothing attacks, the functional rate.
fn worth(point: &ValidationPoint) -> f64 {
    point.rate("both").or_else(|| point.rate("functional")).unwrap_or(f64::NEG_INFINITY)
}
