//! The sandbox itself: one call, one run or one pair of runs.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use seccompiler::BpfProgram;

use crate::base::{MountPoints, base_folder};
use crate::capabilities::Capabilities;
use crate::error::SandboxError;
use crate::filesystem::{SystemRules, find_program};
use crate::filter::{self, FilterOptions};
use crate::folder::remove_left_behind;
use crate::job::{FOLLOWER_FOLDER, Job, Outcome};
use crate::launch::launch;
use crate::namespace::{self, OwnUserMap};
use crate::place::{Place, Places};
use crate::plan::{self, LaunchError, Mount, Plan};
use crate::probe::probe;
use crate::resources::resource_limits;
use crate::supervise::{Pipes, Running, Watched, stop, watch, watch_pair};
use crate::user::{UserRange, Users};
use crate::warm::{PythonSetup, WarmPython};

/// What to do on a machine that cannot protect itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Policy {
    /// Run even without landlock or seccomp. For throw-away machines only.
    pub allow_unprotected: bool,
}

/// Runs jobs. One value serves any number of threads.
pub struct Sandbox {
    pub(crate) capabilities: Capabilities,
    system: SystemRules,
    /// Filters for runs without and with further processes.
    pub(crate) filters: [Vec<BpfProgram>; 2],
    pub(crate) places: Places,
    /// A network namespace without a network, for root.
    network: Option<OwnedFd>,
    pub(crate) user_map: OwnUserMap,
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
        sandbox.tidy_up();
        Ok(sandbox)
    }

    /// A sandbox that uses only those of this machine's protections that `wanted` names: for finding out what one costs,
    /// and how things go on a machine that lacks it.
    ///
    /// # Errors
    /// As [`Sandbox::new`].
    pub fn with_only(policy: Policy, wanted: &Capabilities) -> Result<Sandbox, SandboxError> {
        let capabilities = Sandbox::capabilities().both(wanted);
        if !capabilities.protects() && !policy.allow_unprotected {
            return Err(SandboxError::Unprotected { capabilities });
        }
        Sandbox::with(capabilities)
    }

    fn tidy_up(&self) {
        // SAFETY: geteuid cannot fail.
        let me = unsafe { libc::geteuid() };
        let owned = |user| user == me || self.places.gives_out(user);
        remove_left_behind(&self.places.base, owned, SystemTime::now());
    }

    /// What this machine enforces for this user. Found out once, by trying.
    pub fn capabilities() -> Capabilities {
        static DETECTED: OnceLock<Capabilities> = OnceLock::new();
        DETECTED.get_or_init(probe).clone()
    }

    /// A sandbox that uses these capabilities and no others.
    pub(crate) fn with(capabilities: Capabilities) -> Result<Sandbox, SandboxError> {
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
        let base = base_folder()?;
        let mount_points =
            if capabilities.private_file_system { Some(MountPoints::create(&base)?) } else { None };
        let network = if capabilities.network_namespace && !capabilities.user_namespace {
            Some(namespace::empty_network().map_err(|source| SandboxError::Network { source })?)
        } else {
            None
        };
        Ok(Sandbox {
            places: Places::new(&capabilities, users, base, mount_points),
            capabilities,
            system: SystemRules::open(),
            filters,
            network,
            user_map: OwnUserMap::of_this_process(),
        })
    }

    /// Starts an interpreter once, so that [`Job::warm`] runs cost the fork of a process instead of a start. The
    /// interpreter itself runs outside the sandbox and runs nothing but `setup`; each run enters its sandbox before it
    /// touches anything of its job.
    ///
    /// # Errors
    /// [`SandboxError::Warm`] where the interpreter cannot do it (it lacks `ctypes`, a module or program of the setup
    /// does not load, …). Cold starts of the same programs are then what is left.
    pub fn warm_python(&self, setup: PythonSetup) -> Result<WarmPython, SandboxError> {
        WarmPython::start(self, setup)
    }

    /// Runs one job to its end and returns what came of it. Never fails and never panics: what could not be run comes
    /// back as [`NotRun`](crate::Ended::NotRun). Blocks for [`Limits::wall`](crate::Limits::wall) at most, plus the
    /// moment it takes to clean up.
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

    pub(crate) fn try_run(&self, job: &Job) -> Result<Outcome, RunError> {
        let place = self.places.take(job, None)?;
        Ok(outcome(watch(self.start(job, &place, Part::default())?)))
    }

    pub(crate) fn try_run_pair(&self, leader: &Job, follower: &Job) -> Result<[Outcome; 2], RunError> {
        let leader_place = self.places.take(leader, None)?;
        let open_to = follower.folder_open_to_leader.then_some(&leader_place);
        let follower_place = self.places.take(follower, open_to)?;
        let [leader_end, follower_end] = channel()?;
        // The follower starts first: it waits for the leader, not the other way round.
        let shares_by_group =
            follower.folder_open_to_leader && follower_place.folder().file_system().is_none();
        let part = Part { channel: Some(follower_end), follower: None, shares_by_group };
        let follower_runs = self.start(follower, &follower_place, part)?;
        let seen = follower.folder_open_to_leader.then_some(&follower_place);
        let part = Part { channel: Some(leader_end), follower: seen, shares_by_group };
        match self.start(leader, &leader_place, part) {
            Ok(leader_runs) => Ok(watch_pair(leader_runs, follower_runs).map(outcome)),
            Err(error) => {
                stop(follower_runs);
                Err(error)
            }
        }
    }

    fn start<'a>(&'a self, job: &'a Job, place: &'a Place, part: Part) -> Result<Running<'a>, RunError> {
        let limits = &job.limits;
        let processes = limits.processes > 0;
        let name = job.arguments.first().ok_or(RunError::NoProgram)?;
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| RunError::NulByte);
        let (program, readable) = match &job.warm {
            Some(warm) if warm.knows(name) => (name.into(), warm.readable().to_vec()),
            Some(_) => return Err(RunError::Unprepared(name.to_string_lossy().into_owned())),
            None => {
                let program = find_program(Path::new(name)).map_err(RunError::Program)?;
                (program.path, program.readable)
            }
        };
        let (stdin, stdin_writer) = pipe()?;
        let [output, error, report] = [pipe()?, pipe()?, pipe()?];
        let plan = Plan {
            program: text(program.as_os_str().as_bytes())?,
            arguments: job
                .arguments
                .iter()
                .map(|argument| text(argument.as_bytes()))
                .collect::<Result<_, _>>()?,
            environment: environment(place, &part).iter().map(|line| text(line)).collect::<Result<_, _>>()?,
            namespaces: self.namespaces(place, &part, processes, job.warm.is_some()),
            user_map: self.capabilities.user_namespace.then_some(&self.user_map),
            network: if job.warm.is_some() { None } else { self.network.as_ref().map(AsFd::as_fd) },
            mounts: mounts(place, &part)?,
            folder: text(place.seen_as().as_os_str().as_bytes())?,
            rule_set: self.rule_set(place, &part, &readable)?,
            filters: &self.filters[usize::from(processes)],
            processes,
            limits: resource_limits(limits, self.capabilities.own_count()),
            user: place.user_id(),
            group: part.shared_group(),
            file_mask: if part.shares_by_group { 0o007 } else { 0o077 },
            streams: [stdin, output.1, error.1, report.1].into_iter().chain(part.channel).collect(),
            kept_capabilities: 0,
            dies_with_caller: true,
        };
        let started = Instant::now();
        let child = match &job.warm {
            Some(warm) => warm.launch(&plan, limits.wall),
            None => launch(&plan),
        }
        .map_err(RunError::Launch)?;
        let group_survives_leader = processes && plan.namespaces & libc::CLONE_NEWPID == 0;
        // The child's ends must be closed here, or no pipe would ever end.
        drop(plan);
        let pipes = Pipes {
            stdin: Some(File::from(stdin_writer)),
            outputs: [output.0, error.0, report.0].map(|reader| Some(File::from(reader))),
        };
        let folder = place.folder();
        Ok(Running { child, pipes, stdin: &job.stdin, limits, folder, started, group_survives_leader })
    }

    /// The kinds of namespaces of a run.
    fn namespaces(&self, place: &Place, part: &Part, processes: bool, warm: bool) -> libc::c_int {
        let capabilities = &self.capabilities;
        let own_network = capabilities.network_namespace && self.network.is_none();
        let attaches = [Some(place), part.follower]
            .into_iter()
            .flatten()
            .any(|place| place.folder().file_system().is_some());
        [
            (capabilities.user_namespace, libc::CLONE_NEWUSER),
            (capabilities.ipc_namespace, libc::CLONE_NEWIPC | libc::CLONE_NEWUTS),
            // A warm interpreter has left the network already.
            (own_network && !warm, libc::CLONE_NEWNET),
            (processes && capabilities.process_namespace, libc::CLONE_NEWPID),
            (attaches, libc::CLONE_NEWNS),
        ]
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .fold(0, |flags, (_, flag)| flags | flag)
    }

    fn rule_set(
        &self,
        place: &Place,
        part: &Part,
        readable: &[PathBuf],
    ) -> Result<Option<OwnedFd>, RunError> {
        if self.capabilities.landlock == 0 {
            return Ok(None);
        }
        let followers = part.follower.map(|place| place.folder().path());
        let writable: Vec<&Path> = [place.folder().path()].into_iter().chain(followers).collect();
        let rules = self.system.rule_set(&writable, readable).map_err(RunError::Rules)?;
        rules.ok_or(RunError::NoRules).map(Some)
    }
}

/// A run's part in a pair; empty for a run by itself.
#[derive(Default)]
struct Part<'a> {
    /// Its end of the channel.
    channel: Option<OwnedFd>,
    /// The follower's place, for a leader to whom its folder is open.
    follower: Option<&'a Place<'a>>,
    /// Whether leader and follower both write in a mere folder, which works by the follower's group.
    shares_by_group: bool,
}

impl Part<'_> {
    /// The group that the leader needs to be in: what is made in the follower's folder belongs to it.
    fn shared_group(&self) -> Option<u32> {
        if self.shares_by_group { self.follower.and_then(Place::user_id) } else { None }
    }
}

/// The file systems to attach.
fn mounts<'a>(place: &'a Place, part: &Part<'a>) -> Result<Vec<Mount<'a>>, RunError> {
    let mut mounts = Vec::new();
    let target = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| RunError::NulByte);
    if let Some(own) = place.folder().file_system() {
        mounts.push(Mount { view: own.view.as_fd(), target: target(place.seen_as())? });
    }
    if let Some(follower) = part.follower
        && let Some(view) = follower.folder().file_system().and_then(|system| system.second_view.as_ref())
    {
        mounts.push(Mount { view: view.as_fd(), target: target(follower.seen_by_leader())? });
    }
    Ok(mounts)
}

fn outcome(watched: Watched) -> Outcome {
    let [stdout, stderr, report] = watched.outputs;
    Outcome {
        ended: watched.ended,
        stdout,
        stderr,
        report,
        folder_full: watched.folder_full,
        wall: watched.wall,
    }
}

/// Why a job was not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("the job names no program")]
    NoProgram,
    #[error("{0}")]
    Program(io::Error),
    #[error("{0:?} is no program that the warm interpreter was given")]
    Unprepared(String),
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

fn pipe() -> Result<(OwnedFd, OwnedFd), RunError> {
    plan::pipe().map_err(RunError::Pipe)
}

/// Two connected stream sockets, not inherited by other programs that this process starts.
fn channel() -> Result<[OwnedFd; 2], RunError> {
    let (one, other) = UnixStream::pair().map_err(RunError::Channel)?;
    Ok([one.into(), other.into()])
}

/// The whole environment of a run.
fn environment(place: &Place, part: &Part) -> Vec<Vec<u8>> {
    let home = place.seen_as().as_os_str().as_bytes();
    let mut variables = vec![
        b"PATH=/usr/local/bin:/usr/bin:/bin".to_vec(),
        [b"HOME=", home].concat(),
        [b"TMPDIR=", home].concat(),
        b"LANG=C.UTF-8".to_vec(),
        b"TZ=UTC".to_vec(),
        b"PYTHONDONTWRITEBYTECODE=1".to_vec(),
        b"PYTHONHASHSEED=0".to_vec(),
        b"PYTHONNOUSERSITE=1".to_vec(),
    ];
    if let Some(follower) = part.follower {
        let path = follower.seen_by_leader().as_os_str().as_bytes();
        variables.push([FOLLOWER_FOLDER.as_bytes(), b"=", path].concat());
    }
    variables
}

#[cfg(test)]
mod tests;
