//! Where answers come from, and their way to the judge.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use vul2safe_evaluate::{Answer, Completion, Form, Item, Judging, Log, Suite, cut_at_stop, read_answers};
use vul2safe_llm::{Budget, Client, Endpoint, Finish, LlmError, Options, Response};
use vul2safe_model::{Adapter, Placement};
use vul2safe_tokens::Tokenizer;

use crate::cli::EvalRunArguments;
use crate::commands::Session;
use crate::failure::{Failure, Result};
use crate::recipe::EvaluationConfig;
use crate::stages::base::open_model;
use crate::stages::derive_seed;
use crate::stages::evaluate::{BATCH, Request, draw};

/// Who answers.
pub(super) struct Source {
    /// Names the log and the column of the table.
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// What a source is.
pub(super) enum Kind {
    /// A model folder.
    Model(PathBuf),
    /// A JSON Lines file.
    File(PathBuf),
    /// A server.
    Endpoint(Endpoint),
    /// The suite's own solutions.
    Reference,
    /// The suite's own vulnerable code.
    Insecure,
}

/// The sources that the command line names, with names that tell them apart.
///
/// # Errors
/// Two sources with one name, a base without an adapter.
pub(super) fn sources(arguments: &EvalRunArguments) -> Result<Vec<Source>> {
    if let Some(base) = &arguments.base
        && !arguments.models.iter().any(|folder| Adapter::is_folder(folder))
    {
        return Err(Failure::user(format!("--base {}: no model is an adapter", base.display()))
            .with_hint("leave it out, or give `--model` a folder with adapter_config.json"));
    }
    let mut sources: Vec<Source> = Vec::new();
    for folder in &arguments.models {
        sources.push(Source { name: last_part(folder, false), kind: Kind::Model(folder.clone()) });
    }
    for answers in &arguments.answers {
        sources.push(match answers.as_str() {
            "reference" => Source { name: answers.clone(), kind: Kind::Reference },
            "insecure" => Source { name: answers.clone(), kind: Kind::Insecure },
            file => {
                let path = PathBuf::from(file);
                Source { name: last_part(&path, true), kind: Kind::File(path) }
            }
        });
    }
    if let (Some(base_url), Some(model)) = (&arguments.endpoint, &arguments.endpoint_model) {
        let endpoint =
            Endpoint { key_variable: arguments.key_variable.clone(), ..Endpoint::new(base_url, model) };
        endpoint.check()?;
        // Models of servers are often called `maker/model`.
        let name = model.replace(['/', '\\', ':'], "-").trim_start_matches('.').to_owned();
        sources.push(Source { name, kind: Kind::Endpoint(endpoint) });
    }
    for (index, source) in sources.iter().enumerate() {
        if sources[..index].iter().any(|earlier| earlier.name == source.name) {
            return Err(Failure::user(format!(
                "two models or files of answers are called `{}`",
                source.name
            ))
            .with_hint("the table names them by the last part of their path; rename one or make a link"));
        }
    }
    Ok(sources)
}

/// The last part of a path, without its extensions where it is a file.
fn last_part(path: &Path, file: bool) -> String {
    // `.` and `..` have no last part of their own.
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name =
        resolved.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
    match name.split_once('.') {
        Some((stem, _)) if file && !stem.is_empty() => stem.to_owned(),
        _ => name,
    }
}

/// Gets every answer that the log does not have and judges it. Returns how many were judged.
pub(super) fn answer_and_judge(
    source: &Source,
    suite: &Suite,
    config: &EvaluationConfig,
    arguments: &EvalRunArguments,
    judging: &Judging<'_>,
    log: &Log,
    session: &Session,
) -> Result<usize> {
    let done = AtomicU64::new(0);
    let judge = |answers: &[Answer], total: usize| {
        Ok(log.judge(judging, &suite.items, answers, |_| {
            let done = 1 + done.fetch_add(1, Ordering::Relaxed);
            session.progress.update(done, total as u64, "answers judged");
        })?)
    };
    match &source.kind {
        Kind::File(path) => {
            let answers = read_answers(path, suite)?;
            judge(&answers, answers.len())
        }
        Kind::Reference => {
            judge(&own(suite, |item| item.reference.as_ref(), "solutions")?, suite.items.len())
        }
        Kind::Insecure => {
            judge(&own(suite, |item| item.insecure.as_ref(), "vulnerable code")?, suite.items.len())
        }
        Kind::Model(folder) => {
            let missing = missing(suite, arguments, log);
            let placement =
                Placement { device: arguments.device, precision: arguments.precision.into(), frozen: true };
            let (model, tokenizer) = {
                // The base is for the adapters; a whole model beside them needs none.
                let base = arguments.base.as_deref().filter(|_| Adapter::is_folder(folder));
                open_model(folder, base, placement)?
            };
            let mut judged = 0;
            for chunk in missing.chunks(BATCH) {
                let requests = chunk
                    .iter()
                    .map(|wanted| wanted.request(suite, &tokenizer, arguments.complete))
                    .collect::<Result<Vec<_>>>()?;
                let drawn = draw(&model, &tokenizer, &requests, config)?;
                let answers: Vec<Answer> = chunk
                    .iter()
                    .zip(drawn)
                    .map(|(wanted, drawn)| {
                        wanted.answer(suite, drawn.text, drawn.finished, arguments.complete)
                    })
                    .collect();
                judged += judge(&answers, missing.len())?;
            }
            Ok(judged)
        }
        Kind::Endpoint(endpoint) => {
            let missing = missing(suite, arguments, log);
            let options = Options {
                concurrency: arguments.concurrency,
                cache: Some(arguments.out.join("answers.sqlite")),
                run: source.name.clone(),
                budget: Budget { tokens: arguments.token_budget, ..Budget::default() },
                ..Options::default()
            };
            let client = Client::new(endpoint.clone(), options)?;
            let requests = missing.iter().map(|wanted| wanted.message(suite, config));
            let (mut judged, mut waiting, mut failures) = (0, Vec::new(), Vec::new());
            let mut stopped = None;
            client.complete_all(requests, |index, result| {
                match wanted_answer(&missing[index], result) {
                    Ok(answer) => waiting.push(answer),
                    Err(error) => failures.push(error),
                }
                if waiting.len() >= BATCH && stopped.is_none() {
                    match judge(&std::mem::take(&mut waiting), missing.len()) {
                        Ok(count) => judged += count,
                        Err(failure) => stopped = Some(failure),
                    }
                }
            });
            if let Some(failure) = stopped {
                return Err(failure);
            }
            judged += judge(&waiting, missing.len())?;
            session.progress.say(&format!("  {}", client.stats()));
            match failures.into_iter().next() {
                None => Ok(judged),
                Some(error) => {
                    let without = missing.len() - judged;
                    let failure = Failure::from(error);
                    let hint = failure.hint.clone().unwrap_or_default();
                    Err(failure
                        .at(format!("`{}` gave no answer to {without} of {} requests", source.name, missing.len()))
                        .with_hint(
                            format!("{hint}\nwhat was answered is judged and kept; the same command asks for the rest")
                                .trim_start()
                                .to_owned(),
                        ))
                }
            }
        }
    }
}

/// What a server's answer is as an answer to a task; an answer that it withheld is a refusal in its words.
fn wanted_answer(
    wanted: &Wanted,
    result: std::result::Result<Response, LlmError>,
) -> std::result::Result<Answer, LlmError> {
    let Wanted { item, seed, sample } = *wanted;
    match result {
        Ok(response) => {
            let finished = response.finish != Finish::Length;
            let refused = matches!(response.finish, Finish::Refusal | Finish::ContentFilter);
            Ok(Answer { item, sample, seed, text: response.text, finished, refused })
        }
        Err(error) => Err(error),
    }
}

/// The suite's own answers.
fn own(suite: &Suite, of: impl Fn(&Item) -> Option<&String>, what: &str) -> Result<Vec<Answer>> {
    let answers: Vec<Answer> = suite
        .items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| {
            let text = of(item)?.clone();
            Some(Answer { item: index, sample: 0, seed: 0, text, finished: true, refused: false })
        })
        .collect();
    if answers.is_empty() {
        return Err(Failure::user(format!("{} has no {what} of its own", suite.name))
            .with_hint("name a model folder with `--model` or a file of answers with `--answers`"));
    }
    Ok(answers)
}

/// An answer that is still to be drawn.
struct Wanted {
    item: usize,
    seed: u64,
    sample: u32,
}

fn missing(suite: &Suite, arguments: &EvalRunArguments, log: &Log) -> Vec<Wanted> {
    let samples = u32::try_from(arguments.samples).unwrap_or(u32::MAX);
    let mut missing = Vec::new();
    for &seed in &arguments.seed {
        for (index, item) in suite.items.iter().enumerate() {
            for sample in (0..samples).filter(|&sample| !log.has(&item.id, seed, sample)) {
                missing.push(Wanted { item: index, seed, sample });
            }
        }
    }
    missing
}

impl Wanted {
    fn request(&self, suite: &Suite, tokenizer: &Tokenizer, complete: bool) -> Result<Request> {
        let item = &suite.items[self.item];
        let prompt = match completion(item, complete) {
            Some(completion) => tokenizer.encode(&completion.prompt),
            None => tokenizer.chat_prompt(&item.request)?,
        };
        // The same task draws the same numbers for every model: the comparison is paired.
        let purpose = match self.sample {
            0 => item.id.clone(),
            sample => format!("{}#{sample}", item.id),
        };
        Ok(Request { prompt, seed: derive_seed(derive_seed(self.seed, "answers"), &purpose) })
    }

    /// The same for a server.
    fn message(&self, suite: &Suite, config: &EvaluationConfig) -> vul2safe_llm::Request {
        vul2safe_llm::Request {
            max_tokens: u32::try_from(config.maximum_new_tokens).unwrap_or(u32::MAX),
            temperature: Some(f64::from(config.temperature)),
            // The server is given seed + sample.
            seed: Some(self.seed),
            sample: self.sample,
            ..vul2safe_llm::Request::user(&suite.items[self.item].request)
        }
    }

    fn answer(&self, suite: &Suite, text: String, finished: bool, complete: bool) -> Answer {
        let Wanted { item, seed, sample } = *self;
        let (text, finished) = match completion(&suite.items[item], complete) {
            Some(completion) => {
                let cut = cut_at_stop(&text, &completion.stop);
                (cut.to_owned(), finished || cut.len() < text.len())
            }
            None => (text, finished),
        };
        Answer { item, sample, seed, text, finished, refused: false }
    }
}

fn completion(item: &Item, complete: bool) -> Option<&Completion> {
    match &item.form {
        Form::Completion(completion) if complete => Some(completion),
        _ => None,
    }
}
