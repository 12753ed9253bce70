//! Private file systems in memory, made before they are attached anywhere.
//!
//! A file system is made detached: nobody can reach it but through its descriptor. The run's first process attaches it
//! in its own mount namespace. It is gone when that namespace and the descriptor are, whatever hostile code built in it.

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use crate::borrow;
use crate::namespace::OwnUserMap;

/// `MOUNT_ATTR_IDMAP` of the kernel's `linux/mount.h`.
const ATTRIBUTE_TRANSLATED: u64 = 0x0010_0000;

/// What is asked for.
pub(crate) struct Request {
    /// Most bytes that the files may take together.
    pub(crate) bytes: u64,
    /// Most files, folders and links.
    pub(crate) entries: u64,
    /// To whom the top folder belongs; the caller if `None`.
    pub(crate) owner: Option<u32>,
    /// Rights of the top folder.
    pub(crate) mode: u32,
    /// Whether a second view of it is needed.
    pub(crate) second_view: bool,
    /// Whether a user namespace is needed for the right to make it.
    pub(crate) in_user_namespace: bool,
}

/// A detached file system.
pub(crate) struct FileSystem {
    pub(crate) view: OwnedFd,
    pub(crate) second_view: Option<OwnedFd>,
}

/// The request as the making child sees it.
struct Raw {
    options: [(*const libc::c_char, CString); 5],
    option_count: usize,
    second_view: bool,
    map: Option<OwnUserMap>,
    views: [AtomicI32; 2],
    error: AtomicI32,
}

/// Makes a file system.
pub(crate) fn make(request: &Request) -> io::Result<FileSystem> {
    let number = |text: String| CString::new(text).expect("digits contain no NUL byte");
    let owner = request.owner.unwrap_or(0);
    let raw = Raw {
        options: [
            (c"size".as_ptr(), number(request.bytes.to_string())),
            (c"nr_inodes".as_ptr(), number(request.entries.to_string())),
            (c"mode".as_ptr(), number(format!("{:o}", request.mode))),
            (c"uid".as_ptr(), number(owner.to_string())),
            (c"gid".as_ptr(), number(owner.to_string())),
        ],
        option_count: if request.owner.is_some() { 5 } else { 3 },
        second_view: request.second_view,
        map: request.in_user_namespace.then(OwnUserMap::of_this_process),
        views: [AtomicI32::new(-1), AtomicI32::new(-1)],
        error: AtomicI32::new(0),
    };
    if request.in_user_namespace {
        // The child shares the table of descriptors, so what it opens is open here.
        let flags = libc::CLONE_FILES | libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
        // SAFETY: `entry` makes system calls only; `raw` lives until the child has ended.
        let child = unsafe { borrow::start(flags, entry, (&raw const raw).cast_mut().cast())? };
        borrow::wait(child);
    } else {
        // SAFETY: the strings in `raw` end with NUL bytes and live until the call returns.
        unsafe { make_here(&raw) };
    }
    let view = |index: usize| {
        let descriptor = raw.views[index].load(Ordering::SeqCst);
        // SAFETY: the descriptor is new and owned by nobody else.
        (descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor) })
    };
    let (first, second) = (view(0), view(1));
    match (first, raw.error.load(Ordering::SeqCst)) {
        (Some(view), 0) => Ok(FileSystem { view, second_view: second }),
        (_, error) => Err(io::Error::from_raw_os_error(error)),
    }
}

extern "C" fn entry(argument: *mut c_void) -> c_int {
    // SAFETY: `make` passes a `Raw` that outlives the child.
    let raw = unsafe { &*argument.cast::<Raw>() };
    // SAFETY: system calls only.
    unsafe {
        if raw.map.as_ref().is_none_or(|map| map.write()) {
            make_here(raw);
        } else {
            raw.error.store(*libc::__errno_location(), Ordering::SeqCst);
        }
        libc::_exit(0)
    }
}

/// Makes the file system with the rights of the calling process.
///
/// # Safety
/// The strings of `raw` end with NUL bytes. Makes system calls only.
unsafe fn make_here(raw: &Raw) {
    const CLOSE_ON_EXEC: c_int = 1;
    const SET_STRING: c_int = 1;
    const CREATE: c_int = 6;
    const NO_SETUID_NO_DEVICES: c_int = 2 | 4;
    const CLONE_TREE: c_int = 1;
    // SAFETY: as the function demands; every other argument is a number.
    unsafe {
        let nothing = std::ptr::null::<u8>();
        let context = libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), CLOSE_ON_EXEC) as RawFd;
        let mut good = context >= 0;
        for (name, value) in raw.options.iter().take(raw.option_count) {
            good =
                good && libc::syscall(libc::SYS_fsconfig, context, SET_STRING, *name, value.as_ptr(), 0) == 0;
        }
        good = good && libc::syscall(libc::SYS_fsconfig, context, CREATE, nothing, nothing, 0) == 0;
        let mut view = -1;
        if good {
            view = libc::syscall(libc::SYS_fsmount, context, CLOSE_ON_EXEC, NO_SETUID_NO_DEVICES) as RawFd;
            good = view >= 0;
            raw.views[0].store(view, Ordering::SeqCst);
        }
        if good && raw.second_view {
            let flags = CLONE_TREE | libc::O_CLOEXEC | libc::AT_EMPTY_PATH;
            let second = libc::syscall(libc::SYS_open_tree, view, c"".as_ptr(), flags) as RawFd;
            good = second >= 0;
            raw.views[1].store(second, Ordering::SeqCst);
        }
        if !good {
            raw.error.store(*libc::__errno_location(), Ordering::SeqCst);
        }
        if context >= 0 {
            libc::close(context);
        }
    }
}

/// Shows the files of `view` with the users that `namespace` maps theirs to. The view must not be attached yet.
pub(crate) fn translate(view: &OwnedFd, namespace: &OwnedFd) -> io::Result<()> {
    /// The kernel's `struct mount_attr`.
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let attributes = Attributes {
        set: ATTRIBUTE_TRANSLATED,
        clear: 0,
        propagation: 0,
        user_namespace: namespace.as_raw_fd() as u64,
    };
    // SAFETY: the path is empty, the structure live and of the size given.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            view.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &attributes,
            size_of::<Attributes>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
