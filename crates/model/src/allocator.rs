//! What was freed goes back to the system.

/// Gives the memory that was freed and is kept for later back to the system, as far as the C library can do that.
///
/// glibc keeps freed blocks of up to 32 MiB for the next one of their size. After a phase whose blocks no later phase asks for
/// (the rounded or merged weights and the caches of sampling, before training) they would stay beside those of the next
/// phase.
pub fn give_freed_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` may be called at any time and from any thread; it touches free blocks only.
    unsafe {
        libc::malloc_trim(0);
    }
}
