//! Stage 3: the model to start from, loaded or made from nothing.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vul2safe_corpus::{Split, read_primevul_plus};
use vul2safe_model::{Adapter, Config, LoraConfig, Model, Placement};
use vul2safe_range::Selection;
use vul2safe_tokens::Tokenizer;
use vul2safe_train::optimizer::Method;
use vul2safe_train::{Checkpoint, Example, PretrainConfig, SftConfig, pretrain_from, sft_from};

use super::prompts::{answer_ids, request_text};
use super::{Context, Purpose, StepLog, build};
use crate::failure::{Failure, Result};
use crate::recipe::{BaseConfig, BaseCorpus, BaseTarget};
use crate::words::thousands;

/// A request and the code that answers it.
pub struct Document {
    /// What was asked.
    pub request: String,
    /// What was written.
    pub code: String,
}

/// Where the training is kept to continue from.
fn training_checkpoint(context: &Context<'_>) -> Checkpoint {
    Checkpoint::new(context.run.file("checkpoints/base-training"), context.recipe.base.checkpoint_every)
}

/// Removes what the finished stage no longer needs to continue from.
pub fn forget_training(context: &Context<'_>) -> Result<()> {
    Ok(training_checkpoint(context).remove()?)
}

/// The stage.
pub fn run(context: &Context<'_>) -> Result<Value> {
    if let Some(path) = &context.recipe.model.path {
        // Loading now means that a folder that cannot be used stops the run before anything long begins.
        let (model, _) = context.open(path, Purpose::Answer)?;
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
    let tokens: usize = sequences.iter().map(|example| example.prompt.len() + example.completion.len()).sum();
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
    // All of it is trained here, whatever `[lora]` says of the stages that follow.
    let placement = Placement { frozen: false, ..context.placement(Purpose::Train) };
    let is_muon = base.training.optimizer.method == Method::Muon;
    if is_muon && !placement.device.is_cpu() {
        context.progress.say(&format!(
            "  the base model is made on the processor, where Muon works; `base.training.optimizer.method = \"adamw\"` makes it on {}",
            placement.device
        ));
    }
    let model = if placement.device.is_cpu() || is_muon { model } else { model.placed(placement)? };
    let training =
        PretrainConfig { seed: context.seed_for("base", base.training.seed), ..base.training.clone() };
    let checkpoint = training_checkpoint(context);
    let lengths: Vec<usize> =
        sequences.iter().map(|example| example.prompt.len() + example.completion.len()).collect();
    let summary = match base.learns {
        BaseTarget::Everything => {
            let mut log = StepLog::new(context, "base", training.steps(&lengths) as u64);
            let whole: Vec<Vec<u32>> = sequences
                .iter()
                .map(|example| [example.prompt.as_slice(), &example.completion].concat())
                .collect();
            pretrain_from(&model, &whole, &training, Some(&checkpoint), &mut |step, values| {
                log.step(step, values)
            })?
        }
        BaseTarget::Code => {
            let training = of_code(training);
            let mut log = StepLog::new(context, "base", training.steps(&lengths) as u64);
            sft_from(&model, &sequences, &training, Some(&checkpoint), &mut |step, values| {
                log.step(step, values)
            })?
        }
    };
    let last_loss = summary.last_loss;
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
            let corpus = Selection::of(&context.recipe.data.families)?.base_corpus(
                base.documents,
                base.vulnerable_share,
                context.seed("corpus"),
            );
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

/// The same training on completions.
fn of_code(training: PretrainConfig) -> SftConfig {
    SftConfig {
        optimizer: training.optimizer,
        epochs: training.epochs,
        maximum_steps: training.maximum_steps,
        tokens_per_batch: training.tokens_per_batch,
        tokens_per_microbatch: training.tokens_per_microbatch,
        gradient_checkpointing: training.gradient_checkpointing,
        maximum_length: training.maximum_length,
        seed: training.seed,
    }
}

/// Documents as ids, request and code, without those that are longer than the model can read.
fn sequences(documents: &[Document], tokenizer: &Tokenizer, longest: usize) -> Result<Vec<Example>> {
    let mut sequences = Vec::with_capacity(documents.len());
    for document in documents {
        let prompt = tokenizer.chat_prompt(&document.request)?;
        let completion = answer_ids(tokenizer, &document.code);
        if prompt.len() + completion.len() <= longest {
            sequences.push(Example { prompt, completion, weights: None });
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

/// A model folder, or an adapter folder with the folder of its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Where the base's weights lie: the folder itself, if it holds a model.
    pub base: PathBuf,
    /// The folder itself, if it holds an adapter.
    pub adapter: Option<PathBuf>,
}

impl Folder {
    /// Finds out what `folder` holds, and its base where that is an adapter: `base` where it is given, else what
    /// `adapter_config.json` names, as an absolute path or as one that starts at the adapter's folder.
    ///
    /// # Errors
    /// No such folder, an adapter whose base is not found, a base for a folder that needs none.
    pub fn open(folder: &Path, base: Option<&Path>) -> Result<Folder> {
        if !folder.is_dir() {
            return Err(Failure::user(format!("{}: there is no such model folder", folder.display()))
                .with_hint(LAYOUT));
        }
        if !Adapter::is_folder(folder) {
            return match base {
                None => Ok(Folder { base: folder.to_path_buf(), adapter: None }),
                Some(base) => Err(Failure::user(format!(
                    "{}: this is no adapter, so that it takes no base ({})",
                    folder.display(),
                    base.display()
                ))
                .with_hint("leave the base out, or name a folder with adapter_config.json")),
            };
        }
        let adapter = Some(folder.to_path_buf());
        if let Some(base) = base {
            if !base.is_dir() {
                return Err(Failure::user(format!("{}: there is no such base model folder", base.display()))
                    .with_hint(LAYOUT));
            }
            return Ok(Folder { base: base.to_path_buf(), adapter });
        }
        let path = folder.join("adapter_config.json");
        let text = crate::failure::read_text(&path, "adapter's configuration")?;
        let value: Value = serde_json::from_str(&text).map_err(|error| {
            Failure::user(format!("{}: {error}", path.display()))
                .with_hint("copy adapter_config.json again from where the adapter comes from")
        })?;
        let hint = "name the folder of the adapter's base model with `--base` (`model.base` in a recipe)";
        let Some(named) = value["base_model_name_or_path"].as_str() else {
            return Err(Failure::user(format!("{}: it names no base model", path.display())).with_hint(hint));
        };
        // An absolute path replaces the folder.
        let base = folder.join(named);
        if !base.is_dir() {
            return Err(Failure::user(format!(
                "{}: its base model `{named}` is not there ({})",
                path.display(),
                base.display()
            ))
            .with_hint(hint));
        }
        Ok(Folder { base, adapter })
    }

    /// Where the tokenizer lies. An adapter may come with one; one without has its base's.
    pub fn words(&self) -> &Path {
        let own = self.adapter.as_ref().filter(|folder| folder.join("tokenizer.json").exists());
        own.unwrap_or(&self.base)
    }
}

const LAYOUT: &str =
    "a model folder holds config.json, model.safetensors (or its index and shards) and tokenizer.json";

/// Reads a model folder, or an adapter together with its base, to where `placement` says: weights and tokenizer, which must
/// fit. The base of an adapter is frozen.
///
/// # Errors
/// A device that cannot be used, or whose memory does not suffice;
/// No such folder, a file that is missing, cut short or of another kind, a tokenizer of another model, an adapter of
/// another base, and those of [`Folder::open`].
pub fn open_model(folder: &Path, base: Option<&Path>, placement: Placement) -> Result<(Model, Tokenizer)> {
    let found = Folder::open(folder, base)?;
    let words = found.words();
    let tokenizer = Tokenizer::from_folder(words)?;
    let config = Config::from_folder(&found.base)?;
    check_vocabulary(&tokenizer, &config, words)?;
    let placement = Placement { frozen: placement.frozen || found.adapter.is_some(), ..placement };
    let model = Model::load_on(&found.base, placement)?;
    match &found.adapter {
        None => Ok((model, tokenizer)),
        Some(adapter) => {
            let adapter = Adapter::load(adapter, model.config())?;
            let model = model.with_adapter(adapter).map_err(|error| {
                Failure::from(error).at(format!("{} on {}", folder.display(), found.base.display()))
            })?;
            Ok((model, tokenizer))
        }
    }
}

/// Refuses a tokenizer with ids that the model has no row for: such an id would read outside the embedding.
fn check_vocabulary(tokenizer: &Tokenizer, config: &Config, folder: &Path) -> Result<()> {
    let rows = config.vocab_size;
    let hint = "the tokenizer belongs to another model; put the right tokenizer.json into the model folder";
    let size = tokenizer.vocabulary_size();
    if size > rows {
        return Err(Failure::user(format!(
            "{}: the tokenizer has {size} ids and the model only {rows} rows for them",
            folder.display()
        ))
        .with_hint(hint));
    }
    match tokenizer.stop_ids().into_iter().chain([tokenizer.end_of_text()]).find(|&id| id as usize >= rows) {
        None => Ok(()),
        Some(id) => Err(Failure::user(format!(
            "{}: the tokenizer's id {id} lies beyond the model's {rows} rows",
            folder.display()
        ))
        .with_hint(hint)),
    }
}

/// Writes a trained model: all weights, or the adapter with the name of its base where it has one; and its tokenizer.
///
/// # Errors
/// A file that cannot be written.
pub fn save_model(context: &Context<'_>, model: &Model, tokenizer: &Tokenizer, folder: &Path) -> Result<()> {
    if model.lora().is_some() {
        model.save_adapter(folder, Some(&base_name(context)?))?;
    } else {
        model.save(folder)?;
    }
    Ok(tokenizer.save(folder)?)
}

/// How an adapter in `checkpoints/` names its base: a base in the run folder by its place beside the adapter, so that the
/// run folder can be moved; any other by its absolute path.
fn base_name(context: &Context<'_>) -> Result<String> {
    match &context.recipe.model.path {
        None => Ok("../base".to_owned()),
        Some(path) => {
            let base = Folder::open(path, context.recipe.model.base.as_deref())?.base;
            let absolute = fs_err::canonicalize(base)?;
            Ok(absolute.to_string_lossy().into_owned())
        }
    }
}

/// Gives the model that SFT or PPO starts from an adapter, where the recipe asks for one and it has none.
///
/// # Errors
/// An adapter of another shape than the recipe's.
pub fn with_adapter(context: &Context<'_>, model: Model) -> Result<Model> {
    let Some(lora) = &context.recipe.lora else { return Ok(model) };
    match model.lora() {
        None => {
            let adapter = Adapter::new(lora.clone(), model.config(), context.seed("adapter"))?;
            Ok(model.with_adapter(adapter)?)
        }
        Some(found) if same_shape(found, lora) => Ok(model),
        Some(found) => Err(Failure::user(format!(
            "the model to start from has an adapter of rank {} and alpha {} already, `[lora]` asks for another (rank {}, alpha {})",
            found.rank, found.alpha, lora.rank, lora.alpha
        ))
        .with_hint("leave `[lora]` out to train the adapter that is there, or start from its base")),
    }
}

/// Whether two adapters compute the same from the same matrices.
fn same_shape(one: &LoraConfig, other: &LoraConfig) -> bool {
    let sorted = |lora: &LoraConfig| {
        let mut targets = lora.target_modules.clone();
        targets.sort_unstable();
        targets
    };
    one.rank == other.rank && one.scale() == other.scale() && sorted(one) == sorted(other)
}
