//! What this machine can enforce, found out by trying.

use serde::{Deserialize, Serialize};

use crate::user::UserRange;

/// What is enforced on this machine for this user. Nothing here is assumed from a version number alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Version of the landlock interface; 0 means that files outside the private folder are not protected.
    pub landlock: u32,
    /// Whether system calls are filtered: no network, no tracing, no further processes.
    pub seccomp: bool,
    /// Whether each run gets a user of its own (only root can give it one).
    pub separate_user: bool,
    /// Whether runs that may start processes get a process namespace of their own.
    pub process_namespace: bool,
    /// Whether signals to processes outside a run are stopped precisely. Where they are not and the run shares the
    /// caller's user, sending signals is refused altogether.
    pub signal_scope: bool,
}

impl Capabilities {
    pub(crate) fn detect() -> Capabilities {
        let landlock = landlock_version();
        Capabilities {
            landlock,
            seccomp: seccomp_available(),
            // SAFETY: geteuid has no preconditions and cannot fail.
            separate_user: unsafe { libc::geteuid() } == 0 && UserRange::of_this_namespace().is_some(),
            process_namespace: false,
            signal_scope: landlock >= 6,
        }
    }

    /// Whether untrusted code can be run without danger to the machine: landlock and seccomp are both there.
    pub fn protects(&self) -> bool {
        self.landlock > 0 && self.seccomp
    }

    /// One sentence for each protection that is in force.
    pub fn enforced(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.landlock > 0 {
            lines.push(format!(
                "landlock {}: reads are limited to the system, writes to the private folder",
                self.landlock
            ));
        }
        if self.seccomp {
            lines.push("seccomp: no network, no tracing, no further processes unless allowed".into());
        }
        if self.separate_user {
            lines.push("a user of its own for each run".into());
        }
        if self.process_namespace {
            lines.push("a process namespace for runs that may start processes".into());
        }
        lines.push(
            "limits on time, memory, files and output; empty environment; group killed at the deadline"
                .into(),
        );
        lines
    }

    /// One sentence for each protection that is missing.
    pub fn missing(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.landlock == 0 {
            lines.push("no landlock: files outside the private folder are not protected".into());
        } else if self.landlock < 3 {
            lines.push(
                "landlock before version 3: truncating a file outside is left to file permissions".into(),
            );
        }
        if !self.seccomp {
            lines.push("no seccomp filters: network, tracing and new processes are not blocked".into());
        }
        if !self.separate_user {
            lines.push("not root: runs share the caller's user".into());
        }
        if !self.process_namespace {
            lines.push(
                "no process namespace: allowed child processes are found by their process group".into(),
            );
        }
        lines
    }
}

fn landlock_version() -> u32 {
    const VERSION: libc::c_long = 1;
    // SAFETY: with a null attribute, size 0 and the VERSION flag the call only returns a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) };
    u32::try_from(version).unwrap_or(0)
}

fn seccomp_available() -> bool {
    const ACTION_AVAILABLE: libc::c_long = 2;
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads four bytes from a live u32 and only answers whether the action is known.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, ACTION_AVAILABLE, 0, &action as *const u32) };
    answer == 0
}
