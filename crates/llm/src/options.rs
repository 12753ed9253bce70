//! How the client works.

use std::path::PathBuf;
use std::time::Duration;

use crate::{Budget, LlmError, PriceTable};

/// How a client works; the same for all endpoints that share it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Requests on their way at a time, for each endpoint.
    pub concurrency: usize,
    /// Requests a minute, for each endpoint.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute, in and out, for each endpoint.
    pub tokens_per_minute: Option<u64>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// What happens after a failed attempt.
    pub retry: Retry,
    /// How often a model is asked for a structured answer, the first time included.
    pub asks: u32,
    /// Tokens up to which the limit of a structured answer that was cut is doubled when it is asked for again.
    pub most_tokens: u32,
    /// What may be spent.
    pub budget: Budget,
    /// What the spending is summed under in the cache: a run that is started again goes on with its sum.
    pub run: String,
    /// The SQLite file of answers; without one, answers are kept only as long as the client lives.
    pub cache: Option<PathBuf>,
    /// The folder of transcripts, one file a record.
    pub transcripts: Option<PathBuf>,
    /// What tokens cost.
    pub prices: PriceTable,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            concurrency: 16,
            requests_per_minute: None,
            tokens_per_minute: None,
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            asks: 3,
            most_tokens: 16_384,
            budget: Budget::default(),
            run: "default".into(),
            cache: None,
            transcripts: None,
            prices: PriceTable::default(),
        }
    }
}

/// Time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For making a connection.
    pub connect: Duration,
    /// For one attempt, from its first byte out to its last byte in. A model that writes long answers needs long.
    pub attempt: Duration,
    /// For the next piece of an answer that has begun to arrive.
    pub stalled: Duration,
    /// For a request with all its attempts and the waits between them, from when it is first sent.
    pub deadline: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(10),
            attempt: Duration::from_secs(300),
            stalled: Duration::from_secs(30),
            deadline: Duration::from_secs(1_200),
        }
    }
}

/// What happens after an attempt that failed in a way that may pass.
///
/// The wait before attempt *n* + 1 is drawn between half of and all of `first_wait`·2ⁿ⁻¹, at most `longest_wait`: a
/// server that failed is not met by all its clients at the same instant. A `Retry-After` goes before it when it is
/// longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all, the first included. Those that the server was too busy for (status 429) are not counted: only
    /// the deadline ends them.
    pub attempts: u32,
    /// The wait after the first.
    pub first_wait: Duration,
    /// No drawn wait is longer.
    pub longest_wait: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts: 6, first_wait: Duration::from_millis(500), longest_wait: Duration::from_secs(60) }
    }
}

impl Options {
    /// Whether every setting is possible.
    ///
    /// # Errors
    /// [`LlmError::BadOption`] with the first that is not.
    pub fn check(&self) -> Result<(), LlmError> {
        let at_least_one = [
            ("concurrency", self.concurrency as u64),
            ("requests_per_minute", self.requests_per_minute.map_or(1, u64::from)),
            ("tokens_per_minute", self.tokens_per_minute.unwrap_or(1)),
            ("retry.attempts", u64::from(self.retry.attempts)),
            ("asks", u64::from(self.asks)),
        ];
        for (option, value) in at_least_one {
            if value == 0 {
                return Err(LlmError::BadOption { option, value: "0".into(), range: "1 or more" });
            }
        }
        let positive = [
            ("timeouts.connect", self.timeouts.connect),
            ("timeouts.attempt", self.timeouts.attempt),
            ("timeouts.stalled", self.timeouts.stalled),
            ("timeouts.deadline", self.timeouts.deadline),
        ];
        for (option, value) in positive {
            if value.is_zero() {
                return Err(LlmError::BadOption { option, value: "0 s".into(), range: "longer than 0 s" });
            }
        }
        Ok(())
    }
}
