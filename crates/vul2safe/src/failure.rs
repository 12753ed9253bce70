//! One failure type at the rim: what is wrong and where, what to do, and which exit code it deserves.

use std::fmt;
use std::path::Path;

/// Who has to act: decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The input, the configuration or the machine: exit code 1.
    User,
    /// A broken promise of this program: exit code 2.
    Program,
}

/// A failure as a person reads it.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong, and where.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whose turn it is.
    pub blame: Blame,
}

/// The result of every command and stage.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A mistake in what the user gave.
    pub fn user(message: impl Into<String>) -> Self {
        Failure { message: message.into(), hint: None, blame: Blame::User }
    }

    /// Something that this program promised and did not keep.
    pub fn program(message: impl Into<String>) -> Self {
        Failure { message: message.into(), hint: None, blame: Blame::Program }
    }

    /// Adds what to do.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts the place of the failure in front of its message.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// 1 for the user's mistakes, 2 for ours.
    pub fn exit_code(&self) -> u8 {
        match self.blame {
            Blame::User => 1,
            Blame::Program => 2,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.message)
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // fs-err puts the path into the message.
        Failure::user(error.to_string()).with_hint("check the path, and that it may be read or written")
    }
}

macro_rules! from_crate_errors {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let hint = error.hint();
                let mut message = error.to_string();
                let mut source = std::error::Error::source(&error);
                while let Some(cause) = source {
                    let text = cause.to_string();
                    if !message.contains(&text) {
                        message = format!("{message}: {text}");
                    }
                    source = cause.source();
                }
                Failure { message, hint, blame: Blame::User }
            }
        }
    )*};
}

from_crate_errors!(
    vul2safe_corpus::CorpusError,
    vul2safe_evaluate::EvaluateError,
    vul2safe_evaluate::LogError,
    vul2safe_evaluate::SuiteError,
    vul2safe_judge::JudgeError,
    vul2safe_llm::LlmError,
    vul2safe_model::DeviceError,
    vul2safe_model::ModelError,
    vul2safe_report::ReportError,
    vul2safe_range::UnknownFamily,
    vul2safe_reward::RewardError,
    vul2safe_run::RunError,
    vul2safe_sandbox::SandboxError,
    vul2safe_tokens::TokensError,
    vul2safe_train::TrainError,
);

/// Reads a file, saying what was wanted with it when it cannot be read.
pub fn read_bytes(path: &Path, what: &str) -> Result<Vec<u8>> {
    fs_err::read(path).map_err(|error| {
        Failure::user(format!("cannot read the {what}: {error}"))
            .with_hint("check the path; relative paths start at the current folder")
    })
}

/// The same for text.
pub fn read_text(path: &Path, what: &str) -> Result<String> {
    let bytes = read_bytes(path, what)?;
    String::from_utf8(bytes).map_err(|error| {
        Failure::user(format!(
            "{}: the {what} is not UTF-8 (byte {} is the first that is not)",
            path.display(),
            error.utf8_error().valid_up_to()
        ))
        .with_hint("save the file as UTF-8")
    })
}
