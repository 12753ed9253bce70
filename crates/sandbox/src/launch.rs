//! Starting a program in a child that [borrows](crate::borrow) the caller's memory until it executes.
//!
//! Between clone and exec the child may only make system calls and touch what was laid out for it. Everything is
//! therefore prepared before, in the [`Plan`].

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use crate::borrow;
use crate::namespace::OwnUserMap;
use crate::plan::{Child, LaunchError, MAX_MOUNTS, MAX_STREAMS, Plan, Step, numbers};

/// The plan as the child sees it: plain pointers into the plan, which outlives the child's use of them because the
/// calling thread is stopped until the child executes the program or ends.
struct Raw<'a> {
    program: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    user_map: Option<&'a OwnUserMap>,
    network: RawFd,
    mounts: [RawFd; MAX_MOUNTS],
    targets: [*const c_char; MAX_MOUNTS],
    folder: *const c_char,
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
    kept_capabilities: u64,
    /// The caller's process id as the child must see it; 0 inside a new process namespace.
    parent: libc::pid_t,
    dies_with_caller: bool,
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
    let mut targets = [std::ptr::null(); MAX_MOUNTS];
    for (slot, mount) in targets.iter_mut().zip(&plan.mounts) {
        *slot = mount.target.as_ptr();
    }
    let in_process_namespace = plan.namespaces & libc::CLONE_NEWPID != 0;
    let raw = Raw {
        program: plan.program.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        user_map: plan.user_map,
        network: plan.network.as_ref().map_or(-1, |network| network.as_raw_fd()),
        mounts: numbers(plan.mounts.iter().map(|mount| mount.view)),
        targets,
        folder: plan.folder.as_ptr(),
        streams: numbers(plan.streams.iter().map(AsFd::as_fd)),
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
        kept_capabilities: plan.kept_capabilities,
        // SAFETY: getpid cannot fail.
        parent: if in_process_namespace { 0 } else { unsafe { libc::getpid() } },
        dies_with_caller: plan.dies_with_caller,
        failed_step: AtomicI32::new(0),
        failed_errno: AtomicI32::new(0),
    };
    // SAFETY: `child_entry` makes system calls only; `raw` and all it points to live until this function returns.
    let process = unsafe { borrow::start(plan.namespaces, child_entry, (&raw const raw).cast_mut().cast()) }
        .map_err(|source| LaunchError { step: Step::Clone, source })?;

    if let Some(step) = Step::from_number(raw.failed_step.load(Ordering::SeqCst)) {
        borrow::wait(process);
        let source = io::Error::from_raw_os_error(raw.failed_errno.load(Ordering::SeqCst));
        return Err(LaunchError { step, source });
    }
    Ok(Child::new(process))
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

        if let Some(map) = raw.user_map
            && !map.write()
        {
            return Step::UserNamespace;
        }
        if raw.network >= 0 && libc::syscall(libc::SYS_setns, raw.network, libc::CLONE_NEWNET) != 0 {
            return Step::Network;
        }
        if !attach(raw) {
            return Step::Mounts;
        }

        // The sources may themselves be among the targets, so they are lifted above first.
        let mut lifted = [0; MAX_STREAMS];
        for (target, &stream) in lifted.iter_mut().zip(&raw.streams).take(raw.stream_count) {
            *target = libc::fcntl(stream, libc::F_DUPFD, 10);
            if *target < 0 {
                return Step::Descriptors;
            }
        }
        if libc::chdir(raw.folder) != 0 {
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
        if !restrict_capabilities(raw.kept_capabilities) {
            return Step::Capabilities;
        }
        // The death signal is cleared by a change of user, so it comes after.
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || raw.dies_with_caller
                && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0) != 0
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

/// Attaches the file systems, in a mount namespace that passes nothing on to the one it was copied from.
///
/// # Safety
/// As [`become_program`].
unsafe fn attach(raw: &Raw) -> bool {
    const FROM_EMPTY_PATH: c_int = 4;
    if raw.mounts[0] < 0 {
        return true;
    }
    // SAFETY: as the function demands.
    unsafe {
        let (none, private) = (std::ptr::null::<c_char>(), libc::MS_REC | libc::MS_PRIVATE);
        if libc::mount(none, c"/".as_ptr(), none, private, std::ptr::null()) != 0 {
            return false;
        }
        raw.mounts.iter().zip(&raw.targets).filter(|&(&view, _)| view >= 0).all(|(&view, &target)| {
            let here = libc::AT_FDCWD;
            libc::syscall(libc::SYS_move_mount, view, c"".as_ptr(), here, target, FROM_EMPTY_PATH) == 0
        })
    }
}

/// Gives up all capabilities but `kept`, for good and for whatever is executed.
///
/// # Safety
/// As [`become_program`].
unsafe fn restrict_capabilities(kept: u64) -> bool {
    // Version 3 of the interface, this process; then the effective, permitted and inheritable set, low halves first.
    let header: [u32; 2] = [0x2008_0522, 0];
    let (low, high) = (kept as u32, (kept >> 32) as u32);
    // SAFETY: as the function demands.
    unsafe {
        if kept != 0 {
            for capability in 0..64 {
                if kept >> capability & 1 == 0 {
                    // Fails for numbers that the kernel does not know.
                    libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0);
                }
            }
        }
        let sets = [low, low, low, high, high, high];
        if libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) != 0 {
            return false;
        }
        (0..64u64).filter(|capability| kept >> capability & 1 == 1).all(|capability| {
            let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
            libc::prctl(libc::PR_CAP_AMBIENT, raise, capability, 0, 0) == 0
        })
    }
}
