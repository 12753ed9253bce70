//! Finding out what this machine enforces, by trying it.

use std::path::Path;

use crate::capabilities::Capabilities;
use crate::filesystem::find_program;
use crate::job::{Ended, Job};
use crate::namespace::can_be_had;
use crate::plan::{LaunchError, Step};
use crate::run::{RunError, Sandbox};

/// What works here. Each kind of namespace is tried by itself, then `true` is run with everything that seems to work,
/// and what fails is taken out.
pub(crate) fn probe() -> Capabilities {
    let mut capabilities = Capabilities::detect();
    // Whoever may not make namespaces directly may inside a user namespace of its own. It maps one user only, so it is
    // nothing for a caller who can give each run a user: that protects more.
    capabilities.user_namespace =
        !capabilities.separate_user && !can_be_had(libc::CLONE_NEWNS) && can_be_had(libc::CLONE_NEWUSER);
    let user = if capabilities.user_namespace { libc::CLONE_NEWUSER } else { 0 };
    capabilities.process_namespace = can_be_had(user | libc::CLONE_NEWPID);
    capabilities.ipc_namespace = can_be_had(user | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS);
    capabilities.network_namespace = can_be_had(user | libc::CLONE_NEWNET);
    capabilities.private_file_system = can_be_had(user | libc::CLONE_NEWNS);
    capabilities.open_file_system = capabilities.private_file_system;

    let Ok(program) = find_program(Path::new("true")) else { return capabilities };
    let mut job = Job::new([program.path]);
    job.folder_open_to_leader = true;
    loop {
        job.limits.processes = u32::from(capabilities.process_namespace);
        let Ok(sandbox) = Sandbox::with(capabilities.clone()) else {
            if !give_up_one(&mut capabilities) {
                return capabilities;
            }
            continue;
        };
        let alone = sandbox.try_run(&job);
        let failed = match alone {
            Ok(outcome) => {
                debug_assert_ne!(outcome.ended, Ended::WithLeader);
                // Only now the pair, so that its failures are its own.
                match sandbox.try_run_pair(&job, &job) {
                    Err(_) if capabilities.open_file_system => {
                        capabilities.open_file_system = false;
                        continue;
                    }
                    _ => return capabilities,
                }
            }
            Err(error) => error,
        };
        match failed {
            RunError::Launch(LaunchError { step: Step::Mounts, .. }) | RunError::Folder { .. }
                if capabilities.private_file_system =>
            {
                capabilities.private_file_system = false;
                capabilities.open_file_system = false;
            }
            RunError::Launch(LaunchError { step: Step::Network, .. }) if capabilities.network_namespace => {
                capabilities.network_namespace = false;
            }
            RunError::Launch(LaunchError { step: Step::User, .. })
            | RunError::User(_)
            | RunError::Folder { .. }
                if capabilities.separate_user =>
            {
                capabilities.separate_user = false;
            }
            RunError::Launch(LaunchError { step: Step::Landlock, .. }) if capabilities.landlock > 0 => {
                capabilities.landlock = 0;
                capabilities.signal_scope = false;
            }
            RunError::Launch(LaunchError { step: Step::Seccomp, .. }) if capabilities.seccomp => {
                capabilities.seccomp = false;
            }
            _ if give_up_one(&mut capabilities) => {}
            _ => return capabilities,
        }
    }
}

/// Takes out the namespace that is missed least. False when none is left.
fn give_up_one(capabilities: &mut Capabilities) -> bool {
    let Capabilities { network_namespace, ipc_namespace, process_namespace, user_namespace, .. } =
        capabilities;
    for kind in [network_namespace, ipc_namespace, process_namespace] {
        if *kind {
            *kind = false;
            return true;
        }
    }
    if capabilities.private_file_system {
        capabilities.private_file_system = false;
        capabilities.open_file_system = false;
        return true;
    }
    std::mem::take(user_namespace)
}
