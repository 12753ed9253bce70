//! The Python interpreter and the programs that it runs inside the sandbox.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use vul2safe_sandbox::{Ended, Job, Limits, Sandbox};

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
        [&[include_str!("python/boundary.py"), include_str!("python/references.py")], parts].concat().join("\n\n")
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

/// An interpreter that was seen to run inside the sandbox, and the programs compiled for it: compiling them again for
/// each run would cost more than most tests.
pub(crate) struct Interpreter {
    pub(crate) path: PathBuf,
    /// Folders of installed packages, which the interpreter is started without because looking for them takes time.
    pub(crate) packages: Vec<String>,
    compiled: Vec<(Program, Vec<u8>)>,
}

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
                Ok((packages, compiled)) => return Ok(Interpreter { path, packages, compiled }),
                Err(why) => tried.push((path, why)),
            }
        }
        Err(JudgeError::NoPython { tried })
    }

    /// A job that runs `program`, with the file that it needs.
    pub(crate) fn job(&self, program: Program) -> Job {
        let mut job = Job::new(arguments(&self.path, program.file()));
        if let Some((_, code)) = self.compiled.iter().find(|(each, _)| *each == program) {
            job.files.push((program.file().into(), code.clone()));
        }
        job
    }

    #[allow(clippy::type_complexity)]
    fn try_out(sandbox: &Sandbox, python: &Path) -> Result<(Vec<String>, Vec<(Program, Vec<u8>)>), String> {
        const QUESTION: &str = "import sys\nassert sys.version_info >= (3, 8), 'older than Python 3.8'\nimport os, site\n\
                                print('\\n'.join(path for path in site.getsitepackages() if os.path.isdir(path)))\n";
        let told = run(sandbox, python, QUESTION, Vec::new())?;
        // A folder name with a blank cannot be passed on and is no loss.
        let packages = String::from_utf8_lossy(&told.0)
            .lines()
            .filter(|line| !line.contains(char::is_whitespace))
            .map(String::from)
            .collect();
        // A file that the interpreter starts as it starts a source: header, then the code object.
        const COMPILE: &str = "import importlib.util, marshal, os\n\
                               code = compile(open('source.py', 'rb').read(), '<judge>', 'exec')\n\
                               data = importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)\n\
                               while data:\n    data = data[os.write(3, data):]\n";
        let mut compiled = Vec::new();
        for program in Program::ALL {
            let files = vec![("source.py".to_string(), program.source().into_bytes())];
            compiled.push((program, run(sandbox, python, COMPILE, files)?.1));
        }
        Ok((packages, compiled))
    }
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
