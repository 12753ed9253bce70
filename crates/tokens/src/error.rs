//! What can go wrong with a tokenizer.

use std::path::PathBuf;

/// Why a tokenizer could not be read, trained, saved or used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A model folder without a tokenizer.
    #[error("{}: the model folder has no tokenizer.json", folder.display())]
    NoTokenizer {
        /// The model folder.
        folder: PathBuf,
    },
    /// A tokenizer file that cannot be understood.
    #[error("{}: not a usable tokenizer file: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A tokenizer whose tokens are not byte strings.
    #[error("{}: this is a {found} tokenizer, only byte-level BPE is supported", path.display())]
    NotByteLevel {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// Training asked for fewer ids than the bytes and special tokens need.
    #[error("a vocabulary of {asked} ids is too small: bytes and special tokens alone are {least}")]
    VocabularyTooSmall {
        /// The size asked for.
        asked: usize,
        /// The smallest possible size.
        least: usize,
    },
    /// Training failed inside the tokenizer library.
    #[error("the tokenizer could not be trained: {message}")]
    Training {
        /// What the library said.
        message: String,
    },
    /// The chat template cannot be rendered, or drops or repeats what the user wrote.
    #[error("the chat template cannot be used: {message}")]
    Template {
        /// What is wrong with it.
        message: String,
    },
}

impl TokensError {
    /// What the reader of the message can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            TokensError::NoTokenizer { folder } => Some(format!(
                "copy tokenizer.json and tokenizer_config.json of the model's release into {}",
                folder.display()
            )),
            TokensError::Syntax { .. } => Some("the file may be cut short: copy it again from the model's release".into()),
            TokensError::NotByteLevel { .. } => {
                Some("use a model with a byte-level BPE tokenizer, such as Qwen2.5-Coder".into())
            }
            TokensError::VocabularyTooSmall { least, .. } => Some(format!("ask for at least {least}; 1024 is usual for a small model")),
            TokensError::Template { .. } => {
                Some("correct chat_template in tokenizer_config.json; without that key the ChatML template is used".into())
            }
            TokensError::Io { .. } | TokensError::Training { .. } => None,
        }
    }
}
