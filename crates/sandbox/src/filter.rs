//! The system-call filters.
//!
//! Each filter has one answer for the calls it names, and lets the others pass; the kernel runs all of them. A fourth,
//! hand-written one answers "no such call" to every number this list was not written for (which also shuts out
//! x86-64's second call table, whose numbers start at 2^30).

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

/// The last system call that was known when the lists were written (`mseal`, Linux 6.10).
const LAST_KNOWN_CALL: u32 = 462;

/// Calls of Linux 6.8 that describe mounts; the same numbers on every architecture.
const STATMOUNT: libc::c_long = 457;
const LISTMOUNT: libc::c_long = 458;

/// Calls that are refused with EPERM, whatever their arguments.
const REFUSED: &[libc::c_long] = &[
    // Network. A pair of connected sockets stays allowed: it reaches nobody.
    libc::SYS_socket,
    // A pair of sockets can pass descriptors on, which is nobody's business either.
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_setpriority,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_ioprio_set,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Interfaces with a history of holes, or that act past the other checks.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_lookup_dcookie,
    libc::SYS_vmsplice,
    // Landlock lets these look at what it does not let a run open.
    libc::SYS_inotify_init1,
    STATMOUNT,
    LISTMOUNT,
    // Namespaces, mounts, and what only an administrator does.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_personality,
    // Memory and names that would outlive the run or escape its limits.
    libc::SYS_shmget,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
];

/// Calls that exist on one architecture only.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[libc::c_long] = &[
    libc::SYS_inotify_init,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[libc::c_long] = &[];

/// Calls that send a signal to a process chosen by number.
const SIGNALS: &[libc::c_long] = &[
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
];

/// Calls that change rights, owner, times or attributes of a file chosen by its path, which landlock does not look at.
const ATTRIBUTES: &[libc::c_long] = &[
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
];
/// Linux 6.6; the same number on every architecture.
const FCHMODAT2: libc::c_long = 452;
#[cfg(target_arch = "x86_64")]
const ATTRIBUTES_HERE: &[libc::c_long] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const ATTRIBUTES_HERE: &[libc::c_long] = &[];

/// Commands of `fcntl` and of `ioctl` that have signals sent to a process chosen by number.
const SIGNAL_COMMANDS: &[u64] = &[8, 10, 15];
const SIGNAL_REQUESTS: &[u64] = &[0x8901, 0x8902];

/// Namespace flags of `clone`.
const NAMESPACES: &[libc::c_int] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// What a run's filters depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilterOptions {
    /// Whether new processes may be started (their number is a resource limit's affair).
    pub(crate) processes: bool,
    /// Whether signals may be sent: the run has its own user, or landlock keeps signals inside.
    pub(crate) signals: bool,
    /// Whether files may be changed by their path in ways that landlock does not look at: the run has its own user, or
    /// everything else is attached read-only.
    pub(crate) attributes: bool,
}

/// The programs to install, in this order. The last one forbids to install more.
pub(crate) fn programs(options: FilterOptions) -> Result<Vec<BpfProgram>, BackendError> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().chain(REFUSED_HERE).map(|&call| (call, Vec::new())).collect();
    if !options.signals {
        refused.extend(SIGNALS.iter().map(|&call| (call, Vec::new())));
    }
    if !options.attributes {
        refused.extend(ATTRIBUTES.iter().chain(ATTRIBUTES_HERE).map(|&call| (call, Vec::new())));
    }
    let mut clone = Vec::new();
    for &flag in NAMESPACES {
        clone.push(rule(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag as u64), flag as u64)?);
    }
    if !options.processes {
        let thread = libc::CLONE_THREAD as u64;
        clone.push(rule(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(thread), 0)?);
        #[cfg(target_arch = "x86_64")]
        refused.extend([(libc::SYS_fork, Vec::new()), (libc::SYS_vfork, Vec::new())]);
    }
    refused.insert(libc::SYS_clone, clone);
    // The signal at the caller's death must stay set.
    let death_signal = libc::PR_SET_PDEATHSIG as u64;
    refused.insert(libc::SYS_prctl, vec![rule(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, death_signal)?]);
    // A process may read and lower its own limits, not another's.
    refused.insert(libc::SYS_prlimit64, vec![rule(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0)?]);
    // The same for the processors that it runs on.
    refused.insert(libc::SYS_sched_setaffinity, vec![rule(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0)?]);
    // Typing into the terminal of whoever started us.
    const TIOCSTI: u64 = 0x5412;
    let mut requests = vec![rule(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, TIOCSTI)?];
    if !options.signals {
        for &request in SIGNAL_REQUESTS {
            requests.push(rule(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request)?);
        }
        let mut commands = Vec::new();
        for &command in SIGNAL_COMMANDS {
            commands.push(rule(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, command)?);
        }
        refused.insert(libc::SYS_fcntl, commands);
    }
    refused.insert(libc::SYS_ioctl, requests);

    // The C library falls back to `clone`, whose flags can be inspected, when `clone3` does not exist.
    let absent = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    // A new session or process group would escape the kill at the deadline. Pretending success instead of refusing
    // keeps programs alive that start children in a session of their own.
    let pretended = BTreeMap::from([(libc::SYS_setsid, Vec::new()), (libc::SYS_setpgid, Vec::new())]);

    let permission = SeccompAction::Errno(libc::EPERM as u32);
    let last = BTreeMap::from([(libc::SYS_seccomp, Vec::new())]);
    Ok(vec![
        known_calls_only(),
        compile(pretended, SeccompAction::Errno(0))?,
        compile(absent, SeccompAction::Errno(libc::ENOSYS as u32))?,
        compile(refused, permission.clone())?,
        compile(last, permission)?,
    ])
}

fn rule(
    argument: u8,
    length: SeccompCmpArgLen,
    comparison: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, length, comparison, value)?])
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    action: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, action, architecture)?.try_into()
}

/// Loads the call's number (the first field of `seccomp_data`) and answers ENOSYS if it is above the last known one.
fn known_calls_only() -> BpfProgram {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_GREATER: u16 = 0x25;
    const RETURN: u16 = 0x06;
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        instruction(LOAD_WORD, 0, 0, 0),
        instruction(JUMP_IF_GREATER, 0, 1, LAST_KNOWN_CALL),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}
