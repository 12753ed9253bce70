//! What tokens cost.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{LlmError, Money, Usage};

/// What a million tokens of a model cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The model's name as the server knows it; a `*` at its end stands for any ending.
    pub model: String,
    /// Host of the base URL; without it the price holds for every server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Dollars for a million tokens in.
    pub input: Money,
    /// Dollars for a million tokens in that the server had cached; those of `input` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<Money>,
    /// Dollars for a million tokens out.
    pub output: Money,
    /// When the price was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
}

impl Price {
    /// What an answer cost, rounded up to a whole nanodollar.
    pub fn cost(&self, usage: &Usage) -> Money {
        let cached = usage.cached_prompt_tokens.min(usage.prompt_tokens);
        let cached_price = self.cached_input.unwrap_or(self.input);
        let sum = u128::from(usage.prompt_tokens - cached) * u128::from(self.input.nanodollars())
            + u128::from(cached) * u128::from(cached_price.nanodollars())
            + u128::from(usage.completion_tokens) * u128::from(self.output.nanodollars());
        Money::from_nanodollars(u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }

    fn is_for(&self, host: &str, model: &str) -> bool {
        let named = match self.model.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => self.model == model,
        };
        named && self.host.as_deref().is_none_or(|own| own == host)
    }
}

/// Prices, searched from the first to the last. A model that none is for has no known price; it is never taken for
/// free.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceTable {
    #[serde(rename = "price", default)]
    prices: Vec<Price>,
}

impl Default for PriceTable {
    /// The embedded table.
    fn default() -> Self {
        // The file is a part of the program, and a unit test reads it.
        toml::from_str(include_str!("prices.toml")).expect("the embedded table is understood")
    }
}

impl PriceTable {
    /// A table of these prices alone.
    pub fn new(prices: Vec<Price>) -> PriceTable {
        PriceTable { prices }
    }

    /// A user's TOML file (`[[price]]` with the fields of [`Price`]) before the embedded table.
    ///
    /// # Errors
    /// [`LlmError::File`] when it cannot be read or understood.
    pub fn read(path: &Path) -> Result<PriceTable, LlmError> {
        let broken = |detail: String| LlmError::File {
            path: path.to_path_buf(),
            detail: detail.trim_end().to_owned(),
        };
        let text = std::fs::read_to_string(path).map_err(|error| broken(error.to_string()))?;
        let mut table: PriceTable = toml::from_str(&text).map_err(|error| broken(error.to_string()))?;
        table.prices.extend(PriceTable::default().prices);
        Ok(table)
    }

    /// The first price that is for the model at the host.
    pub fn find(&self, host: &str, model: &str) -> Option<&Price> {
        self.prices.iter().find(|price| price.is_for(host, model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(prompt: u64, cached: u64, completion: u64) -> Usage {
        Usage {
            prompt_tokens: prompt,
            cached_prompt_tokens: cached,
            completion_tokens: completion,
            count: crate::Count::Reported,
        }
    }

    #[test]
    fn the_embedded_table_is_understood_and_its_sums_are_exact() {
        let table: PriceTable = toml::from_str(include_str!("prices.toml")).expect("the embedded table");
        assert!(table.prices.len() >= 9);
        let price = table.find("api.openai.com", "gpt-4o-mini").expect("a price");
        // 1,000 × 0.15 + 400 × 0.60 dollars a million, 200 of the thousand at half price.
        let cost = price.cost(&usage(1_000, 200, 400));
        assert_eq!(cost.nanodollars(), 800 * 150 + 200 * 75 + 400 * 600);
    }

    #[test]
    fn a_model_of_the_same_name_elsewhere_has_no_price() {
        assert_eq!(PriceTable::default().find("127.0.0.1", "gpt-4o"), None);
        assert_eq!(PriceTable::default().find("api.openai.com", "gpt-4o-else"), None);
    }

    #[test]
    fn the_users_file_goes_first_and_a_star_stands_for_any_ending() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("prices.toml");
        std::fs::write(&path, "[[price]]\nmodel = \"gpt-4o*\"\ninput = 0\noutput = 1.5\n").expect("written");
        let table = PriceTable::read(&path).expect("a table");
        let price = table.find("api.openai.com", "gpt-4o-mini").expect("a price");
        assert_eq!(price.cost(&usage(1_000_000, 0, 1_000_000)), Money::from_nanodollars(1_500_000_000));
        assert!(table.find("api.openai.com", "gpt-5").is_some(), "the embedded prices stand behind");

        std::fs::write(&path, "[[price]]\nmodel = \"m\"\ninputs = 0\noutput = 1.5\n").expect("written");
        let error = PriceTable::read(&path).expect_err("a misspelt field").to_string();
        assert!(error.contains("inputs"), "{error}");
    }
}
