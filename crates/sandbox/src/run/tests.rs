//! The control of `tests/isolation.rs`: with the protections taken away the same attempts succeed, so it is the
//! protections that stop them.

use super::*;
use crate::Ended;
use crate::job::Limits;
use crate::resources::hard_limit;

const UNPROTECTED: Capabilities = Capabilities {
    landlock: 0,
    seccomp: false,
    separate_user: false,
    user_namespace: false,
    process_namespace: false,
    network_namespace: false,
    ipc_namespace: false,
    private_file_system: false,
    open_file_system: false,
    signal_scope: false,
};

#[test]
fn without_protection_the_same_attempts_succeed() {
    let outside = tempfile::tempdir().unwrap();
    let (secret, target) = (outside.path().join("secret"), outside.path().join("target"));
    std::fs::write(&secret, "the secret").unwrap();
    let script = format!("cat '{}' && echo x > '{}' && (true)", secret.display(), target.display());
    let mut job = Job::new(["sh", "-c", &script]);
    job.limits.processes = 4;

    let outcome = Sandbox::with(UNPROTECTED).unwrap().run(&job);
    assert_eq!(outcome.ended, Ended::Exited { code: 0 }, "{}", String::from_utf8_lossy(&outcome.stderr));
    assert_eq!(outcome.stdout, b"the secret");
    assert!(target.exists());

    std::fs::remove_file(&target).unwrap();
    if !Sandbox::capabilities().protects() {
        println!("skipped: this machine has no landlock or no seccomp");
        return;
    }
    let outcome = Sandbox::new(Policy::default()).unwrap().run(&job);
    assert_ne!(outcome.ended, Ended::Exited { code: 0 });
    assert!(outcome.stdout.is_empty() && !target.exists());
}

#[test]
fn what_is_missing_is_refused_and_named() {
    assert!(!UNPROTECTED.protects());
    let error = SandboxError::Unprotected { capabilities: UNPROTECTED };
    let text = error.to_string();
    assert!(text.contains("landlock") && text.contains("seccomp"), "{text}");
    assert!(error.hint().is_some());
}

#[test]
fn limits_never_exceed_what_the_caller_may_use() {
    let limits = Limits { memory_bytes: u64::MAX, ..Limits::default() };
    for (resource, soft, hard) in resource_limits(&limits, true) {
        assert!(soft <= hard && hard <= hard_limit(resource));
    }
}

#[test]
fn a_signal_of_a_limit_is_that_limit() {
    let sandbox = Sandbox::with(UNPROTECTED).unwrap();
    let mut job = Job::new(["sh", "-c", "kill -XFSZ $$"]);
    assert_eq!(sandbox.run(&job).ended, Ended::Killed { limit: crate::Limit::FileSize });
    job.arguments[2] = "kill -TERM $$".into();
    assert_eq!(sandbox.run(&job).ended, Ended::Signalled { signal: libc::SIGTERM });
}
