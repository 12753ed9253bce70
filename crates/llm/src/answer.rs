//! Reads what a server sends: answers, errors, token counts, when to come back.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::account::Most;
use crate::{Count, Finish, Usage};

/// An answer, with the token counts as far as they can be believed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub text: String,
    pub reasoning: Option<String>,
    pub finish: Finish,
    pub usage: Usage,
    pub model: String,
}

/// Why a body with status 200 is no answer.
#[derive(Debug, PartialEq)]
pub(crate) enum NoAnswer {
    /// It is not what a chat completion looks like.
    Broken(String),
    /// An error that a proxy in between has put into a body with status 200: its status, where it names one, and
    /// words.
    Error(u16, String),
}

/// Reads the body of a chat completion. Fields beside the answer that have an unexpected form are taken as missing.
pub(crate) fn read(body: &[u8], most: &Most) -> Result<Answer, NoAnswer> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| NoAnswer::Broken(format!("no JSON: {error}")))?;
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        let status = error.get("code").and_then(number).and_then(|code| u16::try_from(code).ok());
        return Err(NoAnswer::Error(
            status.filter(|status| (400..600).contains(status)).unwrap_or(500),
            message(body),
        ));
    }
    let broken = |what: &str| NoAnswer::Broken(what.to_owned());
    let choice = value.pointer("/choices/0").ok_or_else(|| broken("there is no choice in it"))?;
    let message = choice.get("message").ok_or_else(|| broken("its choice has no message"))?;
    let refusal = message.get("refusal").and_then(Value::as_str).filter(|text| !text.is_empty());
    let text = match message.get("content") {
        None | Some(Value::Null) => refusal.unwrap_or_default().to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
        }
        Some(_) => return Err(broken("its content is no text")),
    };
    let reasoning = ["reasoning_content", "reasoning"]
        .iter()
        .find_map(|field| message.get(*field).and_then(Value::as_str))
        .filter(|text| !text.is_empty())
        .map(str::to_owned);
    let finish = match choice.get("finish_reason").and_then(Value::as_str).unwrap_or_default() {
        _ if refusal.is_some() => Finish::Refusal,
        "stop" | "eos" => Finish::Stop,
        "length" | "max_tokens" => Finish::Length,
        "content_filter" => Finish::ContentFilter,
        other => Finish::Other(other.to_owned()),
    };
    let written = (text.len() + reasoning.as_ref().map_or(0, String::len)) as u64;
    let usage = usage(value.get("usage"), written, most);
    let model = value.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Answer { text, reasoning, finish, usage, model })
}

/// The counts, or the most that they can be where the server gives none or impossible ones.
fn usage(reported: Option<&Value>, written: u64, most: &Most) -> Usage {
    let at_most = |count| Usage {
        prompt_tokens: most.prompt_tokens,
        cached_prompt_tokens: 0,
        completion_tokens: most.completion_tokens.max(written),
        count,
    };
    let field = |name: &str| reported.and_then(|usage| usage.get(name));
    let (Some(prompt), Some(completion)) = (field("prompt_tokens"), field("completion_tokens")) else {
        return at_most(Count::Missing);
    };
    let (Some(prompt_tokens), Some(mut completion_tokens)) = (number(prompt), number(completion)) else {
        return at_most(Count::Implausible);
    };
    let cached_prompt_tokens = reported
        .and_then(|usage| usage.pointer("/prompt_tokens_details/cached_tokens"))
        .and_then(number)
        .unwrap_or(0);
    let sum = prompt_tokens.saturating_add(completion_tokens);
    if let Some(total) = field("total_tokens").and_then(number) {
        if total < sum {
            return at_most(Count::Implausible);
        }
        // Some servers count reasoning in the total alone.
        completion_tokens = completion_tokens.saturating_add(total - sum);
    }
    // A byte is a token at most, in or out; the limit bounds the answer unless the server ignores it.
    let possible = (1..=most.prompt_tokens).contains(&prompt_tokens)
        && cached_prompt_tokens <= prompt_tokens
        && completion_tokens <= most.completion_tokens.max(written.saturating_add(16))
        && (completion_tokens > 0 || written == 0);
    if !possible {
        return at_most(Count::Implausible);
    }
    Usage { prompt_tokens, cached_prompt_tokens, completion_tokens, count: Count::Reported }
}

/// A whole number, also one spelled `12.0`.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        (number >= 0.0 && number.fract() == 0.0 && number < 1e15).then_some(number as u64)
    })
}

/// Characters of a server's words that are kept.
const LONGEST_MESSAGE: usize = 500;

/// The words of an error's body.
pub(crate) fn message(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let said = ["/error/message", "/error", "/message", "/detail", "/error/code"]
        .iter()
        .find_map(|pointer| value.pointer(pointer).and_then(Value::as_str))
        .map(str::to_owned);
    let said = said.unwrap_or_else(|| text.split_whitespace().collect::<Vec<_>>().join(" "));
    if said.is_empty() { "(it says nothing)".into() } else { excerpt(&said, LONGEST_MESSAGE) }
}

/// The beginning of a text.
pub(crate) fn excerpt(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Whether the words of status 429 mean that there is no money left, which waiting does not change.
pub(crate) fn is_out_of_quota(body: &[u8]) -> bool {
    let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    ["/error/code", "/error/type"]
        .iter()
        .any(|pointer| value.pointer(pointer).and_then(Value::as_str) == Some("insufficient_quota"))
}

/// When the server wants to be asked again: `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date
/// (RFC 9110, section 10.2.3). Nothing for what is neither.
pub(crate) fn retry_after(headers: &HeaderMap, now: jiff::Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    // No server means a wait of more than a day; a larger number must not overflow a clock.
    let seconds = |seconds: f64| (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(86_400.0)));
    if let Some(milliseconds) = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok()) {
        return seconds(milliseconds / 1000.0);
    }
    let after = text("retry-after")?;
    if let Ok(number) = after.parse::<f64>() {
        return seconds(number);
    }
    let date = jiff::fmt::rfc2822::parse(after).ok()?;
    seconds(date.timestamp().duration_since(now).as_secs_f64().max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;
    use serde_json::json;

    const MOST: Most = Most { prompt_tokens: 100, completion_tokens: 50, dollars: None };

    fn read_value(value: &Value) -> Result<Answer, NoAnswer> {
        read(value.to_string().as_bytes(), &MOST)
    }

    fn with_usage(usage: Value) -> Usage {
        let value =
            json!({"choices": [{"message": {"content": "four"}, "finish_reason": "stop"}], "usage": usage});
        read_value(&value).expect("an answer").usage
    }

    #[test]
    fn token_counts_are_believed_only_where_they_are_possible() {
        let good = with_usage(json!({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}));
        assert_eq!((good.prompt_tokens, good.completion_tokens, good.count), (10, 2, Count::Reported));
        let reasoning = with_usage(json!({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 32}));
        assert_eq!((reasoning.completion_tokens, reasoning.count), (22, Count::Reported));
        for missing in [json!(null), json!({}), json!({"prompt_tokens": 4}), json!("many")] {
            assert_eq!(with_usage(missing.clone()).count, Count::Missing, "{missing}");
        }
        for wrong in [
            json!({"prompt_tokens": 0, "completion_tokens": 2}),
            json!({"prompt_tokens": 10, "completion_tokens": 0}),
            json!({"prompt_tokens": 10, "completion_tokens": -2}),
            json!({"prompt_tokens": 10, "completion_tokens": 1e18}),
            json!({"prompt_tokens": 101, "completion_tokens": 2}),
            json!({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 5}),
            json!({"prompt_tokens": "10", "completion_tokens": "2"}),
        ] {
            let usage = with_usage(wrong.clone());
            assert_eq!(usage.count, Count::Implausible, "{wrong}");
            assert_eq!((usage.prompt_tokens, usage.completion_tokens), (100, 50), "{wrong}");
        }
    }

    #[test]
    fn answers_of_every_shape() {
        let choice = |message: Value, finish: Value| json!({"choices": [{"message": message, "finish_reason": finish}]});
        let parts = json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
        assert_eq!(read_value(&choice(parts, json!("stop"))).expect("parts").text, "ab");
        let thinking = json!({"content": null, "reasoning_content": "hm"});
        let answer = read_value(&choice(thinking, json!("length"))).expect("reasoning");
        assert_eq!((answer.text.as_str(), answer.reasoning.as_deref()), ("", Some("hm")));
        assert_eq!(answer.finish, Finish::Length);
        let refusal = json!({"content": null, "refusal": "I cannot"});
        let answer = read_value(&choice(refusal, json!("stop"))).expect("refusal");
        assert_eq!((answer.text.as_str(), answer.finish), ("I cannot", Finish::Refusal));
        let unnamed = read_value(&choice(json!({"content": "x"}), json!(null))).expect("no reason");
        assert_eq!(unnamed.finish, Finish::Other(String::new()));
        for broken in [json!({}), json!([]), json!({"choices": []}), json!({"choices": [{"text": "old"}]})] {
            assert!(matches!(read_value(&broken), Err(NoAnswer::Broken(_))), "{broken}");
        }
        let hidden = json!({"error": {"code": 429, "message": "slow down"}});
        assert_eq!(read_value(&hidden), Err(NoAnswer::Error(429, "slow down".into())));
    }

    #[test]
    fn words_of_an_error() {
        assert_eq!(message(br#"{"error": {"message": "no such model"}}"#), "no such model");
        assert_eq!(message(br#"{"error": "model not found"}"#), "model not found");
        assert_eq!(message(br#"{"detail": "Not Found"}"#), "Not Found");
        assert_eq!(message(b"<html>\n  502 Bad Gateway</html>"), "<html> 502 Bad Gateway</html>");
        assert_eq!(message(b""), "(it says nothing)");
        assert!(message("ü".repeat(10_000).as_bytes()).chars().count() <= LONGEST_MESSAGE + 1);
    }

    #[test]
    fn when_to_come_back() {
        let now: jiff::Timestamp = "2015-10-21T07:27:30Z".parse().expect("a time");
        let after = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            retry_after(&headers, now).map(|wait| wait.as_secs_f64())
        };
        assert_eq!(after("retry-after", "7"), Some(7.0));
        assert_eq!(after("retry-after", "0.5"), Some(0.5));
        assert_eq!(after("retry-after-ms", "250"), Some(0.25));
        assert_eq!(after("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"), Some(30.0));
        assert_eq!(after("retry-after", "Wed, 21 Oct 2015 07:00:00 GMT"), Some(0.0));
        assert_eq!(after("retry-after", "1e300"), Some(86_400.0));
        for nonsense in ["soon", "", "-5", "NaN"] {
            assert_eq!(after("retry-after", nonsense), None, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (read(&body, &MOST), message(&body), is_out_of_quota(&body));
        }
    }
}
