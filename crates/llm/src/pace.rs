//! Requests and tokens a minute.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Keeps an endpoint's pace, and its pauses when the server asks for one.
#[derive(Debug)]
pub(crate) struct Pace {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    paused_until: Option<Instant>,
}

/// What may be taken now; it fills with time up to `size` and may be below nothing after a large request.
#[derive(Debug)]
struct Bucket {
    level: f64,
    size: f64,
    per_second: f64,
    filled: Instant,
}

/// A bucket holds what a twelfth of a minute brings: no burst is longer than five seconds' work.
const BURST_SECONDS: f64 = 5.0;

impl Bucket {
    fn new(per_minute: f64, now: Instant) -> Bucket {
        let per_second = per_minute / 60.0;
        let size = (per_second * BURST_SECONDS).max(1.0);
        Bucket { level: size, size, per_second, filled: now }
    }

    /// The wait until `amount` may be taken. More than a full bucket is let through when the bucket is full; the debt
    /// is waited for by those who come after.
    fn wait(&mut self, amount: f64, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.level = (self.level + passed * self.per_second).min(self.size);
        self.filled = now;
        let missing = amount.min(self.size) - self.level;
        // A wait below the timer's resolution would be asked for over and over.
        if missing <= 1e-9 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(missing / self.per_second + 0.001)
        }
    }
}

impl Pace {
    pub(crate) fn new(requests: Option<u32>, tokens: Option<u64>, now: Instant) -> Pace {
        Pace {
            state: Mutex::new(State {
                requests: requests.map(|per_minute| Bucket::new(f64::from(per_minute), now)),
                tokens: tokens.map(|per_minute| Bucket::new(per_minute as f64, now)),
                paused_until: None,
            }),
        }
    }

    /// Takes one request of that many tokens, or says how long to wait before asking again.
    pub(crate) fn take(&self, tokens: u64, now: Instant) -> Result<(), Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = state.paused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let requests = state.requests.as_mut().map_or(Duration::ZERO, |bucket| bucket.wait(1.0, now));
        let amount = tokens as f64;
        let tokens = state.tokens.as_mut().map_or(Duration::ZERO, |bucket| bucket.wait(amount, now));
        let wait = pause.max(requests).max(tokens);
        if !wait.is_zero() {
            return Err(wait);
        }
        if let Some(bucket) = &mut state.requests {
            bucket.level -= 1.0;
        }
        if let Some(bucket) = &mut state.tokens {
            bucket.level -= amount;
        }
        Ok(())
    }

    /// Corrects the tokens of a request that is answered: fewer or more than were taken for it.
    pub(crate) fn correct(&self, taken: u64, used: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = &mut state.tokens {
            bucket.level = (bucket.level + taken as f64 - used as f64).min(bucket.size);
        }
    }

    /// Nothing is sent to the endpoint before `until`.
    pub(crate) fn pause(&self, until: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.paused_until = Some(state.paused_until.map_or(until, |earlier| earlier.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds that `count` requests of `tokens` take when each goes as soon as it may.
    fn seconds(pace: &Pace, count: usize, tokens: u64, start: Instant) -> f64 {
        let mut now = start;
        for _ in 0..count {
            while let Err(wait) = pace.take(tokens, now) {
                now += wait;
            }
        }
        (now - start).as_secs_f64()
    }

    #[test]
    fn requests_a_minute() {
        let start = Instant::now();
        // 600 a minute are 10 a second; 50 may go at once, the other 100 take ten seconds.
        let taken = seconds(&Pace::new(Some(600), None, start), 150, 1, start);
        assert!((taken - 10.0).abs() < 0.2, "{taken}");
    }

    #[test]
    fn tokens_a_minute_and_requests_larger_than_the_burst() {
        let start = Instant::now();
        // 6,000 a minute are 100 a second, 500 at once: the first goes at once, each later one waits for the debt.
        let taken = seconds(&Pace::new(None, Some(6_000), start), 4, 1_000, start);
        assert!((taken - 30.0).abs() < 0.5, "{taken}");
    }

    #[test]
    fn answers_that_were_shorter_give_back() {
        let start = Instant::now();
        let pace = Pace::new(None, Some(6_000), start);
        assert_eq!(pace.take(500, start), Ok(()));
        assert!(pace.take(500, start).is_err());
        pace.correct(500, 0);
        assert_eq!(pace.take(500, start), Ok(()));
    }

    #[test]
    fn a_pause_holds_everyone_and_is_never_shortened() {
        let start = Instant::now();
        let pace = Pace::new(None, None, start);
        pace.pause(start + Duration::from_secs(3));
        pace.pause(start + Duration::from_secs(1));
        assert_eq!(pace.take(1, start), Err(Duration::from_secs(3)));
        assert_eq!(pace.take(1, start + Duration::from_secs(3)), Ok(()));
    }
}
