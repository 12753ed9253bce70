//! Running the tests of an answer and putting the verdict together.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vul2safe_analyze::{Finding, analyze};
use vul2safe_code::{Language, parse};
use vul2safe_sandbox::{Job, Limits, Sandbox};

use crate::compile::{Compiler, Surroundings, Uncompiled};
use crate::driver::{self, Set, Setting, Told, Work};
use crate::error::JudgeError;
use crate::interpreter::{Interpreter, Program};
use crate::objects::Objects;
use crate::verdict::{TestResult, Verdict};

/// How a test source is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestStyle {
    /// Functions `def test_NAME(answer):`, each a test.
    #[default]
    Calls,
    /// A script in whose scope the answer's names stand, all of it one test: `assert f(2) == 4`. Python answers only.
    Script,
}

/// One answer and what to try on it.
///
/// ```
/// use vul2safe_code::Language;
/// use vul2safe_judge::{Submission, TestStyle};
///
/// let submission = Submission {
///     functional: Some("assert double(4) == 8\n"),
///     style: TestStyle::Script,
///     ..Submission::new(Language::Python, "def double(x):\n    return 2 * x\n")
/// };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission<'a> {
    /// The language of the answer.
    pub language: Language,
    /// The complete source, as [`extract_code`](crate::extract_code) returns it.
    pub answer: &'a str,
    /// Python source of the functional tests.
    pub functional: Option<&'a str>,
    /// Python source of the exploit tests.
    pub exploit: Option<&'a str>,
    /// How many processes the answer may start; 0 for none.
    pub processes: u32,
    /// How both sets of tests are written.
    pub style: TestStyle,
}

impl<'a> Submission<'a> {
    /// An answer without tests.
    pub fn new(language: Language, answer: &'a str) -> Submission<'a> {
        Submission {
            language,
            answer,
            functional: None,
            exploit: None,
            processes: 0,
            style: TestStyle::Calls,
        }
    }
}

/// What a test may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestLimits {
    /// Seconds of wall-clock time for each test, the import of the answer included.
    pub test_seconds: f64,
    /// Memory of each of the two processes, in bytes.
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
    interpreter: Interpreter,
    limits: TestLimits,
    /// For C and for C++, looked for when they are first needed.
    compilers: [OnceLock<Result<Compiler, String>>; 2],
    objects: Objects,
}

impl Judge {
    /// Finds a Python 3 that runs inside the sandbox: `python` if it is given, otherwise the first of `/usr/bin`,
    /// `/usr/local/bin` and `PATH` that does.
    ///
    /// # Errors
    /// [`JudgeError::NoPython`] with everything that was tried.
    pub fn new(sandbox: Sandbox, python: Option<PathBuf>) -> Result<Judge, JudgeError> {
        let interpreter = Interpreter::find(&sandbox, python)?;
        Ok(Judge {
            sandbox,
            interpreter,
            limits: TestLimits::default(),
            compilers: Default::default(),
            objects: Objects::default(),
        })
    }

    /// The same judge with other limits.
    pub fn with_limits(self, limits: TestLimits) -> Judge {
        Judge { limits, ..self }
    }

    /// The same judge, which starts a new interpreter for every test: slower, and needs nothing but the interpreter.
    ///
    /// # Errors
    /// [`JudgeError::NoPython`] if the interpreter does not compile the programs of this crate any more.
    pub fn with_cold_starts(self) -> Result<Judge, JudgeError> {
        let interpreter = self.interpreter.without_copies(&self.sandbox)?;
        Ok(Judge { interpreter, ..self })
    }

    /// The interpreter that runs the tests.
    pub fn python(&self) -> &Path {
        &self.interpreter.path
    }

    /// Why every test starts a new interpreter, which takes several times as long; `None` if tests run in copies of one
    /// that was started with the judge.
    pub fn cold_starts(&self) -> Option<&str> {
        self.interpreter.cold()
    }

    /// The verdict on one answer. Never fails: what could not be found out is `NotRun` in the verdict.
    ///
    /// ```no_run
    /// # use vul2safe_judge::{Judge, Submission};
    /// # fn example(judge: Judge) {
    /// # use vul2safe_code::Language;
    /// let answer = "def double(x):\n    return 2 * x\n";
    /// let verdict = judge.judge(&Submission {
    ///     functional: Some("def test_double(answer):\n    assert answer.double(4) == 8\n"),
    ///     ..Submission::new(Language::Python, answer)
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
            parsed.without_comments().map(|blanked| analyze(&blanked)).unwrap_or_default();

        let both = |tests: Option<&str>, result: TestResult| tests.map_or(TestResult::Absent, |_| result);
        if submission.style == TestStyle::Script && language != Language::Python {
            let why = || TestResult::NotRun { why: format!("a script cannot call {language}") };
            let (functional, exploit) = (both(submission.functional, why()), both(submission.exploit, why()));
            return Verdict { parses: true, functional, exploit, findings };
        }
        if submission.functional.is_none() && submission.exploit.is_none() && language != Language::Python {
            let (functional, exploit) = (TestResult::Absent, TestResult::Absent);
            return Verdict { parses: true, functional, exploit, findings };
        }
        if !matches!(language, Language::Python | Language::C | Language::Cpp) {
            let why = || TestResult::NotRun { why: format!("tests of {language} cannot be run") };
            let (functional, exploit) = (both(submission.functional, why()), both(submission.exploit, why()));
            return Verdict { parses: true, functional, exploit, findings };
        }
        match self.run_tests(submission) {
            Err(Unloadable::Unparsable(message)) => unparsable(&message),
            Err(Unloadable::Uncompilable(why)) => {
                let message = format!("does not compile: {why}");
                let failed = TestResult::Failed { test: "compile".into(), message: message.clone() };
                let functional = both(submission.functional, failed);
                let exploit = both(submission.exploit, TestResult::NotRun { why: message });
                Verdict { parses: true, functional, exploit, findings }
            }
            Err(Unloadable::NotRun(why)) => {
                let functional = both(submission.functional, TestResult::NotRun { why: why.clone() });
                let exploit = both(submission.exploit, TestResult::NotRun { why });
                Verdict { parses: true, functional, exploit, findings }
            }
            Ok((functional, exploit)) => Verdict { parses: true, functional, exploit, findings },
        }
    }

    /// The verdicts on many answers, in their order, on all of rayon's threads.
    pub fn judge_all(&self, submissions: &[Submission]) -> Vec<Verdict> {
        // One answer that loops takes a hundred times as long as the others, so threads take single answers.
        submissions.par_iter().with_max_len(1).map(|submission| self.judge(submission)).collect()
    }

    /// Both sets of tests, with one pair of processes unless the functional tests take it down.
    fn run_tests(&self, submission: &Submission) -> Result<(TestResult, TestResult), Unloadable> {
        let list = |set, source: Option<&str>| -> Vec<Work> {
            let names = source.map(|source| names_of(source, submission.style)).unwrap_or_default();
            names.into_iter().map(|test| Work { set, test }).collect()
        };
        let functional = list(Set::Functional, submission.functional);
        let exploit = list(Set::Exploit, submission.exploit);
        let both: Vec<Work> = functional.iter().chain(&exploit).cloned().collect();
        let together = self.answer_job(submission, None)?;
        let told = match &together {
            Some(answer) => self.drive(submission, answer, &both),
            // The two sets need different objects.
            None => self.drive(submission, &self.job_of(submission, Set::Functional)?, &functional),
        };
        if let Some(complaint) = &told.syntax {
            return Err(Unloadable::Unparsable(complaint.clone()));
        }
        let functional_result = result_of(&told, &both, Set::Functional, submission.functional);
        // The exploit tests get processes of their own if the functional tests ended the common ones.
        let separate = !told.not_run() && !told.reached(&both, Set::Exploit) && !functional.is_empty();
        let exploit_result = if exploit.is_empty() || together.is_some() && !separate {
            result_of(&told, &both, Set::Exploit, submission.exploit)
        } else {
            let own;
            let answer = match &together {
                Some(answer) => answer,
                None => {
                    own = self.job_of(submission, Set::Exploit)?;
                    &own
                }
            };
            let told = self.drive(submission, answer, &exploit);
            result_of(&told, &exploit, Set::Exploit, submission.exploit)
        };
        Ok((functional_result, exploit_result))
    }

    /// The job of the answer's process for both sets; `None` if each set needs one of its own.
    fn answer_job(&self, submission: &Submission, set: Option<Set>) -> Result<Option<Job>, Unloadable> {
        if submission.language == Language::Python {
            return Ok(Some(Job {
                stdin: driver::answer_input(submission.answer, &self.interpreter.packages),
                folder_open_to_leader: true,
                limits: self.job_limits(submission, 2),
                ..self.interpreter.job(Program::Answer)
            }));
        }
        let texts = [(Set::Functional, submission.functional), (Set::Exploit, submission.exploit)];
        let mut needed: Vec<Surroundings> = texts
            .iter()
            .filter(|(each, _)| set.is_none_or(|set| set == *each))
            .filter_map(|(_, tests)| tests.map(Surroundings::of))
            .collect();
        needed.dedup();
        if needed.len() > 1 {
            return Ok(None);
        }
        let surroundings = needed.pop().unwrap_or_default();
        let compiler = &self.compilers[usize::from(submission.language == Language::Cpp)];
        let compiler = compiler
            .get_or_init(|| Compiler::find(&self.sandbox, submission.language))
            .as_ref()
            .map_err(|why| Unloadable::NotRun(why.clone()))?;
        let object = self
            .objects
            .get(submission.language, submission.answer, &surroundings, || {
                compiler.compile(&self.sandbox, submission.answer, &surroundings)
            })
            .map_err(|error| match error {
                Uncompiled::Refused(why) => Unloadable::Uncompilable(why),
                Uncompiled::NotRun(why) => Unloadable::NotRun(why),
            })?;
        let mut limits = self.job_limits(submission, 2);
        // Each test is a process of its own. Guard pages take addresses, not memory: the answer's process limits its
        // memory itself, by what it may write to.
        limits.processes += 1;
        limits.memory_bytes = limits.memory_bytes.saturating_add(GUARDED_ADDRESSES);
        let prototypes = &surroundings.prototypes;
        let mut job = Job {
            stdin: format!("{} {}\n{prototypes}", prototypes.len(), self.limits.memory_bytes).into_bytes(),
            folder_open_to_leader: true,
            limits,
            ..self.interpreter.job(Program::CompiledAnswer)
        };
        job.files.push(("answer.so".into(), object.to_vec()));
        Ok(Some(job))
    }

    fn job_of(&self, submission: &Submission, set: Set) -> Result<Job, Unloadable> {
        let one = self.answer_job(submission, Some(set))?;
        one.ok_or_else(|| Unloadable::NotRun("one set of tests needs two objects".into()))
    }

    fn job_limits(&self, submission: &Submission, tests: usize) -> Limits {
        // Each set stops at its first test that is late, so two late tests and a start are the most there can be beside
        // tests that are merely slow.
        let seconds = 3.0 + self.limits.test_seconds.clamp(0.01, 3600.0) * (tests.clamp(2, 8) as f64);
        let wall = Duration::from_secs_f64(seconds);
        Limits {
            wall,
            cpu: wall,
            memory_bytes: self.limits.memory_bytes,
            processes: submission.processes,
            ..Limits::default()
        }
    }

    fn drive(&self, submission: &Submission, answer: &Job, work: &[Work]) -> Told {
        let nonces: Vec<String> = work.iter().map(|_| driver::nonce()).collect();
        let setting = Setting {
            test_seconds: self.limits.test_seconds,
            style: submission.style,
            forked: submission.language != Language::Python,
            packages: &self.interpreter.packages,
        };
        let texts = [
            submission.answer,
            submission.functional.unwrap_or_default(),
            submission.exploit.unwrap_or_default(),
        ];
        let limits = self.job_limits(submission, work.len());
        let mut answer = answer.clone();
        (answer.limits.wall, answer.limits.cpu) = (limits.wall, limits.cpu);
        let tester = Job {
            stdin: driver::tester_input(texts, work, &nonces, &setting),
            limits,
            ..self.interpreter.job(Program::Tester)
        };
        Told::new(&self.sandbox.run_pair(&tester, &answer), &nonces)
    }
}

/// Addresses that the guarded allocator may reserve beside the memory that an answer may use.
const GUARDED_ADDRESSES: u64 = 40 << 30;

/// Why no test of an answer was run.
enum Unloadable {
    /// Python's compiler does not take it.
    Unparsable(String),
    /// It is well-formed, but the compiler does not take it.
    Uncompilable(String),
    /// Nothing can be concluded.
    NotRun(String),
}

fn names_of(source: &str, style: TestStyle) -> Vec<String> {
    match style {
        TestStyle::Calls => driver::test_names(source),
        TestStyle::Script if source.trim().is_empty() => Vec::new(),
        TestStyle::Script => vec!["script".into()],
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
