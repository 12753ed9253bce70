//! The Python interpreter and the programs that it runs inside the sandbox.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use vul2safe_sandbox::{Ended, Job, Limits, PythonSetup, Sandbox, WarmPython};

use crate::error::JudgeError;

/// A program of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Runs the tests and reports.
    Tester,
    /// Loads a Python answer and serves the tester.
    Answer,
    /// Loads a compiled answer and serves the tester.
    CompiledAnswer,
}

impl Program {
    const ALL: [Program; 3] = [Program::Tester, Program::Answer, Program::CompiledAnswer];

    fn source(self) -> String {
        const PROTOTYPES: &str = include_str!("python/prototypes.py");
        let parts: &[&str] = match self {
            Program::Tester => &[include_str!("python/tester.py")],
            Program::Answer => &[include_str!("python/answer.py")],
            Program::CompiledAnswer => &[PROTOTYPES, include_str!("python/answer_c.py")],
        };
        const BOUNDARY: &[&str] = &[
            include_str!("python/boundary.py"),
            include_str!("python/codec.py"),
            include_str!("python/references.py"),
        ];
        [BOUNDARY, parts].concat().join("\n\n")
    }

    /// The compiled program's file in the private folder.
    fn file(self) -> &'static str {
        match self {
            Program::Tester => "tester.pyc",
            Program::Answer => "answer.pyc",
            Program::CompiledAnswer => "compiled_answer.pyc",
        }
    }
}

/// An interpreter that was seen to run inside the sandbox, and the programs prepared for it: loading them again for each
/// run would cost more than most tests.
pub(crate) struct Interpreter {
    pub(crate) path: PathBuf,
    /// Folders of installed packages, which the interpreter is started without because looking for them takes time.
    pub(crate) packages: Vec<String>,
    start: Start,
}

/// How the programs are started.
enum Start {
    /// As copies of an interpreter that has loaded them.
    Warm(WarmPython),
    /// Each in a new interpreter, and why; with the compiled programs.
    Cold { why: String, compiled: Vec<(Program, Vec<u8>)> },
}

/// What a warm interpreter loads before its first copy: what answers and tests most often import. Each makes every
/// copy a little slower, so what few of them need is left out.
const MODULES: &[&str] = &[
    "ast",
    "base64",
    "bisect",
    "collections",
    "contextlib",
    "copy",
    "ctypes",
    "datetime",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "hmac",
    "html",
    "io",
    "itertools",
    "json",
    "math",
    "operator",
    "os",
    "pathlib",
    "pickle",
    "random",
    "re",
    "resource",
    "secrets",
    "shlex",
    "shutil",
    "sqlite3",
    "string",
    "struct",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "types",
    "typing",
    "urllib.parse",
];

impl Interpreter {
    /// `python` if it is given, otherwise the first of `/usr/bin`, `/usr/local/bin` and `PATH` that works.
    pub(crate) fn find(sandbox: &Sandbox, python: Option<PathBuf>) -> Result<Interpreter, JudgeError> {
        let candidates = match python {
            Some(python) => vec![python],
            None => candidates(),
        };
        let mut tried = Vec::new();
        for path in candidates {
            match Interpreter::try_out(sandbox, &path) {
                Ok(interpreter) => return Ok(interpreter),
                Err(why) => tried.push((path, why)),
            }
        }
        Err(JudgeError::NoPython { tried })
    }

    /// A job that runs `program`, with the file that it needs.
    pub(crate) fn job(&self, program: Program) -> Job {
        match &self.start {
            Start::Warm(python) => Job::warm(python, [program.file()]),
            Start::Cold { compiled, .. } => {
                let mut job = Job::new(arguments(&self.path, program.file()));
                if let Some((_, code)) = compiled.iter().find(|(each, _)| *each == program) {
                    job.files.push((program.file().into(), code.clone()));
                }
                job
            }
        }
    }

    /// The same interpreter, started anew for each program.
    pub(crate) fn without_copies(self, sandbox: &Sandbox) -> Result<Interpreter, JudgeError> {
        let compiled = compile(sandbox, &self.path)
            .map_err(|why| JudgeError::NoPython { tried: vec![(self.path.clone(), why)] })?;
        Ok(Interpreter { start: Start::Cold { why: "asked for".into(), compiled }, ..self })
    }

    /// Why programs are started in new interpreters; `None` if they are copies of a warm one.
    pub(crate) fn cold(&self) -> Option<&str> {
        match &self.start {
            Start::Warm(_) => None,
            Start::Cold { why, .. } => Some(why),
        }
    }

    fn try_out(sandbox: &Sandbox, python: &Path) -> Result<Interpreter, String> {
        const QUESTION: &str = "import sys\nassert sys.version_info >= (3, 8), 'older than Python 3.8'\nimport os, site\n\
                                print('\\n'.join(path for path in site.getsitepackages() if os.path.isdir(path)))\n";
        let told = run(sandbox, python, QUESTION, Vec::new())?;
        // A folder name with a blank cannot be passed on and is no loss.
        let packages = String::from_utf8_lossy(&told.0)
            .lines()
            .filter(|line| !line.contains(char::is_whitespace))
            .map(String::from)
            .collect();
        let setup = PythonSetup {
            interpreter: python.to_path_buf(),
            modules: MODULES.iter().map(|module| module.to_string()).collect(),
            programs: Program::ALL
                .into_iter()
                .map(|program| (program.file().to_string(), program.source().into_bytes()))
                .collect(),
        };
        let start = match sandbox.warm_python(setup) {
            Ok(warm) => Start::Warm(warm),
            Err(why) => Start::Cold { why: why.to_string(), compiled: compile(sandbox, python)? },
        };
        Ok(Interpreter { path: python.to_path_buf(), packages, start })
    }
}

/// The programs as files that the interpreter starts as it starts a source: header, then the code object.
fn compile(sandbox: &Sandbox, python: &Path) -> Result<Vec<(Program, Vec<u8>)>, String> {
    const COMPILE: &str = "import importlib.util, marshal, os\n\
                           code = compile(open('source.py', 'rb').read(), '<judge>', 'exec')\n\
                           data = importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)\n\
                           while data:\n    data = data[os.write(3, data):]\n";
    let one = |program: Program| {
        let files = vec![("source.py".to_string(), program.source().into_bytes())];
        Ok((program, run(sandbox, python, COMPILE, files)?.1))
    };
    Program::ALL.into_iter().map(one).collect()
}

/// Runs a trusted script; standard output and report.
fn run(
    sandbox: &Sandbox,
    python: &Path,
    script: &str,
    files: Vec<(String, Vec<u8>)>,
) -> Result<(Vec<u8>, Vec<u8>), String> {
    let mut job = Job { files, limits: Limits::default(), ..Job::new(arguments(python, "script.py")) };
    job.files.push(("script.py".into(), script.as_bytes().to_vec()));
    let outcome = sandbox.run(&job);
    match outcome.ended {
        Ended::Exited { code: 0 } => Ok((outcome.stdout, outcome.report)),
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

/// No site packages and no user folder (both are looked for on every start otherwise), no compiled files, no warnings.
fn arguments(python: &Path, program: &str) -> Vec<OsString> {
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
