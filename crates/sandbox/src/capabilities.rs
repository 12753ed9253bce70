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
    /// Whether each run gets a user namespace of its own, because only there an ordinary user may make the others.
    pub user_namespace: bool,
    /// Whether runs that may start processes get a process namespace of their own.
    pub process_namespace: bool,
    /// Whether runs see no network at all, beside being refused sockets.
    pub network_namespace: bool,
    /// Whether each run has System V and POSIX queues, shared memory and a host name of its own.
    pub ipc_namespace: bool,
    /// Whether the private folder is a file system of its own, limited in size and seen by nobody else.
    pub private_file_system: bool,
    /// Whether the leader of a pair can be let into such a file system of its follower.
    pub open_file_system: bool,
    /// Whether signals to processes outside a run are stopped precisely. Where they are not and the run shares the
    /// caller's user, sending signals is refused altogether.
    pub signal_scope: bool,
}

impl Capabilities {
    /// What can be told without starting anything; the rest is false.
    pub(crate) fn detect() -> Capabilities {
        let landlock = landlock_version();
        Capabilities {
            landlock,
            seccomp: seccomp_available(),
            // SAFETY: geteuid has no preconditions and cannot fail.
            separate_user: unsafe { libc::geteuid() } == 0 && UserRange::of_this_namespace().is_some(),
            user_namespace: false,
            process_namespace: false,
            network_namespace: false,
            ipc_namespace: false,
            private_file_system: false,
            open_file_system: false,
            signal_scope: landlock >= 6,
        }
    }

    /// What both have. Namespaces that an ordinary user gets only inside a user namespace go with it.
    pub(crate) fn both(&self, other: &Capabilities) -> Capabilities {
        let user_namespace = self.user_namespace && other.user_namespace;
        let reachable = user_namespace || !self.user_namespace;
        let private_file_system = self.private_file_system && other.private_file_system && reachable;
        let landlock = if other.landlock == 0 { 0 } else { self.landlock };
        Capabilities {
            landlock,
            seccomp: self.seccomp && other.seccomp,
            separate_user: self.separate_user && other.separate_user,
            user_namespace,
            process_namespace: self.process_namespace && other.process_namespace && reachable,
            network_namespace: self.network_namespace && other.network_namespace && reachable,
            ipc_namespace: self.ipc_namespace && other.ipc_namespace && reachable,
            private_file_system,
            open_file_system: private_file_system && self.open_file_system && other.open_file_system,
            signal_scope: self.signal_scope && other.signal_scope && landlock > 0,
        }
    }

    /// Whether untrusted code can be run without danger to the machine: landlock and seccomp are both there.
    pub fn protects(&self) -> bool {
        self.landlock > 0 && self.seccomp
    }

    /// Whether the kernel counts the tasks of a run apart from those of all other processes: by its user, or by its
    /// user namespace (since Linux 5.14; landlock's second version came after).
    pub(crate) fn own_count(&self) -> bool {
        self.separate_user || self.user_namespace && self.landlock >= 2
    }

    /// Each protection: whether it is in force, and what follows from that.
    pub fn protections(&self) -> Vec<Protection> {
        let protection = |name, in_force, with: &str, without: &str| Protection {
            name,
            in_force,
            consequence: if in_force { with.to_owned() } else { without.to_owned() },
        };
        let mut list = vec![
            protection(
                "files",
                self.landlock > 0,
                &format!(
                    "landlock {}: reads are limited to the system, writes to the private folder",
                    self.landlock
                ),
                "no landlock: files outside the private folder are not protected, so untrusted code is refused",
            ),
            protection(
                "system calls",
                self.seccomp,
                "seccomp: no network, no tracing, no io_uring, no further processes unless allowed",
                "no seccomp filters: network, tracing and new processes are not blocked, so untrusted code is refused",
            ),
            protection(
                "user",
                self.separate_user,
                "each concurrent run has an unprivileged user of its own",
                "not root: runs have the caller's user; landlock and seccomp alone keep them apart",
            ),
        ];
        if !self.separate_user {
            list.push(protection(
                "user namespace",
                self.user_namespace,
                "each run has one of its own, in which the others below can be made",
                "not permitted here: an ordinary user gets none of the namespaces",
            ));
        }
        list.extend([
            protection(
                "signals",
                self.separate_user || self.signal_scope,
                "processes outside the run cannot be signalled",
                "landlock before version 6: runs cannot send signals at all, not even to themselves",
            ),
            protection(
                "process namespace",
                self.process_namespace,
                "runs that may start processes see only their own, and all end with the first",
                "allowed child processes are found by their process group; they outlive a caller that is killed",
            ),
            protection(
                "network namespace",
                self.network_namespace,
                "there is no network in a run, beside sockets being refused",
                "only the refusal of sockets keeps runs from the network",
            ),
            protection(
                "IPC and UTS namespaces",
                self.ipc_namespace,
                "queues, shared memory and the host name are the run's own, beside their calls being refused",
                "only the refusal of their calls keeps runs from queues and shared memory of others",
            ),
            protection(
                "private file system",
                self.private_file_system,
                "the private folder is a file system in memory of limited size that nobody else sees",
                "the private folder is a folder whose size is looked at four times a second; it may grow in between",
            ),
            protection(
                "shared folder of a pair",
                self.open_file_system || !self.separate_user,
                "the leader can read and write everything in its follower's folder",
                "files that the follower makes for itself alone (mode 0600) stay closed to the leader",
            ),
        ]);
        if self.landlock > 0 && self.landlock < 3 {
            list.push(protection(
                "truncation",
                false,
                "",
                "landlock before version 3: truncating a file outside is left to file permissions",
            ));
        }
        list
    }

    /// One sentence for each protection that is in force.
    pub fn enforced(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.sentences(true);
        lines.push(
            "limits: time, memory, files and output; empty environment; group killed at the deadline".into(),
        );
        lines
    }

    /// One sentence for each protection that is missing, with what follows.
    pub fn missing(&self) -> Vec<String> {
        self.sentences(false)
    }

    fn sentences(&self, in_force: bool) -> Vec<String> {
        let list = self.protections().into_iter().filter(|protection| protection.in_force == in_force);
        list.map(|protection| format!("{}: {}", protection.name, protection.consequence)).collect()
    }
}

/// One thing that protects the machine, or does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Protection {
    /// What it is.
    pub name: &'static str,
    /// Whether it is in force on this machine for this user.
    pub in_force: bool,
    /// What follows from that.
    pub consequence: String,
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
