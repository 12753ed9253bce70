//! Watching a child until it and everything it started are gone.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::folder::PrivateFolder;
use crate::job::{Ended, Limit, Limits};
use crate::launch::Child;

/// The caller's ends of the pipes.
pub(crate) struct Pipes {
    pub(crate) stdin: Option<File>,
    /// Standard output, standard error, report.
    pub(crate) outputs: [Option<File>; 3],
}

/// What the watching found out.
pub(crate) struct Watched {
    pub(crate) ended: Ended,
    pub(crate) outputs: [Vec<u8>; 3],
}

/// How often the size of the private folder is looked at.
const FOLDER_INTERVAL: Duration = Duration::from_millis(250);

/// Feeds and drains the pipes until the child ends or reaches a limit, kills its group and waits for it.
pub(crate) fn supervise(
    child: Child,
    mut pipes: Pipes,
    stdin: &[u8],
    limits: &Limits,
    folder: &PrivateFolder,
    started: Instant,
    group_survives_leader: bool,
) -> Watched {
    let mut outputs = [Vec::new(), Vec::new(), Vec::new()];
    let mut sent = 0;
    let mut reached = None;
    let mut next_folder_check = started + FOLDER_INTERVAL;
    let deadline = started + limits.wall;
    for file in pipes.stdin.iter().chain(pipes.outputs.iter().flatten()) {
        set_non_blocking(file);
    }
    if stdin.is_empty() {
        pipes.stdin = None;
    }

    loop {
        let now = Instant::now();
        if now >= deadline {
            reached = Some(Limit::WallClock);
            break;
        }
        if now >= next_folder_check {
            let allowed = limits.file_bytes.saturating_mul(4);
            if folder.size(allowed) > allowed {
                reached = Some(Limit::FileSize);
                break;
            }
            // Looking costs time of ours, so it stays a small share of the run.
            next_folder_check = Instant::now() + FOLDER_INTERVAL.max(now.elapsed() * 20);
        }
        let mut pause = deadline.min(next_folder_check).saturating_duration_since(now);
        if child.watch.is_none() {
            pause = pause.min(Duration::from_millis(3));
        }
        wait_for_events(&child, &pipes, pause);

        if let Some(file) = &mut pipes.stdin {
            match file.write(&stdin[sent..]) {
                Ok(count) => sent += count,
                Err(error) if again(&error) => {}
                // The program does not want to read on; that is its right.
                Err(_) => sent = stdin.len(),
            }
            if sent == stdin.len() {
                pipes.stdin = None;
            }
        }
        // Whether it has ended is asked before the last reading, so that nothing written before the end is lost.
        let has_ended = has_ended(child.process);
        if drain(&mut pipes.outputs, &mut outputs, limits.output_bytes) {
            reached = Some(Limit::Output);
            break;
        }
        if has_ended {
            break;
        }
    }

    // SAFETY: the child leads its own group and has not been waited for, so the number still names this group.
    unsafe { libc::kill(-child.process, libc::SIGKILL) };
    let (status, usage) = wait(child.process);
    if group_survives_leader {
        wait_for_group(child.process);
    }
    // What the group wrote in its last moment is still in the pipes.
    if drain(&mut pipes.outputs, &mut outputs, limits.output_bytes) {
        reached = reached.or(Some(Limit::Output));
    }
    let ended = match reached {
        Some(limit) => Ended::Killed { limit },
        None => explain(status, &usage, limits),
    };
    Watched { ended, outputs }
}

/// Translates a wait status. A signal that one of the limits explains becomes that limit.
fn explain(status: libc::c_int, usage: &libc::rusage, limits: &Limits) -> Ended {
    if libc::WIFEXITED(status) {
        return Ended::Exited { code: libc::WEXITSTATUS(status) };
    }
    let signal = libc::WTERMSIG(status);
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let processor = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    // `ru_maxrss` counts kibibytes.
    let memory = (usage.ru_maxrss as u64).saturating_mul(1024);
    let limit = match signal {
        libc::SIGXCPU => Some(Limit::Cpu),
        libc::SIGXFSZ => Some(Limit::FileSize),
        libc::SIGSYS => Some(Limit::SystemCall),
        libc::SIGKILL if processor >= limits.cpu.as_secs_f64() => Some(Limit::Cpu),
        // Nobody but the kernel can kill it now, and it does so when the machine runs out of memory.
        libc::SIGKILL => Some(Limit::Memory),
        libc::SIGSEGV | libc::SIGABRT | libc::SIGBUS if memory >= limits.memory_bytes / 10 * 9 => {
            Some(Limit::Memory)
        }
        _ => None,
    };
    match limit {
        Some(limit) => Ended::Killed { limit },
        None => Ended::Signalled { signal },
    }
}

fn set_non_blocking(file: &File) {
    // SAFETY: F_GETFL and F_SETFL on a descriptor that `file` keeps open.
    unsafe {
        let flags = libc::fcntl(file.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK);
    }
}

fn again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Sleeps until a pipe or the child has news, or `pause` is over.
fn wait_for_events(child: &Child, pipes: &Pipes, pause: Duration) {
    let entry = |descriptor, events| libc::pollfd { fd: descriptor, events, revents: 0 };
    let watch = child.watch.as_ref().map_or(-1, OwnedFd::as_raw_fd);
    let stdin = pipes.stdin.as_ref().map_or(-1, File::as_raw_fd);
    let mut entries =
        [entry(watch, libc::POLLIN), entry(stdin, libc::POLLOUT), entry(-1, 0), entry(-1, 0), entry(-1, 0)];
    for (slot, output) in entries[2..].iter_mut().zip(&pipes.outputs) {
        // `poll` skips negative descriptors.
        *slot = entry(output.as_ref().map_or(-1, File::as_raw_fd), libc::POLLIN);
    }
    // Rounded up, so that the loop does not spin through the last millisecond.
    let milliseconds = libc::c_int::try_from(pause.as_millis() + 1).unwrap_or(libc::c_int::MAX);
    // SAFETY: `entries` is a live array of the given length. An interruption only ends the pause early.
    unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, milliseconds) };
}

/// Reads what there is. True when one of the outputs is larger than allowed; it is cut to the allowed size.
fn drain(files: &mut [Option<File>; 3], outputs: &mut [Vec<u8>; 3], allowed: usize) -> bool {
    let mut buffer = [0u8; 16 * 1024];
    let mut too_much = false;
    for (slot, output) in files.iter_mut().zip(outputs) {
        while let Some(file) = slot {
            match file.read(&mut buffer) {
                Ok(0) => *slot = None,
                Ok(count) => output.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => *slot = None,
            }
            if output.len() > allowed {
                output.truncate(allowed);
                too_much = true;
                // The pipe stays open: a program that saw it close would get to say so before it is killed.
                break;
            }
        }
    }
    too_much
}

/// Whether the child has ended; leaves it waitable, so that its number stays its own.
fn has_ended(process: libc::pid_t) -> bool {
    // SAFETY: an all-zero siginfo is a valid value, and `process` is our child.
    unsafe {
        let mut information: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        let answer = libc::waitid(libc::P_PID, process as libc::id_t, &mut information, options);
        // An error means that somebody else waited for it: then it is gone as well.
        answer != 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINTR)
            || information.si_pid() != 0
    }
}

/// Waits for a child that was killed or has ended.
fn wait(process: libc::pid_t) -> (libc::c_int, libc::rusage) {
    // SAFETY: all-zero is a valid rusage; `process` is our child.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        let mut status = 0;
        while libc::wait4(process, &mut status, libc::__WALL, &mut usage) < 0 {
            if io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                // Somebody else took the status: all that is known is that it did not end well.
                return (libc::SIGKILL, usage);
            }
        }
        (status, usage)
    }
}

/// Waits until the killed members of a group are gone; a second at most, since whoever adopted them may be slow to
/// collect them.
fn wait_for_group(group: libc::pid_t) {
    for _ in 0..200 {
        // SAFETY: while a member lives, the number cannot name another group; signals again, which harms nobody else.
        if unsafe { libc::kill(-group, libc::SIGKILL) } != 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
