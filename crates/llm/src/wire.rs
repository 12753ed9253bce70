//! A request's body, the key of its answer, and how much it can cost at most.

use serde_json::{Map, Value, json};

use crate::account::Most;
use crate::canonical::{self, Key};
use crate::{Endpoint, Message, Price, Request, Role, StructuredOutput};

/// Layout of the keys: a change of what a request means makes all earlier answers others'.
const KEY_LAYOUT: u64 = 1;

/// One exchange of a dialogue: what a request has become after complaints.
pub(crate) struct Exchange<'request> {
    pub request: &'request Request,
    pub messages: &'request [Message],
    pub max_tokens: u32,
}

impl Exchange<'_> {
    /// The key of the answer: a hash of everything that changes it. How a server is asked for JSON counts as it is
    /// set, not as `auto` finds it, so that the cache answers also when the server cannot be asked.
    pub fn key(&self, endpoint: &Endpoint) -> Key {
        let form = self.request.structured.as_ref().map(|structured| {
            json!({ "name": structured.name(), "schema": structured.schema(), "by": endpoint.structured })
        });
        canonical::key(&json!({
            "layout": KEY_LAYOUT,
            "base_url": endpoint.base_url.trim_end_matches('/'),
            "model": endpoint.model,
            "body": self.fields(endpoint),
            "structured": form,
            "sample": self.request.sample,
            "prompt": self.request.prompt_version,
        }))
    }

    /// What is sent.
    pub fn body(&self, endpoint: &Endpoint, by: StructuredOutput) -> Value {
        let mut fields = self.fields(endpoint);
        if let Some(structured) = &self.request.structured {
            match by {
                StructuredOutput::Auto | StructuredOutput::JsonSchema => {
                    fields.insert("response_format".into(), structured.response_format());
                }
                StructuredOutput::JsonObject => {
                    fields.insert("response_format".into(), json!({ "type": "json_object" }));
                }
                StructuredOutput::Words => {}
            }
            if matches!(by, StructuredOutput::JsonObject | StructuredOutput::Words) {
                fields.insert(
                    "messages".into(),
                    json!(with_instruction(self.messages, &structured.instruction())),
                );
            }
        }
        Value::Object(fields)
    }

    /// All fields but the form.
    fn fields(&self, endpoint: &Endpoint) -> Map<String, Value> {
        let request = self.request;
        let mut fields = endpoint.extra_body.clone();
        fields.extend(request.extra.clone());
        fields.insert("model".into(), endpoint.model.clone().into());
        fields.insert("messages".into(), json!(self.messages));
        fields.insert(endpoint.token_limit_field.clone(), self.max_tokens.into());
        for (name, value) in [("temperature", request.temperature), ("top_p", request.top_p)] {
            if let Some(value) = value {
                fields.insert(name.into(), json!(value));
            }
        }
        if let Some(seed) = request.seed {
            // Servers read it as a signed number.
            let seed = seed.wrapping_add(u64::from(request.sample)) & i64::MAX as u64;
            fields.insert("seed".into(), seed.into());
        }
        if !request.stop.is_empty() {
            fields.insert("stop".into(), json!(request.stop));
        }
        fields
    }

    /// Bytes of all that a server counts as tokens in.
    fn bytes(&self) -> u64 {
        let messages: usize = self.messages.iter().map(|message| message.content.len()).sum();
        let form = self.request.structured.as_ref().map_or(0, |form| form.instruction().len());
        (messages + form) as u64
    }

    /// The most the exchange can cost: a token has a byte at least, and the server's chat template adds some around
    /// each message and before the first.
    pub fn most(&self, price: Option<&Price>) -> Most {
        const AROUND_A_MESSAGE: u64 = 32;
        const BEFORE_THE_FIRST: u64 = 256;
        let prompt_tokens = self.bytes() + AROUND_A_MESSAGE * self.messages.len() as u64 + BEFORE_THE_FIRST;
        let completion_tokens = u64::from(self.max_tokens);
        let usage = crate::Usage { prompt_tokens, completion_tokens, ..crate::Usage::default() };
        Most { prompt_tokens, completion_tokens, dollars: price.map(|price| price.cost(&usage)) }
    }

    /// Tokens it probably takes, for the pace; servers count the limit of the answer as if it were used.
    pub fn likely_tokens(&self) -> u64 {
        self.bytes().div_ceil(3) + u64::from(self.max_tokens)
    }
}

/// The instruction at the end of the system message, or in one of its own.
fn with_instruction(messages: &[Message], instruction: &str) -> Vec<Message> {
    let mut messages = messages.to_vec();
    match messages.first_mut() {
        Some(first) if first.role == Role::System => {
            first.content = format!("{}\n\n{instruction}", first.content);
        }
        _ => messages.insert(0, Message::system(instruction)),
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StructuredAnswer;

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[allow(dead_code, reason = "a form is all that is needed")]
    struct Form {
        good: bool,
    }

    fn key(endpoint: &Endpoint, request: &Request) -> Key {
        Exchange { request, messages: &request.messages, max_tokens: request.max_tokens }.key(endpoint)
    }

    /// Every field that changes the answer changes the key; labels do not.
    #[test]
    fn everything_that_changes_the_answer_is_in_the_key() {
        let endpoint = Endpoint::new("http://h/v1", "m");
        let request = Request::user("hello");
        let extra: Map<String, Value> = [("top_k".to_owned(), json!(5))].into_iter().collect();
        let others = [
            Request { messages: vec![Message::system("hello")], ..request.clone() },
            Request { messages: vec![Message::user("hello "), Message::user("")], ..request.clone() },
            Request { max_tokens: 1, ..request.clone() },
            Request { temperature: Some(0.5), ..request.clone() },
            Request { top_p: Some(0.5), ..request.clone() },
            Request { seed: Some(2), ..request.clone() },
            Request { sample: 1, ..request.clone() },
            Request { stop: vec!["x".into()], ..request.clone() },
            Request { structured: Some(StructuredAnswer::of::<Form>("form")), ..request.clone() },
            Request { structured: Some(StructuredAnswer::of::<Form>("other")), ..request.clone() },
            Request { extra: extra.clone(), ..request.clone() },
            Request { prompt_version: Some("hello-1".into()), ..request.clone() },
        ];
        let mut keys: Vec<Key> = others.iter().map(|other| key(&endpoint, other)).collect();
        keys.push(key(&endpoint, &request));
        keys.push(key(&Endpoint::new("http://h/v2", "m"), &request));
        keys.push(key(&Endpoint::new("http://h/v1", "n"), &request));
        let mut with_extra = Endpoint::new("http://h/v1", "m");
        with_extra.extra_body = [("top_k".to_owned(), json!(6))].into_iter().collect();
        keys.push(key(&with_extra, &request));
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);

        let labelled = Request { record: Some("r".into()), role: Some("judge".into()), ..request.clone() };
        assert_eq!(key(&endpoint, &labelled), key(&endpoint, &request));
        assert_eq!(key(&Endpoint::new("http://h/v1/", "m"), &request), key(&endpoint, &request));
    }

    #[test]
    fn a_server_without_schemas_is_told_the_form_in_words() {
        let endpoint = Endpoint::new("http://h/v1", "m");
        let request =
            Request { structured: Some(StructuredAnswer::of::<Form>("form")), ..Request::user("hello") };
        let exchange = Exchange { request: &request, messages: &request.messages, max_tokens: 9 };
        let by_schema = exchange.body(&endpoint, StructuredOutput::JsonSchema);
        assert_eq!(by_schema["response_format"]["json_schema"]["strict"], json!(true));
        assert_eq!(by_schema["messages"].as_array().map(Vec::len), Some(1));
        let by_object = exchange.body(&endpoint, StructuredOutput::JsonObject);
        assert_eq!(by_object["response_format"]["type"], json!("json_object"));
        let in_words = exchange.body(&endpoint, StructuredOutput::Words);
        assert!(in_words.get("response_format").is_none());
        assert!(in_words["messages"][0]["content"].as_str().expect("text").contains("JSON Schema"));
    }
}
