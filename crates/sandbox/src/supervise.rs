//! Watching a child until it and everything it started are gone.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::folder::PrivateFolder;
use crate::job::{Ended, Limit, Limits};
use crate::plan::Child;

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
    /// Whether nothing more would have fitted into the private folder.
    pub(crate) folder_full: bool,
    /// Time from the start to the end of the whole process group.
    pub(crate) wall: Duration,
}

/// A child with all that is needed to watch it.
pub(crate) struct Running<'a> {
    pub(crate) child: Child,
    pub(crate) pipes: Pipes,
    pub(crate) stdin: &'a [u8],
    pub(crate) limits: &'a Limits,
    pub(crate) folder: &'a PrivateFolder,
    pub(crate) started: Instant,
    /// Whether members of the process group can outlive the child.
    pub(crate) group_survives_leader: bool,
}

/// How often the size of the private folder is looked at.
const FOLDER_INTERVAL: Duration = Duration::from_millis(250);

/// Watches one child until it ends or reaches a limit.
pub(crate) fn watch(running: Running) -> Watched {
    let mut watch = Watch::new(running);
    while !watch.is_over() {
        wait_for_events(&[&watch]);
        watch.advance();
    }
    watch.finish()
}

/// Watches a leader and its follower. The leader's end ends the follower; the follower's end is its own affair.
pub(crate) fn watch_pair(leader: Running, follower: Running) -> [Watched; 2] {
    let mut leader = Watch::new(leader);
    let mut follower = Some(Watch::new(follower));
    let mut follower_end = None;
    while !leader.is_over() {
        match &follower {
            Some(follower) => wait_for_events(&[&leader, follower]),
            None => wait_for_events(&[&leader]),
        }
        leader.advance();
        if let Some(mut watch) = follower.take() {
            watch.advance();
            // Killed at once when it is over: the leader must see the end of the channel now.
            if watch.is_over() { follower_end = Some(watch.finish()) } else { follower = Some(watch) }
        }
    }
    let leader_end = leader.finish();
    let follower_end = match (follower_end, follower) {
        (Some(end), _) => end,
        (None, Some(watch)) => watch.finish_with_leader(),
        (None, None) => unreachable!("a watch that is taken and not over is put back"),
    };
    [leader_end, follower_end]
}

/// Kills a child whose run is called off.
pub(crate) fn stop(running: Running) {
    Watch::new(running).finish();
}

/// The state of the watching of one child.
struct Watch<'a> {
    running: Running<'a>,
    outputs: [Vec<u8>; 3],
    /// Bytes of standard input that the child has taken.
    sent: usize,
    reached: Option<Limit>,
    has_ended: bool,
    deadline: Instant,
    next_folder_check: Instant,
}

impl<'a> Watch<'a> {
    fn new(mut running: Running<'a>) -> Watch<'a> {
        let pipes = &mut running.pipes;
        for file in pipes.stdin.iter().chain(pipes.outputs.iter().flatten()) {
            set_non_blocking(file);
        }
        if running.stdin.is_empty() {
            pipes.stdin = None;
        }
        Watch {
            outputs: [Vec::new(), Vec::new(), Vec::new()],
            sent: 0,
            reached: None,
            has_ended: false,
            deadline: running.started + running.limits.wall,
            next_folder_check: running.started + FOLDER_INTERVAL,
            running,
        }
    }

    /// Whether the child has ended or reached a limit.
    fn is_over(&self) -> bool {
        self.has_ended || self.reached.is_some()
    }

    /// How long nothing needs to be looked at unless there is an event.
    fn pause(&self) -> Duration {
        let pause = self.deadline.min(self.next_folder_check).saturating_duration_since(Instant::now());
        if self.running.child.watch.is_none() { pause.min(Duration::from_millis(3)) } else { pause }
    }

    /// Feeds and drains the pipes and looks at everything that may end the run.
    fn advance(&mut self) {
        let pipes = &mut self.running.pipes;
        if let Some(file) = &mut pipes.stdin {
            match file.write(&self.running.stdin[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if again(&error) => {}
                // The program does not want to read on; that is its right.
                Err(_) => self.sent = self.running.stdin.len(),
            }
            if self.sent == self.running.stdin.len() {
                pipes.stdin = None;
            }
        }
        // Whether it has ended is asked before the last reading, so that nothing written before the end is lost.
        self.has_ended = has_ended(self.running.child.process);
        if drain(&mut pipes.outputs, &mut self.outputs, self.running.limits.output_bytes) {
            self.reached = Some(Limit::Output);
        }
        if self.is_over() {
            return;
        }
        let now = Instant::now();
        if now >= self.deadline {
            self.reached = Some(Limit::WallClock);
        } else if now >= self.next_folder_check {
            let allowed = self.running.limits.file_bytes.saturating_mul(4);
            if self.running.folder.size(allowed) > allowed {
                self.reached = Some(Limit::FileSize);
            }
            // Looking costs time of ours, so it stays a small share of the run.
            self.next_folder_check = Instant::now() + FOLDER_INTERVAL.max(now.elapsed() * 20);
        }
    }

    /// Kills what is left of the group and waits for it.
    fn finish(mut self) -> Watched {
        let process = self.running.child.process;
        let limits = self.running.limits;
        // SAFETY: the child leads its own group and has not been waited for, so the number still names this group.
        unsafe { libc::kill(-process, libc::SIGKILL) };
        let (status, usage) = wait(process);
        if self.running.group_survives_leader {
            wait_for_group(process);
        }
        // What the group wrote in its last moment is still in the pipes.
        if drain(&mut self.running.pipes.outputs, &mut self.outputs, limits.output_bytes) {
            self.reached = self.reached.or(Some(Limit::Output));
        }
        let ended = match self.reached {
            Some(limit) => Ended::Killed { limit },
            None => explain(status, &usage, limits),
        };
        let folder_full = self.running.folder.is_full();
        Watched { ended, outputs: self.outputs, folder_full, wall: self.running.started.elapsed() }
    }

    /// The same for a follower whose leader has ended. One that was faster keeps its own end.
    fn finish_with_leader(self) -> Watched {
        let by_itself = has_ended(self.running.child.process);
        let watched = self.finish();
        if by_itself { watched } else { Watched { ended: Ended::WithLeader, ..watched } }
    }
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

/// Sleeps until a pipe or a child has news, or one of them needs to be looked at anyway.
fn wait_for_events(watches: &[&Watch]) {
    let entry = |descriptor, events| libc::pollfd { fd: descriptor, events, revents: 0 };
    // `poll` skips negative descriptors.
    let number = |file: &Option<File>| file.as_ref().map_or(-1, File::as_raw_fd);
    let mut entries = Vec::with_capacity(5 * watches.len());
    let mut pause = Duration::MAX;
    for watch in watches {
        pause = pause.min(watch.pause());
        let running = &watch.running;
        entries.push(entry(running.child.watch.as_ref().map_or(-1, OwnedFd::as_raw_fd), libc::POLLIN));
        entries.push(entry(number(&running.pipes.stdin), libc::POLLOUT));
        entries.extend(running.pipes.outputs.iter().map(|output| entry(number(output), libc::POLLIN)));
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
