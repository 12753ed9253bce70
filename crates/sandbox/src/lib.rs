//! Runs untrusted code with limits, without a network, under a deadline.
//!
//! One [`Job`] is one program with the files it needs, its standard input and its [`Limits`]. [`Sandbox::run`] starts
//! it in a private folder and answers with an [`Outcome`]. What protects the machine, where the kernel has it:
//!
//! * **landlock**: only the system's own folders can be read, only the private folder can be written;
//! * **seccomp**: no sockets, no tracing of other processes, no `io_uring`, no key rings, no mounts, no namespaces, and
//!   no new process at all unless [`Limits::processes`] allows some;
//! * **a fresh user** for each run when the caller is root, so that neither files nor processes are shared, and a fresh
//!   process namespace where more than one process is allowed;
//! * **rlimits** on processor time, memory, file size, descriptors and processes, an empty environment, no inherited
//!   descriptors, no new privileges;
//! * **an outer deadline** that kills the whole process group.
//!
//! [`Sandbox::new`] refuses to work where landlock or seccomp are missing, unless the [`Policy`] says otherwise.
//!
//! **Not covered**: side channels and kernel bugs reachable through ordinary system calls; the sum of memory over
//! several allowed processes (the limit holds for each); for an ordinary user, allowed child processes that sleep when
//! the *caller* is killed with SIGKILL (the job's first process dies with its caller, its children end by themselves).
//!
//! The crate refuses to know what it runs: no language, no test, no verdict. It starts processes; apart from adapters
//! of external tools nothing else in the workspace does.
//!
//! ```
//! use vul2safe_sandbox::{Ended, Job, Policy, Sandbox};
//!
//! let sandbox = match Sandbox::new(Policy { allow_unprotected: false }) {
//!     Ok(sandbox) => sandbox,
//!     Err(error) => return println!("{error}; {}", error.hint().unwrap_or_default()),
//! };
//! let mut job = Job::new(["cat", "greeting.txt"]);
//! job.files.push(("greeting.txt".into(), b"hello".to_vec()));
//! let outcome = sandbox.run(&job);
//! assert_eq!(outcome.ended, Ended::Exited { code: 0 });
//! assert_eq!(outcome.stdout, b"hello");
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("vul2safe-sandbox builds on Linux only: it stands on landlock and seccomp");

mod base;
mod borrow;
mod capabilities;
mod error;
mod filesystem;
mod filter;
mod folder;
mod job;
mod launch;
mod mount;
mod namespace;
mod place;
mod plan;
mod probe;
mod resources;
mod run;
mod supervise;
mod user;
mod warm;

pub use capabilities::{Capabilities, Protection};
pub use error::SandboxError;
pub use job::{Ended, FOLLOWER_FOLDER, Job, Limit, Limits, Outcome};
pub use run::{Policy, Sandbox};
pub use warm::{PythonSetup, WarmPython};
