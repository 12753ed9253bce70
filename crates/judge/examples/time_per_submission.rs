//! Measures one submission: `cargo run --release -p vul2safe-judge --example time_per_submission`.

use std::time::Instant;

use vul2safe_code::Language;
use vul2safe_judge::{Judge, Submission, TestStyle};
use vul2safe_sandbox::{Policy, Sandbox};

const ANSWER: &str = "import sqlite3\n\ndef find(path, name):\n    connection = sqlite3.connect(path)\n    \
                      return connection.execute('SELECT id FROM users WHERE name = ?', (name,)).fetchall()\n";
const TESTS: &str = "import sqlite3\n\ndef make():\n    connection = sqlite3.connect('users.db')\n    connection.execute('CREATE TABLE users (id, name)')\n    connection.execute(\"INSERT INTO users VALUES (1, 'a'), (2, 'b')\")\n    connection.commit()\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let judge = Judge::new(Sandbox::new(Policy::default())?, None)?;
    println!("{:#?}", Sandbox::capabilities());
    let functional = format!(
        "{TESTS}\ndef test_finds(answer):\n    make()\n    assert answer.find('users.db', 'a') == [(1,)]\n\ndef test_none(answer):\n    make()\n    assert answer.find('users.db', 'z') == []\n"
    );
    let exploit = format!(
        "{TESTS}\ndef test_injection(answer):\n    make()\n    assert answer.find('users.db', \"' OR 1=1 --\") == []\n"
    );
    let database = Submission {
        language: Language::Python,
        answer: ANSWER,
        functional: Some(&functional),
        exploit: Some(&exploit),
        processes: 0,
        style: TestStyle::Calls,
    };
    let plain = Submission {
        answer: "def double(x):\n    return 2 * x\n",
        functional: Some("def test_double(answer):\n    assert answer.double(2) == 4\n"),
        exploit: Some("def test_nothing(answer):\n    assert answer.double(1)\n"),
        ..database
    };
    for (name, submission) in [
        ("plain", plain),
        ("sqlite3", database),
        ("plain, may start processes", Submission { processes: 4, ..plain }),
    ] {
        let verdict = judge.judge(&submission);
        assert_eq!(verdict.both(), Some(true), "{verdict:?}");
        const TIMES: usize = 50;
        let mut times: Vec<f64> = (0..TIMES)
            .map(|_| {
                let started = Instant::now();
                judge.judge(&submission);
                started.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let many = vec![submission; 4 * TIMES];
        let started = Instant::now();
        judge.judge_all(&many);
        let each = started.elapsed().as_secs_f64() * 1e3 / many.len() as f64;
        println!(
            "{name}: median {:.1} ms, 90 % {:.1} ms, one after the other; {each:.1} ms in parallel",
            times[TIMES / 2],
            times[TIMES * 9 / 10]
        );
    }
    Ok(())
}
