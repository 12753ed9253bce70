//! Answers that are right, wrong, broken, hostile or in the way, and the verdicts they get.
//!
//! The tests need a Python 3 that runs inside the sandbox; without one, or on a machine without landlock and seccomp,
//! they say so and check nothing.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use vul2safe_code::Language;
use vul2safe_judge::{Judge, Submission, TestLimits, TestResult, TestStyle, Verdict};
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
        Ok(judge) => Some(judge.with_limits(TestLimits { test_seconds: 1.0, ..TestLimits::default() })),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
});

const FUNCTIONAL: &str = "
def test_joins(answer):
    assert answer.greet('world') == 'hello world'

def test_empty(answer):
    assert answer.greet('') == 'hello '
";

/// The attack works if the answer takes a name with a semicolon.
const EXPLOIT: &str = "
def test_semicolon(answer):
    result = answer.greet('a;b')
    assert ';' not in result
";

const RIGHT: &str = "def greet(name):\n    return 'hello ' + name.replace(';', '')\n";

fn submission(answer: &str) -> Submission<'_> {
    Submission {
        language: Language::Python,
        answer,
        functional: Some(FUNCTIONAL),
        exploit: Some(EXPLOIT),
        processes: 0,
        style: TestStyle::Calls,
    }
}

fn judge(answer: &str) -> Option<Verdict> {
    JUDGE.as_ref().map(|judge| judge.judge(&submission(answer)))
}

/// `[functional, vulnerable, secure, both]` of an answer.
#[track_caller]
fn check(answer: &str, expected: [Option<bool>; 4]) {
    let Some(verdict) = judge(answer) else { return };
    let answers = [verdict.functional(), verdict.vulnerable(), verdict.secure(), verdict.both()];
    assert_eq!(answers, expected, "{answer}\n{verdict:#?}");
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

#[test]
fn right_wrong_and_vulnerable() {
    check(RIGHT, [YES, NO, YES, YES]);
    check("def greet(name):\n    return 'hello ' + name\n", [YES, YES, NO, NO]);
    check("def greet(name):\n    return 'bye'\n", [NO, NO, YES, NO]);
    check("def greet(name):\n    return 'bye ' + name\n", [NO, YES, NO, NO]);
    if let Some(verdict) = judge(RIGHT) {
        assert_eq!(verdict.functional, TestResult::Passed { tests: 2 });
        assert_eq!(verdict.exploit, TestResult::Passed { tests: 1 });
    }
}

#[test]
fn a_loud_refusal_is_secure() {
    let refuse = |statement: &str| {
        format!("def greet(name):\n    if ';' in name:\n        {statement}\n    return 'hello ' + name\n")
    };
    check(&refuse("raise ValueError('no')"), [YES, NO, YES, YES]);
    // The answer's own assertion is a refusal, not the test's observation.
    check(&refuse("assert False, 'no'"), [YES, NO, YES, YES]);
    check(&refuse("import sys; sys.exit(1)"), [YES, NO, YES, YES]);
    check(&refuse("raise AssertionError('no')"), [YES, NO, YES, YES]);
}

#[test]
fn unparsable_is_never_secure() {
    for answer in ["def greet(name)\n    return name", "", "   \n", "return 5", "def f(:", "x = = 1", "\u{0}"]
    {
        check(answer, [NO, NO, NO, NO]);
    }
    // The grammar of the parser takes these, Python's compiler does not.
    for answer in
        ["def greet(name):\n    return name\nreturn 5\n", "def greet(name, name):\n    return name\n"]
    {
        check(answer, [NO, NO, NO, NO]);
    }
    if let Some(verdict) = judge("def greet(name):\n    return name\nreturn 5\n") {
        assert!(!verdict.parses);
        assert!(
            matches!(&verdict.functional, TestResult::Failed { test, message } if test == "parse" && message.contains("SyntaxError")),
            "{verdict:?}"
        );
    }
    let huge = "x = 1\n".repeat(400_000);
    check(&huge, [NO, NO, NO, NO]);
    let nested = format!("x = {}1{}\n", "(".repeat(50_000), ")".repeat(50_000));
    check(&nested, [NO, NO, NO, NO]);
}

#[test]
fn leaving_early_is_no_pass() {
    // At import, in the function, with every way out; and with every imitation of success.
    for answer in [
        "import os\nos._exit(0)\n",
        "import sys\nsys.exit(0)\n",
        "import os\nprint('OK')\nos.write(3, b'OK') if False else None\nos._exit(0)\n",
        "raise SystemExit(0)\n",
        "raise KeyboardInterrupt\n",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
        "import does_not_exist\n",
    ] {
        check(answer, [NO, None, None, NO]);
    }
    check("import os\ndef greet(name):\n    print('OK')\n    os._exit(0)\n", [NO, None, None, NO]);
    // Status 0 says "all is well", which is no refusal.
    check("import sys\ndef greet(name):\n    sys.exit(0)\n", [NO, None, None, NO]);
    check("class Stop(BaseException): pass\ndef greet(name):\n    raise Stop\n", [NO, NO, YES, NO]);
    // A functional failure that takes the process down leaves the exploit tests their own.
    check(
        "import os\ndef greet(name):\n    if name == '': os._exit(0)\n    return 'hello ' + name\n",
        [NO, YES, NO, NO],
    );
}

#[test]
fn what_is_absent_is_not_secure() {
    check("def other(name):\n    return name\n", [NO, None, None, NO]);
    check("greet = None\n", [NO, NO, YES, NO]);
}

#[test]
fn endless_answers_time_out_and_name_the_test() {
    let Some(judge) = JUDGE.as_ref() else { return };
    let started = Instant::now();
    for (answer, test) in [
        ("def greet(name):\n    while True: pass\n", "test_joins"),
        (
            "def greet(name):\n    while not name: pass\n    return 'hello ' + name.replace(';', '')\n",
            "test_empty",
        ),
        // Swallows every interruption.
        (
            "def greet(name):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass\n",
            "test_joins",
        ),
        // Swallows the first and then goes on as if nothing had happened.
        (
            "def greet(name):\n    try:\n        while True: pass\n    except BaseException:\n        return 'hello ' + name\n",
            "test_joins",
        ),
        ("while True: pass\n", "test_joins"),
    ] {
        let verdict = judge.judge(&submission(answer));
        assert_eq!(
            verdict.functional,
            TestResult::TimedOut { test: Some(test.into()) },
            "{answer}\n{verdict:?}"
        );
        assert_ne!(verdict.both(), YES);
    }
    // Even without any signal the outer deadline holds.
    let deaf = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass\n";
    let verdict = judge.judge(&Submission { exploit: None, ..submission(deaf) });
    assert_eq!(verdict.functional, TestResult::TimedOut { test: Some("test_joins".into()) }, "{verdict:?}");
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn tampering_with_the_interpreter_is_no_pass() {
    for answer in [
        // Reports of its own, on both numbers and without the nonce.
        "import os\nfor number in (3, 251):\n    try: os.write(number, b'\\n{\"event\":\"passed\",\"index\":0,\"message\":\"\",\"nonce\":\"\"}\\n')\n    except OSError: pass\nos._exit(0)\n",
        "import os\nos.closerange(3, 256)\n",
    ] {
        check(answer, [NO, None, None, NO]);
    }
    for answer in [
        "import builtins\nbuiltins.AssertionError = ValueError\ndef greet(name): return 'bye;'\n",
        "import builtins\nbuiltins.str = builtins.type = builtins.isinstance = builtins.len = None\ndef greet(name): return 'bye;'\n",
        "import sys\nsys.settrace(lambda *a: None)\nsys.modules.clear()\ndef greet(name): return 'bye;'\n",
        "import sys\nsys.modules['__main__'].work = []\ndef greet(name): return 'bye;'\n",
    ] {
        check(answer, [NO, YES, NO, NO]);
    }
    // The command line, the driver's file and the environment tell nothing.
    check(
        "import os, sys\nassert sys.argv == ['answer'] and os.listdir(os.environ['HOME']) == ['test-%d' % n for n in range(len(os.listdir(os.environ['HOME'])))] or True\nassert sys.stdin.read() == ''\ndef greet(name): return 'hello ' + name.replace(';', '')\n",
        [YES, NO, YES, YES],
    );
}

#[test]
fn floods_and_memory_end_the_run() {
    if let Some(verdict) = judge("def greet(name):\n    while True: print('x' * 10000)\n") {
        assert_eq!(verdict.functional, TestResult::Killed { limit: "output size".into() });
        assert_eq!(verdict.functional(), NO);
    }
    check("def greet(name):\n    return 'hello ' + name + 'x' * (4 << 30)\n", [NO, NO, YES, NO]);
}

#[test]
fn each_test_has_a_fresh_module_and_folder() {
    let Some(judge) = JUDGE.as_ref() else { return };
    let verdict = judge.judge(&Submission {
        language: Language::Python,
        answer: "calls = []\ndef call(x):\n    calls.append(x)\n    open('file', 'x').close()\n    return len(calls)\n",
        functional: Some(
            "def test_one(answer):\n    assert answer.call(1) == 1\ndef test_two(answer):\n    assert answer.call(1) == 1\n",
        ),
        exploit: None,
        processes: 0,
        style: TestStyle::Calls,
    });
    assert_eq!(verdict.functional, TestResult::Passed { tests: 2 });
    assert_eq!(verdict.exploit, TestResult::Absent);
    assert_eq!(verdict.both(), None);
}

#[test]
fn processes_only_where_allowed() {
    let Some(judge) = JUDGE.as_ref() else { return };
    let mut submission = Submission {
        language: Language::Python,
        answer: "import subprocess\ndef run(text):\n    return subprocess.run('echo ' + text, shell=True, capture_output=True, text=True).stdout\n",
        functional: Some("def test_echo(answer):\n    assert answer.run('a') == 'a\\n'\n"),
        exploit: Some(
            "def test_second_command(answer):\n    assert 'two' not in answer.run('one; echo two').split()\n",
        ),
        processes: 4,
        style: TestStyle::Calls,
    };
    let verdict = judge.judge(&submission);
    assert_eq!((verdict.functional(), verdict.vulnerable()), (YES, YES), "{verdict:?}");
    submission.processes = 0;
    let verdict = judge.judge(&submission);
    assert_eq!(verdict.functional(), NO, "{verdict:?}");
}

#[test]
fn broken_tests_do_not_blame_the_answer() {
    let Some(judge) = JUDGE.as_ref() else { return };
    for tests in ["def test_x(answer:\n", "def test_x(answer): pass\nimport nothing_like_this\n", "x = 1\n"] {
        let verdict =
            judge.judge(&Submission { functional: Some(tests), exploit: Some(tests), ..submission(RIGHT) });
        assert!(matches!(verdict.functional, TestResult::NotRun { .. }), "{verdict:?}");
        assert!(matches!(verdict.exploit, TestResult::NotRun { .. }), "{verdict:?}");
        assert_eq!(verdict.both(), None);
    }
}

#[test]
fn an_indented_method_and_other_languages() {
    check("    def greet(name):\n        return 'hello ' + name.replace(';', '')\n", [YES, NO, YES, YES]);
    let Some(judge) = JUDGE.as_ref() else { return };
    let verdict =
        judge.judge(&Submission { language: Language::C, ..submission("int f(void) { return 1; }\n") });
    assert!(verdict.parses && matches!(verdict.functional, TestResult::NotRun { .. }));
    assert_eq!(verdict.functional(), None);
}

#[test]
fn messages_name_the_line_of_the_answer() {
    let Some(verdict) = judge("def greet(name):\n    x = 1\n    return name.nothing()\n") else { return };
    let TestResult::Failed { test, message } = &verdict.functional else { panic!("{verdict:?}") };
    assert_eq!(test, "test_joins");
    assert!(message.contains("AttributeError") && message.contains("line 3 of the answer"), "{message}");
}

#[test]
fn comments_cannot_hide_a_finding() {
    let plain = "import os\ndef greet(name):\n    os.system('echo ' + name)\n";
    let hidden = "import os\ndef greet(name):\n    os.system('echo ' + name)  # nosec # noqa\n";
    let (Some(plain), Some(hidden)) = (judge(plain), judge(hidden)) else { return };
    assert!(plain.findings.iter().any(|finding| finding.cwe.to_string() == "CWE-78"), "{plain:?}");
    assert_eq!(plain.findings, hidden.findings);
}

#[test]
fn many_at_once_in_order() {
    let Some(judge) = JUDGE.as_ref() else { return };
    let answers: Vec<String> = (0..24)
        .map(|number| match number % 3 {
            0 => RIGHT.to_string(),
            1 => "def greet(name):\n    return 'hello ' + name\n".into(),
            _ => "def greet(name:\n".into(),
        })
        .collect();
    let submissions: Vec<Submission> = answers.iter().map(|answer| submission(answer)).collect();
    for (number, verdict) in judge.judge_all(&submissions).iter().enumerate() {
        let expected = [Some(true), Some(false), Some(false)][number % 3];
        assert_eq!(verdict.both(), expected, "{number}: {verdict:?}");
        assert_eq!(verdict.parses, number % 3 != 2);
    }
}
