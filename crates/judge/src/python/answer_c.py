"""A for C and C++: loads the compiled answer and lets the tester call it, each test in a process of its own.

Standard input holds a line with the length of the prototypes and the memory in bytes that the answer may use, then the
prototypes. The answer lies in the working folder as `answer.so`, with the allocator of `guard.c` in it.
"""

import resource

FINISHED = 99
"""The exit status of a test's process that was told to end."""


def serve_answer():
    header, _, text = read_all(0).partition(b"\n")
    length, memory = [int(word) for word in header.split()[:2]]
    prototypes = Prototypes(text[:length].decode("utf-8", "replace"))
    path = os.path.join(os.getcwd(), "answer.so")
    private = os.getcwd()
    channel = 250
    os.dup2(4, channel, False)
    os.close(4)
    try:
        os.close(3)
    except OSError:
        pass
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)

    while True:
        end = End(channel, True)
        Owner(end)
        end.operations.update({COMPILE: lambda: True})
        end.lock.acquire()
        try:
            payload = end.receive()
        except Broken:
            # The tester is gone.
            os._exit(0)
        if payload[:1] != b"Q" or len(payload) < 6:
            os._exit(6)
        if payload[5] != LOAD:
            end.serve(payload)
            continue
        output = os.open(os.path.join(private, ".output"), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        process = os.fork()
        if process == 0:
            serve_test(channel, payload, path, prototypes, memory, output)
        status = os.waitpid(process, 0)[1]
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == FINISHED:
            os.close(output)
            continue
        how, number = ("signal", os.WTERMSIG(status)) if os.WIFSIGNALED(status) else ("exit", os.WEXITSTATUS(status))
        encoder = Encoder(end, [])
        encoder.parts.append(b"X")
        last = os.pread(output, 300, max(0, os.fstat(output).st_size - 300)).decode("utf-8", "replace").splitlines()
        os.close(output)
        for value in (how, number, last[-1] if last else ""):
            encoder.encode(value, 0)
        try:
            end.send(encoder.joined())
        except Broken:
            os._exit(0)


def serve_test(channel, payload, path, prototypes, memory, output):
    """The process of one test: does not return."""
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        # Address space is taken by guard pages, so memory is limited as data.
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        end = End(channel, True)
        Owner(end)
        surroundings = Surroundings()
        leaving = []

        def load(folder, ambient):
            os.chdir(folder)
            surroundings.enter(ambient or {})
            return CAnswer(path, prototypes)

        def call(target, values, named, ambient):
            surroundings.enter(ambient or {})
            return target(*values, **named)

        end.operations.update({LOAD: load, CALL: call, PERMIT: os.chmod, FINISH: lambda: leaving.append(True)})
        end.lock.acquire()
        end.serve(payload)
        while not leaving:
            payload = end.receive()
            if payload[:1] != b"Q":
                os._exit(6)
            end.serve(payload)
        os._exit(FINISHED)
    except Broken:
        os._exit(FINISHED)
    except BaseException:
        os._exit(7)


class Library:
    """The compiled answer and the allocator inside it."""

    def __init__(self, path):
        self.object = ctypes.CDLL(path, use_errno=True)
        self.process = ctypes.CDLL(None, use_errno=True)
        self.allocate = self.function("vul2safe_allocate", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        self.protect = self.function("vul2safe_protect", ctypes.c_int, ctypes.c_void_p)
        self.check = self.function("vul2safe_check", None)
        self.alive = self.function("vul2safe_alive", ctypes.c_size_t)
        self.is_block = self.function("vul2safe_is_block", ctypes.c_int, ctypes.c_void_p)
        self.fail_allocation = self.function("vul2safe_fail_allocation", None, ctypes.c_long)
        self.free = self.function("__wrap_free", None, ctypes.c_void_p)

    def function(self, name, result, *parameters):
        function = self.object[name]
        function.restype, function.argtypes = result, parameters
        return function

    def memory(self, size, fill=0xAA):
        address = self.allocate(size, fill)
        if not address:
            raise Misuse("no memory for %d bytes" % size)
        return address


class Memory:
    """Memory of the tester's that ends at an inaccessible page."""

    def __init__(self, library, size, fill=0xAA):
        self._library, self._size = library, size
        self._address = library.memory(size, fill)

    def __len__(self):
        return self._size


class Buffer(Memory):
    """Bytes."""

    def __bytes__(self):
        return ctypes.string_at(self._address, self._size)

    def __getitem__(self, place):
        return bytes(self)[place]

    def __setitem__(self, place, value):
        data = bytearray(bytes(self))
        data[place] = value
        if len(data) != self._size:
            raise Misuse("a buffer cannot change its size")
        ctypes.memmove(self._address, bytes(data), self._size)

    def text(self):
        return bytes(self).split(b"\0", 1)[0]

    def write(self, data, at=0):
        data = text_bytes(data)
        if type(at) is not int or at < 0 or at + len(data) > self._size:
            raise Misuse("%d bytes do not fit into a buffer of %d at %s" % (len(data), self._size, at))
        ctypes.memmove(self._address + at, data, len(data))


class Array(Memory):
    """Items of one scalar type."""

    def __init__(self, library, item, count, values=()):
        Memory.__init__(self, library, item.size() * count)
        self._item, self._count, self._kept = item, count, []
        for place, value in enumerate(values):
            self[place] = value

    def _items(self):
        return (self._item.ctype * self._count).from_address(self._address)

    def __len__(self):
        return self._count

    def __getitem__(self, place):
        found = list(self._items())[place]
        return bool(found) if self._item.name == "bool" else found

    def __setitem__(self, place, value):
        if not -self._count <= place < self._count:
            raise IndexError("array index out of range")
        if self._item.kind == "pointer":
            value, kept = address_of(self._library, self._item, value)
            self._kept.append(kept)
        self._items()[place] = number(self._item, value) if self._item.kind != "pointer" else value

    def __iter__(self):
        return iter([self[place] for place in range(self._count)])


class Handle:
    """An address that the answer returned."""

    def __init__(self, library, address):
        self._library, self._address = library, address

    def __eq__(self, other):
        return isinstance(other, Handle) and self._address == other._address

    def __hash__(self):
        return hash(self._address)

    def read(self, count):
        return ctypes.string_at(self._address, count)

    def text(self):
        return ctypes.string_at(self._address)


class File:
    """A FILE of the C library."""

    def __init__(self, library, path, mode):
        opener, self._close, self._flush = [library.process[name] for name in ("fopen", "fclose", "fflush")]
        opener.restype, opener.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_char_p)
        self._close.argtypes = self._flush.argtypes = (ctypes.c_void_p,)
        self._address = opener(os.fsencode(path), text_bytes(mode))
        if not self._address:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), os.fspath(path))

    def flush(self):
        self._flush(self._address)

    def close(self):
        if self._address:
            self._close(self._address)
        self._address = None


def text_bytes(value):
    if type(value) is str:
        return value.encode("utf-8", "surrogateescape")
    if type(value) in (bytes, bytearray):
        return bytes(value)
    raise Misuse("bytes are wanted, not %s" % type(value).__name__)


def number(type_, value):
    if type_.kind == "float":
        if type(value) not in (int, float, bool):
            raise Misuse("a number is wanted, not %s" % type(value).__name__)
        return float(value)
    if type(value) is bytes and len(value) == 1 and type_.size() == 1:
        value = value[0] if type_.ctype is not ctypes.c_byte or value[0] < 128 else value[0] - 256
    if type(value) not in (int, bool):
        raise Misuse("an integer is wanted, not %s" % type(value).__name__)
    if type_.ctype is ctypes.c_bool:
        return bool(value)
    if type_.name == "char" and 128 <= value < 256:
        value -= 256
    if type_.ctype(value).value != value:
        raise Misuse("%d does not fit into %s" % (value, type_.name))
    return value


def address_of(library, type_, value):
    """The address for a pointer parameter, and what has to live until the call is over."""
    target = type_.target
    if value is None:
        return None, None
    if isinstance(value, (Memory, Handle, File)):
        return value._address, value
    if type(value) in (bytes, str, bytearray):
        data = text_bytes(value)
        if target.kind == "integer" and target.size() != 1:
            raise Misuse("bytes for %s" % type_.name)
        if target.name == "char" and type(value) is not bytearray:
            data += b"\0"
        address = library.memory(len(data))
        ctypes.memmove(address, data, len(data))
        if target.constant:
            library.protect(address)
        return address, None
    if type(value) in (list, tuple):
        if target.kind not in ("integer", "float", "pointer"):
            raise Misuse("no list for %s" % type_.name)
        array = Array(library, target, len(value), value)
        return array._address, array
    raise Misuse("%s for %s" % (type(value).__name__, type_.name))


class Call:
    """One function of the answer."""

    def __init__(self, library, prototype):
        self._library, self._prototype = library, prototype
        self._function = library.object[prototype.name]

    def __call__(self, *values):
        library, prototype = self._library, self._prototype
        wanted = len(prototype.parameters)
        if len(values) < wanted or len(values) > wanted and not prototype.variadic:
            raise Misuse("%s takes %d arguments, not %d" % (prototype.name, wanted, len(values)))
        for type_ in prototype.parameters + [prototype.result]:
            if type_.kind == "opaque":
                raise Misuse("%s: %s cannot be passed by value" % (prototype.name, type_.name))
        arguments, kept = [], []
        for type_, value in zip(prototype.parameters, values):
            if type_.kind == "pointer":
                address, keep = address_of(library, type_, value)
                kept.append((type_, value, address, keep))
                arguments.append(ctypes.c_void_p(address))
            else:
                arguments.append(type_.ctype(number(type_, value)))
        for value in values[wanted:]:
            arguments.append(self.variable(value, kept))
        result = prototype.result
        self._function.argtypes = None
        self._function.restype = result.ctype if result.kind != "void" else None
        returned = self._function(*arguments)
        LAST_ERROR[0] = ctypes.get_errno()
        # Crashes here if something in front of a block was written to.
        library.check()
        for type_, value, address, keep in kept:
            if type(value) is bytearray and address:
                value[:] = ctypes.string_at(address, len(value))
            elif type(value) is list and not type_.target.constant and type_.target.kind != "pointer":
                value[:] = list(keep)
        if result.kind == "pointer":
            return self.pointer(result, returned)
        return bool(returned) if result.name == "bool" else returned

    def variable(self, value, kept):
        if type(value) is float:
            return ctypes.c_double(value)
        if type(value) in (int, bool):
            return ctypes.c_int(value) if -(1 << 31) <= value < 1 << 31 else ctypes.c_long(value)
        text = Type("pointer", "char *", ctypes.c_void_p, Type("integer", "char", ctypes.c_byte))
        address, keep = address_of(self._library, text, value)
        kept.append((text, None, address, keep))
        return ctypes.c_void_p(address)

    def pointer(self, type_, address):
        if not address:
            return None
        if not type_.is_text():
            return Handle(self._library, address)
        text = ctypes.string_at(address)
        if not type_.target.constant and self._library.is_block(address):
            self._library.free(address)
        return text


LAST_ERROR = [0]


class CAnswer:
    """What a test of a C answer is given."""

    def __init__(self, path, prototypes):
        self._library, self._prototypes, self._read = Library(path), prototypes, 0

    def __getattr__(self, name):
        prototype = self._prototypes.functions.get(name)
        if prototype is None:
            raise Misuse("the C text of the tests has no prototype of %s" % name)
        try:
            return Call(self._library, prototype)
        except AttributeError:
            raise AttributeError("module 'answer' has no attribute %r" % name) from None

    def buffer(self, size, fill=0xAA):
        if type(size) in (bytes, str, bytearray):
            data = text_bytes(size)
            buffer = Buffer(self._library, len(data))
            buffer.write(data)
            return buffer
        if type(size) is not int or size < 0:
            raise Misuse("a size is wanted")
        return Buffer(self._library, size, fill)

    def array(self, type_name, values):
        item = self._prototypes.named(type_name)
        count = values if type(values) is int else len(values)
        return Array(self._library, item, count, () if type(values) is int else values)

    def file(self, path, mode="r"):
        return File(self._library, path, mode)

    def free(self, handle):
        self._library.free(handle._address)

    def live_blocks(self):
        return self._library.alive()

    leaks = live_blocks

    def fail_allocation(self, number=1):
        self._library.fail_allocation(number)

    def errno(self):
        return LAST_ERROR[0]

    def output(self):
        self._library.process.fflush(None)
        size = os.fstat(1).st_size
        data = os.pread(1, max(0, size - self._read), self._read)
        self._read = size
        return data

    def setenv(self, name, value):
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


serve_answer()
