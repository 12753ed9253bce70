//! A server that proposes what was planted, and whose critics and judges err.

use super::fenced::fenced;
use serde_json::{Value, json};
use vul2safe_llm::scripted::{Call, Reply, ScriptedServer};
use vul2safe_llm::{Client, Endpoint, Options};
use vul2safe_repair::{LanguageTeacher, LanguageTeacherConfig, prompt_set};

/// What the server knows of a record; the record's description names the number of its case.
#[derive(Clone, Debug)]
pub struct Script {
    /// What is proposed, and then at each revision, one after the other.
    pub proposals: Vec<String>,
    /// The proposals that are right: what judges are right or wrong about.
    pub right: Vec<String>,
    /// The record, which several cases share: those who judge it find it easy or hard.
    pub record: usize,
}

pub const JUDGES: u32 = 5;
const SEED: u64 = 1 << 20;
/// How often a judge says what is generally thought of the case instead of thinking alone: two judges' errors correlate by
/// the square of it, 0.2.
const ECHO: f64 = 0.447;

/// A number in [0, 1) that depends on all of these.
pub fn draw(parts: &[&str]) -> f64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    let first: [u8; 8] = hasher.finalize().as_bytes()[..8].try_into().unwrap();
    (u64::from_le_bytes(first) >> 11) as f64 / (1_u64 << 53) as f64
}

impl Script {
    /// Whether someone takes a proposal for right. Nobody outside of the server knows `rate`.
    fn takes_for_right(&self, text: &str, who: &str) -> bool {
        let is_right = self.right.iter().any(|right| right.trim_end() == text.trim_end());
        let record = self.record.to_string();
        let rate = 0.6 + 0.3 * draw(&["rate", &record]);
        let knows = if draw(&["echo", &record, text.trim_end(), who]) < ECHO {
            draw(&["general", &record, text.trim_end()]) < rate
        } else {
            draw(&["alone", &record, text.trim_end(), who]) < rate
        };
        is_right == knows
    }
}

fn answer(call: &Call, scripts: &[Script]) -> Value {
    let message = call.last_message();
    let (_, rest) = message.split_once("case-").expect("the case is named");
    let case: usize = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
    let script = &scripts[case];
    let body = call.json();
    let form = body["response_format"]["json_schema"]["name"].as_str().unwrap_or_default().to_owned();
    let sample = body["seed"].as_u64().unwrap_or(SEED) - SEED;
    match form.as_str() {
        "analysis" => {
            json!({ "explanation": format!("case-{case} has a weakness."), "cwe": [], "quotes": [] })
        }
        "repair" => {
            // A revision is shown the code before and after: the proposal behind that one is the next.
            let texts = fenced(&message);
            let is_revision =
                body["messages"][0]["content"].as_str().unwrap_or("").contains("A repair was rejected");
            let last = is_revision.then(|| {
                let shown = |proposal: &String| {
                    texts.iter().skip(2).any(|text| text.trim_end() == proposal.trim_end())
                };
                script.proposals.iter().position(shown)
            });
            let next = last.flatten().map_or(0, |last| last + 1).min(script.proposals.len() - 1);
            json!({ "plan": "Mend it.", "code": script.proposals[next] })
        }
        "criticism" => {
            let repaired = fenced(&message).swap_remove(2);
            if script.takes_for_right(&repaired, "critic") {
                json!({ "search": "All of it.", "objections": [], "verdict": "sound" })
            } else {
                let quote = repaired.lines().find(|line| !line.trim().is_empty()).unwrap_or("x");
                json!({ "search": "All of it.", "verdict": "broken", "objections": [{
                    "kind": "weakness_remains", "claim": "an input gets through", "quote": quote.trim(),
                }] })
            }
        }
        "judgement" => {
            let texts = fenced(&message);
            let is_repaired =
                |text: &str| script.proposals.iter().any(|proposal| proposal.trim_end() == text.trim_end());
            let repaired_first = is_repaired(&texts[1]);
            let repaired = &texts[if repaired_first { 1 } else { 2 }];
            let weak = match (script.takes_for_right(repaired, &format!("judge {sample}")), repaired_first) {
                (true, false) => "first",
                (true, true) => "second",
                (false, _) => "both",
            };
            json!({ "reasoning": "Followed the input.", "weakness_in": weak, "same_behaviour": true })
        }
        other => panic!("an unknown form `{other}`"),
    }
}

/// The server, and a teacher that asks it.
pub fn teacher(scripts: Vec<Script>) -> (ScriptedServer, LanguageTeacher) {
    let server =
        ScriptedServer::start(move |call| Reply::answer(answer(call, &scripts).to_string())).unwrap();
    let options = Options { concurrency: 32, ..Options::default() };
    let client = Client::new(Endpoint::new(server.base_url(), "teacher"), options).unwrap();
    let other = |model: &str| client.for_endpoint(Endpoint::new(server.base_url(), model)).unwrap();
    let (critic, judge) = (other("critic"), other("judge"));
    let config = LanguageTeacherConfig {
        proposals: 1,
        judges: JUDGES,
        requests: 0,
        seed: Some(SEED),
        ..LanguageTeacherConfig::default()
    };
    (server, LanguageTeacher::new(client, critic, judge, prompt_set(None).unwrap(), config))
}
