//! Last stages: every model answers the same held-out tasks; answers are run against functional and exploit tests.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vul2safe_corpus::{RepairPair, Split, read_primevul_plus};
use vul2safe_evaluate::{Answered, Item, Suite, assemble, range_of, table as rates};
use vul2safe_judge::{Judge, Submission, TestResult};
use vul2safe_model::{Finish, Generation, Model, SamplingOptions};
use vul2safe_range::{CopyIndex, Selection};
use vul2safe_reward::{Outcome, Placement, RewardConfig, Score};
use vul2safe_run::{EvaluationTable, Sample, SampleToken, write_samples};
use vul2safe_tokens::Tokenizer;

use super::base::documents;
use super::prompts::{answer_text, request_text};
use super::{Context, Purpose, build, derive_seed};
use crate::failure::{Failure, Result};
use crate::progress::Progress;
use crate::recipe::{EvaluationConfig, SuiteKind};
use crate::scoring::{AnswerText, References};
use crate::words::word;

/// Answers generated together: enough to fill the processor, few enough to show progress.
pub const BATCH: usize = 128;

/// Tasks of a suite.
///
/// # Errors
/// A suite without a single task, or one whose file cannot be read.
pub fn suite(config: &EvaluationConfig, pairs: &[RepairPair], seed: u64) -> Result<Suite> {
    match config.suite {
        SuiteKind::Range => Ok(range_of(&Selection::of(&config.families)?, config.per_family, seed)),
        SuiteKind::Records => {
            let held_out: Vec<Item> =
                pairs.iter().filter(|pair| pair.split != Split::Train).filter_map(item_of_pair).collect();
            // Sources are often ordered by weakness: the tasks are spread over all of them.
            let wanted = config.maximum_tasks.min(held_out.len());
            let items: Vec<Item> =
                (0..wanted).map(|index| held_out[index * held_out.len() / wanted].clone()).collect();
            if items.is_empty() {
                return Err(Failure::user("there is nothing to evaluate on: no record is held out")
                    .with_hint(
                        "raise `data.split.validation`, or evaluate on `evaluation.suite = \"range\"`",
                    ));
            }
            let name = "held-out records: static findings, and their own tests where there are any";
            Ok(Suite { name: name.to_owned(), items, left_out: BTreeMap::new() })
        }
        SuiteKind::Public(format) => {
            let path = config.data.as_deref().ok_or_else(|| {
                Failure::user(format!("the suite `{}` needs its file or folder", format.word))
                    .with_hint("name it with `--data`, in a recipe with `evaluation.data`")
            })?;
            Ok(format.read(path)?)
        }
    }
}

/// A held-out record as a task: its first prompt, its tests where there are any, findings of its weakness otherwise.
fn item_of_pair(pair: &RepairPair) -> Option<Item> {
    let prompt = pair.prompts.first()?;
    let cwe = pair.cwe.first().copied();
    let group = format!("{} {}", pair.source.dataset, word(&pair.split));
    Some(Item {
        request: request_text(prompt),
        functional: pair.tests.as_ref().map(|tests| tests.functional.clone()),
        processes: pair.tests.as_ref().map_or(0, |tests| tests.processes),
        reference: Some(pair.secure.clone()),
        insecure: Some(pair.vulnerable.clone()),
        ..Item::new(&pair.id, group, pair.language).with_weakness(cwe)
    })
}

/// One request to a local model.
pub struct Request {
    /// What it reads.
    pub prompt: Vec<u32>,
    /// Seed of the draw.
    pub seed: u64,
}

/// What a local model answered.
pub struct Drawn {
    /// Ids of the response.
    pub ids: Vec<u32>,
    /// The response as text.
    pub text: String,
    /// Whether the model ended it itself.
    pub finished: bool,
}

/// The answers of `model` to requests, in their order, [`BATCH`] at a time.
pub fn draw(
    model: &Model,
    tokenizer: &Tokenizer,
    requests: &[Request],
    config: &EvaluationConfig,
) -> Result<Vec<Drawn>> {
    let longest = model.config().max_position_embeddings;
    let options: Vec<SamplingOptions> = requests
        .iter()
        .map(|request| SamplingOptions {
            maximum_new_tokens: config.maximum_new_tokens.min(longest.saturating_sub(request.prompt.len())),
            temperature: config.temperature,
            stop_ids: tokenizer.stop_ids(),
            seed: request.seed,
            ..SamplingOptions::default()
        })
        .collect();
    let prompts: Vec<Vec<u32>> = requests.iter().map(|request| request.prompt.clone()).collect();
    let generations = generate(model, &prompts, &options)?;
    Ok(generations
        .into_iter()
        .map(|generation| {
            let finished = generation.finished == Finish::Stop;
            let text = answer_text(tokenizer, &generation.ids, finished).text;
            Drawn { ids: generation.ids, text, finished }
        })
        .collect())
}

/// What answers are judged with.
pub struct Examination<'a> {
    /// Runs the tests.
    pub judge: &'a Judge,
    /// Texts that an answer may be copied from, where these are known.
    pub training: Option<&'a CopyIndex>,
}

/// Lets `model` answer every item and judges the answers.
pub fn answer_items(
    model: &Model,
    tokenizer: &Tokenizer,
    items: &[Item],
    config: &EvaluationConfig,
    seed: u64,
    examination: &Examination<'_>,
    progress: &Progress,
) -> Result<Vec<Answered>> {
    let mut answered = Vec::with_capacity(items.len());
    for chunk in items.chunks(BATCH) {
        let requests = chunk
            .iter()
            .map(|item| {
                // The same task draws the same numbers for every model: the comparison is paired.
                Ok(Request {
                    prompt: tokenizer.chat_prompt(&item.request)?,
                    seed: derive_seed(seed, &item.id),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let drawn = draw(model, tokenizer, &requests, config)?;
        let programs: Vec<String> =
            chunk.iter().zip(&drawn).map(|(item, drawn)| assemble(item, &drawn.text).program).collect();
        let submissions: Vec<Submission<'_>> =
            chunk.iter().zip(&programs).map(|(item, program)| item.submission(program)).collect();
        let verdicts = examination.judge.judge_all(&submissions);
        for (((item, drawn), program), mut verdict) in chunk.iter().zip(drawn).zip(&programs).zip(verdicts) {
            if !drawn.finished && item.functional.is_some() {
                // What was cut off is no working answer, even where the part that is there happens to run.
                verdict.functional = TestResult::Failed {
                    test: "complete".to_owned(),
                    message: format!("the answer did not end within {} tokens", drawn.ids.len()),
                };
            }
            answered.push(Answered {
                task: item.id.clone(),
                answer: drawn.text,
                ids: drawn.ids,
                finished: drawn.finished,
                copied_share: examination
                    .training
                    .and_then(|training| training.copied(program))
                    .map(|copied| copied.share),
                verdict,
            });
        }
        progress.update(answered.len() as u64, items.len() as u64, "answers judged");
    }
    Ok(answered)
}

/// [`Model::generate`], but a prompt that fills the model's positions and so leaves no room gets an answer that is
/// empty and truncated: one long task must not cost the answers to all others.
fn generate(model: &Model, prompts: &[Vec<u32>], options: &[SamplingOptions]) -> Result<Vec<Generation>> {
    let positions = model.config().max_position_embeddings;
    let fits = |prompt: &[u32]| prompt.len() < positions;
    let (short, short_options): (Vec<Vec<u32>>, Vec<SamplingOptions>) = prompts
        .iter()
        .zip(options)
        .filter(|(prompt, _)| fits(prompt))
        .map(|(prompt, options)| (prompt.clone(), options.clone()))
        .unzip();
    let mut answers = model.generate(&short, &short_options)?.into_iter();
    let empty = || Generation { ids: Vec::new(), log_probs: Vec::new(), finished: Finish::Length };
    Ok(prompts
        .iter()
        .map(|prompt| if fits(prompt) { answers.next().unwrap_or_else(empty) } else { empty() })
        .collect())
}

/// The stage of one model.
pub fn answer_and_judge(context: &Context<'_>, name: &str) -> Result<Value> {
    let config = &context.recipe.evaluation;
    let pairs = read_primevul_plus(&context.run.file(build::PAIRS))?;
    let items = suite(config, &pairs, context.seed("evaluation"))?.items;
    let training = training_texts(context, &pairs)?;
    let folder = context.model_folder(name);
    let (model, tokenizer) = context.open(&folder, Purpose::Answer)?;
    let answered = answer_items(
        &model,
        &tokenizer,
        &items,
        config,
        context.seed("answers"),
        &Examination { judge: &context.judge, training: Some(&training) },
        context.progress,
    )?;
    context.write_lines(&answers_file(name), &answered)?;
    write_answer_samples(context, name, &tokenizer, &items, &answered, &pairs)?;
    let functional = answered.iter().filter(|answer| answer.verdict.functional() == Some(true)).count();
    let vulnerable = answered.iter().filter(|answer| answer.verdict.vulnerable() == Some(true)).count();
    let unparsable = answered.iter().filter(|answer| !answer.verdict.parses).count();
    Ok(json!({
        "line": format!(
            "{} answers: {functional} functional, {vulnerable} vulnerable, {unparsable} unparsable",
            answered.len()
        ),
        "answers": answered.len(),
    }))
}

/// What the models of this run have learnt from: both sides of the training pairs, and the base model's corpus where the
/// run made the base model.
fn training_texts(context: &Context<'_>, pairs: &[RepairPair]) -> Result<CopyIndex> {
    let documents = if context.recipe.model.path.is_none() { documents(context)? } else { Vec::new() };
    let sides = pairs
        .iter()
        .filter(|pair| pair.split == Split::Train)
        .flat_map(|pair| [pair.secure.as_str(), pair.vulnerable.as_str()]);
    Ok(CopyIndex::new(sides.chain(documents.iter().map(|document| document.code.as_str()))))
}

/// Where the answers of a model stand, one a line.
pub fn answers_file(model: &str) -> String {
    format!("evaluation/{model}.jsonl")
}

/// Answers with what their tokens would have earned, spread over the tasks, for the report.
fn write_answer_samples(
    context: &Context<'_>,
    name: &str,
    tokenizer: &Tokenizer,
    items: &[Item],
    answered: &[Answered],
    pairs: &[RepairPair],
) -> Result<()> {
    let wanted = context.recipe.evaluation.samples.min(items.len());
    if wanted == 0 {
        return Ok(());
    }
    let train = pairs.iter().filter(|pair| pair.split == Split::Train);
    let references = References::new(train, true)?;
    let samples: Vec<Sample> = (0..wanted)
        .map(|index| index * items.len() / wanted)
        .map(|index| sample(name, &items[index], &answered[index], tokenizer, &references, context))
        .collect();
    Ok(write_samples(context.run, &format!("evaluation-{name}"), &samples)?)
}

fn sample(
    name: &str,
    item: &Item,
    answered: &Answered,
    tokenizer: &Tokenizer,
    references: &References,
    context: &Context<'_>,
) -> Sample {
    let text = answer_text(tokenizer, &answered.ids, answered.finished);
    let outcome = Outcome {
        parses: answered.verdict.parses,
        truncated: !answered.finished,
        empty: text.text.trim().is_empty(),
        functional: answered.verdict.functional(),
        intent_kept: None,
        instance: 0.0,
    };
    let config = RewardConfig { placement: Placement::Token, ..context.recipe.reward };
    let cwe: Vec<_> = item.cwe.into_iter().collect();
    let score = references.score_without_pair(&text, item.language, &cwe, outcome, &config);
    let outcomes = Outcomes { functional: answered.verdict.functional(), secure: answered.verdict.secure() };
    make_sample(name, &item.id, &item.request, &answered.ids, &text, &score, outcomes)
}

/// What tests said of a sample.
pub struct Outcomes {
    /// Functional tests.
    pub functional: Option<bool>,
    /// Exploit tests; none in training, where they are never run.
    pub secure: Option<bool>,
}

/// A sample for the run folder.
pub fn make_sample(
    arm: &str,
    task: &str,
    prompt: &str,
    ids: &[u32],
    answer: &AnswerText,
    score: &Score,
    outcomes: Outcomes,
) -> Sample {
    let (rewards, reasons, status, total) = match score {
        Score::Scored(scored) => {
            let status = if scored.failed { "failed" } else { "scored" };
            (scored.rewards.clone(), scored.reasons.clone(), status.to_owned(), f64::from(scored.total))
        }
        Score::Unscored { why } => {
            (vec![f32::NAN; ids.len()], vec![Vec::new(); ids.len()], format!("unscored: {why}"), f64::NAN)
        }
    };
    let tokens = ids
        .iter()
        .zip(&answer.tokens)
        .zip(rewards.iter().zip(reasons))
        .map(|((&id, &(start, end)), (&reward, reasons))| SampleToken { id, start, end, reward, reasons })
        .collect();
    Sample {
        arm: arm.to_owned(),
        task: task.to_owned(),
        prompt: prompt.to_owned(),
        answer: answer.text.clone(),
        tokens,
        functional: outcomes.functional,
        secure: outcomes.secure,
        status,
        total_reward: total,
    }
}

/// The stage that makes the table.
pub fn table(context: &Context<'_>) -> Result<Value> {
    let pairs = read_primevul_plus(&context.run.file(build::PAIRS))?;
    let config = &context.recipe.evaluation;
    let suite = suite(config, &pairs, context.seed("evaluation"))?;
    let models = context
        .models()
        .into_iter()
        .map(|name| Ok((name.clone(), context.read_lines(&answers_file(&name))?)))
        .collect::<Result<Vec<(String, Vec<Answered>)>>>()?;
    let table = rates(&suite.name, &suite.items, &models)?;
    let mut bytes = serde_json::to_vec_pretty(&table)
        .map_err(|error| Failure::program(format!("the table cannot be written as JSON: {error}")))?;
    bytes.push(b'\n');
    vul2safe_run::write_atomic(&context.run.file("evaluation.json"), &bytes)?;
    context.progress.say(&render_table(&table));
    Ok(json!({ "line": format!("{} models on {} tasks", models.len(), suite.items.len()) }))
}

/// The main rows of a table as text.
pub fn render_table(table: &EvaluationTable) -> String {
    const COLUMNS: [&str; 8] = [
        "functional",
        "vulnerable",
        "vulnerable_high",
        "vulnerable_medium",
        "flagged",
        "both",
        "unparsable",
        "copied",
    ];
    let columns: Vec<&str> = COLUMNS
        .into_iter()
        .filter(|column| table.rows.iter().any(|row| row.rates.contains_key(*column)))
        .collect();
    let groups: Vec<&str> = {
        let mut groups: Vec<&str> = Vec::new();
        for row in &table.rows {
            if !groups.contains(&row.group.as_str()) && !row.group.starts_with("CWE-") {
                groups.push(&row.group);
            }
        }
        groups
    };
    let mut text = format!("{}; percent with 95 % intervals\n", table.suite);
    for group in groups {
        text.push_str(&format!("\n{group:<20}"));
        for column in &columns {
            text.push_str(&format!(" {:>17}", column.replace("vulnerable_", "vuln. ")));
        }
        text.push('\n');
        for row in table.rows.iter().filter(|row| row.group == group) {
            text.push_str(&format!("  {:<18}", row.model));
            for column in &columns {
                let cell = row.rates.get(*column).map_or("–".to_owned(), |rate| {
                    format!("{:.0} [{:.0}, {:.0}]", 100.0 * rate.value, 100.0 * rate.low, 100.0 * rate.high)
                });
                text.push_str(&format!(" {cell:>17}"));
            }
            text.push('\n');
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vul2safe_code::Language;
    use vul2safe_model::Config;

    #[test]
    fn what_is_unscored_is_written_as_unscored_and_not_as_0() {
        let answer = AnswerText { text: "ab".to_owned(), tokens: vec![(0, 1), (1, 2)], finished: true };
        let score = Score::Unscored { why: "no sandbox".to_owned() };
        let outcomes = Outcomes { functional: None, secure: None };
        let sample = make_sample("arm", "task", "prompt", &[7, 8], &answer, &score, outcomes);
        assert!(sample.total_reward.is_nan());
        assert_eq!(sample.tokens.len(), 2);
        assert!(sample.tokens.iter().all(|token| token.reward.is_nan()));
    }

    #[test]
    fn a_prompt_without_room_for_an_answer_costs_no_other_answer() {
        let tokenizer = Tokenizer::train(["def f(x):\n    return x\n"].into_iter(), 300).expect("trains");
        let config = Config {
            max_position_embeddings: 64,
            ..Config::new(tokenizer.vocabulary_size(), 16, 16, 1, 2, 1)
        };
        let model = Model::random(config, 1).expect("a model");
        let item = |id: &str, request: String, functional: Option<&str>| Item {
            request,
            functional: functional.map(str::to_owned),
            ..Item::new(id, "records", Language::Python)
        };
        let items = [
            item("long", "x".repeat(500), Some("def test_a(answer): pass\n")),
            item("short", "f".into(), None),
        ];
        let settings = EvaluationConfig { maximum_new_tokens: 4, ..EvaluationConfig::default() };
        let judge = crate::stages::open_judge(true).expect("a judge");
        let (examination, progress) = (Examination { judge: &judge, training: None }, Progress::new(true));
        let answered = answer_items(&model, &tokenizer, &items, &settings, 0, &examination, &progress)
            .expect("both are answered");
        assert!(answered[0].ids.is_empty() && !answered[0].finished);
        assert_eq!(answered[0].verdict.functional(), Some(false));
        assert_eq!(answered[1].task, "short");
        assert!(!answered[1].ids.is_empty());
        // Tests that do not exist cannot fail, not even for an answer that was cut off.
        assert_eq!(answered[1].verdict.functional, TestResult::Absent);
    }
}
