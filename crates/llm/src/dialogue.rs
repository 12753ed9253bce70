//! From a request to its answer: cache, flights, forms, complaints.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::cache::{Look, Stored};
use crate::canonical::Key;
use crate::send::{Paid, send};
use crate::shared::{Server, Shared};
use crate::stats::count;
use crate::structured::complain;
use crate::transcript::Entry;
use crate::wire::Exchange;
use crate::{Finish, LlmError, Message, Money, Request, Response, StructuredAnswer};

/// How often it is looked whether another process has its answer.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Paid,
    Cached,
    Shared,
}

/// The answer to a request, in the form it asks for.
pub(crate) async fn answer(
    shared: &Shared,
    server: &Server,
    request: &Request,
) -> Result<Response, LlmError> {
    request.check()?;
    let mut messages = request.messages.clone();
    let mut max_tokens = request.max_tokens;
    let mut cost = Some(Money::ZERO);
    let mut cached = true;
    let mut complaints = Vec::new();
    let mut last_answer = String::new();
    for asks in 1..=shared.options.asks {
        let exchange = Exchange { request, messages: &messages, max_tokens };
        let (stored, key, origin) = fetch(shared, server, &exchange).await?;
        cost = cost.zip(stored.cost).map(|(sum, cost)| sum + cost);
        cached &= origin != Origin::Paid;
        let outcome = match &request.structured {
            None => Ok(stored.text.clone()),
            Some(form) => read(form, &stored),
        };
        let complaint = outcome.as_ref().err().map(|complaint| complaint.words(max_tokens));
        if let (Some(transcripts), Some(record)) = (&shared.transcripts, &request.record) {
            let complaint = complaint.as_deref();
            transcripts.add(
                record,
                &Entry { request, messages: &messages, key, stored: &stored, origin, complaint },
            )?;
        }
        match outcome {
            Ok(text) => {
                return Ok(Response {
                    text,
                    reasoning: stored.reasoning,
                    finish: stored.finish,
                    usage: stored.usage,
                    cached,
                    cost,
                    model: stored.model,
                    asks,
                });
            }
            Err(Complaint::Final(error)) => return Err(error),
            Err(Complaint::Cut) => {
                let wider = max_tokens.saturating_mul(2).min(shared.options.most_tokens);
                if wider <= max_tokens || asks == shared.options.asks {
                    return Err(LlmError::Truncated { maximum_tokens: max_tokens, asks });
                }
                max_tokens = wider;
            }
            Err(Complaint::Form(words)) => {
                if !stored.text.trim().is_empty() {
                    messages.push(Message::assistant(&stored.text));
                }
                messages.push(Message::user(complain(&words)));
                complaints.push(words);
                last_answer = stored.text;
            }
        }
        count(&shared.counters.complaints);
    }
    let form = request.structured.as_ref().map_or("", StructuredAnswer::name).to_owned();
    Err(LlmError::Invalid { form, asks: shared.options.asks, complaints, last_answer })
}

/// Why a structured answer cannot be used.
enum Complaint {
    /// Asking again does not help.
    Final(LlmError),
    /// The limit of tokens cut it.
    Cut,
    /// It has not the form.
    Form(String),
}

impl Complaint {
    fn words(&self, max_tokens: u32) -> String {
        match self {
            Complaint::Final(error) => error.to_string(),
            Complaint::Cut => format!("it was cut at {max_tokens} tokens"),
            Complaint::Form(words) => words.clone(),
        }
    }
}

fn read(form: &StructuredAnswer, stored: &Stored) -> Result<String, Complaint> {
    match form.read(&stored.text) {
        Ok(json) => Ok(json.to_owned()),
        Err(words) => Err(match stored.finish {
            Finish::ContentFilter => Complaint::Final(LlmError::Filtered),
            Finish::Refusal => Complaint::Final(LlmError::Declined { text: stored.text.clone() }),
            Finish::Length => Complaint::Cut,
            Finish::Stop | Finish::Other(_) => Complaint::Form(words),
        }),
    }
}

/// The answer to one exchange, paid for only if nobody else has or is about to.
async fn fetch(
    shared: &Shared,
    server: &Server,
    exchange: &Exchange<'_>,
) -> Result<(Stored, Key, Origin), LlmError> {
    let key = exchange.key(&server.endpoint);
    loop {
        if let Some(landing) = join_flight(shared, key) {
            match landing.await {
                Ok(Ok(stored)) => {
                    count(&shared.counters.shared);
                    return Ok((stored, key, Origin::Shared));
                }
                Ok(Err(error)) => return Err(error),
                // The one that was fetching it was cut off: this request takes its place.
                Err(_) => continue,
            }
        }
        let flight = Flight { shared, key };
        let result = lead(shared, server, exchange, key).await;
        flight.land(&result);
        return result.map(|(stored, origin)| (stored, key, origin));
    }
}

/// Waits behind a request that is fetching the same answer; nothing when there is none, and the caller is the one.
fn join_flight(shared: &Shared, key: Key) -> Option<oneshot::Receiver<Result<Stored, LlmError>>> {
    let mut flights = shared.flights.lock().unwrap_or_else(PoisonError::into_inner);
    match flights.get_mut(&key) {
        Some(waiting) => {
            let (sender, receiver) = oneshot::channel();
            waiting.push(sender);
            Some(receiver)
        }
        None => {
            flights.insert(key, Vec::new());
            None
        }
    }
}

/// Ends the flight also when its task is cut off, so that those who wait do not wait for ever.
struct Flight<'shared> {
    shared: &'shared Shared,
    key: Key,
}

impl Flight<'_> {
    fn land(self, result: &Result<(Stored, Origin), LlmError>) {
        let mut flights = self.shared.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = flights.remove(&self.key).unwrap_or_default();
        drop(flights);
        for sender in waiting {
            let _ = sender.send(result.as_ref().map(|(stored, _)| stored.clone()).map_err(LlmError::clone));
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.shared.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

async fn lead(
    shared: &Shared,
    server: &Server,
    exchange: &Exchange<'_>,
    key: Key,
) -> Result<(Stored, Origin), LlmError> {
    let mut waited = false;
    loop {
        match shared.cache.look(key).await? {
            Look::Hit(stored) if waited => {
                count(&shared.counters.shared);
                return Ok((*stored, Origin::Shared));
            }
            Look::Hit(stored) => {
                count(&shared.counters.cached);
                return Ok((*stored, Origin::Cached));
            }
            Look::Claimed => break,
            Look::Busy => {
                waited = true;
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
    match send(shared, server, exchange).await {
        Ok(Paid { answer, cost, permit }) => {
            let stored = Stored {
                text: answer.text,
                reasoning: answer.reasoning,
                finish: answer.finish,
                usage: answer.usage,
                cost,
                model: answer.model,
            };
            if let Err(error) = shared.cache.store(key, stored.clone()).await {
                // The answer is there and goes to its caller; no other is paid for that cannot be kept either.
                let _ = shared.broken.set(error);
            }
            drop(permit);
            Ok((stored, Origin::Paid))
        }
        Err(error) => {
            shared.cache.release(key).await?;
            Err(error)
        }
    }
}
