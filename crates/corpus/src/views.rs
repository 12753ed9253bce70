//! PrimeVul+ in the shapes that training libraries read: chats, prompt and completion, prompt and ground truth.
//!
//! TRL's names: `messages` (a conversation), `prompt` and `completion` (each a list of messages). Every prompt of a pair
//! becomes one row.

use serde_json::{Value, json};

use crate::RepairPair;

/// For supervised fine-tuning: `prompt` and `completion` as lists of messages; the completion is the secure function.
pub fn sft_rows(pair: &RepairPair) -> Vec<Value> {
    rows(pair, |request| json!({ "prompt": [user(request)], "completion": [assistant(&pair.secure)] }))
}

/// For supervised fine-tuning on conversations: `messages`.
pub fn chat_rows(pair: &RepairPair) -> Vec<Value> {
    rows(pair, |request| json!({ "messages": [user(request), assistant(&pair.secure)] }))
}

/// For reinforcement learning: `prompt`, and what a reward needs: both sides, their spans and the functional tests.
pub fn rl_rows(pair: &RepairPair) -> Vec<Value> {
    rows(pair, |request| {
        json!({
            "prompt": [user(request)],
            "vulnerable": pair.vulnerable,
            "secure": pair.secure,
            "spans": pair.spans,
            "functional_tests": pair.tests.as_ref().map_or("", |tests| tests.functional.as_str()),
            "processes": pair.tests.as_ref().map_or(0, |tests| tests.processes),
        })
    })
}

fn rows(pair: &RepairPair, row: impl Fn(&str) -> Value) -> Vec<Value> {
    pair.prompts
        .iter()
        .map(|prompt| {
            let mut row = row(&prompt.request());
            if let Value::Object(fields) = &mut row {
                fields.insert("id".into(), pair.id.clone().into());
                fields.insert("language".into(), pair.language.as_str().into());
                fields.insert("style".into(), prompt.style.clone().into());
                fields.insert("cwe".into(), json!(pair.cwe));
            }
            row
        })
        .collect()
}

fn user(content: &str) -> Value {
    json!({ "role": "user", "content": content })
}

fn assistant(content: &str) -> Value {
    json!({ "role": "assistant", "content": content })
}
