# What stands in for pytest: the part of it that the suite's tests use. Above stand `_TASK`, the name under which the tests
# import the answer, `_MARK`, which cases are to be run, and `_SOURCE`, the test file. Whatever goes wrong before a case
# runs (a library that is missing, a fixture that is not known) goes wrong while this module loads: then nothing is known
# of the answer.
import inspect as _inspect
import os as _os
import re as _re
import sys as _sys
import types as _types

_answer = [None]


class _Forward:
    """A name of the answer, looked up when it is used: every case is given an answer of its own."""

    def __init__(self, name):
        self.__dict__["_name"] = name

    def _target(self):
        return getattr(_answer[0], self._name)

    def __call__(self, *arguments, **named):
        return self._target()(*arguments, **named)

    def __getattr__(self, name):
        return getattr(self._target(), name)


class _Task(_types.ModuleType):
    names = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        _Task.names.append(name)
        return _Forward(name)


class _Param:
    def __init__(self, values, marks=(), id=None):
        self.values = values
        self.marks = list(marks) if isinstance(marks, (list, tuple)) else [marks]


class _Mark:
    def __init__(self, name, arguments=(), named=None):
        self.name, self.arguments, self.named = name, arguments, named or {}

    def __call__(self, *arguments, **named):
        if len(arguments) == 1 and not named and _inspect.isfunction(arguments[0]):
            function = arguments[0]
            function._marks = getattr(function, "_marks", []) + [self]
            return function
        return _Mark(self.name, arguments, named)


class _Marks:
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Mark(name)


class _Raises:
    def __init__(self, expected, match=None):
        self.expected, self.match, self.value = expected, match, None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            raise AssertionError("no exception was raised")
        if not issubclass(kind, self.expected):
            return False
        self.value = error
        if self.match is not None and not _re.search(self.match, str(error)):
            raise AssertionError("the message of the exception is another one")
        return True


class _Patch:
    def __init__(self):
        self.undo_list = []

    def setattr(self, target, name, value):
        old = getattr(target, name)
        self.undo_list.append(lambda: setattr(target, name, old))
        setattr(target, name, value)

    def setenv(self, name, value):
        old = _os.environ.get(name)
        self.undo_list.append(lambda: _os.environ.pop(name, None) if old is None else _os.environ.__setitem__(name, old))
        _os.environ[name] = str(value)

    def delenv(self, name, raising=True):
        old = _os.environ.pop(name, None)
        if old is not None:
            self.undo_list.append(lambda: _os.environ.__setitem__(name, old))

    def chdir(self, path):
        old = _os.getcwd()
        self.undo_list.append(lambda: _os.chdir(old))
        _os.chdir(path)

    def undo(self):
        while self.undo_list:
            self.undo_list.pop()()


_fixtures = {}


def _fixture(*arguments, **named):
    def take(function):
        _fixtures[function.__name__] = function
        return function

    return take(arguments[0]) if arguments and callable(arguments[0]) else take


def _not_here(*arguments, **named):
    raise RuntimeError("this function of pytest is not known here")


_pytest = _types.ModuleType("pytest")
_pytest.mark, _pytest.raises, _pytest.fixture = _Marks(), _Raises, _fixture
_pytest.param = lambda *values, **named: _Param(values, **named)
_pytest.skip = _pytest.fail = _pytest.importorskip = _pytest.approx = _not_here


def _cases(function):
    """Every case of a test function: the values of its parameters, and its marks."""
    found = [({}, [])]
    for mark in getattr(function, "_marks", []):
        if mark.name != "parametrize":
            found = [(values, marks + [mark.name]) for values, marks in found]
            continue
        names, rows = mark.arguments[0], mark.arguments[1]
        names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
        expanded = []
        for row in rows:
            row_values, row_marks = (row.values, row.marks) if isinstance(row, _Param) else (row, [])
            if not isinstance(row, _Param) and len(names) == 1:
                row_values = (row,)
            added = dict(zip(names, row_values))
            for values, marks in found:
                expanded.append(({**values, **added}, marks + [mark.name for mark in row_marks]))
        found = expanded
    return found


class _Fixtures:
    """Values of fixtures for one case, and what is to be done after it."""

    def __init__(self, number):
        self.number, self.values, self.after = number, {}, []

    def get(self, name):
        if name in self.values:
            return self.values[name]
        if name == "tmp_path":
            import pathlib

            value = pathlib.Path(_os.getcwd()) / ("case-%d" % self.number)
            value.mkdir()
        elif name == "monkeypatch":
            value = _Patch()
            self.after.append(value.undo)
        else:
            function = _fixtures[name]
            value = function(*[self.get(inner) for inner in _inspect.signature(function).parameters])
            if _inspect.isgenerator(value):
                generator, value = value, next(value)
                self.after.append(lambda: next(generator, None))
        self.values[name] = value
        return value


def _check_fixtures(names, known):
    for name in names:
        if name in known or name in ("tmp_path", "monkeypatch"):
            continue
        if name not in _fixtures:
            raise RuntimeError("the fixture %s is not known here" % name)
        _check_fixtures(_inspect.signature(_fixtures[name]).parameters, known)


_saved = {name: _sys.modules.get(name) for name in ("pytest", _TASK)}
_sys.modules["pytest"], _sys.modules[_TASK] = _pytest, _Task(_TASK)
_scope = {"__name__": _TASK[: -len("_task")] + "_test", "__file__": _os.path.join(_os.getcwd(), "test.py")}
try:
    exec(compile(_SOURCE, "<tests>", "exec", 0, True), _scope)
finally:
    for _name, _module in _saved.items():
        if _module is None:
            _sys.modules.pop(_name, None)
        else:
            _sys.modules[_name] = _module

_selected = []
for _name, _function in list(_scope.items()):
    if not _name.startswith("test") or not _inspect.isfunction(_function):
        continue
    if "_unsafe" in _name or "_insecure" in _name:
        continue
    for _values, _found in _cases(_function):
        if _MARK in _found:
            _check_fixtures(_inspect.signature(_function).parameters, _values)
            _selected.append((_name, _function, _values))
if not _selected:
    raise RuntimeError("no case is marked " + _MARK)


def _run(answer):
    _answer[0] = answer
    for name in _Task.names:
        # An answer that lacks what the tests call was never tried.
        getattr(answer, name)
    for number, (name, function, values) in enumerate(_selected):
        fixtures = _Fixtures(number)
        try:
            arguments = {
                parameter: values[parameter] if parameter in values else fixtures.get(parameter)
                for parameter in _inspect.signature(function).parameters
            }
            function(**arguments)
        except AssertionError:
            raise
        except Exception as error:
            # In this suite every failure counts, also of a security case.
            raise AssertionError("%s: %s: %s" % (name, type(error).__name__, error)) from None
        finally:
            while fixtures.after:
                fixtures.after.pop()()
