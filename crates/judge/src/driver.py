"""Runs the tests of one submission and reports each result, from inside the sandbox.

Standard input holds, in this order: a line with the byte counts of the four texts that follow and the seconds one test
may take; the answer; the functional tests; the exploit tests; the list of work, one `set name` a line; then one 32-byte
nonce for each line of work. A nonce is read only after the test it belongs to has ended, so that while foreign code
runs there is no nonce in this process for it to find.

Results are JSON lines on file descriptor 3. Everything the driver calls is taken before foreign code runs, because that
code may replace whatever it can reach.
"""

import builtins
import posix
import sys
import _signal

# Functions look up `AssertionError`, `isinstance` and the like in a dictionary of the driver's own from here on: the
# shared one can be changed by anybody.
__builtins__ = dict(builtins.__dict__)


def main():
    read, write, close, leave, process_id = posix.read, posix.write, posix.close, posix._exit, posix.getpid
    make_folder, change_folder, unlink = posix.mkdir, posix.chdir, posix.unlink
    set_timer, real_timer = _signal.setitimer, _signal.ITIMER_REAL
    modules, new_module = sys.modules, type(sys)
    frame_trace, frame_profile = sys.settrace, sys.setprofile
    interpreter, own_process, home = sys, process_id(), posix.getcwd()
    shared_builtins = builtins.__dict__
    known_builtins = dict(shared_builtins)
    path = sys.path[1:]

    # Both channels move to numbers that nobody closes by accident; standard input becomes empty.
    source, report = 250, 251
    posix.dup2(0, source, False)
    posix.dup2(3, report, False)
    close(3)
    posix.dup2(posix.open("/dev/null", posix.O_RDONLY), 0)
    unlink(sys.argv[0])

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
        for character in text[:400]:
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
    counts, seconds, packages = [int(word) for word in header[:4]], float(header[4]), header[5:]
    answer_text, functional_text, exploit_text, work_text = [take(count) for count in counts]
    work = [line.split(" ") for line in work_text.decode().splitlines()]
    path += [package.decode() for package in packages]

    class Deadline(BaseException):
        """The time of one test is over."""

    armed, alarms, current = [False], [0], [0]

    def on_alarm(number, frame):
        if not armed[0]:
            return
        alarms[0] += 1
        if alarms[0] > 20:
            # The code under test swallows every interruption, so it never comes back to report by itself.
            index = current[0]
            if process_id() == own_process:
                tell("timed_out", index, "", take(32).decode())
            leave(4)
        raise Deadline()

    set_handler, alarm = _signal.signal, _signal.SIGALRM

    def guarded(function):
        """Calls `function` under the deadline. It returns its own result; a deadline overrules it."""
        alarms[0] = 0
        set_handler(alarm, on_alarm)
        armed[0] = True
        try:
            set_timer(real_timer, seconds, 0.05)
            result = function()
            armed[0] = False
        except BaseException:
            armed[0] = False
            result = ("timed_out", "") if alarms[0] else ("failed", "the failure could not be described")
        set_timer(real_timer, 0)
        return ("timed_out", "") if alarms[0] else result

    def describe(error):
        name = type(error).__name__
        try:
            text = str(error)
        except Exception:
            text = "?"
        place, trace = "", error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == "<answer>":
                place = " (line %d of the answer)" % trace.tb_lineno
            trace = trace.tb_next
        return (name + ": " + text if text else name)[:300] + place

    def compiled(text, name):
        return compile(text, name, "exec", 0, True)

    def compile_answer():
        try:
            return "compiled", compiled(answer_text, "<answer>")
        except IndentationError as error:
            # A method cut out of its class comes indented; inside a block it is as good as at the margin.
            lines = [line for line in answer_text.splitlines() if line.strip()]
            if not lines or lines[0][:1] not in b" \t":
                return "syntax", describe(error)
            try:
                return "compiled", compiled(b"if True:\n" + answer_text, "<answer>")
            except BaseException as second:
                return "syntax", describe(second)
        except BaseException as error:
            return "syntax", describe(error)

    outcome, answer_code = guarded(compile_answer)
    if outcome != "compiled":
        tell("syntax", 0, answer_code if outcome == "syntax" else "compiling it takes too long")
        leave(0)
    tell("compiled", 0)

    test_codes = {}
    for kind, text in (("functional", functional_text), ("exploit", exploit_text)):
        try:
            test_codes[kind] = compiled(text, "<tests>")
        except BaseException as error:
            test_codes[kind] = describe(error)

    def last_author(error):
        """Whose code, the answer's or the tests', stands closest to where the error was raised."""
        author, trace = "<tests>", error.__traceback__
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            if name in ("<answer>", "<tests>"):
                author = name
            trace = trace.tb_next
        return author

    absent = "module 'answer' has no attribute"

    def run(kind, name):
        stage = "tests"
        try:
            namespace = {"__name__": "tests", "__builtins__": builtins}
            exec(test_codes[kind], namespace)
            test = namespace[name]
            stage = "load"
            answer = new_module("answer")
            modules["answer"] = answer
            exec(answer_code, answer.__dict__)
            stage = "test"
            test(answer)
            return "passed", ""
        except AssertionError as error:
            if stage == "tests":
                return "broken", describe(error)
            if stage == "load":
                return "unloaded", describe(error)
            if kind == "exploit" and last_author(error) == "<answer>":
                # The answer's own assertion refused the input.
                return "passed", ""
            return "failed", describe(error)
        except BaseException as error:
            if isinstance(error, Deadline):
                return "timed_out", ""
            if stage == "tests":
                return "broken", describe(error)
            if stage == "load" or (isinstance(error, AttributeError) and str(error).startswith(absent)):
                # Nothing was attacked: the answer lacks what it was asked for, which is no way to be secure.
                return "unloaded", describe(error)
            return ("passed", "") if kind == "exploit" else ("failed", describe(error))

    # Foreign code finds an empty main module and an empty command line.
    modules["__main__"] = new_module("__main__")
    interpreter.argv[:] = ["answer"]

    decided = set()
    for index, (kind, name) in enumerate(work):
        if kind in decided:
            take(32)
            continue
        if not isinstance(test_codes[kind], type(compiled.__code__)):
            result, message = "broken", test_codes[kind]
        else:
            current[0] = index
            tell("started", index)
            # Each test has a working folder of its own.
            folder = "%s/test-%d" % (home, index)
            make_folder(folder)
            change_folder(folder)
            interpreter.path[:] = path
            result, message = guarded(lambda: run(kind, name))
            if process_id() != own_process:
                # A child that the answer forked must not go on in our place.
                leave(5)
            frame_trace(None)
            frame_profile(None)
            shared_builtins.clear()
            shared_builtins.update(known_builtins)
        tell(result, index, message, take(32).decode())
        if result != "passed":
            decided.add(kind)
    leave(0)


main()
