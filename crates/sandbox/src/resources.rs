//! Resource limits.

use std::os::unix::ffi::OsStrExt;

use crate::job::Limits;

/// Threads that a run without further processes may have beside the first, where the kernel counts its tasks apart.
const THREADS: u32 = 16;

/// Resource, soft and hard limit of a run. `own_count`: whether the kernel counts its tasks apart from all others.
pub(crate) fn resource_limits(limits: &Limits, own_count: bool) -> Vec<(libc::c_int, u64, u64)> {
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
    let tasks = if own_count {
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

pub(crate) fn hard_limit(resource: libc::c_int) -> u64 {
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
