//! What a run's first process is given, however it is started, and what can go wrong on the way.

use std::ffi::{CString, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use seccompiler::BpfProgram;

use crate::namespace::OwnUserMap;

/// What the process does before the program, in this order. Also says what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Step {
    Clone = 1,
    UserNamespace,
    Network,
    Mounts,
    Descriptors,
    Folder,
    Limits,
    User,
    Capabilities,
    Privileges,
    Landlock,
    Seccomp,
    Execute,
    /// Asking a warm interpreter.
    Ask,
}

impl Step {
    pub(crate) const ALL: [Step; 14] = [
        Step::Clone,
        Step::UserNamespace,
        Step::Network,
        Step::Mounts,
        Step::Descriptors,
        Step::Folder,
        Step::Limits,
        Step::User,
        Step::Capabilities,
        Step::Privileges,
        Step::Landlock,
        Step::Seccomp,
        Step::Execute,
        Step::Ask,
    ];

    pub(crate) fn from_number(number: i32) -> Option<Step> {
        Step::ALL.into_iter().find(|&step| step as i32 == number)
    }

    fn what(self) -> &'static str {
        match self {
            Step::Clone => "cannot start a process",
            Step::UserNamespace => "cannot enter a user namespace",
            Step::Network => "cannot leave the network",
            Step::Mounts => "cannot attach the private file system",
            Step::Descriptors => "cannot set up the descriptors",
            Step::Folder => "cannot enter the private folder",
            Step::Limits => "cannot set the resource limits",
            Step::User => "cannot change to the run's own user",
            Step::Capabilities => "cannot give up capabilities",
            Step::Privileges => "cannot give up new privileges",
            Step::Landlock => "cannot enforce the landlock rules",
            Step::Seccomp => "cannot install the system-call filters",
            Step::Execute => "cannot execute the program",
            Step::Ask => "no answer from the warm interpreter",
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

/// A file system and the path at which the run sees it.
pub(crate) struct Mount<'a> {
    pub(crate) view: BorrowedFd<'a>,
    pub(crate) target: CString,
}

/// Everything the process needs.
pub(crate) struct Plan<'a> {
    /// The program, or the name of a warm interpreter's program.
    pub(crate) program: CString,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    /// Kinds of namespaces that the process is started in.
    pub(crate) namespaces: c_int,
    /// What to write as the map of a new user namespace, where there is one.
    pub(crate) user_map: Option<&'a OwnUserMap>,
    /// A network namespace to enter.
    pub(crate) network: Option<BorrowedFd<'a>>,
    /// File systems to attach; needs a mount namespace.
    pub(crate) mounts: Vec<Mount<'a>>,
    /// The private folder, as the run sees it.
    pub(crate) folder: CString,
    /// What the child gets as descriptors 0, 1, …: its ends of standard input, output, error and the report, and in a
    /// pair of the channel between the two. At most [`MAX_STREAMS`].
    pub(crate) streams: Vec<OwnedFd>,
    pub(crate) rule_set: Option<OwnedFd>,
    pub(crate) filters: &'a [BpfProgram],
    /// Whether further processes may be started, which the filters follow.
    pub(crate) processes: bool,
    /// Resource, value of the soft and of the hard limit.
    pub(crate) limits: Vec<(c_int, u64, u64)>,
    pub(crate) user: Option<u32>,
    /// A group to belong to beside the user's own; only with a user.
    pub(crate) group: Option<u32>,
    /// Rights that files made by the program lack.
    pub(crate) file_mask: libc::mode_t,
    /// Capabilities to keep, for a process that prepares others; a bit each. Untrusted code gets none.
    pub(crate) kept_capabilities: u64,
    /// Whether the process dies with the thread that starts it.
    pub(crate) dies_with_caller: bool,
}

/// The most descriptors that a child can be given.
pub(crate) const MAX_STREAMS: usize = 5;
/// The most file systems that a child can attach.
pub(crate) const MAX_MOUNTS: usize = 2;

/// A process that was started and has not been waited for.
pub(crate) struct Child {
    pub(crate) process: libc::pid_t,
    /// Becomes readable when the process ends; absent on kernels before 5.3.
    pub(crate) watch: Option<OwnedFd>,
}

impl Child {
    /// A child of this process that has not been waited for.
    pub(crate) fn new(process: libc::pid_t) -> Child {
        // SAFETY: the process has not been waited for, so its number still belongs to it; the descriptor is a new one.
        let watch = unsafe {
            let descriptor = libc::syscall(libc::SYS_pidfd_open, process, 0);
            (descriptor >= 0).then(|| OwnedFd::from_raw_fd(descriptor as RawFd))
        };
        Child { process, watch }
    }

    /// Kills the process, which has started no other, and waits for it.
    pub(crate) fn kill(self) {
        // SAFETY: the process has not been waited for, so its number still belongs to it.
        unsafe { libc::kill(self.process, libc::SIGKILL) };
        crate::borrow::wait(self.process);
    }
}

/// The numbers of some descriptors, −1 for the rest.
pub(crate) fn numbers<const COUNT: usize, D: AsRawFd>(
    descriptors: impl Iterator<Item = D>,
) -> [RawFd; COUNT] {
    let mut numbers = [-1; COUNT];
    for (slot, descriptor) in numbers.iter_mut().zip(descriptors) {
        *slot = descriptor.as_raw_fd();
    }
    numbers
}

/// A pipe: reading end, writing end; neither is inherited by other programs that this process starts.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two descriptors into a live array of two, which nobody else owns.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}
