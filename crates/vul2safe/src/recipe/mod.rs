//! The recipe: one TOML file that says what a run does. Every key has a default; an unknown key stops the run.

mod arm;
mod experiment;
mod harmless;
mod overrides;
mod parse;
mod suite;
mod teacher;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vul2safe_code::Language;
use vul2safe_corpus::{ColumnMap, SplitConfig};
use vul2safe_model::{Device, LoraConfig, Precision};
use vul2safe_repair::RepairConfig;
use vul2safe_reward::RewardConfig;
use vul2safe_train::{PpoConfig, PretrainConfig, SftConfig};

pub use arm::{ArmConfig, ArmMethod, ArmSettings};
pub use experiment::{ExperimentConfig, SearchConfig};
pub use harmless::HarmlessConfig;
pub use overrides::apply_overrides;
pub use parse::{MOST_THREADS, parse_recipe};
pub use suite::SuiteKind;
pub use teacher::{TeacherConfig, TeacherLimits};

/// The embedded recipe of `vul2safe demo`.
pub const DEMO: &str = include_str!("../../../../recipes/demo.toml");
/// The recipe that `vul2safe init` writes.
pub const STARTER: &str = include_str!("../../../../recipes/own-data.toml");

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Names the run folder `runs/<name>-seed<seed>` unless `--out` is given.
    pub name: String,
    /// Seeds everything that is drawn: splits, prompts, weights, samples.
    pub seed: u64,
    /// Threads for numeric and judging work; 0: one a core. `--threads` goes before it.
    pub threads: usize,
    /// Where models are trained and sampled: `cpu`, `cuda` (the first GPU) or `cuda:N`. `--device` goes before it.
    pub device: Device,
    /// Where vulnerability records come from.
    pub data: DataConfig,
    /// Vul2Safe: what a repair pair must show, and how many prompts it gets.
    pub repair: RepairConfig,
    /// The models that repair; absent: the offline teacher, which needs no network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherConfig>,
    /// The model to start from; without a path one is made from nothing by `[base]`.
    pub model: ModelConfig,
    /// The model made from nothing.
    pub base: BaseConfig,
    /// Train an adapter in SFT and PPO instead of all weights; absent: all weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// Supervised fine-tuning.
    pub sft: SftStage,
    /// The token-level reward.
    pub reward: RewardConfig,
    /// PPO, the same for every arm.
    pub ppo: PpoStage,
    /// The arms: each starts from the SFT checkpoint and has the same budget.
    pub arms: BTreeMap<String, ArmConfig>,
    /// What every model is measured on.
    pub evaluation: EvaluationConfig,
    /// Several seeds of all this, and figures over them; absent: one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<ExperimentConfig>,
}

/// Where vulnerability records come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// The format of `path`, or `range` for this program's own tasks.
    pub source: SourceKind,
    /// A file or folder; not used for `range`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Functions with more bytes than this are dropped and counted.
    pub maximum_bytes: usize,
    /// `range` only: vulnerability records of each family.
    pub records_per_family: usize,
    /// `range` only: the families of records and of the base model's corpus, by name; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<String>,
    /// `jsonl`, `csv` and `parquet` only: which column holds what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<ColumnMap>,
    /// How records are split.
    pub split: SplitConfig,
}

/// Formats that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// This program's own exploit-tested tasks.
    Range,
    /// SVEN's `data_train_val` folder or one of its files.
    Sven,
    /// PrimeVul v0.1, one function a line.
    Primevul,
    /// PrimeVul v0.1 `_paired`: a vulnerable function and its fix on consecutive lines.
    PrimevulPaired,
    /// LinuxVul: Linux kernel functions before and after the fix of a CVE.
    Linuxvul,
    /// CyberSecEval's `origin_code`: vulnerable code without a fix, so the teacher must know one.
    Cyberseceval,
    /// CVEfixes' SQLite database.
    Cvefixes,
    /// DiverseVul: vulnerable functions without their fix.
    Diversevul,
    /// MegaVul, `megavul.json` or `megavul_simple.json`.
    Megavul,
    /// Any JSON Lines file, by `data.columns`.
    Jsonl,
    /// Any CSV file with a header, by `data.columns`.
    Csv,
    /// Any Parquet file, by `data.columns`.
    Parquet,
    /// A PrimeVul+ file: its pairs were accepted before and are taken as they are.
    PrimevulPlus,
}

/// The model to start from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// A folder in the Hugging Face layout, or one with an adapter in PEFT's; none: `[base]` makes a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The base model of an adapter; none: the one that the adapter's own configuration names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
    /// How the base's weights are kept in memory: `bfloat16` takes half of it. On the processor it needs `[lora]`; on a GPU it is
    /// the type of the activations as well, and what is trained has float32 copies.
    pub precision: Precision,
}

/// A model made from nothing: random weights, then next-token training.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BaseConfig {
    /// What it learns from.
    pub corpus: BaseCorpus,
    /// `range` corpus: number of request → code documents.
    pub documents: usize,
    /// `range` corpus: share of the places that can go wrong which do.
    pub vulnerable_share: f64,
    /// Size of the byte-level BPE vocabulary.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the gated MLP.
    pub intermediate_size: usize,
    /// Decoder blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub key_value_heads: usize,
    /// Longest sequence in tokens.
    pub maximum_positions: usize,
    /// What it learns to write.
    pub learns: BaseTarget,
    /// A checkpoint after every so many optimiser steps; a killed run continues from it.
    pub checkpoint_every: u64,
    /// Next-token training.
    pub training: PretrainConfig,
}

/// What a model made from nothing learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseCorpus {
    /// Requests and code of this program's own tasks, vulnerable and secure mixed.
    Range,
    /// The training records: prompt → vulnerable function, the code that people wrote before the fix.
    Records,
}

/// Which tokens of its documents a model made from nothing learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseTarget {
    /// Requests and code, as a language model does.
    Everything,
    /// The code alone: what names a request will have cannot be known, and a small model's gradients are quieter without.
    Code,
}

/// Supervised fine-tuning on prompt → secure function.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SftStage {
    /// `false` takes the model to start from as the SFT checkpoint.
    pub enabled: bool,
    /// Examples with more tokens (prompt and answer) are left out and counted.
    pub maximum_tokens: usize,
    /// At most this many examples, drawn by seed; 0 takes all.
    pub maximum_examples: usize,
    /// A checkpoint after every so many optimiser steps; a killed run continues from it.
    pub checkpoint_every: u64,
    /// The training itself.
    pub training: SftConfig,
}

/// PPO, shared by every arm.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PpoStage {
    /// Prompts with more tokens are left out and counted.
    pub maximum_prompt_tokens: usize,
    /// A checkpoint after every so many updates; a killed run continues from it.
    pub checkpoint_every: u64,
    /// Rollouts with their token rewards are kept from every so many updates.
    pub samples_every: usize,
    /// How many rollouts are kept each time.
    pub samples: usize,
    /// Answers of an update whose scoring has not begun after so many seconds are unscored; 0: no such deadline.
    pub scoring_seconds: u64,
    /// Measuring while it trains.
    pub validation: ValidationConfig,
    /// Requests among the prompts that invite no weakness.
    pub harmless: HarmlessConfig,
    /// The training itself.
    pub training: PpoConfig,
}

/// Measuring an arm while it trains.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationConfig {
    /// Before the first update, after every so many, and after the last; 0: never.
    pub every: usize,
    /// Tasks, spread over those of `[evaluation]` with another seed.
    pub tasks: usize,
    /// Keep the model with the best secure-pass@1 beside the last one, as `<arm>-best`.
    pub keep_best: bool,
    /// That model is the arm's result instead of the last one.
    pub take_best: bool,
}

/// What every model is measured on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationConfig {
    /// The tasks.
    pub suite: SuiteKind,
    /// Public suites: their file or folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// `range`: tasks of each family and held-out level.
    pub per_family: usize,
    /// `range`: the families, by name; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<String>,
    /// `records`: at most this many held-out records.
    pub maximum_tasks: usize,
    /// Answers stop after this many tokens and then count as truncated.
    pub maximum_new_tokens: usize,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f32,
    /// Answers of each model that go into the report with their rewards.
    pub samples: usize,
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            name: "run".to_owned(),
            seed: 0,
            threads: 0,
            device: Device::Cpu,
            data: DataConfig::default(),
            repair: RepairConfig::default(),
            teacher: None,
            model: ModelConfig::default(),
            base: BaseConfig::default(),
            lora: None,
            sft: SftStage::default(),
            reward: RewardConfig::default(),
            ppo: PpoStage::default(),
            arms: BTreeMap::from([("ppo-token".to_owned(), ArmConfig::default())]),
            evaluation: EvaluationConfig::default(),
            experiment: None,
        }
    }
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            source: SourceKind::Range,
            path: None,
            maximum_bytes: 131_072,
            records_per_family: 24,
            families: Vec::new(),
            columns: None,
            split: SplitConfig::default(),
        }
    }
}

impl Default for BaseConfig {
    fn default() -> Self {
        BaseConfig {
            corpus: BaseCorpus::Range,
            documents: 20_000,
            vulnerable_share: 0.5,
            vocabulary: 1_024,
            hidden_size: 128,
            intermediate_size: 384,
            layers: 4,
            heads: 4,
            key_value_heads: 2,
            maximum_positions: 512,
            learns: BaseTarget::Everything,
            checkpoint_every: 100,
            training: PretrainConfig::default(),
        }
    }
}

impl Default for SftStage {
    fn default() -> Self {
        SftStage {
            enabled: true,
            maximum_tokens: 1_024,
            maximum_examples: 0,
            checkpoint_every: 100,
            training: SftConfig::default(),
        }
    }
}

impl Default for PpoStage {
    fn default() -> Self {
        PpoStage {
            maximum_prompt_tokens: 512,
            checkpoint_every: 10,
            samples_every: 10,
            samples: 8,
            scoring_seconds: 0,
            validation: ValidationConfig::default(),
            harmless: HarmlessConfig::default(),
            training: PpoConfig::default(),
        }
    }
}

impl Default for ValidationConfig {
    fn default() -> Self {
        ValidationConfig { every: 0, tasks: 128, keep_best: true, take_best: false }
    }
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        EvaluationConfig {
            suite: SuiteKind::Range,
            data: None,
            per_family: 8,
            families: Vec::new(),
            maximum_tasks: 100,
            maximum_new_tokens: 256,
            temperature: 0.0,
            samples: 24,
        }
    }
}

impl SourceKind {
    /// Whether the user names the columns of this format.
    pub fn has_columns(self) -> bool {
        matches!(self, SourceKind::Jsonl | SourceKind::Csv | SourceKind::Parquet)
    }

    /// The word in recipes and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            SourceKind::Range => "range",
            SourceKind::Sven => "sven",
            SourceKind::Primevul => "primevul",
            SourceKind::PrimevulPaired => "primevul-paired",
            SourceKind::Linuxvul => "linuxvul",
            SourceKind::Cyberseceval => "cyberseceval",
            SourceKind::Cvefixes => "cvefixes",
            SourceKind::Diversevul => "diversevul",
            SourceKind::Megavul => "megavul",
            SourceKind::Jsonl => "jsonl",
            SourceKind::Csv => "csv",
            SourceKind::Parquet => "parquet",
            SourceKind::PrimevulPlus => "primevul-plus",
        }
    }
}

/// A column map for the commonest names, used by `data import --source jsonl` without a recipe.
pub fn plain_columns() -> ColumnMap {
    ColumnMap {
        vulnerable: "vulnerable".to_owned(),
        secure: Some("secure".to_owned()),
        default_language: Some(Language::Python),
        ..ColumnMap::default()
    }
}
