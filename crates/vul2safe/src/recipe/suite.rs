//! Which tasks models are measured on.

use std::fmt;
use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vul2safe_evaluate::{FORMATS, Format};

/// Tasks to measure on, one word in recipes and on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuiteKind {
    /// Held-out tasks with functional and exploit tests.
    Range,
    /// The held-out records of the run's own data: static findings, and the records' tests where there are any.
    Records,
    /// A public suite, from a file or folder that the user has.
    Public(&'static Format),
}

impl SuiteKind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            SuiteKind::Range => "range",
            SuiteKind::Records => "records",
            SuiteKind::Public(format) => format.word,
        }
    }

    /// Reads the word on a command line.
    pub fn parser() -> impl TypedValueParser<Value = SuiteKind> {
        let own = [
            PossibleValue::new("range")
                .help("This program's own held-out tasks: functional and exploit tests"),
            PossibleValue::new("records").help("The held-out records of a PrimeVul+ file"),
        ];
        let public = FORMATS.iter().map(|format| PossibleValue::new(format.word).help(format.name));
        PossibleValuesParser::new(own.into_iter().chain(public)).try_map(|word| word.parse::<SuiteKind>())
    }
}

impl fmt::Display for SuiteKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.word())
    }
}

impl FromStr for SuiteKind {
    type Err = String;

    fn from_str(word: &str) -> Result<SuiteKind, String> {
        match word {
            "range" => Ok(SuiteKind::Range),
            "records" => Ok(SuiteKind::Records),
            other => Format::by_word(other).map(SuiteKind::Public).ok_or_else(|| {
                let words: Vec<&str> = FORMATS.iter().map(|format| format.word).collect();
                format!("unknown suite `{other}`: known are range, records, {}", words.join(", "))
            }),
        }
    }
}

impl Serialize for SuiteKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for SuiteKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SuiteKind, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_survives_a_round_trip() {
        let public = FORMATS.iter().map(|&format| SuiteKind::Public(format));
        for suite in [SuiteKind::Range, SuiteKind::Records].into_iter().chain(public) {
            assert_eq!(suite.word().parse(), Ok(suite));
        }
        let message = "humanevil".parse::<SuiteKind>().expect_err("no such suite");
        assert!(message.contains("humaneval") && message.contains("range"), "{message}");
    }
}
