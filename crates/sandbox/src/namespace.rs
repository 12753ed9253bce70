//! Namespaces: which can be had here, and the two that are made beforehand.

use std::ffi::{CString, c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::borrow;

/// The lines that map this process's own user and group, and nobody else, into a new user namespace.
pub(crate) struct OwnUserMap {
    user: CString,
    group: CString,
}

impl OwnUserMap {
    pub(crate) fn of_this_process() -> OwnUserMap {
        // SAFETY: geteuid and getegid cannot fail.
        let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
        let line = |id| CString::new(format!("{id} {id} 1")).expect("digits and blanks contain no NUL byte");
        OwnUserMap { user: line(user), group: line(group) }
    }

    /// The lines for users and for groups.
    pub(crate) fn lines(&self) -> [&CString; 2] {
        [&self.user, &self.group]
    }

    /// Writes the map into the calling child's own, new namespace. True if that worked.
    ///
    /// # Safety
    /// Makes system calls only, as a child that borrows its caller's memory must.
    pub(crate) unsafe fn write(&self) -> bool {
        // SAFETY: all strings end with a NUL byte and are only read.
        unsafe {
            write_file(c"/proc/self/setgroups".as_ptr(), c"deny".as_ptr())
                && write_file(c"/proc/self/uid_map".as_ptr(), self.user.as_ptr())
                && write_file(c"/proc/self/gid_map".as_ptr(), self.group.as_ptr())
        }
    }
}

unsafe fn write_file(path: *const libc::c_char, text: *const libc::c_char) -> bool {
    // SAFETY: the caller passes strings that end with a NUL byte.
    unsafe {
        let file = libc::open(path, libc::O_WRONLY | libc::O_CLOEXEC);
        let length = libc::strlen(text);
        let written = libc::write(file, text.cast(), length);
        libc::close(file);
        written == length as isize
    }
}

/// Whether a child can be started in new namespaces of these kinds, and can map its user where that is among them.
pub(crate) fn can_be_had(flags: c_int) -> bool {
    struct Trial {
        map: Option<OwnUserMap>,
        worked: AtomicBool,
    }
    extern "C" fn entry(argument: *mut c_void) -> c_int {
        // SAFETY: `can_be_had` passes a `Trial` that outlives the child.
        let trial = unsafe { &*argument.cast::<Trial>() };
        // SAFETY: system calls only.
        let worked = trial.map.as_ref().is_none_or(|map| unsafe { map.write() });
        trial.worked.store(worked, Ordering::SeqCst);
        // SAFETY: `_exit` runs no handlers of the caller.
        unsafe { libc::_exit(0) }
    }
    let map = (flags & libc::CLONE_NEWUSER != 0).then(OwnUserMap::of_this_process);
    let trial = Trial { map, worked: AtomicBool::new(false) };
    // SAFETY: `entry` makes system calls only, and `trial` lives until the child has ended.
    let Ok(child) = (unsafe { borrow::start(flags, entry, (&raw const trial).cast_mut().cast()) }) else {
        return false;
    };
    borrow::wait(child);
    trial.worked.load(Ordering::SeqCst)
}

/// A network namespace without a single interface that is up. Only for root.
pub(crate) fn empty_network() -> io::Result<OwnedFd> {
    // Only the thread that asks moves into the new namespace, so it is one that ends right after.
    let made = std::thread::spawn(|| {
        // SAFETY: unshare takes a number; the thread shares nothing that the flag concerns.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    });
    made.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes the namespace panicked")))
}

/// A user namespace that maps `inside` to `outside`, for a mount that shows files of the one as files of the other.
/// Only for root.
pub(crate) fn translation(inside: u32, outside: u32) -> io::Result<OwnedFd> {
    extern "C" fn sleep(_: *mut c_void) -> c_int {
        loop {
            // SAFETY: waits for nothing, for ever; makes no use of memory. It is ended by SIGKILL.
            unsafe { libc::syscall(libc::SYS_ppoll, 0usize, 0usize, 0usize, 0usize, 0usize) };
        }
    }
    const STACK_BYTES: usize = 16 * 1024;
    let mut stack = vec![0u128; STACK_BYTES / size_of::<u128>()];
    // SAFETY: the child runs on a stack of its own that lives until it has been waited for, makes one system call that
    // never returns, and gets no signal, because all are blocked while it is made.
    let child = unsafe {
        let mut every: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut every);
        libc::pthread_sigmask(libc::SIG_SETMASK, &every, &mut before);
        let child = libc::clone(
            sleep,
            stack.as_mut_ptr().add(stack.len()).cast(),
            libc::CLONE_VM | libc::CLONE_NEWUSER | libc::SIGCHLD,
            std::ptr::null_mut(),
        );
        let error = *libc::__errno_location();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        if child < 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        child
    };
    let map = || -> io::Result<OwnedFd> {
        for file in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{child}/{file}"), format!("{inside} {outside} 1"))?;
        }
        Ok(File::open(format!("/proc/{child}/ns/user"))?.into())
    };
    let answer = map();
    // SAFETY: the child is ours and has not been waited for.
    unsafe { libc::kill(child, libc::SIGKILL) };
    borrow::wait(child);
    drop(stack);
    answer
}
