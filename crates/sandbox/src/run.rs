//! The sandbox itself: one call, one run.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use seccompiler::BpfProgram;

use crate::capabilities::Capabilities;
use crate::error::SandboxError;
use crate::filesystem::{SystemRules, find_program};
use crate::filter::{self, FilterOptions};
use crate::folder::{PrivateFolder, remove_left_behind};
use crate::job::{FOLLOWER_FOLDER, Job, Limits, Outcome};
use crate::launch::{LaunchError, Plan, Step, launch};
use crate::supervise::{Pipes, Running, Watched, stop, watch, watch_pair};
use crate::user::{User, UserRange, Users};

/// What to do on a machine that cannot protect itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Policy {
    /// Run even without landlock or seccomp. For throw-away machines only.
    pub allow_unprotected: bool,
}

/// Threads that a run without further processes may have beside the first, where its user is its own.
const THREADS: u32 = 16;

/// Runs jobs. One value serves any number of threads.
pub struct Sandbox {
    capabilities: Capabilities,
    system: SystemRules,
    /// Filters for runs without and with further processes.
    filters: [Vec<BpfProgram>; 2],
    users: Option<Users>,
    base: PathBuf,
}

impl Sandbox {
    /// Prepares the filters and rules, and removes private folders that callers left behind that were killed.
    ///
    /// # Errors
    /// [`SandboxError::Unprotected`] where landlock or seccomp are missing and the policy does not allow that.
    pub fn new(policy: Policy) -> Result<Sandbox, SandboxError> {
        let capabilities = Sandbox::capabilities();
        if !capabilities.protects() && !policy.allow_unprotected {
            return Err(SandboxError::Unprotected { capabilities });
        }
        let sandbox = Sandbox::with(capabilities)?;
        // SAFETY: geteuid cannot fail.
        let me = unsafe { libc::geteuid() };
        let owned = |user| user == me || sandbox.users.as_ref().is_some_and(|users| users.contains(user));
        remove_left_behind(&sandbox.base, owned, SystemTime::now());
        Ok(sandbox)
    }

    /// What this machine enforces for this user. Found out once, by starting a harmless program.
    pub fn capabilities() -> Capabilities {
        static DETECTED: OnceLock<Capabilities> = OnceLock::new();
        DETECTED.get_or_init(probe).clone()
    }

    fn with(capabilities: Capabilities) -> Result<Sandbox, SandboxError> {
        let filters = if capabilities.seccomp {
            let signals = capabilities.separate_user || capabilities.signal_scope;
            let build = |processes| {
                filter::programs(FilterOptions { processes, signals })
                    .map_err(|source| SandboxError::Filter { source })
            };
            [build(false)?, build(true)?]
        } else {
            [Vec::new(), Vec::new()]
        };
        let users =
            if capabilities.separate_user { UserRange::of_this_namespace().map(Users::new) } else { None };
        Ok(Sandbox { capabilities, system: SystemRules::open(), filters, users, base: base_folder()? })
    }

    /// Runs one job to its end and returns what came of it. Never fails and never panics: what could not be run comes
    /// back as [`NotRun`](crate::Ended::NotRun). Blocks for [`Limits::wall`] at most, plus the moment it takes to clean up.
    pub fn run(&self, job: &Job) -> Outcome {
        self.try_run(job).unwrap_or_else(|error| Outcome::not_run(error.to_string()))
    }

    /// Runs two jobs at once with a private channel between them: a pair of connected stream sockets, of which each
    /// sees its end as file descriptor 4. Nobody else holds an end, so when one of the two is gone the other reads the
    /// end of the stream. The outcomes come in the order of the arguments.
    ///
    /// Each job has a sandbox of its own: neither can see, signal or trace the other, nor read its files, unless the
    /// follower's folder is [open to the leader](Job::folder_open_to_leader). When the leader has ended or reached a
    /// limit, the follower is killed and ends [`WithLeader`](crate::Ended::WithLeader), unless it was over before. When
    /// the follower is over first, the leader goes on to its own end. If one cannot be started, neither is run.
    pub fn run_pair(&self, leader: &Job, follower: &Job) -> [Outcome; 2] {
        self.try_run_pair(leader, follower).unwrap_or_else(|error| {
            let outcome = Outcome::not_run(error.to_string());
            [outcome.clone(), outcome]
        })
    }

    fn try_run(&self, job: &Job) -> Result<Outcome, RunError> {
        let place = self.place(job, false)?;
        Ok(outcome(watch(self.start(job, &place, Part::default())?)))
    }

    fn try_run_pair(&self, leader: &Job, follower: &Job) -> Result<[Outcome; 2], RunError> {
        let shared = follower.folder_open_to_leader;
        let leader_place = self.place(leader, false)?;
        let follower_place = self.place(follower, shared)?;
        let [leader_end, follower_end] = channel()?;
        // The follower starts first: it waits for the leader, not the other way round.
        let part = Part { channel: Some(follower_end), follower: None, shares_files: shared };
        let follower_runs = self.start(follower, &follower_place, part)?;
        let follower_seen = shared.then_some(&follower_place);
        let part = Part { channel: Some(leader_end), follower: follower_seen, shares_files: shared };
        match self.start(leader, &leader_place, part) {
            Ok(leader_runs) => Ok(watch_pair(leader_runs, follower_runs).map(outcome)),
            Err(error) => {
                stop(follower_runs);
                Err(error)
            }
        }
    }

    /// A private folder with the job's files and a user for it.
    fn place(&self, job: &Job, shared: bool) -> Result<Place<'_>, RunError> {
        let user = match &self.users {
            Some(users) => Some((users, users.take().map_err(RunError::User)?)),
            None => None,
        };
        let owner = user.as_ref().map(|(_, user)| user.id);
        let mut place = Place { folder: None, user };
        place.folder = Some(
            PrivateFolder::create(&self.base, owner, shared, &job.files)
                .map_err(|source| RunError::Folder { base: self.base.clone(), source })?,
        );
        Ok(place)
    }

    fn start<'a>(&'a self, job: &'a Job, place: &'a Place, part: Part) -> Result<Running<'a>, RunError> {
        let limits = &job.limits;
        let folder = place.folder();
        let user = place.user_id();
        let name = job.arguments.first().ok_or(RunError::NoProgram)?;
        let program = find_program(Path::new(name)).map_err(RunError::Program)?;
        let processes = limits.processes > 0;
        let followers = part.follower.map(|place| place.folder().path());
        let rule_set = if self.capabilities.landlock > 0 {
            let writable: Vec<&Path> = [folder.path()].into_iter().chain(followers).collect();
            let rules = self.system.rule_set(&writable, &program.readable).map_err(RunError::Rules)?;
            Some(rules.ok_or(RunError::NoRules)?)
        } else {
            None
        };
        let (stdin, stdin_writer) = pipe()?;
        let [output, error, report] = [pipe()?, pipe()?, pipe()?];
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| RunError::NulByte);
        let mut variables = environment(folder.path());
        if let Some(path) = followers {
            variables.push([FOLLOWER_FOLDER.as_bytes(), b"=", path.as_os_str().as_bytes()].concat());
        }
        let plan = Plan {
            program: text(program.path.as_os_str().as_bytes())?,
            arguments: job
                .arguments
                .iter()
                .map(|argument| text(argument.as_bytes()))
                .collect::<Result<_, _>>()?,
            environment: variables.iter().map(|line| text(line)).collect::<Result<_, _>>()?,
            folder: OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_DIRECTORY | libc::O_PATH)
                .open(folder.path())
                .map_err(|source| RunError::Folder { base: folder.path().to_path_buf(), source })?
                .into(),
            rule_set,
            filters: &self.filters[usize::from(processes)],
            limits: resource_limits(limits, user.is_some()),
            user,
            // Files that the follower makes belong to its group, which the leader is a member of.
            group: part.follower.and_then(Place::user_id),
            file_mask: if part.shares_files { 0o007 } else { 0o077 },
            process_namespace: processes && self.capabilities.process_namespace,
            streams: [stdin, output.1, error.1, report.1].into_iter().chain(part.channel).collect(),
        };
        let started = Instant::now();
        let child = launch(&plan).map_err(RunError::Launch)?;
        let group_survives_leader = processes && !plan.process_namespace;
        // The child's ends must be closed here, or no pipe would ever end.
        drop(plan);
        let pipes = Pipes {
            stdin: Some(File::from(stdin_writer)),
            outputs: [output.0, error.0, report.0].map(|reader| Some(File::from(reader))),
        };
        Ok(Running { child, pipes, stdin: &job.stdin, limits, folder, started, group_survives_leader })
    }
}

/// What a run holds on this machine.
struct Place<'a> {
    /// Always there; an option so that it can be removed before the user is given back.
    folder: Option<PrivateFolder>,
    user: Option<(&'a Users, User)>,
}

impl Place<'_> {
    fn folder(&self) -> &PrivateFolder {
        self.folder.as_ref().expect("only `drop` takes the folder out")
    }

    fn user_id(&self) -> Option<u32> {
        self.user.as_ref().map(|(_, user)| user.id)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        drop(self.folder.take());
        // Only now: the next holder of this user must not meet anything of this run.
        if let Some((users, user)) = self.user.take() {
            users.give_back(user);
        }
    }
}

/// A run's part in a pair; empty for a run by itself.
#[derive(Default)]
struct Part<'a> {
    /// Its end of the channel.
    channel: Option<OwnedFd>,
    /// The follower's place, for a leader to whom its folder is open.
    follower: Option<&'a Place<'a>>,
    /// Whether both may change the files that this run makes.
    shares_files: bool,
}

fn outcome(watched: Watched) -> Outcome {
    let [stdout, stderr, report] = watched.outputs;
    Outcome { ended: watched.ended, stdout, stderr, report, wall: watched.wall }
}

/// Why a job was not run.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("the job names no program")]
    NoProgram,
    #[error("{0}")]
    Program(io::Error),
    #[error("no user id for the run: {0}")]
    User(io::Error),
    #[error("cannot prepare the private folder in {}: {source}", .base.display())]
    Folder { base: PathBuf, source: io::Error },
    #[error("cannot prepare the landlock rules: {0}")]
    Rules(landlock::RulesetError),
    #[error("landlock went away")]
    NoRules,
    #[error("cannot make a pipe: {0}")]
    Pipe(io::Error),
    #[error("cannot make the channel of a pair: {0}")]
    Channel(io::Error),
    #[error("an argument contains a NUL byte")]
    NulByte,
    #[error("{0}")]
    Launch(LaunchError),
}

/// A pipe: reading end, writing end; neither is inherited by other programs that this process starts.
fn pipe() -> Result<(OwnedFd, OwnedFd), RunError> {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two descriptors into a live array of two.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(RunError::Pipe(io::Error::last_os_error()));
    }
    // SAFETY: both descriptors are new and owned by nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Two connected stream sockets, not inherited by other programs that this process starts.
fn channel() -> Result<[OwnedFd; 2], RunError> {
    let (one, other) = UnixStream::pair().map_err(RunError::Channel)?;
    Ok([one.into(), other.into()])
}

/// The whole environment of a run.
fn environment(folder: &Path) -> Vec<Vec<u8>> {
    let home = folder.as_os_str().as_bytes();
    vec![
        b"PATH=/usr/local/bin:/usr/bin:/bin".to_vec(),
        [b"HOME=", home].concat(),
        [b"TMPDIR=", home].concat(),
        b"LANG=C.UTF-8".to_vec(),
        b"TZ=UTC".to_vec(),
        b"PYTHONDONTWRITEBYTECODE=1".to_vec(),
        b"PYTHONHASHSEED=0".to_vec(),
        b"PYTHONNOUSERSITE=1".to_vec(),
    ]
}

fn resource_limits(limits: &Limits, own_user: bool) -> Vec<(libc::c_int, u64, u64)> {
    let seconds = limits.cpu.as_secs() + u64::from(limits.cpu.subsec_nanos() > 0);
    let mut list = vec![
        // At the soft limit comes SIGXCPU, which a program can catch, a second later SIGKILL.
        (libc::RLIMIT_CPU as libc::c_int, seconds.max(1), seconds.max(1) + 1),
        (libc::RLIMIT_AS as libc::c_int, limits.memory_bytes, limits.memory_bytes),
        (libc::RLIMIT_FSIZE as libc::c_int, limits.file_bytes, limits.file_bytes),
        (libc::RLIMIT_NOFILE as libc::c_int, 256, 256),
        (libc::RLIMIT_CORE as libc::c_int, 0, 0),
        (libc::RLIMIT_MEMLOCK as libc::c_int, 0, 0),
        (libc::RLIMIT_MSGQUEUE as libc::c_int, 0, 0),
    ];
    let tasks = if own_user {
        // The limit counts all tasks of the user, who has no others.
        Some(1 + u64::from(if limits.processes > 0 { limits.processes } else { THREADS }))
    } else if limits.processes > 0 {
        tasks_of_this_user().map(|tasks| tasks + 1 + u64::from(limits.processes))
    } else {
        // No process can be started at all, so nothing needs to be counted.
        None
    };
    if let Some(tasks) = tasks {
        let ceiling = hard_limit(libc::RLIMIT_NPROC as libc::c_int);
        list.push((libc::RLIMIT_NPROC as libc::c_int, tasks.min(ceiling), tasks.min(ceiling)));
    }
    // An ordinary user cannot raise what is already lower.
    for (resource, soft, hard) in &mut list {
        *hard = (*hard).min(hard_limit(*resource));
        *soft = (*soft).min(*hard);
    }
    list
}

fn hard_limit(resource: libc::c_int) -> u64 {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit64 into a live local; process 0 is this one.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            std::ptr::null::<u8>(),
            &mut limit as *mut libc::rlimit64,
        )
    };
    if answer == 0 { limit.rlim_max } else { u64::MAX }
}

/// Tasks of the caller's real user, counted in `/proc`; `None` where it cannot be read.
fn tasks_of_this_user() -> Option<u64> {
    // SAFETY: getuid cannot fail.
    let user = unsafe { libc::getuid() };
    let mut tasks = 0;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        if !entry.file_name().as_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        let first_number = |key: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse().ok()
        };
        if first_number("Uid:") == Some(u64::from(user)) {
            tasks += first_number("Threads:").unwrap_or(1);
        }
    }
    Some(tasks)
}

/// Where private folders are made: shared memory if it is roomy and can hold programs (a database that syncs its file
/// then costs nothing), the temporary folder otherwise.
fn base_folder() -> Result<PathBuf, SandboxError> {
    const ROOM: u64 = 1 << 30;
    let memory = PathBuf::from("/dev/shm");
    if roomy_and_executable(&memory, ROOM) && tempfile::tempdir_in(&memory).is_ok() {
        return Ok(memory);
    }
    let path = std::env::temp_dir();
    match tempfile::tempdir_in(&path) {
        Ok(_) => Ok(path),
        Err(source) => Err(SandboxError::Folder { path, source }),
    }
}

fn roomy_and_executable(path: &Path, bytes: u64) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: `path` is a C string, and the kernel fills a live, all-zero statvfs.
    unsafe {
        let mut information: libc::statvfs = std::mem::zeroed();
        libc::statvfs(path.as_ptr(), &mut information) == 0
            && information.f_flag & libc::ST_NOEXEC == 0
            && (information.f_bavail as u64).saturating_mul(information.f_frsize as u64) >= bytes
    }
}

/// Starts `true` with everything that may not be permitted here, and takes out what fails.
fn probe() -> Capabilities {
    let mut capabilities = Capabilities::detect();
    capabilities.process_namespace = capabilities.separate_user;
    let Ok(program) = find_program(Path::new("true")) else { return capabilities };
    let mut job = Job::new([program.path]);
    loop {
        job.limits.processes = u32::from(capabilities.process_namespace);
        let Ok(sandbox) = Sandbox::with(capabilities.clone()) else { return capabilities };
        match sandbox.try_run(&job) {
            Err(RunError::Launch(LaunchError { step: Step::Clone, .. }))
                if capabilities.process_namespace =>
            {
                capabilities.process_namespace = false;
            }
            Err(
                RunError::Launch(LaunchError { step: Step::User, .. })
                | RunError::User(_)
                | RunError::Folder { .. },
            ) if capabilities.separate_user => {
                capabilities.separate_user = false;
                capabilities.process_namespace = false;
            }
            Err(RunError::Launch(LaunchError { step: Step::Landlock, .. })) if capabilities.landlock > 0 => {
                capabilities.landlock = 0;
                capabilities.signal_scope = false;
            }
            Err(RunError::Launch(LaunchError { step: Step::Seccomp, .. })) if capabilities.seccomp => {
                capabilities.seccomp = false;
            }
            _ => return capabilities,
        }
    }
}

#[cfg(test)]
mod tests;
