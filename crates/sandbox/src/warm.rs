//! Interpreters that are kept warm.
//!
//! A Python interpreter takes ten milliseconds and more to start, most of it for work that is the same every time. A
//! warm one has done that work and imported what its programs need; it then waits. For each run it makes a copy of
//! itself (`warm.py`), and the copy enters the run's sandbox step by step as a cold start does, before it touches
//! anything of the job. Nothing foreign ever runs in the warm interpreter itself.
//!
//! The copies are children of this process, so that watching, limits and outcome are the same as of cold starts.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::error::SandboxError;
use crate::filesystem::find_program;
use crate::plan::{Child, LaunchError, Plan, Step, pipe};
use crate::run::Sandbox;

mod starter;

use starter::{Recipe, Starter, Warm};

/// What a warm interpreter prepares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonSetup {
    /// The interpreter: an absolute path, or a name found in `/usr/local/bin:/usr/bin:/bin`. It is started with
    /// `-S -s -B -W ignore`.
    pub interpreter: PathBuf,
    /// Modules to import.
    pub modules: Vec<String>,
    /// Programs that runs can name: the name, which tracebacks show, and the source.
    pub programs: Vec<(String, Vec<u8>)>,
}

/// A Python interpreter that is kept warm; it ends when the last clone is dropped. Made by
/// [`Sandbox::warm_python`]; serves any number of threads, and runs of that sandbox only.
#[derive(Clone)]
pub struct WarmPython {
    inner: Arc<Inner>,
}

struct Inner {
    interpreter: PathBuf,
    readable: Vec<PathBuf>,
    programs: Vec<String>,
    /// The interpreter itself; `None` after it was lost.
    process: Mutex<Option<Warm>>,
    /// Dropped last: the interpreter ends with the thread that started it.
    starter: Starter,
}

impl std::fmt::Debug for WarmPython {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "WarmPython({})", self.inner.interpreter.display())
    }
}

impl PartialEq for WarmPython {
    /// Whether it is the same interpreter process.
    fn eq(&self, other: &WarmPython) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for WarmPython {}

impl WarmPython {
    pub(crate) fn start(sandbox: &Sandbox, setup: PythonSetup) -> Result<WarmPython, SandboxError> {
        let interpreter = setup.interpreter.clone();
        let failed = |why: String| SandboxError::Warm { interpreter: interpreter.clone(), why };
        let program = find_program(&setup.interpreter).map_err(|error| failed(error.to_string()))?;
        let recipe = Recipe::new(sandbox, &program.path, encode(&setup, sandbox));
        let starter = Starter::new(recipe).map_err(|error| failed(error.to_string()))?;
        let process = starter.start().map_err(failed)?;
        let inner = Inner {
            interpreter: program.path,
            readable: program.readable,
            programs: setup.programs.into_iter().map(|(name, _)| name).collect(),
            process: Mutex::new(Some(process)),
            starter,
        };
        Ok(WarmPython { inner: Arc::new(inner) })
    }

    /// What runs of this interpreter must be able to read beside the system's own folders.
    pub(crate) fn readable(&self) -> &[PathBuf] {
        &self.inner.readable
    }

    /// Whether it has prepared a program of this name.
    pub(crate) fn knows(&self, program: &OsStr) -> bool {
        self.inner.programs.iter().any(|known| program == OsStr::new(known))
    }

    /// Starts a run as a copy of the interpreter and returns once the copy is inside its sandbox.
    pub(crate) fn launch(&self, plan: &Plan, patience: Duration) -> Result<Child, LaunchError> {
        let failed = |step| move |source| LaunchError { step, source };
        let (status, status_writer) = pipe().map_err(failed(Step::Descriptors))?;
        let streams = plan.streams.iter().map(AsFd::as_fd);
        let mounts = plan.mounts.iter().map(|mount| mount.view);
        let descriptors: Vec<BorrowedFd> = [status_writer.as_fd()]
            .into_iter()
            .chain(streams)
            .chain(mounts)
            .chain(plan.rule_set.as_ref().map(AsFd::as_fd))
            .collect();
        let process = self.copy(&request(plan), &descriptors)?;
        drop(descriptors);
        drop(status_writer);
        let child = Child::new(process);

        // The other end is closed when the copy has entered its sandbox or has given up.
        let deadline = Instant::now() + patience.max(Duration::from_secs(1));
        let told = match starter::read_to_end(&status, deadline) {
            Ok(told) => told,
            Err(source) => {
                child.kill();
                return Err(LaunchError { step: Step::Ask, source });
            }
        };
        if told == b"ready" {
            return Ok(child);
        }
        child.kill();
        let told = String::from_utf8_lossy(&told).into_owned();
        let numbers =
            told.split_once(' ').and_then(|(step, error)| Some((step.parse().ok()?, error.parse().ok()?)));
        match numbers.and_then(|(step, error): (i32, i32)| Some((Step::from_number(step)?, error))) {
            Some((step, error)) => Err(LaunchError { step, source: io::Error::from_raw_os_error(error) }),
            None => Err(LaunchError {
                step: Step::Ask,
                source: io::Error::other(format!("the copy ended while it entered its sandbox: {told:?}")),
            }),
        }
    }

    /// Asks for a copy and returns its process. An interpreter that was lost (killed for want of memory, say) is
    /// started once more.
    fn copy(&self, request: &[u8], descriptors: &[BorrowedFd]) -> Result<libc::pid_t, LaunchError> {
        let failed = |source| LaunchError { step: Step::Ask, source };
        let mut held = self.inner.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(process) = held.as_ref() {
            match process.ask(request, descriptors) {
                Ok(answer) => return understood(&answer),
                // A request that is too long fails with every interpreter.
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => return Err(failed(error)),
                Err(_) => *held = None,
            }
        }
        let process = self.inner.starter.start().map_err(|why| failed(io::Error::other(why)))?;
        let answer = process.ask(request, descriptors);
        *held = Some(process);
        understood(&answer.map_err(failed)?)
    }
}

fn understood(answer: &[u8]) -> Result<libc::pid_t, LaunchError> {
    let text = String::from_utf8_lossy(answer);
    match text.split_once(' ').map(|(kind, number)| (kind, number.parse::<i32>())) {
        Some(("process", Ok(process))) if process > 0 => Ok(process),
        Some(("error", Ok(error))) => {
            Err(LaunchError { step: Step::Clone, source: io::Error::from_raw_os_error(error) })
        }
        _ => Err(LaunchError {
            step: Step::Ask,
            source: io::Error::other(format!("it answered {text:?}, which means nothing")),
        }),
    }
}

/// Appends `length:bytes,`.
fn field(message: &mut Vec<u8>, bytes: &[u8]) {
    message.extend_from_slice(format!("{}:", bytes.len()).as_bytes());
    message.extend_from_slice(bytes);
    message.push(b',');
}

fn number(message: &mut Vec<u8>, number: impl std::fmt::Display) {
    field(message, number.to_string().as_bytes());
}

/// The setup as `warm.py` reads it.
fn encode(setup: &PythonSetup, sandbox: &Sandbox) -> Vec<u8> {
    let mut message = Vec::new();
    field(&mut message, setup.modules.join("\n").as_bytes());
    number(&mut message, setup.programs.len());
    for (name, source) in &setup.programs {
        field(&mut message, name.as_bytes());
        field(&mut message, source);
    }
    for filters in &sandbox.filters {
        number(&mut message, filters.len());
        for program in filters {
            // The kernel's `struct sock_filter`, in this machine's byte order.
            let bytes: Vec<u8> = program
                .iter()
                .flat_map(|line| {
                    [&line.code.to_ne_bytes()[..], &[line.jt, line.jf], &line.k.to_ne_bytes()].concat()
                })
                .collect();
            field(&mut message, &bytes);
        }
    }
    message
}

/// A plan as `warm.py` reads it.
fn request(plan: &Plan) -> Vec<u8> {
    let joined = |strings: &[std::ffi::CString]| {
        strings.iter().map(|string| string.as_bytes()).collect::<Vec<_>>().join(&0u8)
    };
    let limits: Vec<String> =
        plan.limits.iter().map(|(resource, soft, hard)| format!("{resource}:{soft}:{hard}")).collect();
    let optional = |id: Option<u32>| id.map(|id| id.to_string()).unwrap_or_default();
    let targets: Vec<&[u8]> = plan.mounts.iter().map(|mount| mount.target.as_bytes()).collect();
    let user_map =
        plan.user_map.map(|map| map.lines().map(|line| line.as_bytes()).join(&0u8)).unwrap_or_default();
    let mut message = Vec::new();
    field(&mut message, plan.program.as_bytes());
    field(&mut message, &joined(&plan.arguments));
    field(&mut message, &joined(&plan.environment));
    field(&mut message, plan.folder.as_bytes());
    field(&mut message, &targets.join(&0u8));
    field(&mut message, limits.join(" ").as_bytes());
    field(&mut message, optional(plan.user).as_bytes());
    field(&mut message, optional(plan.group).as_bytes());
    number(&mut message, plan.file_mask);
    number(&mut message, plan.namespaces);
    number(&mut message, u8::from(plan.processes));
    field(&mut message, &user_map);
    number(&mut message, std::process::id());
    number(&mut message, plan.streams.len());
    number(&mut message, u8::from(plan.rule_set.is_some()));
    message
}
