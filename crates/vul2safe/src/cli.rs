//! The words of the command line.
#![allow(
    missing_docs,
    reason = "the help texts are the documentation, and the reference page is made from them"
)]
#![allow(rustdoc::invalid_html_tags, reason = "help texts name values as <VALUE>")]

mod eval;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use vul2safe_code::Language;
use vul2safe_model::{Device, Precision};
use vul2safe_range::Level;

pub use eval::{EvalArguments, EvalCommand, EvalCompareArguments, EvalRunArguments};

use crate::recipe::SourceKind;

/// From real vulnerabilities to a measured, safer code model: one binary, offline.
#[derive(Debug, Parser)]
#[command(name = "vul2safe", version, about, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Start with `vul2safe demo`: the whole way on embedded defaults, without network or GPU.\n\
    Data goes to stdout, progress and errors to stderr. Exit codes: 0 done, 1 your turn, 2 a bug of ours."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: Global,
}

/// Options that every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// No progress on stderr; errors are still written.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Threads for numeric and judging work; 0: one a core. Goes before the recipe's `threads` [default: one a core]
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
    /// Run untrusted code even where the sandbox cannot protect this machine.
    #[arg(long, global = true)]
    pub unsafe_no_sandbox: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The whole way on embedded defaults: base model, Vul2Safe, SFT, two PPO arms, evaluation, report.
    ///
    /// Makes a small model that writes vulnerable code about as often as real models do, turns the range's
    /// vulnerability records into PrimeVul+, trains, and measures every model by running functional and exploit tests on
    /// tasks it has not seen. Killed and started again, it continues with the first unfinished stage.
    Demo(DemoArguments),
    /// The same for your own data and model, from a recipe.
    ///
    /// `vul2safe init` writes a commented recipe to start from.
    Run(RunArguments),
    /// Write a commented recipe to start from.
    Init(InitArguments),
    /// Import, build, show and check data, step by step.
    #[command(subcommand)]
    Data(DataCommand),
    /// Train a model on a PrimeVul+ file: SFT, or SFT and PPO.
    Train(TrainArguments),
    /// Let a model answer one request, or every request of a file.
    Generate(GenerateArguments),
    /// Static findings in source files.
    Analyze(AnalyzeArguments),
    /// The token rewards of an answer to a PrimeVul+ pair, with the reason for each.
    Score(ScoreArguments),
    /// Measure models on a suite: functional and exploit tests, rates with 95 % intervals, paired comparison.
    ///
    /// Answers come from model folders, from an answers file, from the suite's own solutions. Each is judged once and written
    /// to a log, one line an answer; killed and started again, the same command goes on where it was.
    Eval(Box<EvalArguments>),
    /// Write report.html of a run folder again.
    Report(ReportArguments),
    /// The tasks that models are measured on.
    #[command(subcommand)]
    Range(RangeCommand),
    /// What this machine has: processor, memory, GPUs, sandbox, programs; with a model, what it would take.
    Doctor(DoctorArguments),
}

#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Another seed gives another corpus, other names, another table.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The run folder [default: runs/demo-seed<SEED>]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Change one key of the embedded recipe, for instance `--set base.layers=2`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the plan and touch nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Where the models are computed: cpu, cuda (the first GPU) or cuda:N. Goes before the recipe's `device` [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// Run even where the estimate says that the memory will not do.
    #[arg(long)]
    pub ignore_memory_estimate: bool,
}

#[derive(Debug, Args)]
pub struct RunArguments {
    /// The recipe, a TOML file.
    pub recipe: PathBuf,
    /// The run folder [default: runs/<name>-seed<seed>]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Change one key, for instance `--set data.path=fixes.jsonl`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the plan (records, tokens, steps, disk, memory) and touch nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Where the models are computed: cpu, cuda (the first GPU) or cuda:N. Goes before the recipe's `device` [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// Run even where the estimate says that the memory will not do.
    #[arg(long)]
    pub ignore_memory_estimate: bool,
}

#[derive(Debug, Args)]
pub struct InitArguments {
    /// Where to write it; a file that is there is never overwritten.
    #[arg(default_value = "vul2safe.toml")]
    pub path: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Read vulnerability records into one JSON Lines form; count what is dropped, by reason.
    Import(ImportArguments),
    /// Vulnerability records from the fixes in a local git repository's history.
    Mine(MineArguments),
    /// Vul2Safe: turn imported records into PrimeVul+.
    ///
    /// The offline teacher needs no network. With a `[teacher]` in the recipe language models repair, criticise and
    /// judge; their answers are kept beside the output, so that a command that was killed or ran out of its budget goes
    /// on where it stopped and pays for nothing twice.
    Build(BuildArguments),
    /// Show pairs with their spans coloured, their checks and their prompts.
    Show(ShowArguments),
    /// Write one HTML file to browse pairs, spans, checks, prompts, dialogues and what was rejected.
    Report(DataReportArguments),
    /// Check a PrimeVul+ file: schema, spans, hashes, splits.
    Check(CheckArguments),
    /// Write a PrimeVul+ file in another form, filtered by licence and cleared of benchmarks' texts.
    Export(ExportArguments),
    /// Write the prompts of the language models' roles as files, to read them or to change them.
    ///
    /// A recipe's `teacher.prompts` names the folder; a file there goes before the embedded prompt of its name. Files that are
    /// there already are left alone.
    Prompts(PromptsArguments),
}

#[derive(Debug, Args)]
pub struct PromptsArguments {
    /// The folder to write to; it is made if it is not there.
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct ImportArguments {
    /// The data: a file or a folder.
    pub path: PathBuf,
    /// Its format.
    #[arg(long, value_enum)]
    pub source: SourceKind,
    /// `jsonl`, `csv` and `parquet` only: which column holds what, for instance `--column vulnerable=before`; may be
    /// repeated. Known: vulnerable, secure, id, language, cwe, cve, project, commit, date, license, file_name, function,
    /// description.
    #[arg(long, value_name = "FIELD=COLUMN")]
    pub column: Vec<String>,
    /// `jsonl`, `csv` and `parquet` only: the language of records that do not say it.
    #[arg(long, value_name = "LANGUAGE")]
    pub language: Option<Language>,
    /// Functions with more bytes are dropped and counted.
    #[arg(long, default_value_t = 131_072)]
    pub maximum_bytes: usize,
    /// Where to write the records.
    #[arg(long, short, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct MineArguments {
    /// The folder of the repository. Nothing in it is changed or run.
    pub repository: PathBuf,
    /// The newest commit to look at, and everything before it: a branch, a tag, an id.
    #[arg(long, default_value = "HEAD")]
    pub revision: String,
    /// Take this commit, whatever its message says; may be repeated. Without any, commits are taken whose message names a
    /// CVE or a CWE, or speaks of a vulnerability.
    #[arg(long, value_name = "ID")]
    pub commit: Vec<String>,
    /// The same from a file: the first word of each line; lines that start with # are left out.
    #[arg(long, value_name = "FILE")]
    pub commits: Option<PathBuf>,
    /// Name of the project [default: from the address of the remote `origin`, else the folder's name]
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// Functions with more bytes are dropped and counted.
    #[arg(long, default_value_t = 131_072)]
    pub maximum_bytes: usize,
    /// Where to write the records.
    #[arg(long, short, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct BuildArguments {
    /// Records as `data import` writes them.
    pub records: PathBuf,
    /// Where to write PrimeVul+; rejected records go beside it, to <FILE stem>.rejected.jsonl.
    #[arg(long, short, value_name = "FILE")]
    pub out: PathBuf,
    /// Take `[repair]`, `[teacher]` and `[data.split]` from this recipe.
    #[arg(long)]
    pub recipe: Option<PathBuf>,
    /// Change one key of the recipe, for instance `--set repair.threshold=0.9`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ShowArguments {
    /// A PrimeVul+ file.
    pub data: PathBuf,
    /// Show the pair with this id.
    #[arg(long)]
    pub id: Option<String>,
    /// Show pairs of this weakness.
    #[arg(long)]
    pub cwe: Option<String>,
    /// Show what was rejected instead, from the file that `data build` leaves beside its pairs.
    #[arg(long)]
    pub rejected: bool,
    /// Show in full what was said to and by the language models about it, where there were any.
    #[arg(long, conflicts_with = "json")]
    pub dialogue: bool,
    /// How many pairs to show.
    #[arg(long, default_value_t = 1, value_parser = at_least_one())]
    pub limit: usize,
    /// One JSON object a line instead.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DataReportArguments {
    /// A PrimeVul+ file.
    pub data: PathBuf,
    /// How many pairs, and how many rejected records, to write out in full.
    #[arg(long, default_value_t = 500, value_parser = at_least_one())]
    pub limit: usize,
    /// Where to write it [default: beside the data, with the ending .html]
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CheckArguments {
    /// A PrimeVul+ file.
    pub data: PathBuf,
}

/// Forms in which data can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// PrimeVul+, one JSON object a line.
    Jsonl,
    /// PrimeVul+ as one Parquet file.
    Parquet,
    /// PrimeVul v0.1 `_paired`: of a pair two lines; of records as `data import` writes them every field that came.
    Primevul,
    /// TRL's prompt and completion, as messages, one JSON object a line.
    Sft,
    /// TRL's conversations, one JSON object a line.
    Chat,
    /// A prompt and what a reward needs, one JSON object a line.
    Rl,
    /// A folder with Parquet, the three views, and a data card with plots, for `datasets.load_dataset`.
    Hub,
}

#[derive(Debug, Args)]
pub struct ExportArguments {
    /// A PrimeVul+ file, JSONL or Parquet; for `primevul` also records as `data import` writes them.
    pub data: PathBuf,
    /// The form.
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// Keep pairs of this licence only, by its SPDX identifier; may be repeated. `unknown` stands for pairs without one.
    #[arg(long, value_name = "LICENSE")]
    pub license: Vec<String>,
    /// Leave out pairs that hold texts of this benchmark: JSON Lines, or one JSON array, of objects with texts; may be
    /// repeated.
    #[arg(long, value_name = "FILE")]
    pub decontaminate: Vec<PathBuf>,
    /// Share of a benchmark text's runs of words from which it counts as held.
    #[arg(long, default_value_t = 0.25, value_name = "SHARE")]
    pub overlap: f64,
    /// Words of such a run.
    #[arg(long, default_value_t = 13, value_parser = at_least_one(), value_name = "WORDS")]
    pub ngram: usize,
    /// `hub` only: name of the data set.
    #[arg(long, default_value = "PrimeVul+")]
    pub title: String,
    /// Where to write: a file; for `hub` a folder, which must be empty or not there.
    #[arg(long, short, value_name = "PATH")]
    pub out: PathBuf,
}

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Supervised fine-tuning alone.
    Sft,
    /// SFT, then every PPO arm of the recipe from its checkpoint.
    Ppo,
}

#[derive(Debug, Args)]
pub struct TrainArguments {
    /// How to train.
    #[arg(value_enum)]
    pub method: Method,
    /// A PrimeVul+ file.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// The model to start from: a folder in the Hugging Face layout, or one with an adapter.
    #[arg(long, value_name = "FOLDER")]
    pub model: PathBuf,
    /// The base of an adapter [default: the one that its adapter_config.json names]
    #[arg(long, value_name = "FOLDER")]
    pub base: Option<PathBuf>,
    /// The run folder; models are left in <FOLDER>/checkpoints.
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Take everything else from this recipe.
    #[arg(long)]
    pub recipe: Option<PathBuf>,
    /// The model has been fine-tuned before: leave SFT out (`ppo` only).
    #[arg(long)]
    pub skip_sft: bool,
    /// Change one key of the recipe; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where the models are computed: cpu, cuda (the first GPU) or cuda:N. Goes before the recipe's `device` [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// Run even where the estimate says that the memory will not do.
    #[arg(long)]
    pub ignore_memory_estimate: bool,
}

/// How weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WeightPrecision {
    /// Four bytes a number.
    Float32,
    /// Two bytes a number.
    Bfloat16,
}

impl From<WeightPrecision> for Precision {
    fn from(precision: WeightPrecision) -> Precision {
        match precision {
            WeightPrecision::Float32 => Precision::Float32,
            WeightPrecision::Bfloat16 => Precision::Bfloat16,
        }
    }
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("input").required(true).args(["prompt", "prompts"])))]
pub struct GenerateArguments {
    /// A model folder, or an adapter folder.
    #[arg(long, value_name = "FOLDER")]
    pub model: PathBuf,
    /// The base of an adapter [default: the one that its adapter_config.json names]
    #[arg(long, value_name = "FOLDER")]
    pub base: Option<PathBuf>,
    /// Where the model is computed: cpu, cuda (the first GPU) or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: Device,
    /// How the weights are kept: bfloat16 takes half the memory and is what GPUs are fast in.
    #[arg(long, value_enum, default_value = "float32")]
    pub precision: WeightPrecision,
    /// One request.
    #[arg(long)]
    pub prompt: Option<String>,
    /// A JSON Lines file with a `prompt` on each line; answers keep its other fields.
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// Answers to each request.
    #[arg(long, short = 'n', default_value_t = 1, value_parser = at_least_one())]
    pub samples: usize,
    /// 0 always takes the likeliest token.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub temperature: f32,
    /// Sample from the likeliest tokens that hold this much probability.
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f32,
    /// Tokens after which an answer is cut off.
    #[arg(long, default_value_t = 256, value_parser = at_least_one())]
    pub maximum_new_tokens: usize,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[derive(Debug, Args)]
pub struct AnalyzeArguments {
    /// Source files; the language follows from the extension.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// The language of every file, whatever its extension.
    #[arg(long)]
    pub language: Option<Language>,
    /// One JSON object a finding.
    #[arg(long)]
    pub json: bool,
    /// Exit with 1 if there is any finding.
    #[arg(long)]
    pub fail: bool,
}

#[derive(Debug, Args)]
pub struct ScoreArguments {
    /// A PrimeVul+ file.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// The pair whose request is answered.
    #[arg(long)]
    pub id: String,
    /// The answer, a file of code; `secure` and `vulnerable` take that side of the pair itself.
    #[arg(long, value_name = "FILE")]
    pub answer: String,
    /// Split the answer into this model's tokens; without it into the language's own.
    #[arg(long, value_name = "FOLDER")]
    pub model: Option<PathBuf>,
    /// Take `[reward]` from this recipe.
    #[arg(long)]
    pub recipe: Option<PathBuf>,
    /// Change one key of the recipe, for instance `--set reward.placement=last`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// One JSON object instead.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ReportArguments {
    /// A run folder.
    pub run: PathBuf,
}

#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// A model folder: how much memory sampling and each kind of training would take, and whether it is there.
    #[arg(long, value_name = "FOLDER")]
    pub model: Option<PathBuf>,
    /// Rank of the adapter for the rows with LoRA.
    #[arg(long, default_value_t = 16, value_parser = at_least_one())]
    pub lora_rank: usize,
    /// Tokens of a micro-batch.
    #[arg(long, default_value_t = 1024, value_parser = at_least_one())]
    pub tokens: usize,
    /// Tokens of the longest sequence, prompt and answer.
    #[arg(long, default_value_t = 1024, value_parser = at_least_one())]
    pub length: usize,
    /// Requests that are sampled at the same time.
    #[arg(long, default_value_t = 32, value_parser = at_least_one())]
    pub requests: usize,
    /// One JSON object instead.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum RangeCommand {
    /// Families with their language, their weaknesses and their places to go wrong.
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// One task of a family: request, tests, implementations.
    Show {
        /// A family, as `range list` names it.
        family: String,
        /// Which level [default: held-out-families for a family that is held out, else held-out-names]
        #[arg(long, value_enum)]
        level: Option<LevelKind>,
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// A JSON object: a line of `range export` with implementations.
        #[arg(long)]
        json: bool,
    },
    /// Run every implementation of every family against its functional and exploit tests, site by site.
    Check {
        /// Tasks of each family and level.
        #[arg(long, default_value_t = 1, value_parser = at_least_one())]
        per_family: usize,
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Only this family; may be repeated.
        #[arg(long, value_name = "NAME")]
        family: Vec<String>,
    },
    /// Write tasks with their tests as JSON Lines, for evaluation elsewhere.
    ///
    /// The reference explains each field, and how to run a task by hand.
    Export {
        /// Where to write [default: stdout]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Which levels; may be repeated [default: the three held-out ones]
        #[arg(long, value_enum)]
        level: Vec<LevelKind>,
        /// Tasks of each family and level.
        #[arg(long, default_value_t = 12, value_parser = at_least_one())]
        per_family: usize,
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// With each task's own secure and vulnerable answers.
        #[arg(long)]
        implementations: bool,
    },
}

/// A level of the range's tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LevelKind {
    /// Names and effects of the vulnerability records.
    Train,
    /// Names that no record has.
    HeldOutNames,
    /// Effects that no record has.
    HeldOutContexts,
    /// Families that no record has.
    HeldOutFamilies,
}

impl From<LevelKind> for Level {
    fn from(kind: LevelKind) -> Level {
        match kind {
            LevelKind::Train => Level::Train,
            LevelKind::HeldOutNames => Level::HeldOutNames,
            LevelKind::HeldOutContexts => Level::HeldOutContexts,
            LevelKind::HeldOutFamilies => Level::HeldOutFamilies,
        }
    }
}

/// A count of which 0 would do nothing.
fn at_least_one() -> impl clap::builder::TypedValueParser<Value = usize> {
    clap::builder::RangedU64ValueParser::<usize>::new().range(1..)
}
