//! Attempts to escape. Each is made inside the sandbox as root and as an ordinary user, by a cold start and from a warm
//! interpreter, with everything that the machine offers and with landlock, seccomp and limits alone; there it has to be
//! stopped. Then it is made outside, to show that it is the sandbox that stops it. The table is printed:
//!
//! ```text
//! cargo test -p vul2safe-sandbox --test escapes -- --nocapture
//! ```
//!
//! Started as root the test does the ordinary user's half by a copy of itself under a user that nobody has. It needs
//! `python3` in `/usr/bin`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use vul2safe_sandbox::{Policy, Sandbox};

#[path = "escapes/attempts.rs"]
mod attempts;
#[path = "escapes/half.rs"]
mod half;

const PYTHON: &str = "/usr/bin/python3";
/// The user of the ordinary half.
const ORDINARY: u32 = 61_234;
/// Set for the copy that does the ordinary half: the setuid program to try.
const HALF: &str = "VUL2SAFE_ESCAPES_SETUID";

/// What came of one attempt at each place.
type Results = BTreeMap<(String, String), String>;

#[test]
fn every_attempt_is_blocked() {
    if !Path::new(PYTHON).exists() {
        return println!("skipped: {PYTHON} not found");
    }
    if let Err(error) = Sandbox::new(Policy::default()) {
        return println!("skipped: {error}");
    }
    // SAFETY: geteuid cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    if let Ok(setuid) = std::env::var(HALF) {
        for ((name, place), verdict) in half::results("user", Some(&setuid).filter(|path| !path.is_empty())) {
            println!("RESULT\t{name}\t{place}\t{verdict}");
        }
        return;
    }
    let mut results = Results::new();
    if root {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let setuid = folder.path().join("setuid");
        std::fs::copy("/usr/bin/id", &setuid).unwrap();
        std::fs::set_permissions(&setuid, PermissionsExt::from_mode(0o4755)).unwrap();
        results.extend(half::results("root", None));
        results.extend(ordinary_half(folder.path(), &setuid));
    } else {
        println!("not root: only the ordinary user's half");
        results.extend(half::results("user", None));
    }
    judge(&results, root);
}

/// Runs a copy of this program as an ordinary user.
fn ordinary_half(folder: &Path, setuid: &Path) -> Results {
    let copy = folder.join("escapes");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).unwrap();
    let output = Command::new(&copy)
        .args(["--exact", "every_attempt_is_blocked", "--nocapture"])
        .env_clear()
        .env(HALF, setuid)
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", folder)
        .env("TMPDIR", "/tmp")
        .current_dir("/")
        .uid(ORDINARY)
        .gid(ORDINARY)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let mut results = Results::new();
    for line in text.lines().filter_map(|line| line.split_once("RESULT\t")).map(|(_, line)| line) {
        let parts: Vec<&str> = line.splitn(3, '\t').collect();
        results.insert((parts[0].into(), parts[1].into()), parts[2].into());
    }
    assert!(!results.is_empty(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    results
}

/// Prints the table and fails if anything escaped or was not tried.
fn judge(results: &Results, root: bool) {
    let mut wrong = Vec::new();
    let mut shown = 0;
    let mut names: Vec<&str> = attempts::ATTEMPTS.iter().map(|attempt| attempt.name).collect();
    names.extend(half::SCENARIOS);
    println!("{:<48} {:<34} {:<26} {:<26}", "attempt", "inside", "outside as root", "outside as a user");
    for &name in &names {
        let mut inside = Vec::new();
        for ((_, place), verdict) in
            results.iter().filter(|((of, place), _)| of == name && place.contains("inside"))
        {
            let held = verdict.starts_with("blocked") || verdict.starts_with("absent");
            if !held {
                wrong.push(format!("{name}, {place}: {verdict}"));
            }
            inside.push(verdict.as_str());
        }
        let expected = if root { 8 } else { 4 };
        if inside.len() < expected {
            wrong.push(format!("{name}: tried at {} places instead of {expected}", inside.len()));
        }
        inside.sort_unstable();
        inside.dedup();
        let outside = |who: &str| -> &str {
            let key = (name.to_owned(), format!("{who} outside"));
            results.get(&key).map_or("–", |verdict| verdict)
        };
        let outsides = [outside("root"), outside("user")];
        for verdict in outsides.iter().filter(|verdict| verdict.starts_with("BROKEN")) {
            wrong.push(format!("{name}, outside: {verdict}"));
        }
        let note = if outsides.iter().any(|verdict| verdict.starts_with("ESCAPED")) {
            shown += 1;
            ""
        } else if outsides == ["–"; 2] {
            "needs two runs"
        } else {
            "blocked by this kernel already"
        };
        println!("{name:<48} {:<34} {:<26} {:<26} {note}", inside.join(", "), outsides[0], outsides[1]);
    }
    println!("{} attempts, {shown} of them shown to succeed outside the sandbox", names.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A table in which nothing succeeds outside would say nothing about the sandbox.
    assert!(!root || shown >= 30, "only {shown} attempts succeed outside");
}
