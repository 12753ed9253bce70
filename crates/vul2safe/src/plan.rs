//! `--dry-run`: what a run would do, from the recipe and from reading the data. Writes nothing.

use std::path::Path;

use vul2safe_corpus::VulnerabilityRecord;
use vul2safe_llm::Endpoint;

use crate::experiment::experiment_folder;
use crate::failure::Result;
use crate::machine::available_memory;
use crate::memory;
use crate::recipe::{BaseCorpus, ExperimentConfig, Recipe, SourceKind, SuiteKind};
use crate::stages::import::{dropped_by_reason, import, reasons};
use crate::stages::{Until, default_folder};
use crate::words::thousands;

/// Code and requests have about this many bytes a token in the vocabularies that code models use; the plan says so.
const BYTES_A_TOKEN: usize = 3;
/// A prompt with its template, in tokens.
const PROMPT_TOKENS: usize = 60;

/// The plan as text.
///
/// # Errors
/// Data or a model folder that cannot be read: what would stop the run stops its plan.
pub fn describe(recipe: &Recipe, out: Option<&Path>) -> Result<String> {
    let mut lines = vec!["plan (nothing is written; token counts are estimates)".to_owned()];
    let mut say = |label: &str, text: String| lines.push(format!("  {label:<12} {text}"));

    let default = if recipe.experiment.is_some() { experiment_folder } else { default_folder };
    let out = out.map_or_else(|| default(recipe), Path::to_path_buf);
    let state =
        if out.join("config.toml").exists() { " (there already: the run would continue)" } else { "" };
    say("run folder", format!("{}{state}", out.display()));

    let imported = import(&recipe.data, crate::stages::derive_seed(recipe.seed, "import"))?;
    let source =
        recipe.data.path.as_ref().map_or_else(String::new, |path| format!(" from {}", path.display()));
    say(
        "records",
        format!(
            "{} {} records{source}: {} usable, {} dropped{}",
            thousands(imported.read),
            recipe.data.source.word(),
            thousands(imported.records.len()),
            imported.dropped.len(),
            reasons(&dropped_by_reason(&imported))
        ),
    );
    let prompts = if recipe.data.source == SourceKind::PrimevulPlus {
        "prompts as in the file".to_owned()
    } else {
        format!(
            "up to {} prompts each, accepted at confidence ≥ {}",
            recipe.repair.prompts_per_pair, recipe.repair.threshold
        )
    };
    say("Vul2Safe", prompts);
    if let Some(teacher) = &recipe.teacher {
        let at = |endpoint: &Endpoint| format!("{} at {}", endpoint.model, endpoint.base_url);
        say("teacher", at(&teacher.model));
        for (role, endpoint) in [("critic", &teacher.critic), ("judge", &teacher.judge)] {
            say(role, endpoint.as_ref().map_or_else(|| "the teacher's model".to_owned(), at));
        }
    }

    let config = memory::shape(recipe)?;
    let parameters = config.parameters();
    say("model", model_line(recipe, parameters));
    if recipe.model.path.is_none() {
        say("base", base_line(recipe, &imported.records));
    }
    if recipe.sft.enabled {
        let prompts = recipe.repair.prompts_per_pair;
        let (fitting, tokens) = fitting(&imported.records, recipe.sft.maximum_tokens, prompts);
        let examples = match recipe.sft.maximum_examples {
            0 => fitting,
            most => fitting.min(most),
        };
        let tokens = (tokens / fitting.max(1)).saturating_mul(examples);
        let epochs = recipe.sft.training.epochs;
        let steps = tokens.saturating_mul(epochs).div_ceil(recipe.sft.training.tokens_per_batch.max(1));
        say(
            "SFT",
            format!(
                "≤ {} examples, {epochs} epochs, about {} tokens, {} steps",
                thousands(examples),
                thousands(tokens.saturating_mul(epochs)),
                thousands(steps)
            ),
        );
    }
    crate::stages::arm::check_requests(recipe)?;
    for (name, arm) in &recipe.arms {
        say("arm", format!("`{name}`: {}", arm.describe(&arm.settings(name, recipe)?)));
    }
    let models = 1 + usize::from(recipe.sft.enabled) + recipe.arms.len();
    say("evaluation", evaluation_line(recipe, models));
    // Weights in f32; an arm's checkpoint has the model, its value head and two moments.
    let made = models - usize::from(recipe.model.path.is_some());
    let trained = match &recipe.lora {
        Some(lora) => lora.parameters(&config),
        None => parameters,
    };
    let of_base = usize::from(recipe.model.path.is_none());
    let runs = recipe.experiment.as_ref().map_or(1, |experiment| {
        let tried = experiment.search.as_ref().map_or(0, |search| search.seeds.len());
        experiment.seeds as usize + tried
    });
    if let Some(experiment) = &recipe.experiment {
        for line in experiment_lines(recipe, experiment) {
            say("experiment", line);
        }
    }
    let disk = runs * 4 * (parameters * of_base + trained * (made - of_base + 3 * recipe.arms.len()));
    say("disk", format!("about {} MiB of checkpoints", thousands(disk.div_ceil(1 << 20))));
    lines.extend(if recipe.device.is_cpu() { memory_lines(recipe)? } else { device_lines(recipe)? });
    Ok(lines.join("\n"))
}

/// How many runs, arms and tries.
fn experiment_lines(recipe: &Recipe, experiment: &ExperimentConfig) -> Vec<String> {
    let arms: usize = (0..experiment.seeds as usize)
        .map(|index| recipe.arms.values().filter(|arm| experiment.takes_part(arm, index)).count())
        .sum();
    let beside = match experiment.side_by_side {
        0 => "as many runs at the same time as there are threads".to_owned(),
        1 => "one run after the other".to_owned(),
        some => format!("{some} at the same time"),
    };
    let mut lines = vec![format!("{} seeds with {arms} arms in all, {beside}", experiment.seeds)];
    if let Some(search) = &experiment.search {
        lines.push(format!(
            "before that a search: {} settings for each of {} on {} development seeds",
            search.settings.len(),
            search.arms.join(", "),
            search.seeds.len()
        ));
    }
    lines
}

/// The peak of every stage, the largest of them beside what is available, and what would fit if that does not.
fn memory_lines(recipe: &Recipe) -> Result<Vec<String>> {
    let mut lines = vec!["memory (estimates for the model; data and judging come on top)".to_owned()];
    let mut highest: Option<(usize, memory::StageMemory)> = None;
    for stage in memory::stages(recipe, Until::Report)? {
        let estimate = stage.estimate();
        let parts = [
            ("weights", estimate.weights),
            ("gradients", estimate.gradients),
            ("moments", estimate.moments),
            ("activations", estimate.activations),
            ("cache", estimate.cache),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(name, bytes)| format!("{name} {}", memory::size(bytes)))
            .collect();
        lines.push(format!(
            "  {:<12} {:>10}  ({})",
            stage.stage,
            memory::size(estimate.needed),
            parts.join(", ")
        ));
        if highest.as_ref().is_none_or(|(needed, _)| estimate.needed > *needed) {
            highest = Some((estimate.needed, stage));
        }
    }
    if let Some((needed, stage)) = highest {
        let Some(available) = available_memory() else {
            lines.push(format!(
                "  {:<12} {:>10}  (this system does not say what is available)",
                "peak",
                memory::size(needed)
            ));
            return Ok(lines);
        };
        let there = memory::there_is(available);
        lines.push(format!("  {:<12} {:>10}  in `{}`; {there}", "peak", memory::size(needed), stage.stage));
        if needed > available.bytes {
            lines.push("  it does not fit; what would:".to_owned());
            let advice = memory::advice(&stage, available.bytes);
            lines.extend(advice.into_iter().map(|line| format!("    {line}")));
        }
    }
    Ok(lines)
}

/// The peak of every stage on the recipe's GPU, beside what is free there if it is at hand.
fn device_lines(recipe: &Recipe) -> Result<Vec<String>> {
    let mut lines = vec![format!("memory on {} (estimates)", recipe.device)];
    let mut highest: Option<(usize, memory::StageMemory)> = None;
    for stage in memory::stages(recipe, Until::Report)? {
        let need = stage.workload.on_device()?;
        let parts = [
            ("weights", need.weights),
            ("optimiser", need.optimizer),
            ("activations", need.activations),
            ("cache", need.cache),
            ("driver", need.driver),
        ];
        let parts = parts.into_iter().filter(|(_, bytes)| *bytes > 0);
        let parts: Vec<String> =
            parts.map(|(name, bytes)| format!("{name} {}", memory::size(bytes))).collect();
        let needed = memory::size(need.needed);
        lines.push(format!("  {:<12} {needed:>10}  ({})", stage.stage, parts.join(", ")));
        if highest.as_ref().is_none_or(|(most, _)| need.needed > *most) {
            highest = Some((need.needed, stage));
        }
    }
    let Some((needed, stage)) = highest else { return Ok(lines) };
    let peak = format!("  {:<12} {:>10}  in `{}`", "peak", memory::size(needed), stage.stage);
    lines.push(match recipe.device.find() {
        Ok(Some(gpu)) => {
            format!(
                "{peak}; {} of {} are free ({})",
                memory::size(gpu.free),
                memory::size(gpu.total),
                gpu.name
            )
        }
        Ok(None) => peak,
        // A plan may be made on another machine than the run.
        Err(error) => format!("{peak}; not at hand here: {error}"),
    });
    if let Ok(Some(gpu)) = recipe.device.find()
        && needed > gpu.free
    {
        lines.push("  it does not fit; what would:".to_owned());
        let advice = memory::advice_on_gpu(&stage, gpu.free)?;
        lines.extend(advice.into_iter().map(|line| format!("    {line}")));
    }
    Ok(lines)
}

fn model_line(recipe: &Recipe, parameters: usize) -> String {
    match &recipe.model.path {
        Some(path) => format!("{} parameters from {}", thousands(parameters), path.display()),
        None => format!(
            "{} parameters made from nothing, vocabulary ≤ {}",
            thousands(parameters),
            recipe.base.vocabulary
        ),
    }
}

fn base_line(recipe: &Recipe, records: &[VulnerabilityRecord]) -> String {
    let base = &recipe.base;
    let (documents, tokens) = match base.corpus {
        BaseCorpus::Range => {
            // The corpus is made from the seed alone, so a small part of it tells how long its documents are.
            let part = vul2safe_range::Selection::of(&recipe.data.families).unwrap_or_default().base_corpus(
                base.documents.min(500),
                base.vulnerable_share,
                recipe.seed,
            );
            let bytes: usize = part.iter().map(|document| document.request.len() + document.code.len()).sum();
            (base.documents, base.documents.saturating_mul(bytes) / part.len().max(1) / BYTES_A_TOKEN)
        }
        BaseCorpus::Records => fitting(records, base.maximum_positions, recipe.repair.prompts_per_pair),
    };
    let epochs = base.training.epochs;
    let steps = tokens.saturating_mul(epochs).div_ceil(base.training.tokens_per_batch.max(1));
    format!(
        "≤ {} documents, {epochs} epochs, about {} tokens, {} steps",
        thousands(documents),
        thousands(tokens.saturating_mul(epochs)),
        thousands(steps)
    )
}

/// Documents of a prompt and a function that have at most `longest` tokens, and their tokens altogether.
fn fitting(records: &[VulnerabilityRecord], longest: usize, prompts: usize) -> (usize, usize) {
    let lengths = records.iter().map(|record| PROMPT_TOKENS + record.vulnerable.len() / BYTES_A_TOKEN);
    let (documents, tokens) = lengths
        .filter(|tokens| *tokens <= longest)
        .fold((0_usize, 0_usize), |(documents, sum), tokens| (documents + 1, sum.saturating_add(tokens)));
    (documents.saturating_mul(prompts), tokens.saturating_mul(prompts))
}

fn evaluation_line(recipe: &Recipe, models: usize) -> String {
    let evaluation = &recipe.evaluation;
    match evaluation.suite {
        SuiteKind::Range => {
            // Two levels of most families; the held-out ones are a level of their own.
            let families = vul2safe_range::families();
            let chosen = |name: &str| {
                evaluation.families.is_empty() || evaluation.families.iter().any(|family| family == name)
            };
            let times: usize = families
                .iter()
                .filter(|family| chosen(family.name))
                .map(|family| if family.held_out { 1 } else { 2 })
                .sum();
            let tasks = evaluation.per_family.saturating_mul(times);
            format!("{models} models on {tasks} held-out tasks, functional and exploit tests")
        }
        SuiteKind::Records => {
            format!("{models} models on ≤ {} held-out records, static findings", evaluation.maximum_tasks)
        }
        SuiteKind::Public(format) => {
            let path = evaluation.data.as_deref().unwrap_or(std::path::Path::new(""));
            match format.read(path) {
                Ok(suite) => format!("{models} models on the {} tasks of {}", suite.items.len(), suite.name),
                Err(error) => format!("{models} models on {}, which cannot be read: {error}", format.name),
            }
        }
    }
}
