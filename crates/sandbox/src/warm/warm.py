"""A warm interpreter: prepares once what every run needs, then makes a copy of itself for each run.

It runs outside the sandbox and touches nothing that belongs to a run. What it is told comes from `warm.rs`: the setup
from standard input, then one request after the other over the socket on descriptor 3, each with the descriptors of its
run. A copy enters the run's namespaces, takes the run's user and limits, and puts landlock and seccomp on itself before
it touches anything of the job. It is the child of whoever started this process (CLONE_PARENT), who waits for it.

The numbers of the steps are those of `plan.rs`. Calls that the module `os` lacks go through the C library; none of
them gives up the interpreter's lock, because only one thread exists.
"""

import builtins
import ctypes
import gc
import os
import socket
import sys
import traceback

# Numbers of system calls since 2019 are the same on every processor.
MOVE_MOUNT, CLONE3, CLOSE_RANGE, LANDLOCK_RESTRICT_SELF = 429, 435, 436, 446
# `CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID`, the latter two as the C library's own fork asks for them.
COPY = 0x00008000 | 0x01000000 | 0x00200000
NEW_USER, NEW_NETWORK, NEW_PROCESSES = 0x10000000, 0x40000000, 0x20000000
SET_DEATH_SIGNAL, SET_SECCOMP, SET_NO_NEW_PRIVILEGES, GET_TASK_ADDRESS = 1, 22, 38, 40
HERE, FROM_EMPTY_PATH, RECURSIVE_PRIVATE = -100, 4, 0x4000 | 1 << 18

library = ctypes.PyDLL(None, use_errno=True)


def fields(data):
    """Splits `length:bytes,` again and again."""
    found, place = [], 0
    while place < len(data):
        colon = data.index(b":", place)
        end = colon + 1 + int(data[place:colon])
        found.append(data[colon + 1:end])
        place = end + 1
    return found


class Filter(ctypes.Structure):
    """The kernel's `struct sock_fprog`."""
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


class Limit(ctypes.Structure):
    """The kernel's `struct rlimit64`."""
    _fields_ = [("soft", ctypes.c_uint64), ("hard", ctypes.c_uint64)]


class Failure(Exception):
    """A step that did not work: its number, and the kernel's reason."""


def check(step, answer):
    if answer < 0:
        raise Failure(step, ctypes.get_errno())
    return answer


def read_setup():
    parts = []
    while True:
        part = os.read(0, 1 << 16)
        if not part:
            break
        parts.append(part)
    setup = iter(fields(b"".join(parts)))
    modules = next(setup).decode().split("\n")
    programs = {}
    for _ in range(int(next(setup))):
        name, source = next(setup).decode(), next(setup)
        programs[name] = compile(source, name, "exec", 0, True)
    filters = []
    for _ in range(2):
        programs_of_filters = [next(setup) for _ in range(int(next(setup)))]
        filters.append([Filter(len(data) // 8, data) for data in programs_of_filters])
    for name in modules:
        if name:
            __import__(name)
    return programs, filters


def enter(request, filters, descriptors):
    """Puts this process into the sandbox of its run. `Failure` says what did not work."""
    (_, _, variables, folder, targets, limits, user, group, mask, namespaces, processes, user_map, parent,
     stream_count, has_rules) = request
    streams, rest = descriptors[:int(stream_count)], descriptors[int(stream_count):]
    mounts = rest[:len(targets.split(b"\0"))] if targets else []
    rules = rest[len(mounts)] if has_rules == b"1" else -1
    namespaces = int(namespaces)

    step = 2
    try:
        os.setsid()
        os.umask(int(mask))
        if namespaces & NEW_USER:
            users, groups = user_map.split(b"\0")
            for name, text in (("setgroups", b"deny"), ("uid_map", users), ("gid_map", groups)):
                file = os.open("/proc/self/" + name, os.O_WRONLY)
                os.write(file, text)
                os.close(file)
        if mounts:
            check(4, library.mount(None, b"/", None, ctypes.c_ulong(RECURSIVE_PRIVATE), None))
            for view, target in zip(mounts, targets.split(b"\0")):
                check(4, library.syscall(MOVE_MOUNT, view, b"", HERE, target, FROM_EMPTY_PATH))
        step = 5
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        step = 7
        for limit in limits.split(b" "):
            resource, soft, hard = map(int, limit.split(b":"))
            check(7, library.prlimit64(0, resource, ctypes.byref(Limit(soft, hard)), None))
        step = 8
        if user:
            os.setgroups([int(group)] if group else [])
            os.setresgid(int(user), int(user), int(user))
            os.setresuid(int(user), int(user), int(user))
        # As the run's user, for whom alone the folder is open: this process may not pass by file permissions.
        step = 6
        os.chdir(folder)
    except OSError as error:
        raise Failure(step, error.errno)
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    check(9, library.capset(header, nothing))
    check(10, library.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    check(10, library.prctl(SET_DEATH_SIGNAL, 9, 0, 0, 0))
    if not namespaces & NEW_PROCESSES and os.getppid() != int(parent):
        raise Failure(10, 3)
    if rules >= 0:
        check(11, library.syscall(LANDLOCK_RESTRICT_SELF, rules, 0))
    for program in filters[processes == b"1"]:
        check(12, library.prctl(SET_SECCOMP, 2, ctypes.byref(program), 0, 0))


def become_run(request, programs, filters, status, descriptors):
    """What a copy does first. Returns the program's code."""
    try:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        os.environ.clear()
        for line in request[2].split(b"\0"):
            name, _, value = line.partition(b"=")
            os.environb[name] = value
        enter(request, filters, descriptors)
        stream_count = int(request[13])
        os.write(status, b"ready")
        check(5, library.syscall(CLOSE_RANGE, stream_count, ctypes.c_uint(0xFFFFFFFF), 0))
    except Failure as failure:
        os.write(status, b"%d %d" % failure.args)
        os._exit(127)
    except BaseException:
        os._exit(127)
    gc.enable()
    arguments = [os.fsdecode(argument) for argument in request[1].split(b"\0")]
    sys.argv[:] = arguments
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = [sys.executable] + arguments
    sys.path[0] = os.fsdecode(request[3])
    return programs[arguments[0]]


def serve():
    """Answers requests for ever. Returns in the copies only, with the code that each is to run."""
    control = socket.socket(fileno=3)
    try:
        programs, filters = read_setup()
        address = ctypes.c_void_p()
        check(1, library.prctl(GET_TASK_ADDRESS, ctypes.byref(address), 0, 0, 0))
    except BaseException:
        control.send(b"failed " + traceback.format_exc(limit=0).encode("utf-8", "replace")[:4000])
        os._exit(1)
    how = (ctypes.c_uint64 * 8)()
    gc.collect()
    if hasattr(gc, "freeze"):
        # The collector leaves these objects alone, so that their pages stay shared with the copies.
        gc.freeze()
    gc.disable()
    control.send(b"ready")
    while True:
        data, ancillary, _, _ = control.recvmsg(1 << 20, 1024)
        if not data:
            os._exit(0)
        received = [number for _, _, content in ancillary
                    for number in memoryview(content[:len(content) // 4 * 4]).cast("i")]
        # Out of the way of the numbers that the run's streams will have.
        descriptors = [library.fcntl(number, 0, ctypes.c_int(64)) for number in received]
        for number in received:
            os.close(number)
        request = fields(data)
        how[0] = COPY | int(request[9])
        how[2] = address.value
        process = library.syscall(CLONE3, ctypes.byref(how), ctypes.c_size_t(64))
        error = ctypes.get_errno()
        if process == 0:
            # Its number is about to become the run's; the object must not close it.
            control.detach()
            return become_run(request, programs, filters, descriptors[0], descriptors[1:])
        for number in descriptors:
            os.close(number)
        control.send(b"process %d" % process if process > 0 else b"error %d" % error)


def run(code):
    """Runs the code as the main module, and reports what it raises as the interpreter itself would."""
    main = type(sys)("__main__")
    main.__dict__.update(__builtins__=builtins, __file__=sys.argv[0])
    sys.modules["__main__"] = main
    try:
        exec(code, main.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__.tb_next)
        sys.exit(1)


run(serve())
