//! `data build` with language models, against a scripted server.

mod common;

use std::fs;

use common::{stderr, succeeded, vul2safe};
use serde_json::{Value, json};
use vul2safe_llm::scripted::{Call, Reply, ScriptedServer};

const VULNERABLE: &str = "def find_user(conn, name):\n    \"\"\"Return the row of the user with this name.\"\"\"\n    query = \"SELECT * FROM users WHERE name = '%s'\" % name\n    return conn.execute(query).fetchone()\n";
const SECURE: &str = "def find_user(conn, name):\n    \"\"\"Return the row of the user with this name.\"\"\"\n    query = \"SELECT * FROM users WHERE name = ?\"\n    return conn.execute(query, (name,)).fetchone()\n";

/// A model that knows this one function.
fn model(call: &Call) -> Reply {
    let form = call.json()["response_format"]["json_schema"]["name"].clone();
    let weak_first = call.last_message().find("'%s'") < call.last_message().find("name = ?");
    let answer: Value = match form.as_str().unwrap_or_default() {
        "analysis" => {
            json!({"explanation": "The name becomes a part of the query.", "cwe": ["CWE-89"], "quotes": []})
        }
        "repair" => json!({"plan": "bind", "code": SECURE}),
        "criticism" => json!({"search": "", "objections": [], "verdict": "sound"}),
        "judgement" => {
            let weakness_in = if weak_first { "first" } else { "second" };
            json!({"reasoning": "", "weakness_in": weakness_in, "same_behaviour": true})
        }
        _ => json!({"requests": [{"style": "issue", "text": "find_user(conn, name) is missing."}]}),
    };
    Reply::answer(answer.to_string())
}

#[test]
fn a_record_without_a_fix_gets_one_and_a_used_up_budget_goes_on_later() {
    let server = ScriptedServer::start(model).expect("a port of 127.0.0.1");
    let folder = tempfile::tempdir().expect("a folder");
    let fixes =
        json!({"id": "one", "vulnerable": VULNERABLE, "secure": null, "cwe": "CWE-89"}).to_string() + "\n";
    fs::write(folder.path().join("fixes.jsonl"), fixes).expect("written");
    let import = ["data", "import", "fixes.jsonl", "--source", "jsonl", "--out", "records.jsonl"];
    let columns = ["--column", "id=id", "--column", "cwe=cwe", "--column", "vulnerable=vulnerable"];
    succeeded(&vul2safe(folder.path(), &[import.as_slice(), columns.as_slice()].concat()));
    let recipe = format!("[teacher.model]\nbase_url = \"{}\"\nmodel = \"teacher-1\"\n", server.base_url());
    fs::write(folder.path().join("recipe.toml"), recipe).expect("written");
    let build = ["data", "build", "records.jsonl", "--out", "plus.jsonl", "--recipe", "recipe.toml"];

    let budget = ["--set", "teacher.limits.budget.requests=4"];
    let stopped = vul2safe(folder.path(), &[build.as_slice(), budget.as_slice()].concat());
    assert_eq!(stopped.status.code(), Some(1));
    let said = stderr(&stopped);
    assert!(
        said.contains("1 of 1 records are not decided") && said.contains("budget of 4 requests"),
        "{said}"
    );
    assert!(said.contains("raise the budget"), "{said}");
    assert_eq!(server.call_count(), 4);

    let out = succeeded(&vul2safe(folder.path(), &build));
    assert!(out.contains("1 accepted"), "{out}");
    let pair: Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("plus.jsonl")).expect("pairs"))
            .expect("one pair");
    assert_eq!((pair["repair"]["by"].as_str(), pair["secure"].as_str()), (Some("teacher-1"), Some(SECURE)));
    // Analysis, three proposals that are the same, one critic, six judgements, requests.
    assert_eq!(server.call_count(), 12);
    assert_eq!(fs::read_dir(folder.path().join("plus.dialogue")).expect("dialogues").count(), 1);

    succeeded(&vul2safe(folder.path(), &build));
    assert_eq!(server.call_count(), 12, "all of it was known");

    // What was said can be read again, in a line each, in full, and on the page.
    let shown = succeeded(&vul2safe(folder.path(), &["data", "show", "plus.jsonl"]));
    assert!(shown.contains("dialogue (in full") && shown.contains("criticise · scripted-1"), "{shown}");
    assert!(!shown.contains("[system]"), "{shown}");
    let shown = succeeded(&vul2safe(folder.path(), &["data", "show", "plus.jsonl", "--dialogue"]));
    assert!(shown.contains("[system]") && shown.contains("The name becomes a part of the query."), "{shown}");
    succeeded(&vul2safe(folder.path(), &["data", "report", "plus.jsonl"]));
    let page = fs::read_to_string(folder.path().join("plus.html")).expect("a page");
    assert!(page.contains("<h4>dialogue</h4>") && page.contains("The name becomes a part of the query."));
}

#[test]
fn endpoints_that_cannot_be_used_are_named_before_anything_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("records.jsonl"), "{}\n").expect("written");
    let build = |recipe: &str| {
        fs::write(folder.path().join("recipe.toml"), recipe).expect("written");
        let arguments = ["data", "build", "records.jsonl", "--out", "plus.jsonl", "--recipe", "recipe.toml"];
        let output = vul2safe(folder.path(), &arguments);
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    let said = build("[teacher.model]\nbase_url = \"http://u:geheim@h/v1\"\nmodel = \"m\"\n");
    assert!(said.contains("[teacher.model]") && !said.contains("geheim"), "{said}");
    let said = build("[teacher.model]\nbase_url = \"http://h/v1\"\nmodel = \"m\"\nkey = \"geheim\"\n");
    assert!(said.contains("unknown field `key`"), "{said}");
}
