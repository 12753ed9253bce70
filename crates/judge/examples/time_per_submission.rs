//! Measures what judging costs: `cargo run --release -p vul2safe-judge --example time_per_submission [submissions]`.
//!
//! For each kind of submission: the median of the wall-clock times one after the other, the tests that are run in a second
//! on all of rayon's threads, and the processor time that one test takes, the sandbox and both processes included (on a
//! busy machine the one figure that can be trusted).

use std::time::Instant;

use vul2safe_code::Language;
use vul2safe_judge::{Judge, Submission, TestResult};
use vul2safe_sandbox::{Policy, Sandbox};

const PLAIN: &str = "def double(x):\n    return 2 * x\n";
const ONE: &str = "def test_double(answer):\n    assert answer.double(2) == 4\n";
const FOUR: &str = "def test_number(answer):\n    assert answer.double(2) == 4\n\ndef test_text(answer):\n    assert answer.double('ab') == 'abab'\n\ndef test_list(answer):\n    assert answer.double([1]) == [1, 1]\n";
const ATTACK: &str = "def test_nothing(answer):\n    assert answer.double(1)\n";

const DATABASE: &str = "import sqlite3\n\ndef find(path, name):\n    connection = sqlite3.connect(path)\n    \
                        return connection.execute('SELECT id FROM users WHERE name = ?', (name,)).fetchall()\n";
const MAKE: &str = "import sqlite3\n\ndef make():\n    connection = sqlite3.connect('users.db')\n    connection.execute('CREATE TABLE users (id, name)')\n    connection.execute(\"INSERT INTO users VALUES (1, 'a'), (2, 'b')\")\n    connection.commit()\n";

const C_ANSWER: &str = "int twice(int x) { return 2 * x; }\n";
const C_TESTS: &str =
    "C = '''int twice(int x);'''\ndef test_twice(answer):\n    assert answer.twice(2) == 4\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let submissions: usize = std::env::args().nth(1).map_or(Ok(400), |text| text.parse())?;
    let judge = Judge::new(Sandbox::new(Policy::default())?, None)?;
    match judge.cold_starts() {
        None => println!("tests run in copies of a warm interpreter"),
        Some(why) => println!("every test starts an interpreter: {why}"),
    }
    let functional = format!(
        "{MAKE}\ndef test_finds(answer):\n    make()\n    assert answer.find('users.db', 'a') == [(1,)]\n\ndef test_none(answer):\n    make()\n    assert answer.find('users.db', 'z') == []\n"
    );
    let exploit = format!(
        "{MAKE}\ndef test_injection(answer):\n    make()\n    assert answer.find('users.db', \"' OR 1=1 --\") == []\n"
    );
    let plain = Submission { functional: Some(ONE), ..Submission::new(Language::Python, PLAIN) };
    let four = Submission { functional: Some(FOUR), exploit: Some(ATTACK), ..plain };
    let database = Submission {
        functional: Some(&functional),
        exploit: Some(&exploit),
        ..Submission::new(Language::Python, DATABASE)
    };
    let compiled = Submission { functional: Some(C_TESTS), ..Submission::new(Language::C, C_ANSWER) };
    for (name, submission) in [
        ("one small test", plain),
        ("three small tests and an attack", four),
        ("sqlite3: two tests and an attack", database),
        ("one small test, may start processes", Submission { processes: 4, ..plain }),
        ("C: one small test, compiled before", compiled),
        ("C: one small test, compiling included", compiled),
    ] {
        // What was compiled once is kept, so only texts that differ are compiled.
        let texts: Vec<String> = (0..submissions)
            .map(|number| match name.contains("included") {
                true => format!("{}/* {number} */\n", submission.answer),
                false => submission.answer.to_owned(),
            })
            .collect();
        let many: Vec<Submission> =
            texts.iter().map(|text| Submission { answer: text, ..submission }).collect();
        let verdict = judge.judge(&submission);
        let count = |result: &TestResult| match result {
            TestResult::Passed { tests } => Ok(*tests),
            TestResult::Absent => Ok(0),
            other => Err(format!("{name}: {other:?}")),
        };
        let tests = count(&verdict.functional)? + count(&verdict.exploit)?;
        let (alone, together) = many.split_at(submissions.div_ceil(8));
        let mut times: Vec<f64> = alone
            .iter()
            .map(|submission| {
                let started = Instant::now();
                judge.judge(submission);
                started.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let (started, processor) = (Instant::now(), processor_seconds()?);
        judge.judge_all(together);
        let (wall, processor) = (started.elapsed().as_secs_f64(), processor_seconds()? - processor);
        let all = (tests * together.len()) as f64;
        println!(
            "{name}: median {:.1} ms a submission; {:.0} tests/s in parallel; {:.2} ms of processor time a test",
            times[times.len() / 2],
            all / wall,
            processor * 1e3 / all
        );
    }
    Ok(())
}

/// Of this process and of its children that have ended.
fn processor_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // The second field is a name in brackets that may hold blanks; times are in hundredths of a second.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..15].iter().map(|field| field.parse::<u64>()).sum::<Result<u64, _>>()?;
    Ok(ticks as f64 / 100.0)
}
