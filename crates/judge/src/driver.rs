//! The other side of `python/tester.py`: what it is given, and what its reports mean.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use serde::Deserialize;
use vul2safe_sandbox::{Ended, Limit, Outcome};

use crate::judge::TestStyle;
use crate::verdict::TestResult;

/// Which of the two sets a test belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    Functional,
    Exploit,
}

impl Set {
    fn name(self) -> &'static str {
        match self {
            Set::Functional => "functional",
            Set::Exploit => "exploit",
        }
    }
}

/// One test to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) set: Set,
    pub(crate) test: String,
}

/// The names of the top-level functions `test_…` in a test source, each once, in order.
pub(crate) fn test_names(source: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in source.lines() {
        let Some(rest) = line.strip_prefix("def ") else { continue };
        let rest = rest.trim_start();
        let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_');
        let name = &rest[..end.unwrap_or(rest.len())];
        if name.starts_with("test_") && !names.iter().any(|seen| seen == name) {
            names.push(name.to_string());
        }
    }
    names
}

/// Unpredictable text of 32 characters. The standard library seeds each `RandomState` from the system's random source.
pub(crate) fn nonce() -> String {
    let half = || RandomState::new().hash_one(0u8);
    format!("{:016x}{:016x}", half(), half())
}

/// What the tester is told beside texts and nonces.
pub(crate) struct Setting<'a> {
    pub(crate) test_seconds: f64,
    pub(crate) style: TestStyle,
    /// Whether each test has a process of the answer's for itself, which is forked when the test begins.
    pub(crate) forked: bool,
    /// Folders of installed packages.
    pub(crate) packages: &'a [String],
}

/// What the tester reads from standard input.
pub(crate) fn tester_input(
    [answer, functional, exploit]: [&str; 3],
    work: &[Work],
    nonces: &[String],
    setting: &Setting,
) -> Vec<u8> {
    let list: String = work.iter().map(|work| format!("{} {}\n", work.set.name(), work.test)).collect();
    let mut input = format!(
        "{} {} {} {} {} {} {} {}\n",
        answer.len(),
        functional.len(),
        exploit.len(),
        list.len(),
        setting.test_seconds,
        match setting.style {
            TestStyle::Calls => "calls",
            TestStyle::Script => "script",
        },
        if setting.forked { "forked" } else { "shared" },
        setting.packages.join(" ")
    );
    for text in [answer, functional, exploit, &list] {
        input.push_str(text);
    }
    for nonce in nonces {
        input.push_str(nonce);
    }
    input.into_bytes()
}

/// What the answer's process reads from standard input.
pub(crate) fn answer_input(answer: &str, packages: &[String]) -> Vec<u8> {
    format!("{} {}\n{answer}", answer.len(), packages.join(" ")).into_bytes()
}

#[derive(Deserialize)]
struct Line {
    event: String,
    index: usize,
    message: String,
    nonce: String,
}

/// What one run of the tester told.
#[derive(Debug)]
pub(crate) struct Told {
    /// The complaint of the answer's compiler.
    pub(crate) syntax: Option<String>,
    /// Place in the list of work → result and message; only reports that carry the right nonce.
    results: HashMap<usize, (String, String)>,
    /// The last test that was begun.
    last_started: Option<usize>,
    /// How the tester ended.
    ended: Ended,
    /// How the answer's process ended.
    answer_ended: Ended,
    /// Whether the private folder that both share was full at the end.
    folder_full: bool,
    /// The last line that the tester wrote to standard error: a fault of the tests or of the driver.
    complaint: String,
}

impl Told {
    pub(crate) fn new([tester, answer]: &[Outcome; 2], nonces: &[String]) -> Told {
        let complaint =
            String::from_utf8_lossy(&tester.stderr).lines().last().unwrap_or_default().to_string();
        let mut told = Told {
            syntax: None,
            results: HashMap::new(),
            last_started: None,
            ended: tester.ended.clone(),
            answer_ended: answer.ended.clone(),
            folder_full: answer.folder_full,
            complaint,
        };
        let mut compiled = false;
        for line in tester.report.split(|&byte| byte == b'\n') {
            let Ok(line) = serde_json::from_slice::<Line>(line) else { continue };
            match line.event.as_str() {
                // The compiler's word counts only before any foreign code ran.
                "syntax" if !compiled => told.syntax = Some(line.message),
                "left" | "malformed" | "too_large" | "crashed" if !compiled => {
                    told.syntax = Some("the compiler does not survive the text".into());
                }
                "compiled" => compiled = true,
                "started" => told.last_started = Some(line.index),
                _ if nonces.get(line.index) == Some(&line.nonce) => {
                    told.results.entry(line.index).or_insert((line.event, line.message));
                }
                _ => {}
            }
        }
        told
    }

    /// Whether the driver was never started.
    pub(crate) fn not_run(&self) -> bool {
        matches!(self.ended, Ended::NotRun { .. })
    }

    /// Whether a test of this set was begun.
    pub(crate) fn reached(&self, work: &[Work], set: Set) -> bool {
        let begun = self.last_started.and_then(|index| work.get(index));
        begun.is_some_and(|work| work.set == set) || self.results.keys().any(|&index| work[index].set == set)
    }

    /// The result of one set: its first test that did not pass decides, because the driver stops there.
    pub(crate) fn result(&self, work: &[Work], set: Set) -> TestResult {
        let result = self.result_of_tests(work, set);
        // Where nothing could be written any more, a failure and a refusal say nothing else.
        let in_doubt = match set {
            Set::Functional => matches!(result, TestResult::Failed { .. }),
            Set::Exploit => matches!(result, TestResult::Passed { .. }),
        };
        if self.folder_full && in_doubt {
            return TestResult::Killed { limit: "size of the private folder".into() };
        }
        result
    }

    fn result_of_tests(&self, work: &[Work], set: Set) -> TestResult {
        if let Ended::NotRun { why } = &self.ended {
            return TestResult::NotRun { why: why.clone() };
        }
        let mut passed = 0;
        for (index, work) in work.iter().enumerate().filter(|(_, work)| work.set == set) {
            let test = work.test.clone();
            let Some((event, message)) = self.results.get(&index) else {
                return self.unreported(index, test, set);
            };
            let message = message.clone();
            return match (event.as_str(), set) {
                ("passed", _) => {
                    passed += 1;
                    continue;
                }
                ("failed" | "crashed", _) => TestResult::Failed { test, message },
                ("left", _) => match (&self.answer_ended, set) {
                    (Ended::Killed { limit }, _) => TestResult::Killed { limit: limit.to_string() },
                    (_, Set::Functional) => TestResult::Failed { test, message: self.left(&message) },
                    (_, Set::Exploit) => TestResult::NotRun { why: self.left(&message) },
                },
                ("exited" | "malformed", Set::Functional) => TestResult::Failed { test, message },
                ("exited" | "malformed", Set::Exploit) => TestResult::NotRun { why: message },
                ("too_large", _) => TestResult::Killed { limit: "size of a value".into() },
                ("memory", _) => TestResult::Killed { limit: Limit::Memory.to_string() },
                ("unloaded", Set::Functional) => {
                    TestResult::Failed { test, message: format!("the answer does not load: {message}") }
                }
                ("unloaded", Set::Exploit) => {
                    TestResult::NotRun { why: format!("the answer does not load: {message}") }
                }
                ("timed_out", _) => TestResult::TimedOut { test: Some(test) },
                _ => TestResult::NotRun { why: format!("the test {test} is broken: {message}") },
            };
        }
        TestResult::Passed { tests: passed }
    }

    /// How the answer's process came to leave a test.
    fn left(&self, message: &str) -> String {
        match &self.answer_ended {
            Ended::Exited { .. } | Ended::Signalled { .. } => how(&self.answer_ended),
            _ => message.to_string(),
        }
    }

    /// A test without a report: the tester ended before or inside it.
    fn unreported(&self, index: usize, test: String, set: Set) -> TestResult {
        if self.last_started.is_none() && !matches!(self.ended, Ended::Killed { .. }) {
            return TestResult::NotRun {
                why: format!("the tester failed: {} {}", how(&self.ended), self.complaint),
            };
        }
        match (&self.ended, set) {
            (Ended::Killed { limit: Limit::WallClock | Limit::Cpu }, _) => {
                TestResult::TimedOut { test: (self.last_started == Some(index)).then_some(test) }
            }
            (Ended::Killed { limit }, _) => TestResult::Killed { limit: limit.to_string() },
            (ended, Set::Functional) => {
                let message = format!("no result: {}", how(ended));
                TestResult::Failed { test, message }
            }
            (ended, Set::Exploit) => {
                TestResult::NotRun { why: format!("no result of the test {test}: {}", how(ended)) }
            }
        }
    }
}

fn how(ended: &Ended) -> String {
    match ended {
        Ended::Exited { code } => format!("the process ended early with exit status {code}"),
        Ended::Signalled { signal } => format!("the process crashed with signal {signal}"),
        Ended::Killed { limit } => format!("the process reached the limit on {limit}"),
        Ended::WithLeader => "the process was ended with the one that it served".into(),
        Ended::NotRun { why } => why.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn told(report: &str, ended: Ended, nonces: &[String]) -> Told {
        let outcome = |ended, report: &str| Outcome {
            ended,
            stdout: Vec::new(),
            stderr: Vec::new(),
            report: report.as_bytes().to_vec(),
            folder_full: false,
            wall: Duration::ZERO,
        };
        // What the answer's process reports is never looked at.
        let forged = r#"{"event":"passed","index":0,"message":"","nonce":""}"#;
        Told::new(&[outcome(ended, report), outcome(Ended::Exited { code: 7 }, forged)], nonces)
    }

    #[test]
    fn names_are_top_level_and_unique() {
        let source = "import os\ndef test_a(answer):\n    def test_inner(answer): pass\ndef helper(): pass\n\
                      def test_b (answer): pass\ndef test_a(answer): pass\nclass X:\n    def test_c(self): pass\n";
        assert_eq!(test_names(source), ["test_a", "test_b"]);
        assert!(test_names("").is_empty());
    }

    #[test]
    fn only_the_right_nonce_counts() {
        let work = vec![Work { set: Set::Functional, test: "test_a".into() }];
        let nonces = vec![nonce()];
        assert_eq!(nonces[0].len(), 32);
        assert_ne!(nonce(), nonces[0]);
        let line = |nonce: &str| {
            format!(
                "garbage\n{{\"event\":\"started\",\"index\":0,\"message\":\"\",\"nonce\":\"\"}}\n\
                 {{\"event\":\"passed\",\"index\":0,\"message\":\"\",\"nonce\":\"{nonce}\"}}\nOK\n"
            )
        };
        let ended = Ended::Exited { code: 0 };
        let right = told(&line(&nonces[0]), ended.clone(), &nonces).result(&work, Set::Functional);
        assert_eq!(right, TestResult::Passed { tests: 1 });
        let wrong = told(&line("0123"), ended, &nonces).result(&work, Set::Functional);
        assert!(matches!(wrong, TestResult::Failed { .. }), "{wrong:?}");
    }

    #[test]
    fn the_end_explains_a_missing_report() {
        let work = vec![
            Work { set: Set::Functional, test: "test_a".into() },
            Work { set: Set::Exploit, test: "test_b".into() },
        ];
        let nonces = vec![nonce(), nonce()];
        let started = r#"{"event":"started","index":0,"message":"","nonce":""}"#;
        let late = told(started, Ended::Killed { limit: Limit::WallClock }, &nonces);
        assert_eq!(late.result(&work, Set::Functional), TestResult::TimedOut { test: Some("test_a".into()) });
        assert_eq!(late.result(&work, Set::Exploit), TestResult::TimedOut { test: None });
        let flood = told(started, Ended::Killed { limit: Limit::Output }, &nonces);
        assert_eq!(flood.result(&work, Set::Functional), TestResult::Killed { limit: "output size".into() });
        let left = told(started, Ended::Exited { code: 0 }, &nonces);
        assert!(matches!(left.result(&work, Set::Functional), TestResult::Failed { .. }));
        assert!(matches!(left.result(&work, Set::Exploit), TestResult::NotRun { .. }));
        let broken = told("", Ended::Exited { code: 1 }, &nonces);
        assert!(matches!(broken.result(&work, Set::Functional), TestResult::NotRun { .. }));
    }

    #[test]
    fn an_answer_that_left_failed_and_was_not_attacked() {
        let work = vec![
            Work { set: Set::Functional, test: "test_a".into() },
            Work { set: Set::Exploit, test: "test_b".into() },
        ];
        let nonces = vec![nonce(), nonce()];
        let compiled = r#"{"event":"compiled","index":0,"message":"","nonce":""}"#;
        let lines: String = (0..2)
            .map(|index| {
                let nonce = &nonces[index];
                format!("{{\"event\":\"left\",\"index\":{index},\"message\":\"x\",\"nonce\":\"{nonce}\"}}\n")
            })
            .collect();
        let told = told(&format!("{compiled}\n{lines}"), Ended::Exited { code: 0 }, &nonces);
        let message = "the process ended early with exit status 7".to_string();
        let failed = TestResult::Failed { test: "test_a".into(), message: message.clone() };
        assert_eq!(told.result(&work, Set::Functional), failed);
        assert_eq!(told.result(&work, Set::Exploit), TestResult::NotRun { why: message });
    }
}
