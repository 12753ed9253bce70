//! What was paid for is kept: over restarts, kills and other processes; and budgets hold.
//!
//! The processes that are killed here are this test program itself, started to run one ignored test.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use vul2safe_llm::scripted::{Reply, ScriptedServer};
use vul2safe_llm::{
    Budget, Client, Endpoint, Limit, LlmError, Money, Options, Price, PriceTable, Request, Retry,
    read_transcript,
};

const REQUESTS: usize = 120;

fn options(folder: &Path) -> Options {
    Options {
        cache: Some(folder.join("answers.sqlite")),
        transcripts: Some(folder.join("transcripts")),
        concurrency: 8,
        retry: Retry { first_wait: Duration::from_millis(10), ..Retry::default() },
        ..Options::default()
    }
}

fn requests() -> impl Iterator<Item = Request> {
    (0..REQUESTS).map(|index| Request {
        record: Some(format!("record-{}", index / 4)),
        ..Request::user(format!("request {index}"))
    })
}

/// A server that answers after 15 ms with an answer of its own for each text.
fn server() -> ScriptedServer {
    ScriptedServer::start(|call| {
        Reply::answer(format!("answer to {}", call.last_message())).after(Duration::from_millis(15))
    })
    .expect("a port of 127.0.0.1")
}

/// Not a test of its own: the process that others start and kill.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let (Ok(base_url), Ok(folder)) = (std::env::var("LLM_TEST_SERVER"), std::env::var("LLM_TEST_FOLDER"))
    else {
        return;
    };
    let client = Client::new(Endpoint::new(base_url, "m"), options(Path::new(&folder))).expect("a client");
    let mut lines = Vec::new();
    client.complete_all(requests(), |index, result| {
        lines.push((index, result.expect("an answer").text));
    });
    lines.sort();
    let name = format!("answers-{}.txt", std::process::id());
    let text: String = lines.into_iter().map(|(index, text)| format!("{index} {text}\n")).collect();
    std::fs::write(Path::new(&folder).join(name), text).expect("written");
}

fn start_child(server: &ScriptedServer, folder: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "child", "--ignored"])
        .env("LLM_TEST_SERVER", server.base_url())
        .env("LLM_TEST_FOLDER", folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started")
}

fn finish(mut child: Child, folder: &Path) -> String {
    let id = child.id();
    assert!(child.wait().expect("ended").success());
    std::fs::read_to_string(folder.join(format!("answers-{id}.txt"))).expect("its answers")
}

/// How often each text was asked for.
fn times(server: &ScriptedServer) -> HashMap<String, usize> {
    let mut times = HashMap::new();
    for call in server.calls() {
        *times.entry(call.last_message()).or_default() += 1;
    }
    times
}

/// The answers that a killed process had committed, read as any SQLite program would.
fn committed(folder: &Path) -> usize {
    let Ok(connection) = rusqlite::Connection::open(folder.join("answers.sqlite")) else { return 0 };
    connection.query_row("SELECT count(*) FROM answers", [], |row| row.get::<_, i64>(0)).unwrap_or(0) as usize
}

#[test]
fn killed_at_any_moment_it_pays_for_no_finished_request_twice() {
    let undisturbed = {
        let (server, folder) = (server(), tempfile::tempdir().expect("a folder"));
        finish(start_child(&server, folder.path()), folder.path())
    };
    assert_eq!(undisturbed.lines().count(), REQUESTS);

    let (server, folder) = (server(), tempfile::tempdir().expect("a folder"));
    let mut kills = 0;
    let mut in_flight_at_kills = 0;
    for wanted in [1, 5, 17, 40, 77, 110] {
        let mut child = start_child(&server, folder.path());
        // Killed as soon as so many are kept: in the middle of the others.
        while committed(folder.path()) < wanted && child.try_wait().expect("asked").is_none() {
            std::thread::sleep(Duration::from_millis(3));
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
        kills += 1;
        // The server may still be reading what was sent.
        std::thread::sleep(Duration::from_millis(30));
        // What the server had been asked for and was not kept: at most what was on its way.
        let lost = server.call_count() - committed(folder.path()) - in_flight_at_kills;
        assert!(lost <= 8, "{lost} requests were lost by one kill");
        in_flight_at_kills += lost;
    }
    assert!(in_flight_at_kills > 0, "no kill met a request on its way");
    let answers = finish(start_child(&server, folder.path()), folder.path());
    assert_eq!(answers, undisturbed, "the same answers as without a kill");
    assert_eq!(server.call_count(), REQUESTS + in_flight_at_kills, "after {kills} kills");
    assert!(times(&server).len() == REQUESTS);

    // Nothing is asked for any more, and the transcripts name each exchange once.
    let before = server.call_count();
    assert_eq!(finish(start_child(&server, folder.path()), folder.path()), undisturbed);
    assert_eq!(server.call_count(), before);
    for record in 0..REQUESTS / 4 {
        let lines = read_transcript(&folder.path().join("transcripts"), &format!("record-{record}"));
        assert_eq!(lines.expect("a transcript").len(), 4, "record {record}");
    }
}

#[test]
fn two_processes_at_once_pay_once() {
    let (server, folder) = (server(), tempfile::tempdir().expect("a folder"));
    let (one, other) = (start_child(&server, folder.path()), start_child(&server, folder.path()));
    let (one, other) = (finish(one, folder.path()), finish(other, folder.path()));
    assert_eq!(one, other);
    let times = times(&server);
    assert!(times.len() == REQUESTS && times.values().all(|times| *times == 1), "{times:?}");
}

#[test]
fn claims_of_a_dead_process_are_taken_over_at_once() {
    let slow = ScriptedServer::start(|call| match call.number {
        0 => Reply::answer("never comes").with(vul2safe_llm::scripted::Fault::Silence),
        _ => Reply::answer("fine"),
    })
    .expect("a port of 127.0.0.1");
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = start_child(&slow, folder.path());
    while slow.call_count() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    let client = Client::new(Endpoint::new(slow.base_url(), "m"), options(folder.path())).expect("a client");
    for request in requests() {
        assert_eq!(client.complete(request).expect("not waited for the dead").text, "fine");
    }
}

#[test]
fn the_same_request_twice_at_once_is_paid_once() {
    let (server, folder) = (server(), tempfile::tempdir().expect("a folder"));
    let client =
        Client::new(Endpoint::new(server.base_url(), "m"), options(folder.path())).expect("a client");
    let mut cached = 0;
    client.complete_all((0..8).map(|_| Request::user("the same")), |_, result| {
        cached += usize::from(result.expect("an answer").cached);
    });
    assert_eq!((server.call_count(), cached, client.stats().shared), (1, 7, 7));
    // Another sample is another answer.
    client.complete(Request { sample: 1, ..Request::user("the same") }).expect("an answer");
    assert_eq!(server.call_count(), 2);
}

#[test]
fn errors_are_not_kept() {
    let server = ScriptedServer::start(|call| match call.number {
        0 => Reply::error(400, "not today"),
        _ => Reply::answer("fine"),
    })
    .expect("a port of 127.0.0.1");
    let folder = tempfile::tempdir().expect("a folder");
    let client =
        Client::new(Endpoint::new(server.base_url(), "m"), options(folder.path())).expect("a client");
    assert!(client.complete(Request::user("hello")).is_err());
    assert_eq!(client.complete(Request::user("hello")).expect("today").text, "fine");
}

/// The scripted answers are `answer to request N`: 10 tokens in, about 5 out.
fn with_budget(folder: &Path, budget: Budget) -> Options {
    let price = Price {
        model: "m".into(),
        host: None,
        input: Money::from_dollars(1.0).expect("an amount"),
        cached_input: None,
        output: Money::from_dollars(10.0).expect("an amount"),
        as_of: None,
    };
    Options { budget, prices: PriceTable::new(vec![price]), ..options(folder) }
}

fn short(request: Request) -> Request {
    Request { max_tokens: 50, ..request }
}

#[test]
fn a_budget_is_never_overrun_and_a_larger_one_goes_on_where_it_stopped() {
    let (server, folder) = (server(), tempfile::tempdir().expect("a folder"));
    let dollars = Money::from_dollars(0.004).expect("an amount");
    let run = |budget: Budget| {
        let options = with_budget(folder.path(), budget);
        let client = Client::new(Endpoint::new(server.base_url(), "m"), options).expect("a client");
        let (mut answered, mut stopped, mut other) = (0, 0, 0);
        client.complete_all(requests().map(short), |_, result| match result {
            Ok(response) => {
                assert!(response.cost.is_some());
                answered += 1;
            }
            Err(LlmError::BudgetExhausted { limit, spent }) => {
                assert_eq!(limit, Limit::Dollars(dollars));
                assert!(spent.most_dollars() <= dollars);
                stopped += 1;
            }
            Err(_) => other += 1,
        });
        (answered, stopped, other, client.stats())
    };
    let small = Budget { dollars: Some(dollars), ..Budget::default() };
    let (answered, stopped, other, stats) = run(small);
    assert!(answered > 40 && stopped > 20 && other == 0, "{answered} answered, {stopped} stopped: {stats}");
    assert!(stats.spent.dollars <= dollars, "{stats}");
    assert_eq!(server.call_count(), answered);

    // Started again with the same budget it sends nothing, and what is known costs nothing.
    let (again, stopped_again, _, stats) = run(small);
    assert_eq!((again, stopped_again, stats.paid, stats.cached), (answered, stopped, 0, answered as u64));
    assert_eq!(server.call_count(), answered);

    let (all, _, _, stats) = run(Budget { dollars: Money::from_dollars(1.0), ..Budget::default() });
    assert_eq!((all, server.call_count()), (REQUESTS, REQUESTS));
    assert_eq!(stats.spent.requests as usize, REQUESTS, "summed over all three starts");
}

#[test]
fn budgets_of_requests_tokens_and_time() {
    let (server, folder) = (server(), tempfile::tempdir().expect("a folder"));
    let run = |name: &str, budget: Budget| {
        let options = with_budget(&folder.path().join(name), budget);
        let client = Client::new(Endpoint::new(server.base_url(), "m"), options).expect("a client");
        let mut limits = Vec::new();
        client.complete_all(requests().map(short), |_, result| {
            if let Err(LlmError::BudgetExhausted { limit, .. }) = result {
                limits.push(limit);
            }
        });
        (client.stats(), limits)
    };
    let (stats, limits) = run("requests", Budget { requests: Some(30), ..Budget::default() });
    assert_eq!((stats.paid, limits.len(), limits[0]), (30, REQUESTS - 30, Limit::Requests(30)));
    let (stats, limits) = run("tokens", Budget { tokens: Some(1_000), ..Budget::default() });
    assert!(stats.spent.tokens() <= 1_000 && stats.paid > 20, "{stats}");
    assert_eq!(limits[0], Limit::Tokens(1_000));
    let (stats, limits) = run("time", Budget { seconds: Some(0), ..Budget::default() });
    assert_eq!((stats.attempts, limits.len(), limits[0]), (0, REQUESTS, Limit::Seconds(0)));
}

#[test]
fn a_budget_in_money_needs_a_price() {
    let folder = tempfile::tempdir().expect("a folder");
    let budget = Budget { dollars: Money::from_dollars(1.0), ..Budget::default() };
    let endpoint = Endpoint::new("http://127.0.0.1:9/v1", "a-model-of-my-own");
    let error = Client::new(endpoint, Options { budget, ..options(folder.path()) }).expect_err("no price");
    assert!(matches!(error, LlmError::PriceUnknown { .. }), "{error}");
    assert!(error.hint().expect("a hint").contains("[[price]] model = \"a-model-of-my-own\""));
}

#[test]
fn files_that_are_no_cache_are_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("answers.sqlite");
    let open = || Client::new(Endpoint::new("http://127.0.0.1:9/v1", "m"), options(folder.path()));
    std::fs::write(&path, "dear diary, ".repeat(100)).expect("written");
    let error = open().expect_err("a diary");
    assert!(matches!(error, LlmError::Cache { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "dear diary, ".repeat(100));

    std::fs::remove_file(&path).expect("removed");
    let other = rusqlite::Connection::open(&path).expect("opened");
    other.execute_batch("CREATE TABLE birds (name TEXT)").expect("made");
    drop(other);
    let error = open().expect_err("another program's");
    assert!(error.to_string().contains("another program"), "{error}");
}

#[test]
fn roles_with_other_models_share_cache_and_budget() {
    let (server, folder) = (server(), tempfile::tempdir().expect("a folder"));
    let budget = Budget { requests: Some(3), ..Budget::default() };
    let options = Options { budget, ..options(folder.path()) };
    let teacher = Client::new(Endpoint::new(server.base_url(), "teacher"), options).expect("a client");
    let judge = teacher.for_endpoint(Endpoint::new(server.base_url(), "judge")).expect("a client");
    for client in [&teacher, &judge, &teacher] {
        client.complete(Request::user("hello")).expect("an answer");
    }
    assert_eq!(server.call_count(), 2, "another model is another answer");
    assert_eq!((teacher.stats().paid, judge.stats().paid), (2, 2), "one account");
    judge.complete(Request::user("more")).expect("the third");
    assert!(matches!(teacher.complete(Request::user("a fourth")), Err(LlmError::BudgetExhausted { .. })));
}
