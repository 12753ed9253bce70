//! One exchange with a server: pace, budget, attempts, waits.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use tokio::sync::SemaphorePermit;

use crate::account::Most;
use crate::answer::{self, Answer, NoAnswer};
use crate::shared::{Server, Shared};
use crate::stats::{Gauge, count};
use crate::wire::Exchange;
use crate::{Count, LlmError, Money, Phase, StructuredOutput};

/// A longer answer is not read to its end.
const LONGEST_BODY: usize = 64 << 20;
/// Characters of a broken answer that are shown.
const EXCERPT: usize = 200;

/// An attempt that gave no answer.
struct Failure {
    error: LlmError,
    /// Whether another attempt may do better.
    then: Then,
    /// Whether the server may charge for it.
    charged: bool,
}

#[derive(PartialEq)]
enum Then {
    /// It will not.
    GiveUp,
    /// None to this endpoint will.
    GiveUpEndpoint,
    /// After a wait; the attempt counts.
    Retry(Option<Duration>),
    /// After a wait; only the deadline counts.
    Busy(Option<Duration>),
    /// At once, with the form asked for in another way.
    StepDown,
}

/// An answer that is paid for.
pub(crate) struct Paid<'server> {
    pub answer: Answer,
    pub cost: Option<Money>,
    /// Held until the answer is kept: a process that is killed has then never more answers to lose than requests it may have
    /// on the way at a time, however slow the disk is.
    pub permit: SemaphorePermit<'server>,
}

/// Sends the exchange until there is an answer or no hope. What it cost is booked; what it may have cost as well.
pub(crate) async fn send<'server>(
    shared: &Shared,
    server: &'server Server,
    exchange: &Exchange<'_>,
) -> Result<Paid<'server>, LlmError> {
    let most = exchange.most(server.price.as_ref());
    let likely = exchange.likely_tokens();
    let retry = shared.options.retry;
    let mut first_sent: Option<Instant> = None;
    // Attempts; those that count; waits, which grow with each.
    let (mut attempts, mut counted, mut waits) = (0, 0, 0);
    loop {
        let permit = server.permits.acquire().await.map_err(|_| stopped("the endpoint is closed"))?;
        wait_for_pace(shared, server, likely).await;
        for reason in [&shared.broken, &server.refusal] {
            if let Some(error) = reason.get() {
                server.pace.correct(likely, 0);
                return Err(error.clone());
            }
        }
        let reservation = match shared.account.reserve(most).await {
            Ok(reservation) => reservation,
            Err(error) => {
                server.pace.correct(likely, 0);
                return Err(error);
            }
        };
        let by = server.structured_by();
        let body = exchange.body(&server.endpoint, by);
        let body = serde_json::to_vec(&body)
            .map_err(|error| LlmError::BadRequest { why: format!("it is no JSON: {error}") })?;
        attempts += 1;
        let first = *first_sent.get_or_insert_with(Instant::now);
        let result = {
            count(&shared.counters.attempts);
            let _in_flight = Gauge::up(&shared.counters.in_flight);
            attempt(shared, server, body, &most, first, attempts).await
        };
        let failure = match result {
            Ok(answer) => {
                let cost = server.price.as_ref().map(|price| price.cost(&answer.usage));
                reservation.paid(&answer.usage, cost);
                server.pace.correct(likely, answer.usage.total());
                count(&shared.counters.paid);
                match answer.usage.count {
                    Count::Reported => {}
                    Count::Missing => count(&shared.counters.counts_missing),
                    Count::Implausible => count(&shared.counters.counts_implausible),
                }
                return Ok(Paid { answer, cost, permit });
            }
            Err(failure) => failure,
        };
        drop(permit);
        if failure.charged {
            let most = reservation.unconfirmed();
            if let Err(error) = shared.cache.unconfirmed(&server.endpoint.model, most).await {
                let _ = shared.broken.set(error);
            }
        } else {
            drop(reservation);
            server.pace.correct(likely, 0);
        }
        let after = match failure.then {
            Then::GiveUp => return Err(failure.error),
            Then::GiveUpEndpoint => {
                let _ = server.refusal.set(failure.error.clone());
                return Err(failure.error);
            }
            Then::StepDown if exchange.request.structured.is_some() && server.step_down(by) => continue,
            Then::StepDown => return Err(failure.error),
            Then::Retry(after) => {
                counted += 1;
                if counted >= retry.attempts {
                    return Err(failure.error);
                }
                after
            }
            Then::Busy(after) => {
                if let Some(after) = after {
                    server.pace.pause(Instant::now() + after);
                }
                after
            }
        };
        let wait = drawn_wait(retry.first_wait, retry.longest_wait, waits).max(after.unwrap_or_default());
        waits += 1;
        if first.elapsed() + wait >= shared.options.timeouts.deadline {
            return Err(failure.error);
        }
        count(&shared.counters.retries);
        tokio::time::sleep(wait).await;
    }
}

fn stopped(detail: &str) -> LlmError {
    LlmError::Stopped { detail: detail.into() }
}

/// Returns when the pace allows the request, or when the budget's time is over.
async fn wait_for_pace(shared: &Shared, server: &Server, tokens: u64) {
    while let Err(wait) = server.pace.take(tokens, Instant::now()) {
        match shared.account.seconds_left() {
            Some(left) if left.is_zero() => return,
            Some(left) => tokio::time::sleep(wait.min(left)).await,
            None => tokio::time::sleep(wait).await,
        }
    }
}

/// Between half of and all of `first`·2ᵗⁱᵐᵉˢ, at most `longest`.
fn drawn_wait(first: Duration, longest: Duration, times: u32) -> Duration {
    let whole = first.saturating_mul(1 << times.min(20)).min(longest);
    // std's hash keys are random: enough to keep clients apart.
    let draw = RandomState::new().hash_one(times) as f64 / u64::MAX as f64;
    whole.mul_f64(0.5 + 0.5 * draw)
}

/// One attempt within its time.
async fn attempt(
    shared: &Shared,
    server: &Server,
    body: Vec<u8>,
    most: &Most,
    first: Instant,
    attempts: u32,
) -> Result<Answer, Failure> {
    let timeouts = shared.options.timeouts;
    let left = timeouts.deadline.saturating_sub(first.elapsed());
    let (limit, phase) =
        if left < timeouts.attempt { (left, Phase::Deadline) } else { (timeouts.attempt, Phase::Attempt) };
    let timed_out = |phase: Phase, limit: Duration, charged: bool| Failure {
        error: LlmError::TimedOut {
            base_url: server.endpoint.base_url.clone(),
            phase,
            seconds: limit.as_secs_f64(),
            attempts,
        },
        then: if phase == Phase::Deadline { Then::GiveUp } else { Then::Retry(None) },
        charged,
    };
    let exchange = async {
        let mut request = server
            .http
            .post(server.url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(header) = server.key.as_ref().and_then(|key| key.header()) {
            request = request.header(AUTHORIZATION, header);
        }
        let mut response = request.body(body).send().await.map_err(|error| match error.is_connect() {
            true if error.is_timeout() => timed_out(Phase::Connect, timeouts.connect, false),
            connect => unreachable_server(server, error, !connect, attempts),
        })?;
        let status = response.status();
        let after = answer::retry_after(response.headers(), jiff::Timestamp::now());
        let mut received = Vec::new();
        loop {
            match tokio::time::timeout(timeouts.stalled, response.chunk()).await {
                Err(_) => return Err(timed_out(Phase::Stalled, timeouts.stalled, status.is_success())),
                Ok(Err(error)) => {
                    return Err(unreachable_server(server, error, status.is_success(), attempts));
                }
                Ok(Ok(None)) => break,
                Ok(Ok(Some(piece))) if received.len() + piece.len() > LONGEST_BODY => {
                    let detail = format!("it is longer than {} MiB", LONGEST_BODY >> 20);
                    return Err(broken(server, detail, &received, attempts));
                }
                Ok(Ok(Some(piece))) => received.extend_from_slice(&piece),
            }
        }
        understand(server, status, after, &received, most, attempts)
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(result) => result,
        Err(_) => Err(timed_out(phase, limit, true)),
    }
}

/// An answer, or what the status and the body mean.
fn understand(
    server: &Server,
    status: StatusCode,
    after: Option<Duration>,
    body: &[u8],
    most: &Most,
    attempts: u32,
) -> Result<Answer, Failure> {
    if !status.is_success() {
        let message = answer::message(body);
        return Err(refusal(
            server,
            status.as_u16(),
            message,
            answer::is_out_of_quota(body),
            after,
            attempts,
        ));
    }
    match answer::read(body, most) {
        Ok(mut answer) => {
            if answer.model.is_empty() {
                answer.model.clone_from(&server.endpoint.model);
            }
            Ok(answer)
        }
        Err(NoAnswer::Broken(detail)) => Err(broken(server, detail, body, attempts)),
        Err(NoAnswer::Error(status, message)) => {
            Err(refusal(server, status, message, answer::is_out_of_quota(body), after, attempts))
        }
    }
}

/// What an error's status means.
fn refusal(
    server: &Server,
    status: u16,
    message: String,
    out_of_quota: bool,
    after: Option<Duration>,
    attempts: u32,
) -> Failure {
    let message = server.redact(&message);
    let lower = message.to_lowercase();
    let about_the_form = ["response_format", "json_schema", "json_object", "guided", "grammar"]
        .iter()
        .any(|word| lower.contains(word));
    let then = match status {
        401 | 402 | 404 => Then::GiveUpEndpoint,
        429 if out_of_quota => Then::GiveUpEndpoint,
        429 => Then::Busy(after),
        400 | 422 | 501 if about_the_form && server.structured_by() != StructuredOutput::Words => {
            Then::StepDown
        }
        408 | 409 | 425 | 500 | 502 | 503 | 504 | 520..=529 => Then::Retry(after),
        _ => Then::GiveUp,
    };
    let base_url = server.endpoint.base_url.clone();
    let error = if matches!(then, Then::Busy(_) | Then::Retry(_)) || status >= 500 {
        LlmError::Overloaded { base_url, status, message, attempts }
    } else {
        LlmError::Refused { base_url, model: server.endpoint.model.clone(), status, message }
    };
    Failure { error, then, charged: false }
}

fn broken(server: &Server, detail: String, body: &[u8], attempts: u32) -> Failure {
    let excerpt = server.redact(&answer::excerpt(&String::from_utf8_lossy(body), EXCERPT));
    let error =
        LlmError::BrokenAnswer { base_url: server.endpoint.base_url.clone(), detail, excerpt, attempts };
    Failure { error, then: Then::Retry(None), charged: true }
}

fn unreachable_server(server: &Server, error: reqwest::Error, charged: bool, attempts: u32) -> Failure {
    let base_url = server.endpoint.base_url.clone();
    let error = LlmError::Unreachable { base_url, detail: words(error), attempts };
    Failure { error, then: Then::Retry(None), charged }
}

/// An error of the network with its causes, without the address, which may be long.
pub(crate) fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_drawn() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(2));
        for (times, whole) in [(0, 100), (1, 200), (3, 800), (9, 2_000), (u32::MAX, 2_000)] {
            let waits: Vec<u128> = (0..50).map(|_| drawn_wait(first, longest, times).as_millis()).collect();
            assert!(waits.iter().all(|wait| (whole / 2..=whole).contains(wait)), "{times}: {waits:?}");
            assert!(waits.iter().any(|wait| *wait != waits[0]), "{times}: all the same");
        }
    }
}
