//! Running the tests of an answer and putting the verdict together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vul2safe_analyze::{Finding, analyze};
use vul2safe_code::{Language, blank_comments, parse};
use vul2safe_sandbox::{Ended, Job, Limits, Sandbox};

use crate::driver::{self, DRIVER, Set, Told, Work};
use crate::error::JudgeError;
use crate::verdict::{TestResult, Verdict};

/// One answer and what to try on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission<'a> {
    /// The language of the answer. Tests can be run for Python only.
    pub language: Language,
    /// The complete source, as [`extract_code`](crate::extract_code) returns it.
    pub answer: &'a str,
    /// Python source of the functional tests.
    pub functional: Option<&'a str>,
    /// Python source of the exploit tests.
    pub exploit: Option<&'a str>,
    /// How many processes the answer may start; 0 for none.
    pub processes: u32,
}

/// What a test may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestLimits {
    /// Seconds of wall-clock time for each test, the import of the answer included.
    pub test_seconds: f64,
    /// Address space of the process that runs the tests, in bytes.
    pub memory_bytes: u64,
}

impl Default for TestLimits {
    /// 2 s a test, 1 GiB.
    fn default() -> Self {
        TestLimits { test_seconds: 2.0, memory_bytes: 1 << 30 }
    }
}

/// Judges answers. One value serves any number of threads.
pub struct Judge {
    sandbox: Sandbox,
    python: PathBuf,
    /// Folders of installed packages, which the interpreter is started without because looking for them takes time.
    packages: Vec<String>,
    limits: TestLimits,
}

impl Judge {
    /// Finds a Python 3 that runs inside the sandbox: `python` if it is given, otherwise the first of `/usr/bin`,
    /// `/usr/local/bin` and `PATH` that does.
    ///
    /// # Errors
    /// [`JudgeError::NoPython`] with everything that was tried.
    pub fn new(sandbox: Sandbox, python: Option<PathBuf>) -> Result<Judge, JudgeError> {
        let candidates = match python {
            Some(python) => vec![python],
            None => candidates(),
        };
        let mut tried = Vec::new();
        for python in candidates {
            match packages_of(&sandbox, &python) {
                Ok(packages) => {
                    return Ok(Judge { sandbox, python, packages, limits: TestLimits::default() });
                }
                Err(why) => tried.push((python, why)),
            }
        }
        Err(JudgeError::NoPython { tried })
    }

    /// The same judge with other limits.
    pub fn with_limits(self, limits: TestLimits) -> Judge {
        Judge { limits, ..self }
    }

    /// The interpreter that runs the tests.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// The verdict on one answer. Never fails: what could not be found out is `NotRun` in the verdict.
    ///
    /// ```no_run
    /// # use vul2safe_judge::{Judge, Submission};
    /// # fn example(judge: Judge) {
    /// let verdict = judge.judge(&Submission {
    ///     language: vul2safe_code::Language::Python,
    ///     answer: "def double(x):\n    return 2 * x\n",
    ///     functional: Some("def test_double(answer):\n    assert answer.double(4) == 8\n"),
    ///     exploit: None,
    ///     processes: 0,
    /// });
    /// assert_eq!(verdict.functional(), Some(true));
    /// # }
    /// ```
    pub fn judge(&self, submission: &Submission) -> Verdict {
        let unparsable = |message: &str| {
            let result = |tests: Option<&str>| match tests {
                Some(_) => TestResult::Failed { test: "parse".into(), message: message.into() },
                None => TestResult::Absent,
            };
            let exploit = match submission.exploit {
                Some(_) => TestResult::NotRun { why: "the answer does not parse".into() },
                None => TestResult::Absent,
            };
            Verdict {
                parses: false,
                functional: result(submission.functional),
                exploit,
                findings: Vec::new(),
            }
        };
        let language = submission.language;
        let parsed = match parse(language, submission.answer) {
            Ok(parsed) => parsed,
            Err(error) => return unparsable(&error.to_string()),
        };
        if !parsed.is_clean() || submission.answer.trim().is_empty() {
            let place = parsed.first_error().map_or(String::new(), |span| {
                let before = &submission.answer.as_bytes()[..span.start.min(submission.answer.len())];
                format!(" at line {}", 1 + before.iter().filter(|&&byte| byte == b'\n').count())
            });
            return unparsable(&format!("not a well-formed {language} text{place}"));
        }
        // A comment must not be able to switch a rule off, so the rules never see one.
        let findings: Vec<Finding> =
            parse(language, &blank_comments(&parsed)).map(|blanked| analyze(&blanked)).unwrap_or_default();

        if language != Language::Python {
            let result = |tests: Option<&str>| match tests {
                Some(_) => {
                    TestResult::NotRun { why: format!("tests can be run for python, not for {language}") }
                }
                None => TestResult::Absent,
            };
            let (functional, exploit) = (result(submission.functional), result(submission.exploit));
            return Verdict { parses: true, functional, exploit, findings };
        }

        match self.run_tests(submission) {
            Err(message) => unparsable(&message),
            Ok((functional, exploit)) => Verdict { parses: true, functional, exploit, findings },
        }
    }

    /// The verdicts on many answers, in their order, on all of rayon's threads.
    pub fn judge_all(&self, submissions: &[Submission]) -> Vec<Verdict> {
        // One answer that loops takes a hundred times as long as the others, so threads take single answers.
        submissions.par_iter().with_max_len(1).map(|submission| self.judge(submission)).collect()
    }

    /// Both sets of tests, in one process unless the functional tests take it down; `Err` if Python does not compile
    /// the answer.
    fn run_tests(&self, submission: &Submission) -> Result<(TestResult, TestResult), String> {
        let list = |set, source: Option<&str>| -> Vec<Work> {
            let names = source.map(driver::test_names).unwrap_or_default();
            names.into_iter().map(|test| Work { set, test }).collect()
        };
        let functional = list(Set::Functional, submission.functional);
        let exploit = list(Set::Exploit, submission.exploit);
        let both: Vec<Work> = functional.iter().chain(&exploit).cloned().collect();
        let told = self.drive(submission, &both);
        if let Some(complaint) = &told.syntax {
            return Err(complaint.clone());
        }
        if !told.compiled && !told.not_run() {
            return Err("Python's compiler does not survive the text".into());
        }
        let functional_result = result_of(&told, &both, Set::Functional, submission.functional);
        // The exploit tests get a process of their own if the functional tests ended the common one.
        let separate = !told.not_run() && !told.reached(&both, Set::Exploit);
        let exploit_result = if separate && !functional.is_empty() && !exploit.is_empty() {
            let told = self.drive(submission, &exploit);
            result_of(&told, &exploit, Set::Exploit, submission.exploit)
        } else {
            result_of(&told, &both, Set::Exploit, submission.exploit)
        };
        Ok((functional_result, exploit_result))
    }

    fn drive(&self, submission: &Submission, work: &[Work]) -> Told {
        let nonces: Vec<String> = work.iter().map(|_| driver::nonce()).collect();
        // Each set stops at its first test that is late, so two late tests and a start are the most there can be beside
        // tests that are merely slow.
        let seconds = 3.0 + self.limits.test_seconds.clamp(0.01, 3600.0) * (work.len().clamp(2, 8) as f64);
        let wall = Duration::from_secs_f64(seconds);
        let job = Job {
            arguments: interpreter(&self.python, "driver.py"),
            files: vec![("driver.py".into(), DRIVER.as_bytes().to_vec())],
            stdin: driver::input(
                submission.answer,
                submission.functional.unwrap_or_default(),
                submission.exploit.unwrap_or_default(),
                work,
                &nonces,
                self.limits.test_seconds,
                &self.packages,
            ),
            limits: Limits {
                wall,
                cpu: wall,
                memory_bytes: self.limits.memory_bytes,
                processes: submission.processes,
                ..Limits::default()
            },
            ..Job::default()
        };
        Told::new(&self.sandbox.run(&job), &nonces)
    }
}

fn result_of(told: &Told, work: &[Work], set: Set, source: Option<&str>) -> TestResult {
    match source {
        None => TestResult::Absent,
        Some(_) if !work.iter().any(|work| work.set == set) => {
            TestResult::NotRun { why: "the test source has no function test_…".into() }
        }
        Some(_) => told.result(work, set),
    }
}

/// No site packages and no user folder (both are looked for on every start otherwise), no compiled files, no warnings.
fn interpreter(python: &Path, program: &str) -> Vec<std::ffi::OsString> {
    let mut arguments = vec![python.as_os_str().to_owned()];
    arguments.extend(["-S", "-s", "-B", "-W", "ignore", program].map(Into::into));
    arguments
}

fn candidates() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = Vec::new();
    for folder in ["/usr/bin".into(), "/usr/local/bin".into()].into_iter().chain(std::env::split_paths(&path))
    {
        let python = folder.join("python3");
        if python.is_absolute() && python.is_file() && !candidates.contains(&python) {
            candidates.push(python);
        }
    }
    candidates
}

/// Starts the interpreter inside the sandbox and asks for the folders of installed packages.
fn packages_of(sandbox: &Sandbox, python: &Path) -> Result<Vec<String>, String> {
    const QUESTION: &str = "import sys\nassert sys.version_info >= (3, 6), 'older than Python 3.6'\nimport os, site\n\
                            print('\\n'.join(path for path in site.getsitepackages() if os.path.isdir(path)))\n";
    let mut job = Job::new(interpreter(python, "question.py"));
    job.files.push(("question.py".into(), QUESTION.as_bytes().to_vec()));
    let outcome = sandbox.run(&job);
    match outcome.ended {
        Ended::Exited { code: 0 } => {
            let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
            // A folder name with a blank cannot be passed on and is no loss.
            Ok(text.lines().filter(|line| !line.contains(char::is_whitespace)).map(String::from).collect())
        }
        Ended::NotRun { why } => Err(why),
        Ended::Exited { code } => {
            let error = String::from_utf8_lossy(&outcome.stderr);
            let last = error.lines().last().unwrap_or("no message");
            Err(format!("exit status {code}: {last}"))
        }
        Ended::Signalled { signal } => Err(format!("signal {signal}")),
        Ended::Killed { limit } => Err(format!("reached the limit on {limit}")),
        Ended::WithLeader => Err("was ended with another process".into()),
    }
}
