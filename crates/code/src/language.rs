//! The languages that can be parsed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A programming language.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// Python 3 (the grammar also accepts most of Python 2).
    Python,
    /// C.
    C,
    /// C++.
    Cpp,
    /// Java.
    Java,
    /// JavaScript, JSX included.
    #[serde(rename = "javascript")]
    JavaScript,
    /// Go.
    Go,
    /// PHP, with or without its opening tag.
    Php,
}

/// A word that names no known language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown language {word:?}")]
pub struct UnknownLanguage {
    /// The word as it was given.
    pub word: String,
}

impl UnknownLanguage {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let words = Language::ALL.map(Language::as_str).join(", ");
        Some(format!("known languages are: {words}"))
    }
}

impl Language {
    /// Every language, in the order of the enum.
    pub const ALL: [Language; 7] = [
        Language::Python,
        Language::C,
        Language::Cpp,
        Language::Java,
        Language::JavaScript,
        Language::Go,
        Language::Php,
    ];

    /// The language of a file with this extension, given with or without its dot, in any case.
    ///
    /// A header `.h` counts as C.
    pub fn from_extension(extension: &str) -> Option<Language> {
        let extension = extension.strip_prefix('.').unwrap_or(extension).to_ascii_lowercase();
        match extension.as_str() {
            "py" | "pyi" | "pyw" => Some(Language::Python),
            "c" | "h" => Some(Language::C),
            "cc" | "cpp" | "cxx" | "c++" | "hh" | "hpp" | "hxx" | "h++" | "ipp" | "tpp" => {
                Some(Language::Cpp)
            }
            "java" => Some(Language::Java),
            "js" | "jsx" | "mjs" | "cjs" => Some(Language::JavaScript),
            "go" => Some(Language::Go),
            "php" | "phtml" | "php3" | "php4" | "php5" | "php7" | "php8" => Some(Language::Php),
            _ => None,
        }
    }

    /// The word for the language, the same as in serialised records.
    pub fn as_str(self) -> &'static str {
        match self {
            Language::Python => "python",
            Language::C => "c",
            Language::Cpp => "cpp",
            Language::Java => "java",
            Language::JavaScript => "javascript",
            Language::Go => "go",
            Language::Php => "php",
        }
    }

    /// The language's name as people write it: `C++`, `JavaScript`.
    pub fn title(self) -> &'static str {
        match self {
            Language::Python => "Python",
            Language::C => "C",
            Language::Cpp => "C++",
            Language::Java => "Java",
            Language::JavaScript => "JavaScript",
            Language::Go => "Go",
            Language::Php => "PHP",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for Language {
    type Err = UnknownLanguage;

    /// Accepts the serialised words in any case, and the usual spellings `py`, `python3`, `c++`, `cxx`, `js`, `golang`.
    fn from_str(word: &str) -> Result<Language, UnknownLanguage> {
        match word.trim().to_ascii_lowercase().as_str() {
            "python" | "py" | "python3" => Ok(Language::Python),
            "c" => Ok(Language::C),
            "cpp" | "c++" | "cxx" | "cc" => Ok(Language::Cpp),
            "java" => Ok(Language::Java),
            "javascript" | "js" | "jsx" | "node" | "nodejs" => Ok(Language::JavaScript),
            "go" | "golang" => Ok(Language::Go),
            "php" => Ok(Language::Php),
            _ => Err(UnknownLanguage { word: word.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_round_trip() {
        for language in Language::ALL {
            assert_eq!(language.to_string().parse::<Language>(), Ok(language));
            let json = serde_json::to_string(&language).unwrap();
            assert_eq!(json, format!("\"{language}\""));
            assert_eq!(serde_json::from_str::<Language>(&json).unwrap(), language);
        }
        assert_eq!("C++".parse(), Ok(Language::Cpp));
        assert_eq!("rust".parse::<Language>().unwrap_err().to_string(), "unknown language \"rust\"");
    }

    #[test]
    fn extensions() {
        assert_eq!(Language::from_extension("py"), Some(Language::Python));
        assert_eq!(Language::from_extension(".CPP"), Some(Language::Cpp));
        assert_eq!(Language::from_extension("h"), Some(Language::C));
        assert_eq!(Language::from_extension(".mjs"), Some(Language::JavaScript));
        assert_eq!(Language::from_extension("PHP"), Some(Language::Php));
        assert_eq!(Language::from_extension("rs"), None);
    }
}
