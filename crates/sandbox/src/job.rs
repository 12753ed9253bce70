//! What is run and what came of it.

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::warm::WarmPython;

/// What one run may use. All limits hold at once; the first one reached ends the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Time from the start to the end of the whole process group.
    pub wall: Duration,
    /// Processor time of each process, rounded up to whole seconds (the kernel's unit).
    pub cpu: Duration,
    /// Address space of each process in bytes. An allocation beyond it fails inside the program.
    pub memory_bytes: u64,
    /// Largest file the program may write, in bytes; the private folder as a whole may hold four times as much (beside
    /// the job's own files) and 10,000 entries. Where the folder is a file system of its own, a write beyond that fails
    /// inside the program; otherwise it ends the run.
    pub file_bytes: u64,
    /// Largest amount kept of each of standard output, standard error and the report, in bytes; more ends the run.
    pub output_bytes: usize,
    /// Processes that may exist beside the first one. 0 means that none can be started (threads can, up to 16).
    pub processes: u32,
}

impl Default for Limits {
    /// 10 s wall, 10 s processor, 1 GiB memory, 16 MiB a file, 1 MiB output, no further process.
    fn default() -> Self {
        Limits {
            wall: Duration::from_secs(10),
            cpu: Duration::from_secs(10),
            memory_bytes: 1 << 30,
            file_bytes: 16 << 20,
            output_bytes: 1 << 20,
            processes: 0,
        }
    }
}

/// One program to run in a private, empty folder.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Job {
    /// The program and its arguments. The program is an absolute path, a name found in `/usr/local/bin:/usr/bin:/bin`,
    /// or a path relative to the private folder that contains a slash. In a [warm](Job::warm) run it is the name of one
    /// of the interpreter's programs.
    pub arguments: Vec<OsString>,
    /// Files written into the private folder before the start: relative path, contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// What the program reads from standard input; then comes the end of the file.
    pub stdin: Vec<u8>,
    /// What the run may use.
    pub limits: Limits,
    /// As the follower of a [pair](crate::Sandbox::run_pair): whether the leader may read and write the private folder
    /// of this job. The leader finds its path in the environment variable [`FOLLOWER_FOLDER`].
    pub folder_open_to_leader: bool,
    /// An interpreter that is already running, whose copy runs one of its programs instead of a new process.
    pub warm: Option<WarmPython>,
}

/// The environment variable in which the leader of a pair finds the path of the follower's private folder.
pub const FOLLOWER_FOLDER: &str = "VUL2SAFE_FOLLOWER_FOLDER";

impl Job {
    /// A job with these arguments (program first), no files, empty standard input and default limits.
    pub fn new<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Job {
        Job { arguments: arguments.into_iter().map(Into::into).collect(), ..Job::default() }
    }

    /// A job for a copy of a warm interpreter: the name of one of its programs, which also is `sys.argv[0]`, and the
    /// rest of `sys.argv`. Standard streams, descriptors 3 and 4, files, limits and outcome are those of any run.
    pub fn warm<A: Into<OsString>>(python: &WarmPython, arguments: impl IntoIterator<Item = A>) -> Job {
        Job { warm: Some(python.clone()), ..Job::new(arguments) }
    }
}

/// The limit that ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// [`Limits::wall`].
    WallClock,
    /// [`Limits::cpu`].
    Cpu,
    /// [`Limits::memory_bytes`], or the machine ran out of memory.
    Memory,
    /// [`Limits::file_bytes`].
    FileSize,
    /// [`Limits::output_bytes`].
    Output,
    /// [`Limits::processes`]. A refused process start normally fails inside the program and does not end the run.
    Processes,
    /// A system call of a foreign architecture, which ends the run at once.
    SystemCall,
}

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Limit::WallClock => "wall-clock time",
            Limit::Cpu => "processor time",
            Limit::Memory => "memory",
            Limit::FileSize => "file size",
            Limit::Output => "output size",
            Limit::Processes => "number of processes",
            Limit::SystemCall => "system calls",
        })
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The program ended by itself.
    Exited {
        /// Its exit status, 0 to 255.
        code: i32,
    },
    /// A signal ended the program that no limit explains.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// A limit was reached.
    Killed {
        /// Which one.
        limit: Limit,
    },
    /// The run was the follower of a pair and was killed because the leader's had ended.
    WithLeader,
    /// The program was never started; nothing can be concluded from it.
    NotRun {
        /// What went wrong.
        why: String,
    },
}

/// Everything a run left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// Standard output, at most [`Limits::output_bytes`].
    pub stdout: Vec<u8>,
    /// Standard error, at most [`Limits::output_bytes`].
    pub stderr: Vec<u8>,
    /// What the program wrote to file descriptor 3, at most [`Limits::output_bytes`].
    pub report: Vec<u8>,
    /// Whether the private folder was full at the end: a failed run may owe its failure to that. Known only where the
    /// folder is a file system of its own; where it is not, a folder too large ends the run ([`Limit::FileSize`]).
    pub folder_full: bool,
    /// Time from the start to the end of the whole process group.
    pub wall: Duration,
}

impl Outcome {
    pub(crate) fn not_run(why: impl Into<String>) -> Outcome {
        Outcome {
            ended: Ended::NotRun { why: why.into() },
            stdout: Vec::new(),
            stderr: Vec::new(),
            report: Vec::new(),
            folder_full: false,
            wall: Duration::ZERO,
        }
    }
}
