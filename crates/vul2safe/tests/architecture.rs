//! Holds ARCHITECTURE.md's import table and its rules against the sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What each crate may import, from the table of the page.
fn allowed() -> Vec<(String, BTreeSet<String>)> {
    let page = read(&workspace().join("ARCHITECTURE.md"));
    page.lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').collect();
            let name = cells.first()?.trim().trim_end_matches('`').to_owned();
            let imports =
                cells.get(2)?.split_whitespace().filter(|word| *word != "–").map(str::to_owned).collect();
            Some((name, imports))
        })
        .collect()
}

fn dependencies(crate_folder: &str) -> BTreeSet<String> {
    let manifest: toml::Table =
        toml::from_str(&read(&workspace().join("crates").join(crate_folder).join("Cargo.toml")))
            .expect("TOML");
    let table = manifest["dependencies"].as_table().expect("a table");
    table.keys().filter_map(|name| name.strip_prefix("vul2safe-")).map(str::to_owned).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

#[test]
fn crates_import_what_the_table_allows() {
    let allowed = allowed();
    let folders: BTreeSet<String> = std::fs::read_dir(workspace().join("crates"))
        .expect("crates/")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    let named: BTreeSet<String> = allowed.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(folders, named, "ARCHITECTURE.md names other crates than there are");
    for (name, imports) in allowed.iter().filter(|(_, imports)| !imports.contains("all")) {
        let extra: Vec<String> = dependencies(name).difference(imports).cloned().collect();
        assert!(extra.is_empty(), "`{name}` imports {extra:?}, which ARCHITECTURE.md does not allow");
    }
}

#[test]
fn only_the_sandbox_starts_processes_and_only_the_client_is_async() {
    for (name, _) in allowed() {
        let mut files = Vec::new();
        sources(&workspace().join("crates").join(&name).join("src"), &mut files);
        for file in files {
            let text = read(&file);
            let is_async = text.contains("tokio") || text.contains("async fn");
            assert!(name == "llm" || !is_async, "{}: async", file.display());
            let starts = text.contains("std::process::Command")
                || text.contains("process::Command")
                || text.contains("libc::fork");
            let is_test = file.to_string_lossy().contains("tests");
            // Mining reads the objects of a repository through git; ARCHITECTURE.md says what that module may not do.
            let is_git = file.ends_with("crates/corpus/src/mine/git.rs");
            assert!(
                name == "sandbox" || is_test || is_git || !starts,
                "{}: starts a process",
                file.display()
            );
        }
    }
}

/// The one process outside the sandbox reads, and is given nothing that a repository's author could have it run.
#[test]
fn git_is_started_without_configuration_hooks_or_pagers() {
    let text = read(&workspace().join("crates/corpus/src/mine/git.rs"));
    assert_eq!(text.matches("Command::new(").count(), 1);
    for needed in [
        "Command::new(\"git\")",
        "env_clear()",
        "--no-pager",
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
    ] {
        assert!(text.contains(needed), "git.rs lacks {needed}");
    }
    let mut files = Vec::new();
    sources(&workspace().join("crates/corpus/src/mine"), &mut files);
    for file in files {
        let text = read(&file);
        for word in ["checkout", "\"fetch\"", "\"clone\"", "\"show\"", "\"log\"", "\"diff\""] {
            let comment_free: String =
                text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            assert!(!comment_free.contains(word), "{}: git {word}", file.display());
        }
    }
}

#[test]
fn exploit_tests_are_no_part_of_the_reward() {
    let source = workspace().join("crates/vul2safe/src");
    let scoring = read(&source.join("scoring.rs"));
    assert!(scoring.contains("exploit: None"), "scoring.rs runs no exploit tests");
    assert!(!scoring.contains("exploit: Some"), "scoring.rs runs no exploit tests");
    // Validation runs them to measure; what it finds chooses a checkpoint and goes into no reward.
    for stage in ["ppo", "supervised", "preference", "data"] {
        let text = read(&source.join(format!("stages/arm/{stage}.rs")));
        assert!(!text.contains("exploit"), "the stage `{stage}` of an arm knows nothing of exploit tests");
    }
    assert!(!dependencies("reward").contains("judge") && !dependencies("train").contains("evaluate"));
}
