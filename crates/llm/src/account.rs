//! Budgets: what may be spent, what was, and what requests on their way may still cost.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{LlmError, Money, Usage};

/// What a run may spend. A hard stop: before a request is sent, the most it can cost is reserved; if that does not
/// fit, nothing is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Paid answers.
    pub requests: Option<u64>,
    /// Tokens, in and out.
    pub tokens: Option<u64>,
    /// Dollars. The model's price must be known.
    pub dollars: Option<Money>,
    /// Seconds from the start of the client; unlike the others it is not summed over starts of a run. Requests that
    /// are on their way are waited for.
    pub seconds: Option<u64>,
}

/// Which part of a budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// This many paid answers.
    Requests(u64),
    /// This many tokens.
    Tokens(u64),
    /// This much money.
    Dollars(Money),
    /// This many seconds.
    Seconds(u64),
}

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Requests(count) => write!(formatter, "{count} requests"),
            Limit::Tokens(count) => write!(formatter, "{count} tokens"),
            Limit::Dollars(money) => write!(formatter, "{money}"),
            Limit::Seconds(seconds) => write!(formatter, "{seconds} s"),
        }
    }
}

/// What a run has spent, earlier starts included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Paid answers.
    pub requests: u64,
    /// Tokens in.
    pub prompt_tokens: u64,
    /// Tokens out.
    pub completion_tokens: u64,
    /// Dollars, for answers of models with a known price.
    pub dollars: Money,
    /// Paid answers of models without a known price; what they cost is not in `dollars`.
    pub unpriced: u64,
    /// Requests that were sent and whose answer never came whole. The server may have charged for them: the most they
    /// can have cost counts for the budget.
    pub unconfirmed: u64,
    /// Tokens of those, at most.
    pub unconfirmed_tokens: u64,
    /// Dollars for those, at most.
    pub unconfirmed_dollars: Money,
}

impl Spent {
    /// What counts for a budget in tokens.
    pub fn tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens).saturating_add(self.unconfirmed_tokens)
    }

    /// What counts for a budget in money.
    pub fn most_dollars(&self) -> Money {
        self.dollars + self.unconfirmed_dollars
    }

    /// Adds a paid answer.
    pub(crate) fn add_paid(&mut self, usage: &Usage, cost: Option<Money>) {
        self.requests += 1;
        self.prompt_tokens = self.prompt_tokens.saturating_add(usage.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(usage.completion_tokens);
        match cost {
            Some(cost) => self.dollars += cost,
            None => self.unpriced += 1,
        }
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} requests, {} + {} tokens",
            self.requests, self.prompt_tokens, self.completion_tokens
        )?;
        match (self.unpriced, self.requests) {
            (0, _) => write!(formatter, ", {}", self.dollars)?,
            (unpriced, requests) if unpriced == requests => write!(formatter, ", price not known")?,
            (unpriced, _) => {
                write!(formatter, ", {} and {unpriced} requests of unknown price", self.dollars)?
            }
        }
        if self.unconfirmed > 0 {
            write!(
                formatter,
                "; {} requests more broke off and may have cost up to {} tokens, {}",
                self.unconfirmed, self.unconfirmed_tokens, self.unconfirmed_dollars
            )?;
        }
        Ok(())
    }
}

/// The most a request can cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Most {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// Nothing for a model without a known price.
    pub dollars: Option<Money>,
}

impl Most {
    fn tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

/// The books of one run, shared by all endpoints of a client.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Budget,
    started: Instant,
    state: Mutex<State>,
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    spent: Spent,
    reserved_tokens: u64,
    reserved_dollars: Money,
    open: u64,
}

impl Account {
    /// Goes on with what earlier starts of the run have spent.
    pub fn new(budget: Budget, spent: Spent, started: Instant) -> Account {
        let state = Mutex::new(State { spent, ..State::default() });
        Account { budget, started, state, settled: Notify::new() }
    }

    pub fn spent(&self) -> Spent {
        self.state().spent
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // All updates of the books are single assignments: they hold even if a thread panicked between two.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves what a request costs at most. Where it fits only if those on their way cost less than was reserved
    /// for them, they are waited for.
    ///
    /// # Errors
    /// [`LlmError::BudgetExhausted`] when it does not fit whatever they cost.
    pub async fn reserve(self: &Arc<Self>, most: Most) -> Result<Reservation, LlmError> {
        loop {
            // Made before the look at the books, so that a settlement in between is not missed.
            let settled = self.settled.notified();
            if let Some(reservation) = self.try_reserve(most)? {
                return Ok(reservation);
            }
            match self.seconds_left() {
                Some(left) => {
                    let _ = tokio::time::timeout(left, settled).await;
                }
                None => settled.await,
            }
        }
    }

    /// Time until the budget in seconds is used up.
    pub fn seconds_left(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.budget.seconds?).saturating_sub(self.started.elapsed()))
    }

    /// Nothing when settlements have to be waited for.
    fn try_reserve(self: &Arc<Self>, most: Most) -> Result<Option<Reservation>, LlmError> {
        let mut state = self.state();
        let spent = state.spent;
        let stop = |limit| Err(LlmError::BudgetExhausted { limit, spent: Box::new(spent) });
        let mut fits = true;
        if self.seconds_left().is_some_and(|left| left.is_zero()) {
            return stop(Limit::Seconds(self.budget.seconds.unwrap_or_default()));
        }
        if let Some(limit) = self.budget.requests {
            if spent.requests + spent.unconfirmed + 1 > limit {
                return stop(Limit::Requests(limit));
            }
            fits &= spent.requests + spent.unconfirmed + state.open < limit;
        }
        if let Some(limit) = self.budget.tokens {
            let wanted = spent.tokens().saturating_add(most.tokens());
            if wanted > limit {
                return stop(Limit::Tokens(limit));
            }
            fits &= wanted.saturating_add(state.reserved_tokens) <= limit;
        }
        if let (Some(limit), Some(dollars)) = (self.budget.dollars, most.dollars) {
            let wanted = spent.most_dollars() + dollars;
            if wanted > limit {
                return stop(Limit::Dollars(limit));
            }
            fits &= wanted + state.reserved_dollars <= limit;
        }
        if !fits {
            return Ok(None);
        }
        state.open += 1;
        state.reserved_tokens = state.reserved_tokens.saturating_add(most.tokens());
        state.reserved_dollars += most.dollars.unwrap_or_default();
        Ok(Some(Reservation { account: self.clone(), most }))
    }
}

/// What is set aside for a request on its way. Dropped without a word it cost nothing.
#[derive(Debug)]
pub(crate) struct Reservation {
    account: Arc<Account>,
    most: Most,
}

impl Reservation {
    /// The request is answered and was paid for.
    pub fn paid(self, usage: &Usage, cost: Option<Money>) {
        self.account.state().spent.add_paid(usage, cost);
    }

    /// The request was sent and its answer never came whole.
    pub fn unconfirmed(self) -> Most {
        let most = self.most;
        let mut state = self.account.state();
        state.spent.unconfirmed += 1;
        state.spent.unconfirmed_tokens = state.spent.unconfirmed_tokens.saturating_add(most.tokens());
        state.spent.unconfirmed_dollars += most.dollars.unwrap_or_default();
        drop(state);
        most
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.account.state();
        state.open = state.open.saturating_sub(1);
        state.reserved_tokens = state.reserved_tokens.saturating_sub(self.most.tokens());
        state.reserved_dollars = state.reserved_dollars.saturating_sub(self.most.dollars.unwrap_or_default());
        drop(state);
        self.account.settled.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(budget: Budget) -> Arc<Account> {
        Arc::new(Account::new(budget, Spent::default(), Instant::now()))
    }

    fn most(tokens: u64) -> Most {
        Most { prompt_tokens: tokens / 2, completion_tokens: tokens - tokens / 2, dollars: None }
    }

    fn usage(tokens: u64) -> Usage {
        Usage { prompt_tokens: tokens, ..Usage::default() }
    }

    #[test]
    fn requests_on_their_way_count_until_they_are_settled() {
        let account = account(Budget { tokens: Some(100), ..Budget::default() });
        let first = account.try_reserve(most(60)).expect("fits").expect("at once");
        assert!(account.try_reserve(most(60)).expect("may fit").is_none(), "waits for the first");
        first.paid(&usage(30), None);
        let second = account.try_reserve(most(60)).expect("fits").expect("now");
        second.paid(&usage(60), None);
        let error = account.try_reserve(most(20)).expect_err("110 of 100");
        let LlmError::BudgetExhausted { limit, spent } = error else { panic!("{error}") };
        assert_eq!((limit, spent.prompt_tokens, spent.requests), (Limit::Tokens(100), 90, 2));
    }

    #[test]
    fn what_may_have_been_charged_counts_and_what_cannot_does_not() {
        let account = account(Budget { requests: Some(2), ..Budget::default() });
        drop(account.try_reserve(most(10)).expect("fits").expect("at once"));
        account.try_reserve(most(10)).expect("fits").expect("at once").unconfirmed();
        account.try_reserve(most(10)).expect("fits").expect("at once").paid(&usage(10), None);
        assert!(matches!(account.try_reserve(most(10)), Err(LlmError::BudgetExhausted { .. })));
        assert_eq!((account.spent().unconfirmed, account.spent().unconfirmed_tokens), (1, 10));
    }

    #[test]
    fn money_is_kept_exactly() {
        let cent = Money::from_dollars(0.01).expect("an amount");
        let account = account(Budget { dollars: Money::from_dollars(0.03), ..Budget::default() });
        for _ in 0..3 {
            let reservation = account.try_reserve(Most { dollars: Some(cent), ..Most::default() });
            reservation.expect("fits").expect("at once").paid(&usage(1), Some(cent));
        }
        assert!(account.try_reserve(Most { dollars: Some(cent), ..Most::default() }).is_err());
        assert_eq!(account.spent().dollars, Money::from_dollars(0.03).expect("an amount"));
    }
}
