"""What the tester (T) and the answer's process (A) say to each other over one stream socket, and how values cross.

The same text runs on both sides. `trusting` is true in A, where nothing needs protection, and false in T, where every
byte that arrives was written by foreign code: T decodes plain values into exact built-in types, never evaluates, imports
or unpickles anything that A names (a short list of library types aside), and lets A do to T's objects only what `Owner`
allows.

A frame is a length of four bytes (big-endian) and that many bytes, at most LIMIT. The first byte is its kind:

    Q  request: number, operation, its values           R  reply: number, V or E, value or exception, changed containers
    L  number: the reply would have been too large      X  the process behind the socket ended: 'signal' or 'exit', number

Mutable containers get numbers in the order in which a frame first holds them, so that a frame can hold one twice or in a
circle. A reply goes on counting where its request ended: a container of the request keeps its identity in the reply.
"""

import builtins
import os
import struct
import sys
import types
import _thread

# From here on functions look up `isinstance` and the like in a dictionary of their own: the shared one can be changed by
# anybody.
__builtins__ = dict(builtins.__dict__)

LIMIT = 10 << 20
"""Largest frame in bytes."""
DEPTH = 100
"""Containers nested deeper than this cross by reference; in a frame they are an error."""

# Bit i of a stand-in's mask says that the owner's class has SPECIALS[i].
SPECIALS = (
    "__call__ __iter__ __next__ __len__ __getitem__ __setitem__ __delitem__ __contains__ __enter__ __exit__ __bool__ "
    "__int__ __float__ __index__ __complex__ __abs__ __neg__ __pos__ __invert__ __round__ __trunc__ __floor__ __ceil__ "
    "__add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __truediv__ __rtruediv__ __floordiv__ __rfloordiv__ __mod__ "
    "__rmod__ __divmod__ __rdivmod__ __pow__ __rpow__ __lshift__ __rlshift__ __rshift__ __rrshift__ __and__ __rand__ "
    "__or__ __ror__ __xor__ __rxor__ __matmul__ __rmatmul__ __fspath__ __reversed__ __bytes__ __length_hint__ __eq__ "
    "__lt__ __le__ __gt__ __ge__ __hash__ __str__ __repr__ __format__").split()
NUMBER_OF = {name: number for number, name in enumerate(SPECIALS)}

# Operations.
GET, SET, DELETE, CALL, SPECIAL, INSTANCE, DIRECTORY, COMPILE, LOAD, PERMIT, FINISH, AWAIT = range(12)

# Library types that cross as values: module, name, what rebuilds them from plain values.
LIBRARY = {
    ("decimal", "Decimal"): (lambda value: (str(value),)),
    ("fractions", "Fraction"): (lambda value: (value.numerator, value.denominator)),
    ("uuid", "UUID"): (lambda value: (value.hex,)),
    ("datetime", "date"): (lambda value: (value.year, value.month, value.day)),
    ("datetime", "timedelta"): (lambda value: (value.days, value.seconds, value.microseconds)),
    ("datetime", "time"): (lambda value: (
        value.hour, value.minute, value.second, value.microsecond, value.tzinfo)),
    ("datetime", "datetime"): (lambda value: (
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.tzinfo)),
    ("datetime", "timezone"): (lambda value: (value.utcoffset(None),)),
    ("pathlib", "PosixPath"): (lambda value: (str(value),)),
    ("pathlib", "PurePosixPath"): (lambda value: (str(value),)),
}
# Python 3.13 moved the classes.
MOVED = {"pathlib._local": "pathlib", "_pydatetime": "datetime", "_decimal": "decimal", "_pydecimal": "decimal"}
# Classes that cross by name, beside exceptions.
CLASSES = {("builtins", name) for name in (
    "int str float bool complex bytes bytearray list tuple dict set frozenset object range slice enumerate zip map "
    "filter reversed memoryview property staticmethod classmethod").split()}
CLASSES |= set(LIBRARY) | {("pathlib", "Path"), ("pathlib", "PurePath"), ("sqlite3", "Row"), ("io", "StringIO"),
                           ("io", "BytesIO")}
CLASSES |= {("collections", name) for name in "OrderedDict Counter defaultdict deque".split()}

HIDDEN = ("gi_", "cr_", "ag_", "tb_", "f_", "co_", "func_")
REFUSED_NAMES = frozenset(["fileno", "load_extension", "enable_load_extension", "setconfig", "detach"])
OPAQUE = (types.FrameType, types.CodeType, types.TracebackType)
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.GeneratorType,
             types.CoroutineType, types.AsyncGeneratorType)
GENERATORS = frozenset(["send", "throw", "close", "asend", "athrow", "aclose"])
DESCRIPTIONS = frozenset(["__name__", "__qualname__", "__doc__", "__module__", "__annotations__", "__defaults__",
                          "__kwdefaults__", "__version__", "__all__", "__author__", "__members__", "__wrapped__",
                          "__cause__", "__context__", "__notes__"])


class Broken(BaseException):
    """The conversation cannot go on: `state` is left, malformed, too_large, or crashed."""

    def __init__(self, state, message):
        BaseException.__init__(self, message)
        self.state, self.message = state, message


class TooLarge(Exception):
    """A frame that would be larger than LIMIT."""


UNREADABLE = (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, ArithmeticError, ReferenceError,
              RecursionError, MemoryError, struct.error)
"""What decoding a hostile frame can raise."""


class StandIn:
    """An object of the other side."""

    __slots__ = ("_vul2safe_end", "_vul2safe_number", "__weakref__")


INSTANCE_SLOTS = StandIn._vul2safe_end, StandIn._vul2safe_number


def end_of(stand_in):
    return INSTANCE_SLOTS[0].__get__(stand_in)


def number_of(stand_in):
    return INSTANCE_SLOTS[1].__get__(stand_in)


class Interruption(BaseException):
    """The time of one test is over. Never crosses."""


class End:
    """One end of the conversation."""

    def __init__(self, descriptor, trusting):
        self.descriptor, self.trusting = descriptor, trusting
        self.process = os.getpid()
        self.received = bytearray()
        self.sequence = 0
        self.classes = {}
        self.exception_classes = {}
        self.named_tuples = {}
        self.exported, self.numbers, self.next_number = {}, {}, 1
        self.stand_ins = {}
        self.broken = None
        self.raised, self.lines = [], []
        self.called = False
        self.ambient = lambda: None
        self.operations = {}
        self.lock = _thread.RLock()

    def forget(self):
        """A new test: everything that was exported before becomes invalid."""
        self.exported, self.numbers, self.stand_ins = {}, {}, {}
        self.raised, self.lines, self.called = [], [], False
        self.classes, self.exception_classes = {}, {}

    # ---- frames

    def send(self, payload, read=os.read, write=os.write, process=os.getpid, leave=os._exit):
        if process() != self.process:
            # A child that the answer forked must not speak in its parent's place.
            leave(5)
        data = memoryview(struct.pack(">I", len(payload)) + payload)
        while data:
            try:
                data = data[write(self.descriptor, data):]
            except InterruptedError:
                continue
            except OSError:
                self.fail("left", "the answer's process has ended")

    def receive(self, read=os.read):
        received = self.received
        wanted = 4
        while True:
            if wanted == 4 and len(received) >= 4:
                size = struct.unpack(">I", received[:4])[0]
                if size > LIMIT:
                    self.fail("too_large", "more than %d MB in one value" % (LIMIT >> 20))
                wanted = 4 + size
            if wanted > 4 and len(received) >= wanted or wanted == 4 and len(received) >= 4:
                payload = bytes(received[4:wanted])
                del received[:wanted]
                return payload
            try:
                part = read(self.descriptor, 1 << 18)
            except InterruptedError:
                continue
            except OSError:
                part = b""
            if not part:
                self.fail("left", "the answer's process has ended")
            received += part

    def fail(self, state, message):
        if self.broken is None:
            self.broken = Broken(state, message)
        raise self.broken

    # ---- the conversation

    def request(self, operation, *values):
        """Asks the other side, serves what it asks meanwhile, and returns its answer or raises its exception."""
        if self.broken is not None:
            raise self.broken
        self.lock.acquire()
        try:
            self.sequence += 1
            number = self.sequence
            table = []
            encoder = Encoder(self, table)
            encoder.parts.append(b"Q" + struct.pack(">IB", number, operation))
            for value in values:
                encoder.encode(value, 0)
            self.send(encoder.joined())
            # Only containers that crossed in the request can come back changed.
            sent = len(table)
            failed = None
            try:
                failed, value = self.answer_to(number, table, sent)
            except (MemoryError, RecursionError) as error:
                # The conversation is out of step, and a test that catches this must not go on as if nothing had happened.
                self.fail("malformed", "the test was exhausted (%s)" % type(error).__name__)
            if failed is not None:
                raise failed
            return value
        finally:
            self.lock.release()

    def answer_to(self, number, table, sent):
        """The exception and the value of the reply to request `number`."""
        while True:
            payload = self.receive()
            kind = payload[:1]
            if kind == b"Q":
                self.serve(payload)
                continue
            if kind == b"X":
                return self.ended(payload), None
            if len(payload) < 5 or struct.unpack(">I", payload[1:5])[0] != number:
                self.fail("malformed", "a reply that nobody asked for")
            if kind == b"L":
                self.fail("too_large", "more than %d MB in one value" % (LIMIT >> 20))
            if kind != b"R":
                self.fail("malformed", "a frame of no known kind")
            return self.finish(payload, table, sent)

    def finish(self, payload, table, sent):
        failed, value = None, None
        try:
            decoder = Decoder(self, payload, 6, table)
            status = payload[5:6]
            if status == b"V":
                value = decoder.decode(0)
            elif status == b"E":
                failed = decoder.exception()
            else:
                raise ValueError("no status")
            for _ in range(decoder.count()):
                index = decoder.count()
                if index >= sent:
                    raise ValueError("a container that was not sent")
                decoder.refill(table[index])
            decoder.finished()
        except UNREADABLE as error:
            self.fail("malformed", "a frame that cannot be read (%s: %s)" % (type(error).__name__, error))
        return failed, value

    def ended(self, payload):
        try:
            decoder = Decoder(self, payload, 1, [])
            how, number, last = decoder.decode(0), decoder.decode(0), decoder.decode(0)
            last = ": " + last if type(last) is str and last else ""
        except UNREADABLE:
            self.fail("malformed", "a frame that cannot be read")
        if how == "signal" and type(number) is int:
            names = {4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV"}
            if number not in (9, 24, 25):
                self.fail("crashed", "the answer crashed with %s%s" % (names.get(number, "signal %d" % number), last))
            self.fail("left", "the answer's process was killed by signal %d" % number)
        if how == "exit" and type(number) is int and number != 0:
            self.broken = Broken("exited", "the answer's process ended early with exit status %d" % number)
            return SystemExit(number)
        self.fail("left", "the answer's process ended early with exit status %s" % (number,))

    def serve(self, payload):
        """Answers one request of the other side."""
        table = []
        try:
            if len(payload) < 6:
                raise ValueError("too short")
            number, operation = struct.unpack(">IB", payload[1:6])
            decoder = Decoder(self, payload, 6, table)
            values = []
            while decoder.place < len(payload):
                values.append(decoder.decode(0))
        except UNREADABLE as error:
            self.fail("malformed", "a frame that cannot be read (%s: %s)" % (type(error).__name__, error))
        before = [snapshot(container) for container in table]
        failed, value = None, None
        # Not while foreign code runs: another thread of it may have to ask in between.
        self.lock.release()
        try:
            value = self.operations[operation](*values)
        except (Interruption, Broken):
            raise
        except BaseException as error:
            failed = error
        finally:
            self.lock.acquire()
        try:
            encoder = Encoder(self, table)
            if failed is None:
                encoder.parts.append(b"R" + struct.pack(">I", number) + b"V")
                encoder.encode(value, 0)
            else:
                encoder.parts.append(b"R" + struct.pack(">I", number) + b"E")
                encoder.exception(failed)
            changed = [index for index, seen in enumerate(before) if changed_since(table[index], seen)]
            encoder.number(len(changed))
            for index in changed:
                encoder.number(index)
                encoder.contents(table[index], 0)
            reply = encoder.joined()
        except TooLarge:
            reply = b"L" + struct.pack(">I", number)
        self.send(reply)

    # ---- references

    def export(self, value):
        key = id(value)
        number = self.numbers.get(key)
        if number is None:
            number = self.next_number
            self.next_number += 1
            self.exported[number] = value
            self.numbers[key] = number
        return number

    def own(self, number):
        try:
            return self.exported[number]
        except KeyError:
            raise ReferenceError("an object of an earlier test") from None

    def stand_in(self, number, module, name, mask):
        known = self.stand_ins.get(number)
        if known is not None:
            return known
        key = module, name, mask
        class_ = self.classes.get(key)
        if class_ is None:
            class_ = self.classes[key] = make_class(self, module, name, mask)
        value = object.__new__(class_)
        INSTANCE_SLOTS[0].__set__(value, self)
        INSTANCE_SLOTS[1].__set__(value, number)
        self.stand_ins[number] = value
        return value

    def known_class(self, module, name):
        """A class of a module that is loaded here already; None if there is none."""
        found = sys.modules.get(module)
        if found is None or module.startswith("_vul2safe") or type(found) is not types.ModuleType:
            return None
        for part in name.split("."):
            found = vars(found).get(part) if isinstance(found, (type, types.ModuleType)) else None
        return found if isinstance(found, type) else None


def imported(name):
    __import__(name)
    return sys.modules[name]


def snapshot(container):
    if isinstance(container, (bytearray, set)):
        return container.copy()
    if isinstance(container, dict):
        return list(dict.items(container))
    return list(container)


def changed_since(container, before):
    if isinstance(container, (bytearray, set)):
        return container != before
    if isinstance(container, dict):
        return len(container) != len(before) or any(
            pair[0] is not old[0] or pair[1] is not old[1] for pair, old in zip(dict.items(container), before))
    return len(container) != len(before) or any(item is not old for item, old in zip(container, before))
