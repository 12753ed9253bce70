//! The attempts, as bodies for `prelude.py`. Each raises `OSError` or `MemoryError` where it is stopped.

/// One attempt.
pub struct Attempt {
    /// What is tried.
    pub name: &'static str,
    /// Processes that the run may start.
    pub processes: u32,
    /// Whether the death of a process that the test started for it is what shows the success.
    pub kills_target: bool,
    pub body: &'static str,
}

const fn attempt(name: &'static str, body: &'static str) -> Attempt {
    Attempt { name, processes: 0, kills_target: false, body }
}

/// An attempt that needs further processes.
const fn with_processes(name: &'static str, body: &'static str) -> Attempt {
    Attempt { name, processes: 8, kills_target: false, body }
}

pub const ATTEMPTS: &[Attempt] = &[
    // Reading.
    attempt("read /etc/shadow", "open('/etc/shadow').read()"),
    attempt("list the caller's home folder", "os.listdir(T['home'])"),
    attempt("read a file that everybody may read", "assert open(T['secret']).read() == 'secret'"),
    attempt("read it through a symbolic link", "os.symlink(T['secret'], 'link')\nopen('link').read()"),
    attempt("read it through a hard link", "os.link(T['secret'], 'hard')\nopen('hard').read()"),
    attempt(
        "read it after a change of folder",
        "os.chdir(os.path.dirname(T['secret']))\nopen('secret').read()",
    ),
    attempt("list /proc", "assert os.listdir('/proc')"),
    attempt(
        "read another process's environment",
        "assert b'PATH' in open('/proc/%d/environ' % T['victim'], 'rb').read()",
    ),
    attempt("read the caller's environment", "open('/proc/%d/environ' % T['launcher'], 'rb').read()"),
    attempt("read another process's descriptors", "os.listdir('/proc/%d/fd' % T['victim'])"),
    attempt("open another process's memory", "open('/proc/%d/mem' % T['victim'], 'rb')"),
    attempt("read the kernel's log", "check(libc.klogctl(3, ctypes.create_string_buffer(4096), 4096))"),
    attempt(
        "open the machine's disk",
        "disks = ['/dev/vda', '/dev/sda', '/dev/nvme0n1', '/dev/dm-0']\nthere = [d for d in disks if os.path.exists(d)]\nabsent_if(not there, 'no disk')\nopen(there[0], 'rb').read(1)",
    ),
    attempt(
        "watch a folder",
        "fd = check(libc.inotify_init1(0))\ncheck(libc.inotify_add_watch(fd, os.path.dirname(T['secret']).encode(), 0xFFF))",
    ),
    attempt(
        "open a file by its handle",
        "absent_if(not hasattr(libc, 'open_by_handle_at'), 'no such function')\n\
         handle = ctypes.create_string_buffer(136)\nhandle[0] = b'\\x80'\nmount = ctypes.c_int()\n\
         check(libc.name_to_handle_at(-100, b'/etc', handle, ctypes.byref(mount), 0))\n\
         root = os.open('/', os.O_RDONLY)\ncheck(libc.open_by_handle_at(root, handle, 0))",
    ),
    // Writing.
    attempt(
        "write into a folder that everybody may write",
        "open(T['open_folder'] + '/new', 'w').write('x')",
    ),
    attempt(
        "write there through a symbolic link",
        "os.symlink(T['open_folder'] + '/new2', 'link')\nopen('link', 'w').write('x')",
    ),
    attempt(
        "move a file there",
        "open('own', 'w').write('x')\nos.rename('own', T['open_folder'] + '/moved')",
    ),
    attempt("make a folder there", "os.mkdir(T['open_folder'] + '/folder')"),
    attempt("truncate a file that everybody may write", "os.truncate(T['writable'], 0)"),
    attempt("remove a file", "os.remove(T['removable'])"),
    attempt("change the rights of the caller's file", "os.chmod(T['owned'], 0o600)"),
    attempt("change the times of the caller's file", "os.utime(T['owned'])"),
    attempt("set an attribute of the caller's file", "os.setxattr(T['owned'], 'user.mark', b'x')"),
    attempt(
        "leave a file in /tmp",
        "name = '/tmp/%s-left' % T['mark']\nopen(name, 'w').close()\nos.remove(name)",
    ),
    attempt(
        "leave a file in /dev/shm",
        "name = '/dev/shm/%s-left' % T['mark']\nopen(name, 'w').close()\nos.remove(name)",
    ),
    attempt(
        "write a setting of the kernel",
        "name = open('/proc/sys/kernel/hostname').read()\nopen('/proc/sys/kernel/hostname', 'w').write(name)",
    ),
    attempt(
        "make a device node",
        "import stat\nos.mknod('device', stat.S_IFCHR | 0o666, os.makedev(1, 5))\nopen('device', 'rb').read(1)",
    ),
    // Other processes.
    attempt("signal another process", "os.kill(T['victim'], 0)"),
    attempt("signal the caller", "os.kill(T['launcher'], 0)"),
    attempt(
        "signal through a process descriptor",
        "fd = call(434, T['victim'], 0)\ncall(424, fd, 0, None, 0)",
    ),
    Attempt {
        name: "have the kernel signal another process",
        processes: 0,
        kills_target: true,
        body: "import fcntl, time\nreader, writer = os.pipe()\nfcntl.fcntl(reader, 8, T['target'])\n\
               fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)\nos.write(writer, b'x')\ntime.sleep(0.2)",
    },
    Attempt {
        name: "kill another process",
        processes: 0,
        kills_target: true,
        body: "os.kill(T['target'], 9)",
    },
    attempt("trace another process", "check(libc.ptrace(0x4206, T['victim'], None, None))"),
    attempt("be traced by the caller", "check(libc.ptrace(0, 0, None, None))"),
    attempt(
        "read another process's memory",
        "class Part(ctypes.Structure):\n    _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]\n\
         room = ctypes.create_string_buffer(8)\nmine, its = Part(ctypes.addressof(room), 8), Part(4096, 8)\n\
         try:\n    check(libc.process_vm_readv(T['victim'], ctypes.byref(mine), ctypes.c_ulong(1), ctypes.byref(its), ctypes.c_ulong(1), ctypes.c_ulong(0)))\n\
         except OSError as error:\n    # Only that address is not there: it would have been allowed.\n    if error.errno != errno.EFAULT: raise",
    ),
    attempt("take another process's descriptor", "fd = call(434, T['victim'], 0)\ncall(438, fd, 0, 0)"),
    attempt(
        "lower another process's limits",
        "import resource\nresource.prlimit(T['victim'], resource.RLIMIT_CORE, (0, resource.prlimit(T['victim'], resource.RLIMIT_CORE)[1]))",
    ),
    attempt(
        "choose another process's processors",
        "os.sched_setaffinity(T['victim'], os.sched_getaffinity(0))",
    ),
    attempt("lower another process's priority", "os.setpriority(os.PRIO_PROCESS, T['victim'], 19)"),
    // Resources and time.
    attempt("start a process", "child = os.fork()\nif child == 0: os._exit(0)\nos.waitpid(child, 0)"),
    attempt(
        "execute a program in a new process",
        "import subprocess\nsubprocess.run(['/bin/true'], check=True)",
    ),
    with_processes(
        "start 60 processes",
        "import signal, time\nchildren = []\ntry:\n    for _ in range(60):\n        child = os.fork()\n        if child == 0:\n            time.sleep(20)\n            os._exit(0)\n        children.append(child)\nfinally:\n    for child in children: os.kill(child, signal.SIGKILL)",
    ),
    attempt(
        "start 200 threads",
        "import threading\nstop = threading.Event()\ntry:\n    for _ in range(200): threading.Thread(target=stop.wait, daemon=True).start()\nexcept RuntimeError: raise OSError(errno.EAGAIN, 'no more threads')",
    ),
    attempt("take 2 GiB of memory", "import mmap\nmmap.mmap(-1, 2 << 30)"),
    attempt(
        "raise its own limit on memory",
        "limit = (ctypes.c_uint64 * 2)(4 << 30, 4 << 30)\ncheck(libc.setrlimit(9, limit))",
    ),
    attempt("write a large file", "f = open('large', 'wb')\nfor _ in range(40): f.write(bytes(1 << 20))"),
    attempt(
        "write many files",
        "import time\nfor number in range(20):\n    open('f%d' % number, 'wb').write(bytes(8 << 20))\n    time.sleep(0.04)",
    ),
    attempt(
        "make 12,000 files",
        "import time\nfor number in range(12000): open('f%d' % number, 'wb').close()\ntime.sleep(1.2)",
    ),
    attempt(
        "lock memory",
        "import mmap\nm = mmap.mmap(-1, 64 << 10)\ncheck(libc.mlock(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(m))), ctypes.c_size_t(64 << 10)))",
    ),
    attempt("dump core", "limit = (ctypes.c_uint64 * 2)(1 << 20, 1 << 20)\ncheck(libc.setrlimit(4, limit))"),
    attempt("survive the caller", "check(libc.prctl(1, 0, 0, 0, 0))"),
    attempt("run in real time", "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"),
    // Network.
    attempt("connect by IPv4", "import socket\nsocket.create_connection(('127.0.0.1', T['port4']), 5)"),
    attempt(
        "connect by IPv6",
        "import socket\nabsent_if(not T['port6'], 'no IPv6 here')\nsocket.create_connection(('::1', T['port6']), 5)",
    ),
    attempt(
        "send a datagram",
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    ),
    attempt("listen", "import socket\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()"),
    attempt("connect to a Unix socket", "import socket\nsocket.socket(socket.AF_UNIX).connect(T['unix'])"),
    attempt(
        "connect to an abstract socket",
        "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0' + T['abstract'])",
    ),
    attempt(
        "ask the kernel by netlink",
        "import socket\ns = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)\ns.bind((0, 0))",
    ),
    attempt("send raw packets", "import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
    attempt(
        "pass descriptors on",
        "import array, socket\na, b = socket.socketpair()\na.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0]))])",
    ),
    // Interfaces of the kernel.
    attempt("use io_uring", "call(425, 4, ctypes.create_string_buffer(120))"),
    attempt("use a key ring", "call(250 if X86 else 219, 0, -3, 1)"),
    attempt("add a key", "call(248 if X86 else 217, b'user', b'vul2safe', b'x', 1, -2)"),
    attempt("load a BPF map", "a = (ctypes.c_uint32 * 20)(2, 4, 4, 1)\ncall(321 if X86 else 280, 0, a, 80)"),
    attempt("use userfaultfd", "call(323 if X86 else 282, 1)"),
    attempt(
        "measure with perf",
        "a = ctypes.create_string_buffer(128)\nctypes.memmove(a, (ctypes.c_uint32 * 2)(1, 128), 8)\na[40] = b'\\x60'\ncall(298 if X86 else 241, a, 0, -1, -1, 0)",
    ),
    attempt("make anonymous files", "os.memfd_create('x')"),
    attempt("make secret memory", "call(447, 0)"),
    attempt("use System V shared memory", "i = check(libc.shmget(0, 4096, 0o1600))\nlibc.shmctl(i, 0, None)"),
    attempt("use a System V queue", "i = check(libc.msgget(0, 0o1600))\nlibc.msgctl(i, 0, None)"),
    attempt("use System V semaphores", "i = check(libc.semget(0, 1, 0o1600))\nlibc.semctl(i, 0, 0, 0)"),
    attempt(
        "use a POSIX queue",
        "library = libc if hasattr(libc, 'mq_open') else ctypes.CDLL('librt.so.1', use_errno=True)\nname = ('/' + T['mark']).encode()\ncheck(library.mq_open(name, 0o102, 0o600, None))\nlibrary.mq_unlink(name)",
    ),
    attempt(
        "install a filter of its own",
        "class F(ctypes.Structure):\n    _fields_ = [('n', ctypes.c_ushort), ('p', ctypes.c_char_p)]\nlibc.prctl(38, 1, 0, 0, 0)\nf = F(1, b'\\x06\\0\\0\\0\\0\\0\\xff\\x7f')\ncall(317 if X86 else 277, 1, 0, ctypes.byref(f))",
    ),
    attempt("switch off the randomised layout", "check(libc.personality(0x0040000))"),
    attempt("call by the second table (x32)", "absent_if(not X86, 'x86-64 only')\ncall(0x40000000 + 39)"),
    attempt(
        "call as a 32-bit program",
        "absent_if(not X86, 'x86-64 only')\nimport mmap\n\
         code = mmap.mmap(-1, 4096, prot=7)\ncode.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\n\
         f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))\nif f() <= 0: raise OSError(38, '')",
    ),
    attempt(
        "reach the machine's ports",
        "absent_if(not X86, 'x86-64 only')\ncheck(libc.ioperm(ctypes.c_ulong(0x80), ctypes.c_ulong(1), 1))",
    ),
    attempt(
        "type into a terminal",
        "import fcntl\nmaster, slave = os.openpty()\nos.setsid()\nfcntl.ioctl(slave, 0x540E, 0)\nfcntl.ioctl(slave, 0x5412, b'x')",
    ),
    // Privileges and namespaces.
    attempt(
        "become root",
        "os.setuid(0)\nif os.getuid() != 0: raise OSError(1, '')\nopen('/etc/shadow').close()",
    ),
    attempt(
        "take capabilities",
        "header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(1 << 21, 1 << 21)\ncheck(libc.capset(header, sets))",
    ),
    with_processes(
        "run a setuid program",
        "import subprocess\nabsent_if(not T['setuid'], 'only root can make one')\nif subprocess.run([T['setuid'], '-u'], capture_output=True).stdout != b'0\\n': raise OSError(1, '')",
    ),
    attempt(
        "gain privileges by executing",
        "if check(libc.prctl(39, 0, 0, 0, 0)) == 1: raise OSError(1, '')",
    ),
    attempt("make a user namespace", "check(libc.unshare(0x10000000))"),
    attempt("make a mount namespace", "check(libc.unshare(0x00020000))"),
    with_processes(
        "start a process in a user namespace",
        "child = call(56 if X86 else 220, 0x10000000 | 17, 0, 0, 0, 0)\nif child == 0: os._exit(0)\nos.waitpid(child, 0)",
    ),
    with_processes(
        "the same by clone3",
        "a = (ctypes.c_uint64 * 8)(0x10000000, 0, 0, 0, 17)\nchild = call(435, a, 64)\nif child == 0: os._exit(0)\nos.waitpid(child, 0)",
    ),
    attempt(
        "join a namespace",
        "check(libc.setns(os.open('/proc/%d/ns/uts' % T['victim'], os.O_RDONLY), 0))",
    ),
    attempt(
        "mount",
        "libc.unshare(0x00020000)\nlibc.mount(None, b'/', None, ctypes.c_ulong(0x44000), None)\nos.mkdir('mnt')\ncheck(libc.mount(b'x', b'mnt', b'tmpfs', ctypes.c_ulong(0), None))\nlibc.umount2(b'mnt', 2)",
    ),
    attempt("mount by the new interface", "call(430, b'tmpfs', 0)"),
    attempt("copy a mount", "call(428, -100, b'/', 1)"),
    attempt(
        "make a file system writable again",
        "libc.unshare(0x00020000)\nlibc.mount(None, b'/', None, ctypes.c_ulong(0x44000), None)\ncall(442, -100, b'/', 0x8000, (ctypes.c_uint64 * 4)(0, 1, 0, 0), 32)",
    ),
    attempt("change the root folder", "os.chroot('.')"),
    attempt(
        "set the clock",
        "import time\ntime.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME))",
    ),
    attempt("set the host name", "import socket\nname = os.uname().nodename\nsocket.sethostname(name)"),
];
