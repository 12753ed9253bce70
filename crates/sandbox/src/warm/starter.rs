//! Starting a warm interpreter and talking to it.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::launch::launch;
use crate::namespace::OwnUserMap;
use crate::plan::{Child, Plan, pipe};
use crate::run::Sandbox;

/// The program of the interpreter itself.
const PROGRAM: &str = include_str!("warm.py");
/// How long an interpreter may take to import what it was told to.
const START: Duration = Duration::from_secs(60);
/// How long it may take to make a copy.
const ANSWER: Duration = Duration::from_secs(10);

/// `CAP_SETGID`, `CAP_SETUID` and `CAP_SYS_ADMIN`: what the copies need to change their user and to attach file systems.
/// They give them up before they touch anything of their job.
const PREPARING: u64 = 1 << 6 | 1 << 7 | 1 << 21;

/// How the interpreter is started.
pub(super) struct Recipe {
    arguments: Vec<CString>,
    environment: Vec<CString>,
    namespaces: libc::c_int,
    user_map: Option<OwnUserMap>,
    kept_capabilities: u64,
    setup: Vec<u8>,
}

impl Recipe {
    pub(super) fn new(sandbox: &Sandbox, interpreter: &Path, setup: Vec<u8>) -> Recipe {
        let capabilities = &sandbox.capabilities;
        let text = |bytes: &[u8]| CString::new(bytes).expect("neither paths nor programs contain a NUL byte");
        let arguments: [&[u8]; 8] = [
            interpreter.as_os_str().as_bytes(),
            b"-S",
            b"-s",
            b"-B",
            b"-W",
            b"ignore",
            b"-c",
            PROGRAM.as_bytes(),
        ];
        let variables: [&[u8]; 6] = [
            b"PATH=/usr/local/bin:/usr/bin:/bin",
            b"LANG=C.UTF-8",
            b"TZ=UTC",
            b"PYTHONDONTWRITEBYTECODE=1",
            b"PYTHONHASHSEED=0",
            b"PYTHONNOUSERSITE=1",
        ];
        let user = capabilities.user_namespace;
        let mut namespaces = if user { libc::CLONE_NEWUSER } else { 0 };
        if capabilities.network_namespace {
            namespaces |= libc::CLONE_NEWNET;
        }
        Recipe {
            arguments: arguments.into_iter().map(text).collect(),
            environment: variables.into_iter().map(text).collect(),
            namespaces,
            user_map: user.then(OwnUserMap::of_this_process),
            // In a user namespace the copies make their own and need nothing from this one.
            kept_capabilities: if user { 0 } else { PREPARING & permitted_capabilities() },
            setup,
        }
    }

    /// Starts it and waits until it is ready; the text says what went wrong.
    fn start(&self) -> Result<Warm, String> {
        let text = |error: io::Error| error.to_string();
        let (setup, setup_writer) = pipe().map_err(text)?;
        let (output, output_writer) = pipe().map_err(text)?;
        let (error, error_writer) = pipe().map_err(text)?;
        let (control, interpreters_end) = control_pair().map_err(text)?;
        let plan = Plan {
            program: self.arguments[0].clone(),
            arguments: self.arguments.clone(),
            environment: self.environment.clone(),
            namespaces: self.namespaces,
            user_map: self.user_map.as_ref(),
            network: None,
            mounts: Vec::new(),
            folder: CString::from(c"/"),
            streams: vec![setup, output_writer, error_writer, interpreters_end],
            rule_set: None,
            filters: &[],
            processes: true,
            limits: vec![(libc::RLIMIT_CORE as libc::c_int, 0, 0)],
            user: None,
            group: None,
            file_mask: 0o077,
            kept_capabilities: self.kept_capabilities,
            dies_with_caller: true,
        };
        let child = launch(&plan).map_err(|error| error.to_string())?;
        drop(plan);
        let warm = Warm { child: Some(child), control, _output: output, error };
        let deadline = Instant::now() + START;
        write_all(setup_writer, &self.setup, deadline)
            .map_err(|error| warm.complaint(&format!("it does not read its setup: {error}")))?;
        let answer = receive(&warm.control, deadline).map_err(|error| warm.complaint(&error.to_string()))?;
        match answer.as_slice() {
            b"ready" => Ok(warm),
            b"" => Err(warm.complaint("it ended before it was ready")),
            other => Err(last_line(&String::from_utf8_lossy(other))),
        }
    }
}

/// The thread that starts interpreters. The kernel ends a child with the *thread* that is its parent, and the copies
/// have the interpreter's parent, so it has to be one that lives as long as they.
pub(super) struct Starter {
    wanted: Option<mpsc::Sender<mpsc::Sender<Result<Warm, String>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Starter {
    pub(super) fn new(recipe: Recipe) -> io::Result<Starter> {
        let (wanted, requests) = mpsc::channel::<mpsc::Sender<Result<Warm, String>>>();
        let thread = std::thread::Builder::new().name("warm-python".into()).spawn(move || {
            for answer in requests {
                // Whoever asked may have given up.
                let _ = answer.send(recipe.start());
            }
        })?;
        Ok(Starter { wanted: Some(wanted), thread: Some(thread) })
    }

    pub(super) fn start(&self) -> Result<Warm, String> {
        let (sender, answer) = mpsc::channel();
        let sent = self.wanted.as_ref().is_some_and(|wanted| wanted.send(sender).is_ok());
        let gone = || "the thread that starts it is gone".to_string();
        if sent { answer.recv().unwrap_or_else(|_| Err(gone())) } else { Err(gone()) }
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        drop(self.wanted.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A warm interpreter's process.
pub(super) struct Warm {
    child: Option<Child>,
    control: OwnedFd,
    /// Held so that the interpreter's streams are pipes, as those of its copies.
    _output: OwnedFd,
    error: OwnedFd,
}

impl Warm {
    /// Sends a request with descriptors and returns the answer.
    pub(super) fn ask(&self, request: &[u8], descriptors: &[BorrowedFd]) -> io::Result<Vec<u8>> {
        send(&self.control, request, descriptors)?;
        let answer = receive(&self.control, Instant::now() + ANSWER)?;
        if answer.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
    }

    /// The last line that it wrote to standard error, or `otherwise`.
    fn complaint(&self, otherwise: &str) -> String {
        let mut text = Vec::new();
        // What is there already is all that is wanted.
        let _ = read_into(&self.error, &mut text, Instant::now() + Duration::from_millis(200));
        let line = last_line(&String::from_utf8_lossy(&text));
        if line.is_empty() { otherwise.to_owned() } else { line }
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            child.kill();
        }
    }
}

fn last_line(text: &str) -> String {
    let line = text.trim().lines().last().unwrap_or_default();
    line.strip_prefix("failed ").unwrap_or(line).to_owned()
}

/// The capabilities that this process may use.
fn permitted_capabilities() -> u64 {
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut sets = [0u32; 6];
    // SAFETY: version 3 of the interface reads the header and fills six words.
    let answer = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) };
    if answer == 0 { u64::from(sets[4]) << 32 | u64::from(sets[1]) } else { 0 }
}

/// Two connected sockets that keep messages apart.
fn control_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes two descriptors into a live array of two, which nobody else owns.
    unsafe {
        if libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Waits until a descriptor can be read or written, or fails with `TimedOut`.
fn ready(descriptor: &OwnedFd, events: libc::c_short, deadline: Instant) -> io::Result<()> {
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let milliseconds = libc::c_int::try_from(rest.as_millis() + 1).unwrap_or(libc::c_int::MAX);
        let mut entry = libc::pollfd { fd: descriptor.as_raw_fd(), events, revents: 0 };
        // SAFETY: one live entry.
        match unsafe { libc::poll(&mut entry, 1, milliseconds) } {
            1.. => return Ok(()),
            0 => {}
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

fn receive(control: &OwnedFd, deadline: Instant) -> io::Result<Vec<u8>> {
    ready(control, libc::POLLIN, deadline)?;
    let mut buffer = vec![0; 8192];
    // SAFETY: the kernel writes at most the buffer's length into it.
    let count = unsafe { libc::recv(control.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    buffer.truncate(usize::try_from(count).map_err(|_| io::Error::last_os_error())?);
    Ok(buffer)
}

/// Sends one message with descriptors.
fn send(control: &OwnedFd, message: &[u8], descriptors: &[BorrowedFd]) -> io::Result<()> {
    /// Room for the header and as many descriptors as a run can need, aligned as the kernel wants it.
    #[repr(C, align(8))]
    struct Room([u8; 128]);
    let mut room = Room([0; 128]);
    let numbers: Vec<RawFd> = descriptors.iter().map(|descriptor| descriptor.as_raw_fd()).collect();
    let bytes = size_of_val(numbers.as_slice());
    let mut part = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
    // SAFETY: the header points to live locals; the room holds more than the space of the descriptors, which is
    // checked before they are copied into it.
    let sent = unsafe {
        let space = libc::CMSG_SPACE(bytes as libc::c_uint) as usize;
        if space > room.0.len() {
            return Err(io::Error::other("too many descriptors"));
        }
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &mut part;
        header.msg_iovlen = 1;
        header.msg_control = room.0.as_mut_ptr().cast();
        header.msg_controllen = space as _;
        let first = libc::CMSG_FIRSTHDR(&header);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(bytes as libc::c_uint) as _;
        std::ptr::copy_nonoverlapping(numbers.as_ptr().cast::<u8>(), libc::CMSG_DATA(first), bytes);
        libc::sendmsg(control.as_raw_fd(), &header, libc::MSG_NOSIGNAL)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn write_all(file: OwnedFd, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    // SAFETY: sets a flag of an open descriptor.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    let mut writer = File::from(file.try_clone()?);
    while !bytes.is_empty() {
        ready(&file, libc::POLLOUT, deadline)?;
        match writer.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Everything up to the end of a pipe.
pub(super) fn read_to_end(file: &OwnedFd, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    read_into(file, &mut text, deadline)?;
    Ok(text)
}

fn read_into(file: &OwnedFd, text: &mut Vec<u8>, deadline: Instant) -> io::Result<()> {
    let mut reader = File::from(file.try_clone()?);
    let mut buffer = [0; 4096];
    loop {
        ready(file, libc::POLLIN, deadline)?;
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            count => text.extend_from_slice(&buffer[..count]),
        }
    }
}
