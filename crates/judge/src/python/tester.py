"""T: runs the tests of one submission and reports each result.

Standard input holds, in this order: a line with the byte counts of the four texts that follow, the seconds one test may
take, the style of the tests (`calls` or `script`), whether each test has an answer process of its own, and the folders
of installed packages; the answer (looked at, never run here); the functional tests; the exploit tests; the list of work,
one `set name` a line; then one 32-byte nonce for each line of work. A nonce is read only after the test it belongs to
has ended.

Results are JSON lines on file descriptor 3.
"""

import _signal


def run_tests():
    read, write, leave = os.read, os.write, os._exit
    source, report, channel = 250, 251, 252
    os.dup2(0, source, False)
    os.dup2(3, report, False)
    os.dup2(4, channel, False)
    os.close(3)
    os.close(4)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    try:
        os.unlink(sys.argv[0])
    except OSError:
        pass

    def take(count):
        parts = []
        while count:
            part = read(source, count)
            if not part:
                leave(3)
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def take_line():
        line = b""
        while not line.endswith(b"\n"):
            line += take(1)
        return line.split()

    def quoted(text):
        out = []
        for character in text[:600]:
            number = ord(character)
            if 32 <= number < 127 and character not in '"\\':
                out.append(character)
            elif number < 0xD800 or 0xE000 <= number < 0x10000:
                out.append("\\u%04x" % number)
            else:
                out.append("?")
        return '"' + "".join(out) + '"'

    def tell(event, index, message="", nonce=""):
        line = '\n{"event":%s,"index":%d,"message":%s,"nonce":%s}\n' % (
            quoted(event), index, quoted(message), quoted(nonce))
        data = line.encode("ascii")
        while data:
            data = data[write(report, data):]

    header = take_line()
    counts, seconds = [int(word) for word in header[:4]], float(header[4])
    script, forked, packages = header[5] == b"script", header[6] == b"forked", header[7:]
    answer_text, functional_text, exploit_text, work_text = [take(count) for count in counts]
    work = [line.split(" ") for line in work_text.decode().splitlines()]
    path = sys.path[1:] + [package.decode() for package in packages]

    shared = os.environ.pop("VUL2SAFE_FOLLOWER_FOLDER", None) or os.getcwd()
    os.environ["HOME"] = os.environ["TMPDIR"] = shared
    # What the answer may have to write to is open to its group; the mask that tests see and set is the answer's.
    os.umask(0o007)

    end = End(channel, False)
    Owner(end)
    armed, alarms, current = [False], [0], [0]

    def on_alarm(number, frame):
        if not armed[0]:
            return
        alarms[0] += 1
        if alarms[0] > 20:
            # The test swallows every interruption, so it never comes back to report by itself.
            tell("timed_out", current[0], "", take(32).decode())
            leave(4)
        raise Interruption()

    def guarded(function):
        """Calls `function` under the deadline. It returns its own result; a deadline overrules it."""
        alarms[0] = 0
        _signal.signal(_signal.SIGALRM, on_alarm)
        armed[0] = True
        try:
            _signal.setitimer(_signal.ITIMER_REAL, seconds, 0.05)
            result = function()
            armed[0] = False
        except BaseException as error:
            armed[0] = False
            result = ("timed_out", "") if alarms[0] else ("failed", "the failure could not be described")
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        return ("timed_out", "") if alarms[0] else result

    def describe(error):
        name = type(error).__name__
        try:
            text = str(error)
        except Exception:
            text = "?"
        place = ""
        for known, line in end.lines:
            if known is error and line:
                place = " (line %d of the answer)" % line
        return (name + ": " + text if text else name)[:300] + place

    def from_the_answer(error):
        return any(known is error for known, _ in end.raised)

    if any(kind == "functional" or kind == "exploit" for kind, _ in work):
        compiled, message = guarded(lambda: compile_answer(end, describe))
        if compiled == "timed_out":
            message = "compiling it takes too long"
        if compiled != "compiled":
            tell("syntax" if compiled in ("syntax", "timed_out") else compiled, 0, message)
            leave(0)
        tell("compiled", 0)

    test_codes = {}
    for kind, text in (("functional", functional_text), ("exploit", exploit_text)):
        try:
            test_codes[kind] = compile(text, "<tests>", "exec", 0, True)
        except BaseException as error:
            test_codes[kind] = describe(error)

    ambient = Ambient(end, shared, b"random" in functional_text + exploit_text)
    end.ambient = ambient.changes
    borrow(end, shared)
    absent = "module 'answer' has no attribute"

    def run(kind, name, folder):
        stage = "tests"
        try:
            namespace = {"__name__": "tests", "__builtins__": builtins}
            if not script:
                exec(test_codes[kind], namespace)
                test = namespace[name]
            stage = "load"
            answer = end.request(LOAD, folder, ambient.changes())
            sys.modules["answer"] = answer
            if script:
                bind(answer, answer_text, namespace)
                stage = "test"
                exec(test_codes[kind], namespace)
            else:
                stage = "test"
                test(answer)
            return "passed", ""
        except Interruption:
            return "timed_out", ""
        except Broken as error:
            return error.state, error.message
        except AssertionError as error:
            if stage == "tests":
                return "broken", describe(error)
            if stage == "load":
                return "unloaded", describe(error)
            if kind == "exploit" and from_the_answer(error):
                # The answer's own assertion refused the input.
                return "passed", ""
            return "failed", describe(error)
        except BaseException as error:
            foreign = from_the_answer(error)
            if isinstance(error, MemoryError) and not foreign:
                return "memory", "the test ran out of memory"
            if stage == "tests" or (forked and foreign and type(error).__name__ == "Misuse"):
                return "broken", describe(error)
            if stage == "load" or (foreign and isinstance(error, AttributeError) and str(error).startswith(absent)):
                # Nothing was attacked: the answer lacks what it was asked for, which is no way to be secure.
                return "unloaded", describe(error)
            if script and isinstance(error, NameError) and not foreign:
                return "unloaded", describe(error)
            if kind == "exploit" and isinstance(error, SystemExit) and error.code in (None, 0):
                return "left", "the answer left with exit status 0"
            return ("passed", "") if kind == "exploit" else ("failed", describe(error))

    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv[:] = ["tests"]
    sys.path[:] = path

    decided = set()
    for index, (kind, name) in enumerate(work):
        if kind in decided:
            take(32)
            continue
        if not isinstance(test_codes[kind], types.CodeType):
            result, message = "broken", test_codes[kind]
        else:
            current[0] = index
            tell("started", index)
            # Each test has a working folder of its own.
            folder = "%s/test-%d" % (shared, index)
            os.mkdir(folder)
            os.chdir(folder)
            end.forget()
            ambient.reset()
            result, message = guarded(lambda: run(kind, name, folder))
            if kind == "exploit" and result == "passed" and (forked or not end.called):
                # A test that catches everything may not have noticed that there was nothing to attack.
                for error, _ in end.raised:
                    if isinstance(error, AttributeError) and str(error).startswith(absent):
                        result, message = "unloaded", describe(error)
            if end.broken is not None and result != "timed_out":
                # Whatever the test made of it: the conversation had ended.
                if end.broken.state != "exited":
                    result, message = end.broken.state, end.broken.message
        tell(result, index, message, take(32).decode())
        if result != "passed":
            decided.add(kind)
        if result in ("timed_out", "memory", "too_large", "malformed") or (end.broken is not None and not forked):
            leave(0)
        if forked and isinstance(test_codes[kind], types.CodeType):
            if end.broken is None:
                result, message = guarded(lambda: finish_process(end))
            if result == "timed_out":
                leave(0)
            end.broken = None
            end.received.clear()
    leave(0)


def finish_process(end):
    """Lets the process of this test end."""
    try:
        end.request(FINISH)
    except Broken:
        pass
    return "passed", ""


def compile_answer(end, describe):
    try:
        end.request(COMPILE)
        return "compiled", ""
    except Broken as error:
        return error.state, error.message
    except Interruption:
        raise
    except BaseException as error:
        return "syntax", describe(error)


class Ambient:
    """What a program shares with the code it calls without passing it: the parts that are carried along with a call."""

    def __init__(self, end, shared, random_is_used):
        self.end, self.shared = end, shared
        self.streams = sys.stdin, sys.stdout, sys.stderr
        self.mask = 0o022
        os.umask = self.umask
        self.random = []
        self.initial = dict(os.environ)
        if random_is_used:
            module = imported("random")
            for name in ("seed", "setstate"):
                setattr(module, name, self.recorded(name, getattr(module, name)))
        self.reset()

    def reset(self):
        self.mask = 0o022
        self.folder, self.sent_mask, self.environment = os.getcwd(), None, None
        os.environ.clear()
        os.environ.update(self.initial)
        del self.random[:]
        sys.stdin, sys.stdout, sys.stderr = self.streams

    def umask(self, mask):
        before, self.mask = self.mask, mask & 0o777
        return before

    def recorded(self, name, function):
        def call(*values):
            self.random.append((name, values))
            return function(*values)
        return call

    def changes(self):
        """What has changed since the last call; None if nothing has."""
        changes = {}
        folder = os.getcwd()
        if folder != self.folder:
            self.folder = changes["folder"] = folder
        if self.mask != self.sent_mask:
            self.sent_mask = changes["umask"] = self.mask
        environment = dict(os.environ)
        if environment != self.environment:
            self.environment = environment
            changes["environment"] = environment
        if self.random:
            changes["random"] = tuple(self.random)
            del self.random[:]
        for name, stream in zip(("stdin", "stdout", "stderr"), self.streams):
            if getattr(sys, name) is not stream:
                changes[name] = getattr(sys, name)
        return changes or None


def borrow(end, shared):
    """The two sides are two users. Where the answer's process closed a file of its own to its group, it is asked to open
    it for the moment of opening. Modes are looked at by this side itself, and are what they were afterwards."""
    io = imported("io")
    original_open, original_os_open = io.open, os.open

    def opened(function, path, arguments, named):
        try:
            return function(path, *arguments, **named)
        except PermissionError:
            try:
                place = os.path.realpath(os.fsdecode(os.fspath(path)))
                mode = os.stat(place).st_mode & 0o7777
            except (OSError, TypeError, ValueError):
                place = None
            if place is None or not place.startswith(shared + "/") or end.broken is not None:
                raise
            end.request(PERMIT, place, mode | 0o060)
            try:
                return function(path, *arguments, **named)
            finally:
                end.request(PERMIT, place, mode)

    def open(file, *arguments, **named):
        return opened(original_open, file, arguments, named)

    def os_open(path, *arguments, **named):
        return opened(original_os_open, path, arguments, named)

    builtins.open = io.open = open
    os.open = os_open


def bind(answer, text, namespace):
    """Puts what the answer defines at its top level into `namespace`. What it imports from the standard library is
    imported here: a test that calls `math.isclose` must not ask the answer's process for it."""
    ast = imported("ast")
    lines = [line for line in text.splitlines() if line.strip()]
    indented = bool(lines) and lines[0][:1] in b" \t"
    tree = ast.parse(b"if True:\n" + text if indented else text)
    statements = tree.body[0].body if indented else tree.body
    library = getattr(sys, "stdlib_module_names", None) or frozenset(sys.builtin_module_names)
    unwanted = ("antigravity", "this", "idlelib", "turtle", "__future__")

    def allowed(module):
        top = (module or "").split(".")[0]
        return top in library and top not in unwanted

    names = []
    for statement in statements:
        if isinstance(statement, ast.Import):
            keep = [alias for alias in statement.names if allowed(alias.name)]
            if keep:
                bind_import(ast, ast.Import(names=keep), namespace)
        elif isinstance(statement, ast.ImportFrom) and not statement.level and allowed(statement.module):
            bind_import(ast, statement, namespace)
        elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.append(statement.name)
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                names.extend(node.id for node in ast.walk(target) if isinstance(node, ast.Name))
        elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)) and isinstance(statement.target, ast.Name):
            names.append(statement.target.id)
        elif isinstance(statement, (ast.If, ast.Try, ast.For, ast.While, ast.With)):
            names.extend(node.name for node in ast.walk(statement)
                         if isinstance(node, (ast.FunctionDef, ast.ClassDef)))
    for name in dict.fromkeys(names):
        if name[:2] == "__":
            continue
        try:
            namespace[name] = getattr(answer, name)
        except AttributeError:
            pass


def bind_import(ast, statement, namespace):
    module = ast.Module(body=[statement], type_ignores=[])
    try:
        exec(compile(ast.fix_missing_locations(module), "<imports>", "exec"), namespace)
    except (ImportError, AttributeError):
        pass


run_tests()
