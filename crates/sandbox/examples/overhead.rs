//! What a run costs: cold and warm, alone and in pairs, and without each protection in turn.
//!
//! ```text
//! cargo run --release -p vul2safe-sandbox --example overhead [seconds for each row]
//! ```
//!
//! Run it once as root and once as an ordinary user. Each row runs on one thread (the median of the wall-clock times)
//! and on two (runs a second).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use vul2safe_sandbox::{Capabilities, Ended, Job, Policy, PythonSetup, Sandbox};

const PYTHON: &str = "/usr/bin/python3";
/// A small test: a function, a call, a comparison, a report.
const TEST: &str = "import json, os\ndef double(x):\n    return 2 * x\nassert double(4) == 8\nos.write(3, json.dumps({'passed': True}).encode())\n";
/// The same with the function on the other side of the channel.
const CALLER: &str = "import json, os\nos.write(4, json.dumps(4).encode())\nassert json.loads(os.read(4, 100)) == 8\nos.write(3, json.dumps({'passed': True}).encode())\n";
const CALLEE: &str = "import json, os\ndef double(x):\n    return 2 * x\nos.write(4, json.dumps(double(json.loads(os.read(4, 100)))).encode())\n";

fn main() {
    let seconds: f64 = std::env::args().nth(1).map_or(2.0, |text| text.parse().expect("a number of seconds"));
    let capabilities = Sandbox::capabilities();
    // SAFETY: geteuid cannot fail.
    let who = if capabilities.separate_user { "root" } else { "an ordinary user" };
    println!("as {who}; {} cores", std::thread::available_parallelism().map_or(1, usize::from));
    println!("{:<44}{:>14}{:>16}", "", "one run", "two threads");

    let whole = sandbox(&capabilities);
    row("cold: /bin/true", seconds, || single(&whole, &Job::new(["true"])));
    let bare = sandbox(&nothing(&capabilities));
    row("cold: /bin/true, no protection", seconds, || single(&bare, &Job::new(["true"])));
    if !std::path::Path::new(PYTHON).exists() {
        return println!("{PYTHON} not found: no further rows");
    }
    let cold = |name: &str| Job::new([PYTHON, "-S", "-s", "-B", "-W", "ignore", name]);
    let mut test = cold("test.py");
    test.files.push(("test.py".into(), TEST.into()));
    let (mut caller, mut callee) = (cold("caller.py"), cold("callee.py"));
    caller.files.push(("caller.py".into(), CALLER.into()));
    callee.files.push(("callee.py".into(), CALLEE.into()));
    row("cold: a Python test", seconds, || single(&whole, &test));
    row("cold: a pair of Python processes", seconds, || pair(&whole, &caller, &callee));

    warm_rows("", &whole, seconds);
    for (name, change) in WITHOUT {
        let mut fewer = capabilities.clone();
        change(&mut fewer);
        if fewer != capabilities {
            warm_rows(&format!(", without {name}"), &sandbox(&fewer), seconds);
        }
    }
    warm_rows(", no protection", &bare, seconds);
}

type Change = fn(&mut Capabilities);

const WITHOUT: &[(&str, Change)] = &[
    ("landlock", |capabilities| capabilities.landlock = 0),
    ("seccomp", |capabilities| capabilities.seccomp = false),
    ("a user of its own", |capabilities| capabilities.separate_user = false),
    ("private file systems", |capabilities| capabilities.private_file_system = false),
    ("IPC and UTS namespaces", |capabilities| capabilities.ipc_namespace = false),
    ("the network namespace", |capabilities| capabilities.network_namespace = false),
    ("user namespaces", |capabilities| capabilities.user_namespace = false),
];

fn nothing(capabilities: &Capabilities) -> Capabilities {
    let mut nothing = capabilities.clone();
    WITHOUT.iter().for_each(|(_, change)| change(&mut nothing));
    nothing
}

fn sandbox(capabilities: &Capabilities) -> Sandbox {
    Sandbox::with_only(Policy { allow_unprotected: true }, capabilities)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn warm_rows(what: &str, sandbox: &Sandbox, seconds: f64) {
    let setup = PythonSetup {
        interpreter: PYTHON.into(),
        modules: vec!["json".into()],
        programs: [("test.py", TEST), ("caller.py", CALLER), ("callee.py", CALLEE)]
            .map(|(name, source)| (name.to_owned(), source.into()))
            .into(),
    };
    let python = match sandbox.warm_python(setup) {
        Ok(python) => python,
        Err(error) => return println!("warm{what}: {error}"),
    };
    let [test, caller, callee] = ["test.py", "caller.py", "callee.py"].map(|name| Job::warm(&python, [name]));
    row(&format!("warm: a Python test{what}"), seconds, || single(sandbox, &test));
    if what.is_empty() {
        row("warm: a pair of Python processes", seconds, || pair(sandbox, &caller, &callee));
    }
}

fn single(sandbox: &Sandbox, job: &Job) {
    let outcome = sandbox.run(job);
    assert_eq!(outcome.ended, Ended::Exited { code: 0 }, "{outcome:?}");
}

fn pair(sandbox: &Sandbox, leader: &Job, follower: &Job) {
    let [outcome, _] = sandbox.run_pair(leader, follower);
    assert_eq!(outcome.ended, Ended::Exited { code: 0 }, "{outcome:?}");
    assert_eq!(outcome.report, br#"{"passed": true}"#);
}

fn row(name: &str, seconds: f64, run: impl Fn() + Sync) {
    let half = Duration::from_secs_f64(seconds / 2.0);
    run();
    let mut times = Vec::new();
    let end = Instant::now() + half;
    while Instant::now() < end {
        let started = Instant::now();
        run();
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let count = AtomicUsize::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while started.elapsed() < half {
                    run();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let rate = count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    let median = times[times.len() / 2].as_secs_f64() * 1e3;
    println!("{name:<44}{median:>11.2} ms{rate:>14.0}/s");
}
