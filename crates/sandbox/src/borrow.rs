//! Children that borrow the caller's memory.
//!
//! They are made with `CLONE_VM | CLONE_VFORK`: the caller's thread stops until the child executes a program or ends,
//! so that a start costs the same however large the caller is (a copy of the page tables of a training process would
//! cost milliseconds, and page faults afterwards). The price: such a child may only make system calls and touch what
//! was laid out for it. It allocates nothing, takes no lock, and does not panic.

use std::ffi::{c_int, c_void};
use std::io;
use std::sync::OnceLock;

/// Starts a child that runs `entry(argument)` and returns its number once it has left this memory.
///
/// # Safety
/// `entry` keeps the rules above, `argument` is valid for it until the child has executed a program or ended.
pub(crate) unsafe fn start(
    flags: c_int,
    entry: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
) -> io::Result<libc::pid_t> {
    const STACK_BYTES: usize = 128 * 1024;
    let mut stack = vec![0u128; STACK_BYTES / size_of::<u128>()];
    let dumpable = dumpable_before_first_run();
    // SAFETY: `stack` is a live, 16-byte aligned block that grows downwards from its end and that nobody else uses;
    // CLONE_VFORK stops this thread until the child has left this memory. Signals are blocked in between, so that none
    // of the caller's handlers runs on the child's stack; the mask is restored right after.
    unsafe {
        let mut every: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut every);
        libc::pthread_sigmask(libc::SIG_SETMASK, &every, &mut before);
        let process = libc::clone(
            entry,
            stack.as_mut_ptr().add(stack.len()).cast(),
            flags | libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            argument,
        );
        let error = *libc::__errno_location();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        // A child's change of user marks the shared memory as not dumpable; undo that for the caller.
        libc::prctl(libc::PR_SET_DUMPABLE, dumpable, 0, 0, 0);
        if process < 0 { Err(io::Error::from_raw_os_error(error)) } else { Ok(process) }
    }
}

/// Waits for a child that was [started](start) and ends by itself.
pub(crate) fn wait(process: libc::pid_t) {
    // SAFETY: `process` is our child and has not been waited for.
    while unsafe { libc::waitpid(process, std::ptr::null_mut(), libc::__WALL) } < 0
        && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
    {}
}

/// Whether core dumps of this process were allowed before any run touched the setting.
fn dumpable_before_first_run() -> c_int {
    static BEFORE: OnceLock<c_int> = OnceLock::new();
    // SAFETY: PR_GET_DUMPABLE has no arguments and only returns a number.
    *BEFORE.get_or_init(|| unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) })
}
