//! Starting the child.
//!
//! The child is made with `CLONE_VM | CLONE_VFORK`: it borrows the caller's memory until it executes the program, so
//! that a start costs the same however large the caller is (a copy of the page tables of a training process would cost
//! milliseconds, and page faults afterwards). The price: between clone and exec the child may only make system calls
//! and touch what was laid out for it. Everything is therefore prepared before, in [`Plan`].

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use seccompiler::BpfProgram;

/// What the child does between clone and exec, in this order. Also says what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Step {
    Clone = 1,
    Descriptors,
    Folder,
    Limits,
    User,
    Capabilities,
    Privileges,
    Landlock,
    Seccomp,
    Execute,
}

impl Step {
    const ALL: [Step; 10] = [
        Step::Clone,
        Step::Descriptors,
        Step::Folder,
        Step::Limits,
        Step::User,
        Step::Capabilities,
        Step::Privileges,
        Step::Landlock,
        Step::Seccomp,
        Step::Execute,
    ];

    fn what(self) -> &'static str {
        match self {
            Step::Clone => "cannot start a process",
            Step::Descriptors => "cannot set up the descriptors",
            Step::Folder => "cannot enter the private folder",
            Step::Limits => "cannot set the resource limits",
            Step::User => "cannot change to the run's own user",
            Step::Capabilities => "cannot give up capabilities",
            Step::Privileges => "cannot give up new privileges",
            Step::Landlock => "cannot enforce the landlock rules",
            Step::Seccomp => "cannot install the system-call filters",
            Step::Execute => "cannot execute the program",
        }
    }
}

/// Why no child is running.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .step.what())]
pub(crate) struct LaunchError {
    pub(crate) step: Step,
    pub(crate) source: io::Error,
}

/// Everything the child needs.
pub(crate) struct Plan<'a> {
    pub(crate) program: CString,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    pub(crate) folder: OwnedFd,
    /// What the child gets as descriptors 0, 1, …: its ends of standard input, output, error and the report, and in a
    /// pair of the channel between the two. At most [`MAX_STREAMS`].
    pub(crate) streams: Vec<OwnedFd>,
    pub(crate) rule_set: Option<OwnedFd>,
    pub(crate) filters: &'a [BpfProgram],
    /// Resource, value of the soft and of the hard limit.
    pub(crate) limits: Vec<(c_int, u64, u64)>,
    pub(crate) user: Option<u32>,
    /// A group to belong to beside the user's own; only with a user.
    pub(crate) group: Option<u32>,
    /// Rights that files made by the program lack.
    pub(crate) file_mask: libc::mode_t,
    pub(crate) process_namespace: bool,
}

/// The most descriptors that a child can be given.
const MAX_STREAMS: usize = 5;

/// A process that was started and has not been waited for.
pub(crate) struct Child {
    pub(crate) process: libc::pid_t,
    /// Becomes readable when the process ends; absent on kernels before 5.3.
    pub(crate) watch: Option<OwnedFd>,
}

/// The plan as the child sees it: plain pointers into the plan, which outlives the child's use of them because the
/// calling thread is stopped until the child executes the program or ends.
struct Raw {
    program: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    folder: RawFd,
    streams: [RawFd; MAX_STREAMS],
    stream_count: usize,
    rule_set: RawFd,
    filters: *const libc::sock_fprog,
    filter_count: usize,
    limits: *const (c_int, u64, u64),
    limit_count: usize,
    user: u32,
    changes_user: bool,
    groups: [u32; 1],
    group_count: usize,
    file_mask: libc::mode_t,
    /// The caller's process id as the child must see it; 0 inside a new process namespace.
    parent: libc::pid_t,
    failed_step: AtomicI32,
    failed_errno: AtomicI32,
}

/// Starts the program and returns once it executes.
pub(crate) fn launch(plan: &Plan) -> Result<Child, LaunchError> {
    fn pointers(strings: &[CString]) -> Vec<*const c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    }
    let arguments = pointers(&plan.arguments);
    let environment = pointers(&plan.environment);
    let filters: Vec<libc::sock_fprog> = plan
        .filters
        .iter()
        .map(|program| libc::sock_fprog {
            len: program.len() as libc::c_ushort,
            // Both types are the kernel's `struct sock_filter`; the kernel only reads it.
            filter: program.as_ptr().cast_mut().cast(),
        })
        .collect();
    let mut streams = [-1; MAX_STREAMS];
    for (slot, stream) in streams.iter_mut().zip(&plan.streams) {
        *slot = stream.as_raw_fd();
    }
    let raw = Raw {
        program: plan.program.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        folder: plan.folder.as_raw_fd(),
        streams,
        stream_count: plan.streams.len().min(MAX_STREAMS),
        rule_set: plan.rule_set.as_ref().map_or(-1, |rules| rules.as_raw_fd()),
        filters: filters.as_ptr(),
        filter_count: filters.len(),
        limits: plan.limits.as_ptr(),
        limit_count: plan.limits.len(),
        user: plan.user.unwrap_or(0),
        changes_user: plan.user.is_some(),
        groups: [plan.group.unwrap_or(0)],
        group_count: usize::from(plan.group.is_some()),
        file_mask: plan.file_mask,
        // SAFETY: getpid cannot fail.
        parent: if plan.process_namespace { 0 } else { unsafe { libc::getpid() } },
        failed_step: AtomicI32::new(0),
        failed_errno: AtomicI32::new(0),
    };
    let dumpable = dumpable_before_first_run();
    let mut flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    if plan.process_namespace {
        flags |= libc::CLONE_NEWPID;
    }

    const STACK_BYTES: usize = 128 * 1024;
    let mut stack = vec![0u128; STACK_BYTES / size_of::<u128>()];
    // SAFETY: `stack` is a live, 16-byte aligned block that grows downwards from its end and that nobody else uses;
    // `raw` and all it points to live until this function returns, and CLONE_VFORK stops this thread until the child
    // has left this memory. Signals are blocked in between, so that none of the caller's handlers runs on the child's
    // stack; the mask is restored right after.
    let process = unsafe {
        let mut every: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut every);
        libc::pthread_sigmask(libc::SIG_SETMASK, &every, &mut before);
        let process = libc::clone(
            child_entry,
            stack.as_mut_ptr().add(stack.len()).cast(),
            flags,
            (&raw const raw).cast_mut().cast(),
        );
        let error = *libc::__errno_location();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        if plan.user.is_some() {
            // The child's change of user marked the shared memory as not dumpable; undo that for the caller.
            libc::prctl(libc::PR_SET_DUMPABLE, dumpable, 0, 0, 0);
        }
        if process < 0 {
            return Err(LaunchError { step: Step::Clone, source: io::Error::from_raw_os_error(error) });
        }
        process
    };
    drop(stack);

    let failed = raw.failed_step.load(Ordering::SeqCst);
    if let Some(&step) = Step::ALL.iter().find(|&&step| step as i32 == failed) {
        // SAFETY: `process` is our child, has ended and has not been waited for.
        unsafe { libc::waitpid(process, std::ptr::null_mut(), libc::__WALL) };
        let source = io::Error::from_raw_os_error(raw.failed_errno.load(Ordering::SeqCst));
        return Err(LaunchError { step, source });
    }
    // SAFETY: the process has not been waited for, so its number still belongs to it; the descriptor is a new one.
    let watch = unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, process, 0);
        (descriptor >= 0).then(|| OwnedFd::from_raw_fd(descriptor as RawFd))
    };
    Ok(Child { process, watch })
}

/// Whether core dumps of this process were allowed before any run touched the setting.
fn dumpable_before_first_run() -> c_int {
    static BEFORE: OnceLock<c_int> = OnceLock::new();
    // SAFETY: PR_GET_DUMPABLE has no arguments and only returns a number.
    *BEFORE.get_or_init(|| unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) })
}

extern "C" fn child_entry(argument: *mut c_void) -> c_int {
    // SAFETY: `launch` passes a pointer to a `Raw` that lives until this child executes or ends.
    let raw = unsafe { &*argument.cast::<Raw>() };
    // SAFETY: this is the child between clone and exec, as the function demands.
    let step = unsafe { become_program(raw) };
    // SAFETY: reads this thread's errno; `_exit` runs no handlers of the caller.
    unsafe {
        raw.failed_errno.store(*libc::__errno_location(), Ordering::SeqCst);
        raw.failed_step.store(step as i32, Ordering::SeqCst);
        libc::_exit(127)
    }
}

/// Turns this child into the program. Returns only on failure, with the step that failed and `errno` set.
///
/// # Safety
/// Only for the child between clone and exec. Makes system calls only: no allocation, no locks, no panics, and no
/// wrapper of the C library that would tell the caller's other threads (as `setuid` does).
unsafe fn become_program(raw: &Raw) -> Step {
    // SAFETY: every pointer comes from `Raw`, whose contents `launch` keeps alive; all other arguments are numbers or
    // locals that outlive the call.
    unsafe {
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=64 {
            // Fails for SIGKILL, SIGSTOP and the C library's own two; none of these matters here.
            libc::sigaction(signal, &default, std::ptr::null_mut());
        }
        libc::syscall(libc::SYS_setsid);
        libc::umask(raw.file_mask);

        // The sources may themselves be among the targets, so they are lifted above first.
        let mut lifted = [0; MAX_STREAMS];
        for (target, &stream) in lifted.iter_mut().zip(&raw.streams).take(raw.stream_count) {
            *target = libc::fcntl(stream, libc::F_DUPFD, 10);
            if *target < 0 {
                return Step::Descriptors;
            }
        }
        let folder = libc::fcntl(raw.folder, libc::F_DUPFD, 10);
        if folder < 0 || libc::fchdir(folder) != 0 {
            return Step::Folder;
        }
        let rule_set = if raw.rule_set >= 0 { libc::fcntl(raw.rule_set, libc::F_DUPFD, 10) } else { -1 };
        for (number, &stream) in lifted.iter().enumerate().take(raw.stream_count) {
            if libc::syscall(libc::SYS_dup3, stream, number as c_int, 0) < 0 {
                return Step::Descriptors;
            }
        }

        for index in 0..raw.limit_count {
            let (resource, soft, hard) = *raw.limits.add(index);
            let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
            if libc::syscall(libc::SYS_prlimit64, 0, resource, &limit, std::ptr::null::<u8>()) != 0 {
                return Step::Limits;
            }
        }

        if raw.changes_user {
            let user = raw.user;
            if libc::syscall(libc::SYS_setgroups, raw.group_count, raw.groups.as_ptr()) != 0
                || libc::syscall(libc::SYS_setresgid, user, user, user) != 0
                || libc::syscall(libc::SYS_setresuid, user, user, user) != 0
            {
                return Step::User;
            }
        }

        // Version 3 of the interface, this process; all sets empty.
        let header: [u32; 2] = [0x2008_0522, 0];
        let nothing = [0u32; 6];
        if libc::syscall(libc::SYS_capset, header.as_ptr(), nothing.as_ptr()) != 0 {
            return Step::Capabilities;
        }
        // The death signal is cleared by a change of user, so it comes after.
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0) != 0
        {
            return Step::Privileges;
        }
        if raw.parent != 0 && libc::syscall(libc::SYS_getppid) as libc::pid_t != raw.parent {
            // The caller died before the death signal was set.
            return Step::Privileges;
        }

        if raw.rule_set >= 0
            && (rule_set < 0 || libc::syscall(libc::SYS_landlock_restrict_self, rule_set, 0) != 0)
        {
            return Step::Landlock;
        }
        if libc::syscall(libc::SYS_close_range, raw.stream_count as u32, u32::MAX, 0) != 0 {
            for descriptor in raw.stream_count as c_int..65_536 {
                libc::close(descriptor);
            }
        }
        const SET_MODE_FILTER: libc::c_long = 1;
        for index in 0..raw.filter_count {
            if libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0, raw.filters.add(index)) != 0 {
                return Step::Seccomp;
            }
        }

        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::execve(raw.program, raw.arguments, raw.environment);
        Step::Execute
    }
}
