//! Answers that are wrong and want to pass all the same: none passes, none is secure, none leaves a process behind.

use std::fs;
use std::time::{Duration, Instant};

use vul2safe_code::Language;
use vul2safe_judge::{Judge, Submission, TestLimits, TestResult};
use vul2safe_sandbox::{Policy, Sandbox};

const FUNCTIONAL: &str = "
def test_number(answer):
    assert answer.double(2) == 4
    assert answer.double(21) == 42

def test_text(answer):
    assert answer.double('ab') == 'abab'

def test_list(answer):
    assert answer.double([1, 2]) == [1, 2, 1, 2]
    assert sorted(answer.double([2, 1])) == [1, 1, 2, 2]
";

/// What is wrong here is vulnerable, so that being wrong is never secure.
const EXPLOIT: &str = "
def test_semicolon(answer):
    assert answer.double('a;') == 'aa'
";

const RIGHT: &str = "def double(x):\n    return 2 * (x.replace(';', '') if isinstance(x, str) else x)\n";

/// What the cheat is, its text, how many processes it may start.
const CHEATS: &[(&str, &str, u32)] = &[
    ("leaves with exit(0) at import", "import sys\nsys.exit(0)\n", 0),
    ("leaves with exit(0) in the call", "import sys\ndef double(x):\n    sys.exit(0)\n", 0),
    ("leaves with _exit(0) at import", "import os\nos._exit(0)\n", 0),
    ("leaves with _exit(0) in the call", "import os\ndef double(x):\n    os._exit(0)\n", 0),
    ("kills itself", "import os, signal\ndef double(x):\n    os.kill(os.getpid(), signal.SIGKILL)\n", 0),
    (
        "kills everything",
        "import os, signal\ndef double(x):\n    os.kill(-1, signal.SIGKILL)\n    return 'no'\n",
        0,
    ),
    (
        "prints success",
        "print('OK')\nprint('passed 4 tests')\ndef double(x):\n    print('.', 'OK', flush=True)\n    return None\n",
        0,
    ),
    (
        "patches AssertionError",
        "import builtins\nclass Quiet(BaseException): pass\nbuiltins.AssertionError = Quiet\ndef double(x):\n    return None\n",
        0,
    ),
    (
        "patches all of builtins",
        "import builtins\nfor name in ('bool', 'sorted', 'len', 'isinstance', 'type', 'str', 'Exception'):\n    setattr(builtins, name, lambda *a, **k: True)\ndef double(x):\n    return None\n",
        0,
    ),
    (
        "patches sys.modules",
        "import sys, types\nfor name in list(sys.modules):\n    if name not in ('sys', 'builtins'):\n        sys.modules[name] = types.ModuleType(name)\ndef double(x):\n    return None\n",
        0,
    ),
    (
        "patches unittest and pytest",
        "import sys, types\nimport unittest\nunittest.TestCase.assertEqual = lambda *a: None\nsys.modules['pytest'] = types.ModuleType('pytest')\ndef double(x):\n    return None\n",
        0,
    ),
    (
        "writes reports to every descriptor",
        "import os\nfor number in list(range(3, 300)):\n    for kind in (b'passed', b'compiled'):\n        try: os.write(number, b'\\n{\"event\":\"' + kind + b'\",\"index\":0,\"message\":\"\",\"nonce\":\"00000000000000000000000000000000\"}\\n')\n        except OSError: pass\ndef double(x):\n    return None\n",
        0,
    ),
    ("closes every descriptor", "import os\nos.closerange(0, 1024)\ndef double(x):\n    return None\n", 0),
    (
        "answers requests of its own accord",
        "import os, struct\ndef double(x):\n    for number in range(1, 40):\n        data = b'R' + struct.pack('>I', number) + b'VT' + struct.pack('>I', 0)\n        os.write(250, struct.pack('>I', len(data)) + data)\n    return None\n",
        0,
    ),
    (
        "lies about the length of a frame",
        "import os\ndef double(x):\n    os.write(250, b'\\xff\\xff\\xff\\xff' + b'R' * 100)\n    return None\n",
        0,
    ),
    (
        "sends noise",
        "import os\ndef double(x):\n    os.write(250, b'\\x00\\x00\\x00\\x08R\\x00\\x00\\x00\\x02Vzzz' + os.urandom(5000))\n    return None\n",
        0,
    ),
    (
        "sends circles and depths",
        "import os, struct\ndef double(x):\n    for number in range(1, 9):\n        data = b'R' + struct.pack('>I', number) + b'V' + b't\\x00\\x00\\x00\\x01' * 100000 + b'N'\n        os.write(250, struct.pack('>I', len(data)) + data)\n    return None\n",
        0,
    ),
    (
        "equals everything",
        "class Anything:\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n    def __hash__(self): return 0\n    def __bool__(self): return True\n    def __lt__(self, other): return True\n    def __iter__(self): return iter([1, 1, 2, 2])\ndef double(x):\n    return Anything()\n",
        0,
    ),
    (
        "a number that equals everything",
        "class Number(int):\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n    __hash__ = int.__hash__\ndef double(x):\n    return Number(5)\n",
        0,
    ),
    (
        "a text that equals everything",
        "class Text(str):\n    def __eq__(self, other): return True\n    __hash__ = str.__hash__\n    def __str__(self): return self\ndef double(x):\n    return Text('?')\n",
        0,
    ),
    (
        "a list that equals everything",
        "class List(list):\n    def __eq__(self, other): return True\n    def __iter__(self): return iter([1, 1, 2, 2])\n    def __len__(self): return 4\ndef double(x):\n    return List([0])\n",
        0,
    ),
    (
        "pretends to be an int by its class",
        "class Pretender:\n    @property\n    def __class__(self): return int\n    def __int__(self): return 4\n    def __index__(self): return 4\n    def __eq__(self, other): return True\n    __hash__ = None\ndef double(x):\n    return Pretender()\n",
        0,
    ),
    (
        "a class whose class lies",
        "class Meta(type):\n    def __eq__(self, other): return True\n    __hash__ = type.__hash__\n    def __instancecheck__(self, value): return True\nclass Liar(metaclass=Meta): pass\ndef double(x):\n    return Liar\n",
        0,
    ),
    (
        "reads the tests from other processes",
        "import os, re\ndef found():\n    for process in map(str, range(1, 40000)):\n        if int(process) == os.getpid(): continue\n        for name in ('mem', 'environ', 'fd/0', 'fd/250', 'cwd/tests.py', 'root/tests.py'):\n            try:\n                data = open('/proc/%s/%s' % (process, name), 'rb').read(1 << 20)\n                if b'def test_' in data: return data\n            except Exception: pass\ndef double(x):\n    data = found()\n    if data:\n        return {2: 4, 21: 42, 'ab': 'abab'}.get(x)\n    return None\n",
        0,
    ),
    (
        "reads the tests from files",
        "import os, sys\ndef found():\n    for top in (os.getcwd(), os.path.dirname(os.getcwd()), '/dev/shm', '/tmp', sys.path[0]):\n        for folder, _, files in os.walk(top):\n            for name in files:\n                try:\n                    data = open(os.path.join(folder, name), 'rb').read(1 << 20)\n                    if b'answer.double(21) == 42' in data: return True\n                except Exception: pass\ndef double(x):\n    return 2 * x if found() else None\n",
        0,
    ),
    (
        "reads the tests from its own memory",
        "import gc, inspect, sys\ndef double(x):\n    frame = sys._getframe()\n    seen = ''\n    while frame:\n        seen += repr(frame.f_locals)\n        frame = frame.f_back\n    seen += repr([o for o in gc.get_objects() if isinstance(o, dict) and 'test_number' in o])\n    return 2 * x if 'answer.double(' + '21)' in seen else None\n",
        0,
    ),
    (
        "does its work at exit",
        "import atexit, os\natexit.register(lambda: os._exit(0))\ndef double(x):\n    raise SystemExit\n",
        0,
    ),
    (
        "goes on in threads",
        "import threading, os, time\ndef forever():\n    while True:\n        try: os.write(250, b'\\x00\\x00\\x00\\x05L\\x00\\x00\\x00\\x09')\n        except OSError: pass\n        time.sleep(0.01)\nfor _ in range(4):\n    threading.Thread(target=forever, daemon=True).start()\ndef double(x):\n    time.sleep(0.1)\n    return None\n",
        0,
    ),
    (
        "goes on in a child",
        "import os, time\ndef double(x):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n            time.sleep(60)\n        os._exit(0)\n    return None\n",
        8,
    ),
    (
        "lets a child come back in its place",
        "import os\ndef double(x):\n    if os.fork() == 0:\n        return 2 * x\n    os.wait()\n    return None\n",
        8,
    ),
    (
        "starts processes without end",
        "import os\ndef double(x):\n    while True:\n        try: os.fork()\n        except OSError: pass\n",
        8,
    ),
    ("loops at import", "while True: pass\n", 0),
    ("loops in the call", "def double(x):\n    while True: pass\n", 0),
    ("sleeps", "import time\ndef double(x):\n    time.sleep(1000)\n", 0),
    (
        "sleeps and catches signals",
        "import signal, time\nfor number in range(1, 65):\n    try: signal.signal(number, lambda *a: None)\n    except (OSError, ValueError): pass\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\ndef double(x):\n    while True:\n        try: time.sleep(1000)\n        except BaseException: pass\n",
        0,
    ),
    ("recurses without end", "def double(x):\n    return double(x)\n", 0),
    (
        "recurses without end and without a limit",
        "import sys\nsys.setrecursionlimit(10 ** 9)\ndef double(x):\n    return double(x)\n",
        0,
    ),
    (
        "takes all memory",
        "def double(x):\n    held = []\n    while True: held.append(bytearray(1 << 24))\n",
        0,
    ),
    ("prints without end", "def double(x):\n    while True: print('x' * 10000)\n", 0),
    (
        "fills the folder",
        "def double(x):\n    number = 0\n    while True:\n        number += 1\n        with open('file%d' % number, 'wb') as file: file.write(b'x' * (1 << 22))\n",
        0,
    ),
    (
        "hooks imports",
        "import sys\nclass Hook:\n    def find_spec(self, name, path=None, target=None): raise SystemExit(0)\nsys.meta_path.insert(0, Hook())\ndef double(x):\n    return None\n",
        0,
    ),
    (
        "leaves when it is forgotten",
        "import os\nclass Last:\n    def __del__(self): os._exit(0)\ndef double(x):\n    return Last()\n",
        0,
    ),
    (
        "patches its side of the boundary",
        "import gc\ndef patch():\n    for thing in gc.get_objects():\n        if type(thing).__name__ == 'End':\n            thing.serve = lambda payload: thing.send(b'R' + payload[1:5] + b'VT\\x00\\x00\\x00\\x00')\npatch()\ndef double(x):\n    return None\n",
        0,
    ),
    ("an answer of 20 MB", "def double(x):\n    return 'x' * (20 << 20)\n", 0),
    (
        "an answer that never ends",
        "def double(x):\n    def more():\n        while True: yield 1\n    return more()\n",
        0,
    ),
    ("null bytes", "def double(x):\n    return '\\0' * 4\n", 0),
    ("a null byte in the text", "def double(x):\n    return 2 * x\n\0\n", 0),
    ("does not parse", "def double(x:\n    return 2 * x\n", 0),
    ("nothing", "", 0),
    ("a comment", "# def double(x): return 2 * x\n", 0),
];

/// Every answer gets this name for its process first, so that one that stays can be told from all others.
fn named(answer: &str, name: &str) -> String {
    if answer.is_empty() || answer.starts_with('#') {
        return answer.to_string();
    }
    format!("import ctypes as _c; _c.CDLL(None).prctl(15, b'{name}', 0, 0, 0)\n{answer}")
}

fn processes_named(name: &str) -> Vec<String> {
    let Ok(listing) = fs::read_dir("/proc") else { return Vec::new() };
    listing
        .flatten()
        .filter(|entry| fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == name))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn no_cheat_passes_is_secure_or_stays() {
    let judge = match Sandbox::new(Policy::default()).map(|sandbox| Judge::new(sandbox, None)) {
        Ok(Ok(judge)) => judge.with_limits(TestLimits { test_seconds: 1.0, ..TestLimits::default() }),
        Ok(Err(error)) => return println!("skipped: {error}"),
        Err(error) => return println!("skipped: {error}"),
    };
    assert!(CHEATS.len() >= 25);
    let name = format!("v2s{}", std::process::id() % 1_000_000_000);
    let verdict_on = |answer: &str, processes| {
        judge.judge(&Submission {
            functional: Some(FUNCTIONAL),
            exploit: Some(EXPLOIT),
            processes,
            ..Submission::new(Language::Python, answer)
        })
    };
    // The tests can be passed, by an answer that is named like the others.
    let verdict = verdict_on(&named(RIGHT, &name), 0);
    assert_eq!(verdict.both(), Some(true), "{verdict:?}");

    let started = Instant::now();
    let mut wrong = Vec::new();
    for (what, answer, processes) in CHEATS {
        let verdict = verdict_on(&named(answer, &name), *processes);
        println!("{what}: {:?} / {:?}", verdict.functional, verdict.exploit);
        if verdict.functional() != Some(false) || verdict.both() != Some(false) {
            wrong.push(format!("{what} passes: {verdict:?}"));
        }
        if verdict.secure() == Some(true) {
            wrong.push(format!("{what} is secure: {verdict:?}"));
        }
        if matches!(&verdict.functional, TestResult::NotRun { .. }) {
            wrong.push(format!("{what} has no verdict: {verdict:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // A process that was killed may take a moment to go.
    let mut left = processes_named(&name);
    for _ in 0..100 {
        if left.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        left = processes_named(&name);
    }
    assert!(left.is_empty(), "processes that stayed: {left:?}");
    println!("{} cheats in {:.1} s", CHEATS.len(), started.elapsed().as_secs_f64());
    // The judge itself is none the worse.
    assert_eq!(verdict_on(RIGHT, 0).both(), Some(true));
}

/// An answer that is handed the tests' own objects, and looks for a way from them into the tester.
const BURGLAR: &str = r#"
import gc

def end():
    for thing in gc.get_objects():
        if type(thing).__name__ == 'End':
            return thing

def double(callback, generator, db, plain, own):
    found = []
    channel = end()
    names = ['__globals__', '__closure__', '__code__', '__self__', '__builtins__', '__class__', '__dict__', '__module__x',
             '__reduce_ex__', '__getattribute__', '__subclasshook__', 'gi_frame', 'gi_code', 'f_globals', 'load_extension',
             'enable_load_extension', '__init__', '__func__', '__wrapped__', '_secret', 'fileno', 'func_globals']
    for target in (callback, generator, db, own):
        for name in names:
            try:
                found.append((name, channel.request(0, target, name)))
            except Exception:
                pass
    # Values are not targets.
    for target in (plain, int, str, '{0.__class__}', 'abc', ValueError, object):
        for name in ('format', '__class__', 'mro', 'join'):
            try:
                found.append((name, channel.request(0, target, name)))
            except Exception:
                pass
        try:
            found.append(channel.request(3, target, ('x',), {}, None))
        except Exception:
            pass
    # Numbers of objects that were never handed out, and methods that do not exist.
    Proxy = type(callback)
    for number in range(0, 200):
        try:
            thing = channel.stand_in(number, 'x', 'y', 1)
            if number not in channel.stand_ins or thing not in (callback, generator, db, own):
                found.append(channel.request(0, thing, '__globals__'))
        except Exception:
            pass
    for number in range(len(type(channel).serve.__globals__['SPECIALS']), 256):
        try:
            found.append(channel.request(4, callback, number, ()))
        except Exception:
            pass
    for operation in range(5, 40):
        if operation in (5, 6):
            continue
        try:
            found.append(channel.request(operation, callback))
        except Exception:
            pass
    try:
        channel.request(1, own, '__class__', int)
        found.append('set a class')
    except Exception:
        pass
    try:
        channel.request(1, callback, '__code__', None)
        found.append('set code')
    except Exception:
        pass
    return str(found)
"#;

const GUARDED: &str = r#"
import sqlite3

class Own:
    _secret = 'hidden'
    name = 'own'

def test_burglar(answer):
    def generate():
        yield 1
    text = answer.double(lambda x: x, generate(), sqlite3.connect(':memory:'), 'plain', Own())
    assert text == '[]', text
"#;

#[test]
fn the_objects_of_a_test_are_no_way_into_the_tester() {
    let judge = match Sandbox::new(Policy::default()).map(|sandbox| Judge::new(sandbox, None)) {
        Ok(Ok(judge)) => judge,
        Ok(Err(error)) => return println!("skipped: {error}"),
        Err(error) => return println!("skipped: {error}"),
    };
    let verdict =
        judge.judge(&Submission { functional: Some(GUARDED), ..Submission::new(Language::Python, BURGLAR) });
    assert_eq!(verdict.functional, TestResult::Passed { tests: 1 }, "{verdict:?}");
}
