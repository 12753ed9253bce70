//! What servers and networks do wrong, over a real socket.

use std::time::{Duration, Instant};

use serde_json::json;
use vul2safe_llm::scripted::{Call, Fault, Reply, ScriptedServer};
use vul2safe_llm::{Client, Count, Endpoint, Finish, LlmError, Options, Phase, Request, Retry, Timeouts};

fn server(script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> ScriptedServer {
    ScriptedServer::start(script).expect("a port of 127.0.0.1")
}

/// Short waits, so that the tests are quick.
fn options() -> Options {
    Options {
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            attempt: Duration::from_millis(600),
            stalled: Duration::from_millis(200),
            deadline: Duration::from_secs(8),
        },
        retry: Retry {
            attempts: 3,
            first_wait: Duration::from_millis(10),
            longest_wait: Duration::from_millis(50),
        },
        ..Options::default()
    }
}

fn client(server: &ScriptedServer, options: Options) -> Client {
    Client::new(Endpoint::new(server.base_url(), "m"), options).expect("a client")
}

fn ask(server: &ScriptedServer) -> (Result<vul2safe_llm::Response, LlmError>, Client) {
    let client = client(server, options());
    (client.complete(Request::user("hello")), client)
}

/// A script that does each of these in turn and then answers `fine`.
fn first(replies: Vec<Reply>) -> ScriptedServer {
    server(move |call| replies.get(call.number).cloned().unwrap_or_else(|| Reply::answer("fine")))
}

#[test]
fn a_good_answer_costs_one_request() {
    let server = server(|_| Reply::answer("fine"));
    let (response, client) = ask(&server);
    let response = response.expect("an answer");
    assert_eq!((response.text.as_str(), response.finish, response.asks), ("fine", Finish::Stop, 1));
    assert_eq!((response.cached, response.cost, response.model.as_str()), (false, None, "scripted-1"));
    let stats = client.stats();
    assert_eq!((stats.paid, stats.attempts, stats.spent.unpriced), (1, 1, 1), "{stats}");
    assert!(stats.to_string().contains("price not known"), "{stats}");
    let call = &server.calls()[0];
    assert!(call.head.starts_with("POST /v1/chat/completions HTTP/1.1"), "{}", call.head);
    assert_eq!(call.header("authorization"), None);
}

#[test]
fn the_key_goes_to_the_server_and_nowhere_else() {
    let server = server(|call| {
        let key = call.header("authorization").unwrap_or_default().to_owned();
        Reply::error(400, &format!("Incorrect API key provided: {key}"))
    });
    // Cargo sets this variable for every test; its value plays the key.
    let endpoint =
        Endpoint { key_variable: Some("CARGO_PKG_NAME".into()), ..Endpoint::new(server.base_url(), "m") };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("answers.sqlite");
    let client = Client::new(endpoint, Options { cache: Some(path.clone()), ..options() }).expect("a client");
    let error = client.complete(Request::user("hello")).expect_err("refused");
    assert_eq!(server.calls()[0].header("authorization"), Some("Bearer vul2safe-llm"));
    let printed = format!("{error} {error:?} {client:?} {:?}", error.hint());
    assert!(!printed.contains("vul2safe-llm") && printed.contains("Bearer [key]"), "{printed}");
    drop(client);
    let kept = std::fs::read(&path).expect("the cache");
    assert!(!kept.windows(12).any(|window| window == b"vul2safe-llm"));
}

#[test]
fn too_many_requests_are_waited_out_for_as_long_as_the_server_says() {
    let server = first(vec![
        Reply::error(429, "slow down").with_header("Retry-After", "1"),
        Reply::error(429, "slow down").with_header("retry-after-ms", "300"),
    ]);
    let started = Instant::now();
    let (response, client) = ask(&server);
    assert_eq!(response.expect("an answer").text, "fine");
    assert!(started.elapsed() >= Duration::from_millis(1_300), "{:?}", started.elapsed());
    assert_eq!(
        (client.stats().attempts, client.stats().retries, client.stats().spent.unconfirmed),
        (3, 2, 0)
    );
}

#[test]
fn a_date_to_come_back_at_is_kept() {
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2);
    let date = until.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let server = first(vec![Reply::error(503, "back soon").with_header("Retry-After", &date)]);
    let (response, _) = ask(&server);
    assert_eq!(response.expect("an answer").text, "fine");
    let at = until.as_second();
    assert!(jiff::Timestamp::now().as_second() >= at, "came back before {date}");
}

#[test]
fn one_busy_answer_holds_back_all_requests_to_that_server() {
    let server = server(|call| match call.number {
        0 => Reply::error(429, "slow down").with_header("Retry-After", "1"),
        _ => Reply::answer("fine"),
    });
    let client = client(&server, Options { concurrency: 1, ..options() });
    let started = Instant::now();
    let mut times = Vec::new();
    client.complete_all((0..4).map(|sample| Request { sample, ..Request::user("hello") }), |_, result| {
        result.expect("an answer");
        times.push(started.elapsed());
    });
    assert!(times.iter().all(|time| *time >= Duration::from_secs(1)), "{times:?}");
    assert_eq!(server.call_count(), 5);
}

#[test]
fn a_wait_beyond_the_deadline_is_not_begun() {
    let server = server(|_| Reply::error(429, "come back tomorrow").with_header("Retry-After", "86400"));
    let started = Instant::now();
    let (response, _) = ask(&server);
    let error = response.expect_err("busy");
    assert!(matches!(error, LlmError::Overloaded { status: 429, attempts: 1, .. }), "{error}");
    assert!(error.is_temporary() && started.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_server_that_fails_twice_is_asked_a_third_time_and_no_more() {
    let good = first(vec![Reply::error(500, "oops"), Reply::error(502, "oops")]);
    assert_eq!(ask(&good).0.expect("an answer").text, "fine");
    let bad = server(|_| Reply::error(500, "oops"));
    let error = ask(&bad).0.expect_err("it fails");
    assert!(
        matches!(&error, LlmError::Overloaded { status: 500, attempts: 3, message, .. } if message == "oops")
    );
    assert_eq!(bad.call_count(), 3);
}

#[test]
fn a_refusal_is_not_repeated_and_its_words_are_kept() {
    let server = server(|_| Reply::error(400, "maximum context length is 8192 tokens"));
    let (response, client) = ask(&server);
    let error = response.expect_err("refused");
    assert!(error.to_string().contains("maximum context length is 8192 tokens"), "{error}");
    assert!(!error.is_temporary());
    assert_eq!((server.call_count(), client.stats().errors["refused"]), (1, 1));
}

#[test]
fn a_wrong_key_stops_all_requests_to_that_server() {
    for (status, message) in [(401, "no such key"), (404, "no such model")] {
        let server = server(move |_| Reply::error(status, message));
        let client = client(&server, Options { concurrency: 1, ..options() });
        let mut errors = 0;
        client.complete_all(
            (0..20).map(|sample| Request { sample, ..Request::user("hello") }),
            |_, result| {
                assert!(
                    matches!(result, Err(LlmError::Refused { status: s, .. }) if s == status),
                    "{result:?}"
                );
                errors += 1;
            },
        );
        assert_eq!((errors, server.call_count()), (20, 1));
    }
}

#[test]
fn no_money_left_is_not_waited_for() {
    let server = server(|_| {
        Reply::json(429, &json!({"error": {"message": "no quota", "code": "insufficient_quota"}}))
    });
    assert!(matches!(ask(&server).0, Err(LlmError::Refused { status: 429, .. })));
    assert_eq!(server.call_count(), 1);
}

#[test]
fn silence_ends_with_the_attempt_and_may_have_cost() {
    let server = first(vec![Reply::answer("lost").with(Fault::Silence)]);
    let (response, client) = ask(&server);
    assert_eq!(response.expect("an answer").text, "fine");
    assert_eq!((client.stats().spent.requests, client.stats().spent.unconfirmed), (1, 1));
    assert!(client.stats().spent.unconfirmed_tokens >= 2_048, "the most it can have been");
}

#[test]
fn connections_that_stall_or_break_in_the_middle_are_replaced() {
    for fault in [Fault::Stall, Fault::Close, Fault::Hang] {
        let server = first(vec![Reply::answer("lost in the middle").with(fault)]);
        let (response, client) = ask(&server);
        assert_eq!(response.expect("an answer").text, "fine", "{fault:?}");
        assert_eq!(client.stats().spent.unconfirmed, 1, "{fault:?}");
    }
    let server = server(|_| Reply::answer("lost").with(Fault::Stall));
    let error = ask(&server).0.expect_err("it always stalls");
    assert!(matches!(error, LlmError::TimedOut { phase: Phase::Stalled, attempts: 3, .. }), "{error}");
}

#[test]
fn a_drip_is_waited_for_within_the_attempts_time() {
    let pause = Duration::from_millis(20);
    let slow = first(vec![Reply::answer("drop by drop").with(Fault::Drip(40, pause))]);
    assert_eq!(ask(&slow).0.expect("an answer").text, "drop by drop");
    // Never 200 ms without a byte, and still not done in 600.
    let slower = server(move |_| Reply::answer("drop by drop").with(Fault::Drip(1, pause)));
    let error = ask(&slower).0.expect_err("too slow");
    assert!(matches!(error, LlmError::TimedOut { phase: Phase::Attempt, .. }), "{error}");
}

#[test]
fn nobody_there() {
    // A port that was free a moment ago and that nobody listens on.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port of 127.0.0.1");
    let base_url = format!("http://{}/v1", listener.local_addr().expect("its address"));
    drop(listener);
    let client = Client::new(Endpoint::new(base_url, "m"), options()).expect("a client");
    let error = client.complete(Request::user("hello")).expect_err("nobody");
    assert!(matches!(error, LlmError::Unreachable { attempts: 3, .. }), "{error}");
    assert_eq!(client.stats().spent.unconfirmed, 0, "what was never sent costs nothing");
}

#[test]
fn bodies_that_are_no_answer_are_asked_for_again() {
    let text = |body: &str| Reply { body: body.as_bytes().to_vec(), ..Reply::answer("") };
    let half = Reply::answer("fine").body;
    for broken in [
        text(""),
        text("<html>Bad Gateway</html>"),
        text("{\"choices\": []}"),
        text("{\"choices\": [{\"message\": {\"content\": 7}}]}"),
        Reply { body: half[..half.len() / 2].to_vec(), ..Reply::answer("") },
        Reply { body: vec![0xff, 0xfe, 0x00], ..Reply::answer("") },
    ] {
        let server = first(vec![broken.clone()]);
        assert_eq!(ask(&server).0.expect("an answer").text, "fine");
        let server = server_of(broken);
        let error = ask(&server).0.expect_err("always broken");
        assert!(matches!(error, LlmError::BrokenAnswer { attempts: 3, .. }), "{error}");
    }
    // A proxy's way of saying 503.
    let hidden = Reply::json(200, &json!({"error": {"code": 503, "message": "no worker"}}));
    assert_eq!(ask(&first(vec![hidden])).0.expect("an answer").text, "fine");
}

fn server_of(reply: Reply) -> ScriptedServer {
    server(move |_| reply.clone())
}

#[test]
fn wrong_and_missing_token_counts_are_booked_at_their_most() {
    for (usage, count) in [
        (json!(null), Count::Missing),
        (json!({"prompt_tokens": 1_000_000_000_000_u64, "completion_tokens": 1}), Count::Implausible),
        (json!({"prompt_tokens": 3, "completion_tokens": 0}), Count::Implausible),
        (json!({"prompt_tokens": 3, "completion_tokens": -5}), Count::Implausible),
    ] {
        let body =
            json!({"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}], "usage": usage});
        let server = server_of(Reply::json(200, &body));
        let (response, client) = ask(&server);
        let response = response.expect("an answer");
        assert_eq!((response.usage.count, response.usage.completion_tokens), (count, 2_048), "{usage}");
        assert_eq!(client.stats().spent.completion_tokens, 2_048);
        assert_eq!(client.stats().counts_missing + client.stats().counts_implausible, 1);
    }
}

#[test]
fn cut_and_filtered_answers_say_so() {
    let cut = server(|_| Reply::finished("it goes on and", "length"));
    assert_eq!(ask(&cut).0.expect("an answer").finish, Finish::Length);
    let filtered = server(|_| Reply::finished("", "content_filter"));
    assert_eq!(ask(&filtered).0.expect("an answer").finish, Finish::ContentFilter);
}

#[test]
fn requests_that_no_server_could_answer_are_not_sent() {
    let server = server(|_| Reply::answer("fine"));
    let client = client(&server, options());
    let hello = || Request::user("hello");
    for request in [
        Request::default(),
        Request { max_tokens: 0, ..hello() },
        Request { temperature: Some(f64::NAN), ..hello() },
        Request { top_p: Some(1.5), ..hello() },
        Request { extra: [("stream".to_owned(), json!(true))].into_iter().collect(), ..hello() },
    ] {
        let error = client.complete(request).expect_err("not sent");
        assert!(matches!(error, LlmError::BadRequest { .. } | LlmError::BadEndpoint { .. }), "{error}");
    }
    assert_eq!(server.call_count(), 0);
}

#[test]
fn many_threads_may_call_at_once_and_see_what_is_going_on() {
    let server = server(|call| Reply::answer(call.last_message()).after(Duration::from_millis(100)));
    let client = client(&server, options());
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let client = &client;
            scope.spawn(move || {
                let text = format!("hello {thread}");
                assert_eq!(client.complete(Request::user(&text)).expect("an answer").text, text);
            });
        }
        let mut most = 0;
        while client.stats().answered < 16 {
            most = most.max(client.stats().in_flight);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(most > 1, "they were never on their way together");
    });
    let stats = client.stats();
    assert_eq!((stats.open, stats.in_flight, stats.paid), (0, 0, 16));
}
