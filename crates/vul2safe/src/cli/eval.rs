//! The words of `vul2safe eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use vul2safe_model::Device;

use super::{WeightPrecision, at_least_one};
use crate::recipe::SuiteKind;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(arg_required_else_help = true)]
pub struct EvalArguments {
    #[command(subcommand)]
    pub command: Option<EvalCommand>,
    #[command(flatten)]
    pub run: Option<EvalRunArguments>,
}

#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Judge answers to a suite; `vul2safe eval` without this word is the same.
    Run(Box<EvalRunArguments>),
    /// Two models on the same tasks: rates, difference with its interval, p-value.
    Compare(EvalCompareArguments),
}

#[derive(Debug, Args)]
#[group(id = "eval_run")]
#[command(group(clap::ArgGroup::new("who").required(true).multiple(true).args(["models", "answers", "endpoint"])))]
pub struct EvalRunArguments {
    /// Model folders and adapter folders; each is a column of the table.
    #[arg(long = "model", value_name = "FOLDER")]
    pub models: Vec<PathBuf>,
    /// The base of the adapters among them [default: the one that each adapter_config.json names]
    #[arg(long, value_name = "FOLDER")]
    pub base: Option<PathBuf>,
    /// Where the models are computed: cpu, cuda (the first GPU) or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: Device,
    /// How the weights are kept: bfloat16 takes half the memory and is what GPUs are fast in.
    #[arg(long, value_enum, default_value = "float32")]
    pub precision: WeightPrecision,
    /// A JSON Lines file of answers (`task_id` and `completion`, or `id` and `answer`, …); `reference` takes the suite's own
    /// solutions, `insecure` its own vulnerable code. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub answers: Vec<String>,
    /// A server that speaks OpenAI's chat completions, its address up to `/v1`; answers are cached in the folder, so that none
    /// is paid twice.
    #[arg(long, value_name = "URL", requires = "endpoint_model")]
    pub endpoint: Option<String>,
    /// The model's name, as the server knows it.
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    pub endpoint_model: Option<String>,
    /// The environment variable that holds the server's key; left out for a server that wants none.
    #[arg(long, value_name = "VARIABLE", requires = "endpoint")]
    pub key_variable: Option<String>,
    /// Requests on their way to the server at a time.
    #[arg(long, value_name = "N", requires = "endpoint", default_value_t = 16, value_parser = at_least_one())]
    pub concurrency: usize,
    /// The most that the server's answers may cost altogether, in tokens in and out.
    #[arg(long, value_name = "TOKENS", requires = "endpoint")]
    pub token_budget: Option<u64>,
    /// The tasks.
    #[arg(long, value_parser = SuiteKind::parser(), default_value = "range")]
    pub suite: SuiteKind,
    /// Public suites: their file or folder. `records`: a PrimeVul+ file, whose held-out part is asked.
    #[arg(long, value_name = "PATH", required_if_eq("suite", "records"))]
    pub data: Option<PathBuf>,
    /// `range` only: tasks of each family and held-out level.
    #[arg(long, default_value_t = 8, value_parser = at_least_one())]
    pub per_family: usize,
    /// Seeds of the answers, with commas between; `range` draws its tasks by the first.
    #[arg(long, default_value = "0", value_delimiter = ',', value_name = "SEED")]
    pub seed: Vec<u64>,
    /// Answers of a model to each task and seed.
    #[arg(long, short = 'n', default_value_t = 1, value_parser = at_least_one())]
    pub samples: usize,
    /// Which k of pass@k, secure@k and secure-pass@k.
    #[arg(long = "at", default_value = "1", value_delimiter = ',', value_name = "K", value_parser = at_least_one())]
    pub at: Vec<usize>,
    /// Sampling temperature; 0 always takes the likeliest token.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub temperature: f32,
    /// Tokens after which an answer is cut off.
    #[arg(long, default_value_t = 256, value_parser = at_least_one())]
    pub maximum_new_tokens: usize,
    /// Let model folders go on with the suite's code instead of asking them in a chat: for base models.
    #[arg(long)]
    pub complete: bool,
    /// Seconds that one test may take [default: 2 for `range` and `records`, 10 for public suites]
    #[arg(long, value_name = "SECONDS")]
    pub test_seconds: Option<f64>,
    /// A PrimeVul+ file that the models were trained on: answers that copy its code are counted.
    #[arg(long, value_name = "FILE")]
    pub training: Option<PathBuf>,
    /// Where to write log and table.
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// One JSON object instead of the table.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct EvalCompareArguments {
    /// The first log that `eval` wrote, or its folder if that holds one log.
    pub first: PathBuf,
    /// The second.
    pub second: PathBuf,
    /// One JSON object instead of the table.
    #[arg(long)]
    pub json: bool,
}
