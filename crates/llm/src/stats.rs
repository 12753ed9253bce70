//! What a client is doing, for a screen.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::{LlmError, Spent};

/// What a client has done and is doing; a snapshot to poll.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Requests handed in that have no result yet.
    pub open: u64,
    /// Of those, requests that are on their way to a server.
    pub in_flight: u64,
    /// Requests that got an answer.
    pub answered: u64,
    /// Requests that ended in an error.
    pub failed: u64,
    /// Answers that stood in the cache.
    pub cached: u64,
    /// Answers that another request of this client or another process was already fetching.
    pub shared: u64,
    /// Answers that were paid for since the client was made.
    pub paid: u64,
    /// Attempts that were sent.
    pub attempts: u64,
    /// Attempts that failed and were repeated.
    pub retries: u64,
    /// Structured answers that were not of the form and were asked for again.
    pub complaints: u64,
    /// Paid answers without a token count: the most it can have been was booked.
    pub counts_missing: u64,
    /// Paid answers with an impossible token count: the most it can have been was booked.
    pub counts_implausible: u64,
    /// Errors by their class.
    pub errors: BTreeMap<&'static str, u64>,
    /// What the run has spent, earlier starts included.
    pub spent: Spent,
    /// Seconds since the client was made.
    pub seconds: f64,
}

impl fmt::Display for Stats {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} answered ({} cached, {} shared), {} failed, {} in flight of {} open; {}",
            self.answered, self.cached, self.shared, self.failed, self.in_flight, self.open, self.spent
        )?;
        if self.retries > 0 {
            write!(formatter, "; {} attempts repeated", self.retries)?;
        }
        Ok(())
    }
}

/// The running counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub open: AtomicU64,
    pub in_flight: AtomicU64,
    pub answered: AtomicU64,
    pub failed: AtomicU64,
    pub cached: AtomicU64,
    pub shared: AtomicU64,
    pub paid: AtomicU64,
    pub attempts: AtomicU64,
    pub retries: AtomicU64,
    pub complaints: AtomicU64,
    pub counts_missing: AtomicU64,
    pub counts_implausible: AtomicU64,
    errors: Mutex<BTreeMap<&'static str, u64>>,
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    /// Counts an error by its class.
    pub fn error(&self, error: &LlmError) {
        count(&self.failed);
        let class = match error {
            LlmError::Refused { .. } => "refused",
            LlmError::Overloaded { .. } => "overloaded",
            LlmError::Unreachable { .. } => "unreachable",
            LlmError::TimedOut { .. } => "timed_out",
            LlmError::BrokenAnswer { .. } => "broken_answer",
            LlmError::Truncated { .. } => "truncated",
            LlmError::Filtered => "filtered",
            LlmError::Declined { .. } => "declined",
            LlmError::Invalid { .. } => "invalid",
            LlmError::BudgetExhausted { .. } => "budget_exhausted",
            LlmError::Cache { .. } => "cache",
            _ => "other",
        };
        *self.errors.lock().unwrap_or_else(PoisonError::into_inner).entry(class).or_default() += 1;
    }

    pub fn snapshot(&self, spent: Spent, seconds: f64) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            open: read(&self.open),
            in_flight: read(&self.in_flight),
            answered: read(&self.answered),
            failed: read(&self.failed),
            cached: read(&self.cached),
            shared: read(&self.shared),
            paid: read(&self.paid),
            attempts: read(&self.attempts),
            retries: read(&self.retries),
            complaints: read(&self.complaints),
            counts_missing: read(&self.counts_missing),
            counts_implausible: read(&self.counts_implausible),
            errors: self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            spent,
            seconds,
        }
    }
}

/// Counts up now and down when it is dropped, also when its task is cut off.
pub(crate) struct Gauge<'counter>(&'counter AtomicU64);

impl<'counter> Gauge<'counter> {
    pub fn up(counter: &'counter AtomicU64) -> Self {
        count(counter);
        Gauge(counter)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
