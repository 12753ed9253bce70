"""Runs one attempt to escape: `program BODY TARGETS`, the latter as JSON. Prints what came of it in one line.

An attempt that ends without an exception has escaped. Only the refusals that a kernel or a limit makes count as
blocked; any other exception means that the attempt itself is broken.
"""

import ctypes
import errno
import json
import os
import sys

T = json.loads(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"


def check(answer):
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer


def call(number, *arguments):
    """A system call by its number."""
    wide = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    return check(libc.syscall(ctypes.c_long(number), *wide))


class Absent(Exception):
    """What the attempt is about does not exist on this machine."""


def absent_if(condition, what):
    if condition:
        raise Absent(what)


# The kernel's name of this process and its children, by which the test finds what is left of it.
libc.prctl(15, T["mark"].encode(), 0, 0, 0)
try:
    exec(compile(sys.argv[1], "attempt", "exec"))
    line = "ESCAPED"
except (OSError, MemoryError) as error:
    name = errno.errorcode.get(getattr(error, "errno", None), "")
    line = "blocked: %s %s" % (type(error).__name__, name)
except Absent as error:
    line = "absent: %s" % error
except BaseException as error:
    line = "BROKEN: %s: %s" % (type(error).__name__, error)
os.write(1, line.encode() + b"\n")
os._exit(0)
