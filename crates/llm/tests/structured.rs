//! Answers in JSON: forms, complaints, servers that cannot.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vul2safe_llm::scripted::{Call, Reply, ScriptedServer};
use vul2safe_llm::{
    Client, Endpoint, LlmError, Options, Request, Role, StructuredAnswer, StructuredOutput, read_transcript,
};

/// A judgement.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Judgement {
    /// The better one: 1 or 2.
    better: u8,
    reason: String,
}

fn form() -> StructuredAnswer {
    StructuredAnswer::with_check::<Judgement>("judgement", |judgement| match judgement.better {
        1 | 2 => Ok(()),
        other => Err(format!("`better` is {other}; it must be 1 or 2")),
    })
}

fn request() -> Request {
    Request { structured: Some(form()), record: Some("record-1".into()), ..Request::user("Which is better?") }
}

fn start(script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> ScriptedServer {
    ScriptedServer::start(script).expect("a port of 127.0.0.1")
}

fn client(server: &ScriptedServer, options: Options) -> Client {
    Client::new(Endpoint::new(server.base_url(), "m"), options).expect("a client")
}

const GOOD: &str = r#"{"better": 2, "reason": "it binds the value"}"#;

#[test]
fn prose_around_the_json_is_taken_off() {
    let server = start(|_| Reply::answer(format!("Of course!\n```json\n{GOOD}\n```\nAnything else?")));
    let response = client(&server, Options::default()).complete(request()).expect("an answer");
    assert_eq!(response.text, GOOD);
    assert_eq!(response.value::<Judgement>().expect("a judgement").better, 2);
}

#[test]
fn what_was_wrong_goes_back_to_the_model() {
    let server = start(|call| {
        Reply::answer(match call.number {
            0 => r#"{"better": 7, "reason": "luck"}"#,
            1 => r#"{"better": 2}"#,
            _ => GOOD,
        })
    });
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { transcripts: Some(folder.path().into()), ..Options::default() };
    let client = client(&server, options);
    let response = client.complete(request()).expect("the third is right");
    assert_eq!((response.asks, client.stats().complaints), (3, 2));
    let last = server.calls()[2].json();
    let messages: Vec<&str> =
        last["messages"].as_array().expect("messages").iter().filter_map(|m| m["content"].as_str()).collect();
    assert_eq!(messages.len(), 5);
    assert!(messages[2].contains("`better` is 7; it must be 1 or 2"), "{}", messages[2]);
    assert!(messages[4].contains("missing field `reason`"), "{}", messages[4]);

    let lines = read_transcript(folder.path(), "record-1").expect("a transcript");
    let complaints: Vec<bool> = lines.iter().map(|line| line.complaint.is_some()).collect();
    assert_eq!(complaints, [true, true, false]);
    assert_eq!(lines[2].messages[1].role, Role::Assistant);

    // The whole dialogue stands in the cache, complaints and all.
    let again = client.complete(request()).expect("the same");
    assert_eq!((again.text, again.asks, again.cached), (response.text, 3, true));
    assert_eq!(server.call_count(), 3);
    assert_eq!(read_transcript(folder.path(), "record-1").expect("a transcript").len(), 3);
}

#[test]
fn a_model_that_never_learns_is_given_up() {
    let server = start(|_| Reply::answer("I would rather talk about it."));
    let error = client(&server, Options::default()).complete(request()).expect_err("no form");
    let LlmError::Invalid { asks: 3, complaints, last_answer, .. } = &error else { panic!("{error}") };
    assert!(complaints.len() == 3 && last_answer.contains("rather talk"), "{error:?}");
    assert!(!error.is_temporary());
    assert_eq!(server.call_count(), 3);
}

#[test]
fn a_cut_answer_is_asked_for_with_more_room() {
    let server = start(|call| match call.json()["max_tokens"].as_u64() {
        Some(400..) => Reply::answer(GOOD),
        _ => Reply::finished(&GOOD[..20], "length"),
    });
    let ask = |most_tokens| {
        let options = Options { most_tokens, ..Options::default() };
        client(&server, options).complete(Request { max_tokens: 100, ..request() })
    };
    assert_eq!(ask(800).expect("400 are enough").text, GOOD);
    let error = ask(200).expect_err("200 are not");
    assert_eq!(error, LlmError::Truncated { maximum_tokens: 200, asks: 2 });
}

#[test]
fn withheld_answers_are_not_asked_for_again() {
    let filtered = start(|_| Reply::finished("", "content_filter"));
    assert_eq!(client(&filtered, Options::default()).complete(request()), Err(LlmError::Filtered));
    let declined = start(|_| {
        let message = serde_json::json!({"content": null, "refusal": "I must not"});
        Reply::json(200, &serde_json::json!({"choices": [{"message": message, "finish_reason": "stop"}]}))
    });
    let error = client(&declined, Options::default()).complete(request()).expect_err("declined");
    assert_eq!(error, LlmError::Declined { text: "I must not".into() });
    assert_eq!(filtered.call_count() + declined.call_count(), 2);
}

#[test]
fn a_server_without_schemas_is_found_out_once() {
    let server = start(|call| match call.json()["response_format"]["type"].as_str() {
        Some("json_schema") => Reply::error(400, "response_format json_schema is not supported"),
        Some("json_object") => Reply::error(400, "unknown field response_format"),
        _ => Reply::answer(GOOD),
    });
    let client = client(&server, Options { concurrency: 1, ..Options::default() });
    for sample in 0..3 {
        assert_eq!(client.complete(Request { sample, ..request() }).expect("in words").text, GOOD);
    }
    assert_eq!(server.call_count(), 5, "two refusals, three answers");
    let calls = server.calls();
    let body = calls[4].json();
    let system = body["messages"][0]["content"].as_str().expect("a system message");
    assert!(system.contains("JSON Schema") && system.contains("\"better\""), "{system}");

    let strict =
        Endpoint { structured: StructuredOutput::JsonSchema, ..Endpoint::new(server.base_url(), "other") };
    let strict = client.for_endpoint(strict).expect("a client");
    let error = strict.complete(request()).expect_err("it was told to insist");
    assert!(matches!(error, LlmError::Refused { status: 400, .. }), "{error}");
}
