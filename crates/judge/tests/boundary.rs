//! What a test and an answer can do with each other's objects, and what an object of the answer's cannot say.

use std::sync::LazyLock;

use vul2safe_code::Language;
use vul2safe_judge::{Judge, Submission, TestResult, TestStyle};
use vul2safe_sandbox::{Policy, Sandbox};

static JUDGE: LazyLock<Option<Judge>> = LazyLock::new(|| {
    let sandbox = match Sandbox::new(Policy::default()) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            println!("skipped: {error}");
            return None;
        }
    };
    match Judge::new(sandbox, None) {
        Ok(judge) => Some(judge),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
});

fn functional(answer: &str, tests: &str, processes: u32, style: TestStyle) -> Option<TestResult> {
    let judge = JUDGE.as_ref()?;
    let submission =
        Submission { functional: Some(tests), processes, style, ..Submission::new(Language::Python, answer) };
    Some(judge.judge(&submission).functional)
}

#[track_caller]
fn passes(answer: &str, tests: &str) {
    let Some(result) = functional(answer, tests, 0, TestStyle::Calls) else { return };
    assert!(matches!(result, TestResult::Passed { .. }), "{answer}\n{tests}\n{result:?}");
}

#[track_caller]
fn fails(answer: &str, tests: &str, expected: &str) {
    let Some(result) = functional(answer, tests, 0, TestStyle::Calls) else { return };
    assert!(
        matches!(&result, TestResult::Failed { message, .. } if message.contains(expected)),
        "{answer}\n{tests}\n{result:?}"
    );
}

#[test]
fn what_the_answer_changes_in_an_argument_is_seen() {
    passes(
        "def f(items, table, names, data):\n    items.sort()\n    items[0].append(9)\n    table['new'] = items\n    names.add('x')\n    data += b'!'\n    return items\n",
        "def test_f(answer):\n    inner = [3]\n    items, table, names, data = [[5], inner], {}, set(), bytearray(b'a')\n    same = items\n\
         \x20   assert answer.f(items, table, names, data) is same\n    assert items == [[3, 9], [5]] and items[0] is inner\n\
         \x20   assert table['new'] is items and names == {'x'} and data == b'a!'\n",
    );
    // The other way: what a callback changes is seen by the answer.
    passes(
        "def f(change):\n    mine = [1]\n    change(mine)\n    return mine\n",
        "def test_f(answer):\n    assert answer.f(lambda items: items.append(2)) == [1, 2]\n",
    );
}

#[test]
fn library_objects_of_the_test_are_used_by_the_answer() {
    passes(
        "import sqlite3\ndef f(db, name):\n    assert isinstance(db, sqlite3.Connection)\n    db.row_factory = sqlite3.Row\n    with db:\n        db.executemany('INSERT INTO t VALUES (?)', [(name,), ('b',)])\n\
         \x20   cursor = db.cursor()\n    try:\n        cursor.execute('SELECT nothing')\n    except sqlite3.OperationalError as error:\n        assert 'nothing' in str(error)\n    return [row['x'] for row in cursor.execute('SELECT x FROM t')]\n",
        "import sqlite3\ndef test_f(answer):\n    db = sqlite3.connect(':memory:')\n    db.execute('CREATE TABLE t (x)')\n    assert answer.f(db, 'a') == ['a', 'b']\n    assert db.execute('SELECT count(*) FROM t').fetchone()[0] == 2\n",
    );
    passes(
        "import csv, io, json, shutil, zipfile\ndef f(text, binary, source):\n    assert isinstance(text, io.StringIO)\n    print('hello', 5, file=text)\n    csv.writer(text).writerow(['a', 'b,c'])\n    json.dump({'x': [1]}, text)\n\
         \x20   with zipfile.ZipFile(binary, 'w') as archive:\n        archive.writestr('a.txt', 'inside')\n    out = io.BytesIO()\n    shutil.copyfileobj(source, out)\n    return out.getvalue() + b''.join(source.readlines())\n",
        "import io, zipfile\ndef test_f(answer):\n    text, binary = io.StringIO(), io.BytesIO()\n    assert answer.f(text, binary, io.BytesIO(b'data')) == b'data'\n    assert text.getvalue() == 'hello 5\\na,\"b,c\"\\r\\n{\"x\": [1]}'\n\
         \x20   assert zipfile.ZipFile(binary).read('a.txt') == b'inside'\n",
    );
    passes(
        "import os\ndef f(path, file):\n    file.write('from the answer')\n    with open(path) as opened:\n        return os.fspath(path), opened.read(), [line for line in open(path.parent / 'b')]\n",
        "import pathlib\ndef test_f(answer):\n    path = pathlib.Path('folder') / 'a'\n    path.parent.mkdir()\n    path.write_text('x')\n    pathlib.Path('folder/b').write_text('1\\n2\\n')\n\
         \x20   with open('out', 'w') as file:\n        assert answer.f(path, file) == ('folder/a', 'x', ['1\\n', '2\\n'])\n    assert open('out').read() == 'from the answer'\n",
    );
}

#[test]
fn classes_and_callbacks_go_both_ways() {
    passes(
        "class Stack:\n    limit = 3\n    def __init__(self):\n        self.items = []\n    def push(self, item):\n        if len(self.items) == self.limit:\n            raise OverflowError('full')\n        self.items.append(item)\n        return self\n\
         \x20   def __len__(self):\n        return len(self.items)\n    def __iter__(self):\n        return iter(self.items)\n    def __enter__(self):\n        return self\n    def __exit__(self, *what):\n        self.items.clear()\n    def __eq__(self, other):\n        return isinstance(other, Stack) and self.items == other.items\n",
        "def test_f(answer):\n    stack = answer.Stack()\n    marker = object()\n    stack.push(1).push(marker)\n    assert len(stack) == 2 and list(stack) == [1, marker] and marker in stack and 5 not in stack\n\
         \x20   assert isinstance(stack, answer.Stack) and not isinstance(3, answer.Stack)\n    assert stack == stack and stack != answer.Stack() and answer.Stack() == answer.Stack() and stack != [1, marker]\n\
         \x20   answer.Stack.limit = 2\n    try:\n        stack.push(3)\n        assert False\n    except OverflowError as error:\n        assert str(error) == 'full'\n    with stack as same:\n        assert same is stack\n    assert not stack.items\n",
    );
    passes(
        "def f(user, key):\n    user.name = key(user.name) + str(user)\n    return sorted([3, 1, 2], key=key), user\n",
        "class User:\n    name = 'a'\n    def __str__(self):\n        return 'user'\ndef test_f(answer):\n    user = User()\n    calls = []\n    result, same = answer.f(user, lambda x: calls.append(x) or (x if isinstance(x, str) else -x))\n\
         \x20   assert same is user and user.name == 'auser' and result == [3, 2, 1] and calls == ['a', 3, 1, 2]\n",
    );
    passes(
        "def walk(n, visit):\n    return 0 if n == 0 else 1 + visit(n - 1)\ndef numbers(start):\n    while True:\n        got = yield start\n        start += got or 1\n",
        "def test_f(answer):\n    assert answer.walk(40, lambda n: answer.walk(n, lambda m: answer.walk(m, lambda k: 0))) == 3\n    g = answer.numbers(5)\n    assert next(g) == 5 and g.send(10) == 15 and next(g) == 16\n    g.close()\n    assert list(g) == []\n",
    );
    passes(
        "from concurrent.futures import ThreadPoolExecutor\ndef f(fetch, names):\n    with ThreadPoolExecutor(3) as pool:\n        return list(pool.map(fetch, names))\n",
        "def test_f(answer):\n    assert answer.f(lambda name: name.upper(), ['a', 'b', 'c', 'd']) == ['A', 'B', 'C', 'D']\n",
    );
}

#[test]
fn exceptions_keep_their_types_and_come_back_as_themselves() {
    passes(
        "import json\nclass Refused(ValueError):\n    def __init__(self, code):\n        super().__init__('refused', code)\n        self.code = code\ndef f(kind):\n    if kind == 'own':\n        raise Refused(7)\n    if kind == 'key':\n        return {}['x']\n    if kind == 'json':\n        return json.loads('{')\n    return open('/nowhere')\n\
         def g(call):\n    try:\n        call()\n    except LookupError as error:\n        return type(error).__name__, error.args\n",
        "import json\nclass Odd(LookupError): pass\ndef test_f(answer):\n    for kind, expected in (('own', ValueError), ('own', answer.Refused), ('key', KeyError), ('json', json.JSONDecodeError), ('file', FileNotFoundError)):\n        try:\n            answer.f(kind)\n            assert False\n        except expected as error:\n            caught = error\n\
         \x20       if kind == 'own':\n            assert caught.code == 7 and caught.args == ('refused', 7)\n        if kind == 'file':\n            assert caught.errno == 2 and caught.filename == '/nowhere'\n\
         \x20   thrown = Odd('x', 1)\n    def throw():\n        raise thrown\n    assert answer.g(throw) == ('Odd', ('x', 1))\n    thrown = TypeError('through')\n    try:\n        answer.g(throw)\n    except TypeError as error:\n        assert error is thrown\n    else:\n        assert False\n",
    );
    fails(
        "def f():\n    raise KeyError('k')\n",
        "def test_f(answer):\n    answer.f()\n",
        "KeyError: 'k' (line 2 of the answer)",
    );
}

#[test]
fn surroundings_are_carried_along() {
    passes(
        "import os, random, sys\ndef f():\n    print('said')\n    return random.random(), os.environ.get('NAME'), os.path.basename(os.getcwd()), sys.stdin.readline()\ndef made(path):\n    open(path, 'w').close()\n    os.chmod(path, 0o600)\n    open(path + '2', 'w').close()\n",
        "import contextlib, io, os, random, sys\ndef test_f(answer):\n    os.mkdir('inner')\n    os.chdir('inner')\n    os.environ['NAME'] = 'value'\n    out, sys.stdin = io.StringIO(), io.StringIO('one\\ntwo\\n')\n    results = []\n    for _ in range(2):\n        random.seed(42)\n        with contextlib.redirect_stdout(out):\n            results.append(answer.f())\n\
         \x20   assert out.getvalue() == 'said\\nsaid\\n'\n    assert results[0][0] == results[1][0] and results[0][1:] == ('value', 'inner', 'one\\n') and results[1][3] == 'two\\n'\n\
         \x20   os.umask(0o027)\n    answer.made('file')\n    assert os.stat('file').st_mode & 0o777 == 0o600 and open('file').read() == ''\n    assert os.stat('file2').st_mode & 0o777 == 0o640\n\
         \x20   assert os.path.exists(os.path.abspath('file'))\n",
    );
    passes(
        "import os\nimport time\ndef f(path):\n    return open(path).read(), time.time(), os.system('x')\n",
        "import os\nfrom unittest import mock\ndef test_f(answer):\n    with open('a', 'w') as file:\n        file.write('x')\n    with mock.patch('answer.time.time', return_value=5), mock.patch.object(answer.os, 'system') as system:\n        system.return_value = 3\n        assert answer.f(os.path.abspath('a')) == ('x', 5, 3)\n    system.assert_called_once_with('x')\n",
    );
}

#[test]
fn an_object_of_the_answer_cannot_pass_for_a_value() {
    let liar = "class Liar:\n    def __eq__(self, other): return True\n    def __lt__(self, other): return True\n    def __contains__(self, item): return True\n    def __len__(self): return 3\n    def __getitem__(self, place):\n        if place > 2: raise IndexError\n        return place\n    def __iter__(self): return iter([7])\n    def __hash__(self): return hash(4)\ndef f():\n    return Liar()\n";
    fails(liar, "def test_f(answer):\n    assert answer.f() == 4\n", "AssertionError");
    fails(liar, "def test_f(answer):\n    assert 4 == answer.f()\n", "AssertionError");
    fails(liar, "def test_f(answer):\n    assert answer.f() in (3, 4)\n", "AssertionError");
    fails(liar, "def test_f(answer):\n    assert {4: 1}.get(answer.f())\n", "AssertionError");
    fails(liar, "def test_f(answer):\n    assert answer.f() < 4\n", "TypeError");
    fails(liar, "def test_f(answer):\n    assert 'x' in answer.f()\n", "AssertionError");
    passes(
        liar,
        "def test_f(answer):\n    assert 7 in answer.f() and len(answer.f()) == 3 and answer.f()[1] == 1\n",
    );
    fails(
        "class N(int):\n    def __bool__(self): return True\nclass S:\n    def __len__(self): return N(1)\n    def __bool__(self): return N(0)\ndef f():\n    return S()\n",
        "def test_f(answer):\n    assert answer.f()\n",
        "TypeError",
    );
}

#[test]
fn scripts_see_the_answers_names() {
    let script = |answer: &str, tests: &str| functional(answer, tests, 0, TestStyle::Script);
    let answer = "import math\nfrom typing import List\nRATE = 2\ndef area(r: float) -> float:\n    return math.pi * r ** RATE\nclass Box:\n    size = 4\n";
    let Some(result) =
        script(answer, "assert math.isclose(area(1), math.pi)\nassert RATE == 2 and Box().size == 4\n")
    else {
        return;
    };
    assert_eq!(result, TestResult::Passed { tests: 1 });
    let result =
        script(answer, "def check(candidate):\n    assert candidate(2) == 1, 'wrong'\ncheck(area)\n")
            .expect("a judge");
    assert_eq!(result, TestResult::Failed { test: "script".into(), message: "AssertionError: wrong".into() });
    // What the answer puts under a library's name is not what the script calls.
    let result = script(
        "import math\nmath.isclose = lambda *a: True\ndef area(r):\n    return 0\n",
        "assert math.isclose(area(1), math.pi)\n",
    );
    assert!(matches!(result, Some(TestResult::Failed { .. })), "{result:?}");
    for cheat in [
        "class math:\n    isclose = staticmethod(lambda *a: True)\n    pi = 3\nimport math as other\ndef area(r):\n    return 0\n",
        "def abs(x):\n    return 0\ndef area(r):\n    return 0\n",
        "def abs(x):\n    return 0\nabs, all = abs, abs\narea = lambda r: 0\n",
    ] {
        let result =
            script(cheat, "import math\nassert math.isclose(area(1), math.pi) or abs(area(1) - 3) < 1\n");
        assert!(matches!(result, Some(TestResult::Failed { .. })), "{cheat}\n{result:?}");
    }
    let result = script("def sum(a, b):\n    return a * b\n", "assert sum(3, 4) == 12\n");
    assert_eq!(result, Some(TestResult::Passed { tests: 1 }));
    let result = script("def other(r):\n    return 0\n", "assert area(1) == 0\n");
    assert!(
        matches!(&result, Some(TestResult::Failed { message, .. }) if message.contains("does not load")),
        "{result:?}"
    );
    let result = script("import sys\nsys.exit(0)\n", "assert area(1) == 0\n");
    assert!(matches!(result, Some(TestResult::Failed { .. })), "{result:?}");
}

#[test]
fn the_judge_says_how_it_starts_interpreters() {
    let Some(judge) = JUDGE.as_ref() else { return };
    // Whichever way it is, the verdicts above hold; a reason is a sentence.
    if let Some(why) = judge.cold_starts() {
        assert!(why.len() > 10, "{why}");
    }
}
