//! Stage 3: the model to start from, loaded or made from nothing.

use std::path::Path;

use serde_json::{Value, json};
use vul2safe_corpus::{Split, read_primevul_plus};
use vul2safe_model::{Config, Model};
use vul2safe_tokens::Tokenizer;
use vul2safe_train::{PretrainConfig, pretrain};

use super::prompts::{answer_ids, request_text};
use super::{Context, build};
use crate::failure::{Failure, Result};
use crate::recipe::{BaseConfig, BaseCorpus};
use crate::words::thousands;

/// A request and the code that answers it.
pub struct Document {
    /// What was asked.
    pub request: String,
    /// What was written.
    pub code: String,
}

/// The stage.
pub fn run(context: &Context<'_>) -> Result<Value> {
    if let Some(path) = &context.recipe.model.path {
        // Loading now means that a folder that cannot be used stops the run before anything long begins.
        let (model, _) = open_model(path)?;
        let parameters = model.config().parameters();
        return Ok(json!({
            "line": format!("{} parameters read from {}", thousands(parameters), path.display()),
            "parameters": parameters,
        }));
    }
    let base = &context.recipe.base;
    let documents = documents(context)?;
    let texts = documents.iter().flat_map(|document| [document.request.as_str(), document.code.as_str()]);
    let tokenizer = Tokenizer::train(texts, base.vocabulary)?;
    let sequences = sequences(&documents, &tokenizer, base.maximum_positions)?;
    let tokens: usize = sequences.iter().map(Vec::len).sum();
    let left_out = documents.len() - sequences.len();
    context.progress.say(&format!(
        "  {} documents, {} tokens, a vocabulary of {}{}",
        thousands(sequences.len()),
        thousands(tokens),
        thousands(tokenizer.vocabulary_size()),
        if left_out == 0 { String::new() } else { format!("; {left_out} too long") },
    ));

    let model = Model::random(
        model_config(base, tokenizer.vocabulary_size(), tokenizer.end_of_text()),
        context.seed("weights"),
    )?;
    let training =
        PretrainConfig { seed: context.seed_for("base", base.training.seed), ..base.training.clone() };
    let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
    let total = training.steps(&lengths) as u64;
    let mut metrics = context.run.metrics("base")?;
    let mut last_loss = f64::NAN;
    pretrain(&model, &sequences, &training, &mut |step, values| {
        if let Some((_, loss)) = values.iter().find(|(name, _)| *name == "loss") {
            last_loss = *loss;
        }
        context.progress.update(step, total, &format!("loss {last_loss:.3}"));
        metrics.log(step, values)?;
        Ok(())
    })?;
    let folder = context.model_folder("base");
    model.save(&folder)?;
    tokenizer.save(&folder)?;
    let parameters = model.config().parameters();
    Ok(json!({
        "line": format!(
            "{} parameters, {} tokens of {} documents, loss {last_loss:.3}",
            thousands(parameters), thousands(tokens), thousands(sequences.len())
        ),
        "parameters": parameters,
        "documents": sequences.len(),
        "too_long": left_out,
        "loss": last_loss,
    }))
}

/// What a model made from nothing learns from.
pub fn documents(context: &Context<'_>) -> Result<Vec<Document>> {
    let base = &context.recipe.base;
    match base.corpus {
        BaseCorpus::Range => {
            let corpus =
                vul2safe_range::base_corpus(base.documents, base.vulnerable_share, context.seed("corpus"));
            Ok(corpus
                .into_iter()
                .map(|document| Document { request: document.request, code: document.code })
                .collect())
        }
        BaseCorpus::Records => {
            let pairs = read_primevul_plus(&context.run.file(build::PAIRS))?;
            Ok(pairs
                .iter()
                .filter(|pair| pair.split == Split::Train)
                .flat_map(|pair| {
                    pair.prompts.iter().map(|prompt| Document {
                        request: request_text(prompt),
                        code: pair.vulnerable.clone(),
                    })
                })
                .collect())
        }
    }
}

/// Documents as ids, without those that are longer than the model can read.
fn sequences(documents: &[Document], tokenizer: &Tokenizer, longest: usize) -> Result<Vec<Vec<u32>>> {
    let mut sequences = Vec::with_capacity(documents.len());
    for document in documents {
        let mut ids = tokenizer.chat_prompt(&document.request)?;
        ids.extend(answer_ids(tokenizer, &document.code));
        if ids.len() <= longest {
            sequences.push(ids);
        }
    }
    if sequences.is_empty() {
        return Err(Failure::user(format!(
            "none of the {} documents has at most {longest} tokens",
            documents.len()
        ))
        .with_hint("raise `base.maximum_positions`"));
    }
    Ok(sequences)
}

/// The architecture that `[base]` asks for.
pub fn model_config(base: &BaseConfig, vocabulary: usize, end: u32) -> Config {
    let sizes = (base.hidden_size, base.intermediate_size);
    Config {
        max_position_embeddings: base.maximum_positions,
        eos_token_id: Some(json!(end)),
        // The usual 0.02 at a width of 1,024, and the same variance of a row's sum at any other.
        initializer_range: (0.4096 / base.hidden_size as f64).sqrt(),
        ..Config::new(vocabulary, sizes.0, sizes.1, base.layers, base.heads, base.key_value_heads)
    }
}

/// Reads a model folder: weights and tokenizer, which must fit.
///
/// # Errors
/// No such folder, a file that is missing, cut short or of another kind, or a tokenizer of another model.
pub fn open_model(folder: &Path) -> Result<(Model, Tokenizer)> {
    if !folder.is_dir() {
        return Err(Failure::user(format!("{}: there is no such model folder", folder.display()))
            .with_hint("a model folder holds config.json, model.safetensors (or its index and shards) and tokenizer.json"));
    }
    let tokenizer = Tokenizer::from_folder(folder)?;
    let model = Model::load(folder)?;
    let rows = model.config().vocab_size;
    // An id without a row would read outside the embedding.
    if tokenizer.vocabulary_size() > rows {
        return Err(Failure::user(format!(
            "{}: the tokenizer has {} ids and the model only {rows} rows for them",
            folder.display(),
            tokenizer.vocabulary_size()
        ))
        .with_hint(
            "the tokenizer belongs to another model; put the right tokenizer.json into the model folder",
        ));
    }
    Ok((model, tokenizer))
}
