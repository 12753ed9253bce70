//! A server that proposes what was planted, and whose critics and judges err.

use serde_json::{Value, json};
use vul2safe_llm::scripted::{Call, Reply, ScriptedServer};
use vul2safe_llm::{Client, Endpoint, Options};
use vul2safe_repair::{LanguageTeacher, LanguageTeacherConfig, prompt_set};

/// What the server knows of a record; the record's description names the number of its case.
#[derive(Clone, Debug)]
pub struct Script {
    pub vulnerable: String,
    pub proposal: String,
    /// Whether the proposal is right: what judges are right or wrong about.
    pub is_right: bool,
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
    /// Whether someone is right about this case. Nobody outside of the server knows `rate`.
    fn is_right_about(&self, case: usize, who: &str) -> bool {
        let rate = 0.6 + 0.3 * draw(&["rate", &self.record.to_string()]);
        let case = case.to_string();
        if draw(&["echo", &case, who]) < ECHO {
            draw(&["general", &case]) < rate
        } else {
            draw(&["alone", &case, who]) < rate
        }
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
        "repair" => json!({ "plan": "Mend it.", "code": script.proposal }),
        "criticism" => {
            if script.is_right == script.is_right_about(case, "critic") {
                json!({ "search": "All of it.", "objections": [], "verdict": "sound" })
            } else {
                let quote = script.proposal.lines().find(|line| !line.trim().is_empty()).unwrap_or("x");
                json!({ "search": "All of it.", "verdict": "broken", "objections": [{
                    "kind": "weakness_remains", "claim": "an input gets through", "quote": quote.trim(),
                }] })
            }
        }
        "judgement" => {
            let says_right = script.is_right == script.is_right_about(case, &format!("judge {sample}"));
            // Which version stands first: the vulnerable one, unless only the other one is found before it.
            let place = |code: &str| message.find(code.trim_end()).unwrap_or(usize::MAX);
            let repaired_first = script.proposal != script.vulnerable && {
                let after = message.split("First version:").nth(1).unwrap_or("");
                after.split("Second version:").next().unwrap_or("").contains(script.proposal.trim_end())
                    && place(&script.proposal) <= place(&script.vulnerable)
            };
            let weak = match (says_right, repaired_first) {
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
