//! `data mine`, `data export`, `data report` and `data show --rejected` as a stranger would use them.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{refused, stdout, succeeded, vul2safe};
use serde_json::Value;

const VULNERABLE: &str = "def find_user(conn, name):\n    \"\"\"Return the row of the user with this name.\"\"\"\n    query = \"SELECT * FROM users WHERE name = '%s'\" % name\n    return conn.execute(query).fetchone()\n";
const SECURE: &str = "def find_user(conn, name):\n    \"\"\"Return the row of the user with this name.\"\"\"\n    query = \"SELECT * FROM users WHERE name = ?\"\n    return conn.execute(query, (name,)).fetchone()\n";

fn run(folder: &Path, arguments: &[&str]) -> String {
    succeeded(&vul2safe(folder, arguments))
}

/// `plus.jsonl` with two pairs of different licences, and one rejected record beside it.
fn built() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = [
        ("one", VULNERABLE.to_owned(), SECURE.to_owned(), "MIT"),
        ("two", VULNERABLE.replace("user", "order"), SECURE.replace("user", "order"), ""),
        ("<b>three", "x = 1\n".to_owned(), "x = 2\n".to_owned(), "MIT"),
    ];
    let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut csv = "id,before,after,cwe,license\n".to_owned();
    for (id, before, after, license) in &rows {
        csv.push_str(&format!("{id},{},{},CWE-89,{license}\n", quote(before), quote(after)));
    }
    fs::write(folder.path().join("fixes.csv"), csv).expect("written");
    let mut arguments = vec![
        "data",
        "import",
        "fixes.csv",
        "--source",
        "csv",
        "--out",
        "records.jsonl",
        "--language",
        "python",
    ];
    for column in ["vulnerable=before", "secure=after", "id=id", "cwe=cwe", "license=license"] {
        arguments.extend(["--column", column]);
    }
    run(folder.path(), &arguments);
    run(folder.path(), &["data", "build", "records.jsonl", "--out", "plus.jsonl"]);
    folder
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a file");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn every_form_is_written_and_parquet_is_as_good_as_json_lines() {
    let folder = built();
    let path = folder.path();
    let export = |format: &str, out: &str| {
        run(path, &["data", "export", "plus.jsonl", "--format", format, "--out", out])
    };
    assert!(export("parquet", "plus.parquet").contains("2 of 2 pairs written to plus.parquet"));
    run(path, &["data", "export", "plus.parquet", "--format", "jsonl", "--out", "again.jsonl"]);
    assert_eq!(
        fs::read(path.join("again.jsonl")).expect("a file"),
        fs::read(path.join("plus.jsonl")).expect("a file")
    );
    export("sft", "sft.jsonl");
    let sft = lines(&path.join("sft.jsonl"));
    assert!(
        sft.len() >= 12
            && sft
                .iter()
                .all(|row| row["prompt"][0]["role"] == "user" && row["completion"][0]["role"] == "assistant")
    );
    export("chat", "chat.jsonl");
    assert!(
        lines(&path.join("chat.jsonl"))
            .iter()
            .all(|row| row["messages"].as_array().is_some_and(|list| list.len() == 2))
    );
    export("rl", "rl.jsonl");
    assert!(
        lines(&path.join("rl.jsonl"))
            .iter()
            .all(|row| row["spans"].as_array().is_some_and(|spans| spans.len() > 1))
    );
    export("primevul", "primevul.jsonl");
    let primevul = lines(&path.join("primevul.jsonl"));
    assert_eq!(
        primevul.iter().map(|row| row["target"].as_u64()).collect::<Vec<_>>(),
        [Some(1), Some(0), Some(1), Some(0)]
    );
    assert_eq!(primevul[1]["func"], SECURE);
}

#[test]
fn a_hub_folder_has_views_card_and_plots() {
    let folder = built();
    let path = folder.path();
    run(path, &["data", "export", "plus.jsonl", "--format", "hub", "--out", "hub", "--title", "Own pairs"]);
    let card = fs::read_to_string(path.join("hub/README.md")).expect("a card");
    assert!(card.contains("pretty_name: \"Own pairs\"") && card.contains("| CWE-89 | 2 |"), "{card}");
    // What `data build` rejected is counted, by its reason.
    assert!(card.contains("## Rejected, by reason"), "{card}");
    for file in card.lines().filter_map(|line| line.trim().strip_prefix("path: ")) {
        assert!(path.join("hub").join(file).is_file(), "{file}");
    }
    assert!(path.join("hub/plots/weakness.svg").is_file() && path.join("hub/schema.json").is_file());
    let again = vul2safe(path, &["data", "export", "plus.jsonl", "--format", "hub", "--out", "hub"]);
    refused(&again, &["hub", "something is there already"]);
}

#[test]
fn licences_and_benchmarks_leave_pairs_out_and_say_so() {
    let folder = built();
    let path = folder.path();
    let export = |more: &[&str]| {
        let mut arguments = vec!["data", "export", "plus.jsonl", "--format", "jsonl", "--out", "out.jsonl"];
        arguments.extend(more);
        vul2safe(path, &arguments)
    };
    let told = succeeded(&export(&["--license", "mit"]));
    assert!(told.contains("1  left out: licence unknown") && told.contains("1 of 2 pairs"), "{told}");
    assert_eq!(lines(&path.join("out.jsonl"))[0]["id"], "one");
    let told = succeeded(&export(&["--license", "unknown"]));
    assert!(told.contains("left out: licence MIT"), "{told}");
    refused(&export(&["--license", "ISC"]), &["none of the 2 pairs"]);
    let suite = serde_json::json!({ "task_id": "S/1", "canonical_solution": SECURE }).to_string();
    fs::write(path.join("suite.jsonl"), suite).expect("written");
    let told = succeeded(&export(&["--decontaminate", "suite.jsonl", "--overlap", "0.9"]));
    assert!(told.contains("one: secure holds 100 % of S/1#canonical_solution"), "{told}");
    assert!(told.contains("left out: overlap with suite.jsonl") && told.contains("1 of 2 pairs"), "{told}");
    refused(&export(&["--overlap", "2"]), &["--overlap 2"]);
}

#[test]
fn a_report_holds_everything_and_runs_nothing_of_it() {
    let folder = built();
    let path = folder.path();
    let plus = fs::read_to_string(path.join("plus.jsonl")).expect("pairs");
    // An id that would be markup if it were not escaped.
    fs::write(
        path.join("plus.jsonl"),
        plus.replace("\"id\":\"one\"", "\"id\":\"<script>alert(1)</script>\""),
    )
    .expect("written");
    assert_eq!(run(path, &["data", "report", "plus.jsonl"]).trim(), "plus.html");
    let page = fs::read_to_string(path.join("plus.html")).expect("a page");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && page.matches("<script>").count() == 1);
    assert!(page.contains("<mark class=\"vulnerable\"") && page.contains("<mark class=\"secure\""));
    assert!(page.contains("&lt;b&gt;three"), "what was rejected is there too");
    for loads in ["src=", "href=", "url(", "@import"] {
        assert!(!page.contains(loads), "{loads}");
    }
    let shown = run(path, &["data", "show", "plus.jsonl", "--rejected"]);
    assert!(shown.contains("<b>three") && shown.contains("rejected: "), "{shown}");
    // With the code on both sides, and chosen by weakness.
    assert!(shown.contains("\nvulnerable\n") && shown.contains("\nproposed\n"), "{shown}");
    assert!(page.contains("<h4>proposed by upstream</h4>"), "the proposal is there too");
    refused(
        &vul2safe(path, &["data", "show", "plus.jsonl", "--rejected", "--cwe", "CWE-1"]),
        &["none of the 1"],
    );
    refused(&vul2safe(path, &["data", "show", "plus.jsonl", "--dialogue"]), &["no dialogue", "[teacher]"]);
    let json = run(path, &["data", "show", "plus.jsonl", "--rejected", "--json"]);
    assert!(serde_json::from_str::<Value>(&json).is_ok_and(|row| row["reason"].is_string()), "{json}");
    fs::remove_file(path.join("plus.rejected.jsonl")).expect("it was there");
    refused(&vul2safe(path, &["data", "show", "plus.jsonl", "--rejected"]), &["plus.rejected.jsonl"]);
}

fn git(folder: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").expect("PATH"))
        .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")])
        .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@example.org")])
        .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@example.org")])
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .output()
        .expect("git is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn mined_fixes_become_repair_pairs() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    fs::create_dir(path.join("shop")).expect("made");
    git(&path.join("shop"), &["init", "--quiet", "--initial-branch=main"]);
    for (code, message) in [(VULNERABLE, "Start"), (SECURE, "Fix CVE-2021-0001 in find_user (CWE-89)")] {
        fs::write(path.join("shop/users.py"), code).expect("written");
        git(&path.join("shop"), &["add", "--all"]);
        git(&path.join("shop"), &["commit", "--quiet", "-m", message]);
    }
    let told = run(path, &["data", "mine", "shop", "--out", "records.jsonl"]);
    assert!(told.contains("1 read, 1 written to records.jsonl, 0 dropped"), "{told}");
    run(path, &["data", "build", "records.jsonl", "--out", "plus.jsonl"]);
    let pair = &lines(&path.join("plus.jsonl"))[0];
    assert_eq!(
        (&pair["cve"], &pair["project"], &pair["file_name"]),
        (&"CVE-2021-0001".into(), &"shop".into(), &"users.py".into())
    );
    assert!(pair["date"].is_string() && pair["commit"].is_string());
    fs::write(path.join("list.txt"), "# none\n").expect("written");
    let empty = vul2safe(path, &["data", "mine", "shop", "--commits", "list.txt", "--out", "x.jsonl"]);
    refused(&empty, &["list.txt", "no commit in it"]);
    let none = vul2safe(path, &["data", "mine", ".", "--out", "x.jsonl"]);
    refused(&none, &["not a git repository"]);
    let plain = vul2safe(path, &["data", "mine", "shop", "--revision", "nowhere", "--out", "x.jsonl"]);
    assert!(stdout(&plain).is_empty());
    refused(&plain, &["nowhere"]);
}
