//! `generate`.

use std::io::IsTerminal;

use serde_json::{Map, Value, json};
use vul2safe_model::{Finish, Placement, SamplingOptions};

use super::println;
use crate::cli::GenerateArguments;
use crate::failure::{Failure, Result, read_text};
use crate::stages::base::open_model;
use crate::stages::derive_seed;
use crate::words::visible;

pub(super) fn run(arguments: &GenerateArguments) -> Result<()> {
    let sampling = SamplingOptions {
        temperature: arguments.temperature,
        top_p: arguments.top_p,
        ..SamplingOptions::default()
    };
    sampling.check().map_err(|error| {
        Failure::from(error).with_hint("`--temperature` is 0 or more, `--top-p` above 0 and at most 1")
    })?;
    let requests = requests(arguments)?;
    let placement =
        Placement { device: arguments.device, precision: arguments.precision.into(), frozen: true };
    let (model, tokenizer) = open_model(&arguments.model, arguments.base.as_deref(), placement)?;
    let longest = model.config().max_position_embeddings;
    for (index, (request, fields)) in requests.iter().enumerate() {
        let prompt = tokenizer.chat_prompt(request)?;
        let room = longest.saturating_sub(prompt.len());
        if room == 0 {
            return Err(Failure::user(format!(
                "request {}: {} tokens leave no room for an answer; the model reads {longest}",
                index + 1,
                prompt.len()
            ))
            .with_hint("shorten the request"));
        }
        let options: Vec<SamplingOptions> = (0..arguments.samples)
            .map(|sample| SamplingOptions {
                maximum_new_tokens: arguments.maximum_new_tokens.min(room),
                temperature: arguments.temperature,
                top_p: arguments.top_p,
                stop_ids: tokenizer.stop_ids(),
                seed: derive_seed(arguments.seed, &format!("{index}/{sample}")),
                ..SamplingOptions::default()
            })
            .collect();
        let prompts = vec![prompt; arguments.samples];
        for generation in model.generate(&prompts, &options)? {
            let answer = tokenizer.decode(&generation.ids);
            if arguments.prompts.is_some() {
                let mut line = fields.clone();
                line.insert("answer".to_owned(), Value::String(answer));
                line.insert("finished".to_owned(), json!(generation.finished == Finish::Stop));
                println(&Value::Object(line).to_string())?;
            } else {
                // A terminal is protected from the model's output; a file or a pipe gets every byte.
                let terminal = std::io::stdout().is_terminal();
                println(&if terminal { visible(answer.trim_end()) } else { answer.trim_end().to_owned() })?;
                if generation.finished == Finish::Length {
                    anstream::eprintln!(
                        "warning: the answer was cut off after {} tokens (--maximum-new-tokens)",
                        generation.ids.len()
                    );
                }
            }
        }
    }
    Ok(())
}

/// Requests with the other fields of their lines.
fn requests(arguments: &GenerateArguments) -> Result<Vec<(String, Map<String, Value>)>> {
    if let Some(prompt) = &arguments.prompt {
        return Ok(vec![(prompt.clone(), Map::new())]);
    }
    let Some(path) = &arguments.prompts else {
        return Err(Failure::program("neither --prompt nor --prompts was given"));
    };
    let text = read_text(path, "file of prompts")?;
    if text.trim().is_empty() {
        return Err(Failure::user(format!("{}: the file holds no request", path.display()))
            .with_hint("every line is a JSON object with a `prompt`"));
    }
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            let place = format!("{}:{}", path.display(), index + 1);
            let value: Value = serde_json::from_str(line).map_err(|error| {
                Failure::user(format!("{place}: {error}"))
                    .with_hint("every line is a JSON object with a `prompt`")
            })?;
            let Value::Object(fields) = value else {
                return Err(Failure::user(format!("{place}: not a JSON object"))
                    .with_hint("every line is a JSON object with a `prompt`"));
            };
            match fields.get("prompt").and_then(Value::as_str) {
                Some(prompt) => Ok((prompt.to_owned(), fields)),
                None => Err(Failure::user(format!("{place}: no text in `prompt`"))
                    .with_hint("every line is a JSON object with a `prompt`")),
            }
        })
        .collect()
}
