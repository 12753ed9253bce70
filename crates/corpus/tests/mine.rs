//! Mining repositories that these tests build with git: exactly the expected records.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use vul2safe_corpus::{CorpusError, DropReason, Imported, MineConfig, mine};

struct Repository {
    folder: tempfile::TempDir,
    day: u32,
}

impl Repository {
    fn new() -> Self {
        let repository = Self { folder: tempfile::tempdir().unwrap(), day: 0 };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn git(&self, arguments: &[&str]) -> String {
        let date = format!("2021-03-{:02}T12:00:00Z", self.day.max(1));
        let output = Command::new("git")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")])
            .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@example.org")])
            .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@example.org")])
            .envs([("GIT_AUTHOR_DATE", &date), ("GIT_COMMITTER_DATE", &date)])
            .arg("-C")
            .arg(self.path())
            .args(arguments)
            .output()
            .expect("git is installed");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Commits everything, a day later than the last time, and returns the id.
    fn commit(&mut self, message: &str) -> String {
        self.day += 1;
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn mine(&self) -> Imported {
        mined(self.path(), &MineConfig { project: Some("own/project".into()), ..MineConfig::default() })
    }
}

fn mined(path: &Path, config: &MineConfig) -> Imported {
    let imported = mine(path, config).unwrap();
    assert_eq!(imported.read, imported.records.len() + imported.dropped.len());
    imported
}

/// `function: vulnerable line -> secure line` of each record, by the lines that differ.
fn changes(imported: &Imported) -> Vec<String> {
    imported
        .records
        .iter()
        .map(|record| {
            let secure = record.secure.as_deref().unwrap();
            let only = |text: &str, other: &str| {
                let lines = text.lines().filter(|line| !other.lines().any(|known| known == *line));
                lines.map(str::trim).collect::<Vec<_>>().join("; ")
            };
            format!(
                "{} {}: {} -> {}",
                record.file_name.as_deref().unwrap(),
                record.function.as_deref().unwrap(),
                only(&record.vulnerable, secure),
                only(secure, &record.vulnerable)
            )
        })
        .collect()
}

fn drops(imported: &Imported) -> BTreeMap<DropReason, usize> {
    imported.counts()
}

const FIND: &str = "def find(db, name):\n    return db.execute('SELECT * FROM t WHERE n = ' + name)\n";
const FOUND: &str = "def find(db, name):\n    return db.execute('SELECT * FROM t WHERE n = ?', (name,))\n";
const COUNT: &str = "\n\ndef count(db):\n    return db.execute('SELECT count(*) FROM t').fetchone()[0]\n";
const MIT: &str = "MIT License\n\nPermission is hereby granted, free of charge, to any person ... WITHOUT WARRANTY OF ANY KIND\n";

#[test]
fn one_record_for_each_changed_function_with_its_origin() {
    let mut repository = Repository::new();
    repository.write("LICENSE", MIT);
    repository.write("src/db.py", &[FIND, COUNT].concat());
    repository.write("tests/test_db.py", "def test_find():\n    assert find(DB, 'a')\n");
    repository.write("third_party/zip.c", "int zip(int a)\n{\n    return a;\n}\n");
    repository.write("README", "text");
    repository.commit("Start");
    repository.write("src/db.py", &[FOUND, COUNT].concat());
    repository.write("tests/test_db.py", "def test_find():\n    assert not find(DB, \"' OR 1\")\n");
    repository.write("third_party/zip.c", "int zip(int a)\n{\n    return a + 1;\n}\n");
    repository.write("README", "other text");
    let fix = repository.commit("Bind the name in find\n\nFixes CVE-2021-0001 (CWE-89, cwe-943).");
    repository.write("src/db.py", &[FOUND, &COUNT.replace("t'", "t  '")].concat());
    repository.commit("Tidy up");
    let imported = repository.mine();
    assert_eq!(
        changes(&imported),
        [
            "src/db.py find: return db.execute('SELECT * FROM t WHERE n = ' + name) -> return db.execute('SELECT * FROM t WHERE n = ?', (name,))"
        ]
    );
    let record = &imported.records[0];
    assert_eq!(record.commit.as_deref(), Some(fix.as_str()));
    assert_eq!(record.date.as_deref(), Some("2021-03-02"));
    assert_eq!(record.cve.as_deref(), Some("CVE-2021-0001"));
    let cwe: Vec<String> = record.cwe.iter().map(ToString::to_string).collect();
    assert_eq!(cwe, ["CWE-89", "CWE-943"]);
    assert_eq!(record.license.as_deref(), Some("MIT"));
    assert_eq!(record.project.as_deref(), Some("own/project"));
    assert_eq!(
        (record.vulnerable.as_str(), record.secure.as_deref()),
        (FIND.trim_end(), Some(FOUND.trim_end()))
    );
    let expected =
        [(DropReason::UnknownLanguage, 1), (DropReason::TestCode, 1), (DropReason::VendoredCode, 1)];
    assert_eq!(drops(&imported), BTreeMap::from(expected));
    let test = imported.dropped.iter().find(|dropped| dropped.reason == DropReason::TestCode).unwrap();
    assert_eq!(test.place, format!("{}:tests/test_db.py", &fix[..12]));
}

#[test]
fn functions_are_followed_through_renames_and_moves() {
    let mut repository = Repository::new();
    let read = |bound: &str| {
        format!(
            "/* SPDX-License-Identifier: GPL-2.0-only */\nstatic int read_name(char *to, const char *from)\n{{\n    int i;\n    for (i = 0; {bound}; i++)\n        to[i] = from[i];\n    to[i] = 0;\n    return i;\n}}\n"
        )
    };
    let escape = |name: &str, quotes: &str| {
        format!(
            "def {name}(text):\n    text = text.replace('&', '&amp;')\n    text = text.replace('<', '&lt;')\n    text = text.replace('>', '&gt;')\n{quotes}    return text\n"
        )
    };
    let quotes = "    text = text.replace('\"', '&quot;')\n";
    let title = "\n\ndef title(page):\n    words = page.title.split()\n    return ' '.join(word.capitalize() for word in words)\n";
    let class = |body: &str| {
        format!(
            "class Page:\n    def show(self, name):\n        {body}\n\n    def size(self):\n        return 1\n"
        )
    };
    repository.write("src/parse.c", &read("from[i]"));
    repository.write("src/web.py", &[escape("escape", "").as_str(), title].concat());
    repository.write("src/other.py", "import os\n");
    repository.write("src/page.py", &class("return open(self.root + name)"));
    repository.commit("Start");
    repository.git(&["mv", "src/parse.c", "src/reader.c"]);
    repository.write("src/reader.c", &read("from[i] && i < 63"));
    repository.commit("Avoid a buffer overflow in names");
    // `escape` goes to another file and is mended on the way, `title` goes there as it is.
    repository.write("src/web.py", "import os\n");
    repository.write("src/other.py", &["import os\n\n\n", escape("escape", quotes).as_str(), title].concat());
    repository.commit("Escape quotes too: XSS");
    repository.write("src/page.py", &class("return open(safe_join(self.root, name))"));
    repository.commit("Refuse path traversal");
    // Another name, and a fix: then another name alone.
    repository.write(
        "src/other.py",
        &["import os\n\n\n", escape("escape_html", &quotes.replace('"', "\\'")).as_str(), title].concat(),
    );
    repository.commit("CVE-2021-0009: escape_html");
    repository.write(
        "src/other.py",
        &["import os\n\n\n", escape("html_escape", &quotes.replace('"', "\\'")).as_str(), title].concat(),
    );
    repository.commit("CVE-2021-0009: a better name");
    repository.write(
        "src/other.py",
        &[
            "import os\n\n\n",
            escape("html_escape", &["    # Quotes too\n", &quotes.replace('"', "\\'")].concat()).as_str(),
            title,
        ]
        .concat(),
    );
    repository.commit("CVE-2021-0009: say why");
    let imported = repository.mine();
    assert_eq!(
        changes(&imported),
        [
            "src/reader.c read_name: for (i = 0; from[i]; i++) -> for (i = 0; from[i] && i < 63; i++)",
            "src/other.py escape:  -> text = text.replace('\"', '&quot;')",
            "src/page.py show: return open(self.root + name) -> return open(safe_join(self.root, name))",
            "src/other.py escape_html: def escape(text):; text = text.replace('\"', '&quot;') -> def escape_html(text):; text = text.replace('\\'', '&quot;')",
        ]
    );
    assert_eq!(imported.records[0].license.as_deref(), Some("GPL-2.0-only"));
    assert!(imported.records[1].license.is_none() && imported.records[1].cwe.is_empty());
    assert_eq!(
        imported.records[2].vulnerable,
        "    def show(self, name):\n        return open(self.root + name)"
    );
    assert_eq!(drops(&imported), BTreeMap::from([(DropReason::OnlyMoved, 2), (DropReason::OnlyComments, 1)]));
}

#[test]
fn a_reverted_fix_is_no_fix_and_a_revert_is_none() {
    let mut repository = Repository::new();
    let file = |first: &str, second: &str, third: &str| {
        format!(
            "def one(x):\n    return {first}\n\n\ndef two(x):\n    return {second}\n\n\ndef three(x):\n    return {third}\n"
        )
    };
    repository.write("a.py", &file("eval(x)", "exec(x)", "system(x)"));
    repository.commit("Start");
    repository.write("a.py", &file("int(x)", "exec(x)", "system(x)"));
    repository.commit("Fix code injection in one");
    repository.git(&["revert", "--no-edit", "HEAD"]);
    repository.write("a.py", &file("eval(x)", "float(x)", "system(x)"));
    repository.commit("Fix code injection in two");
    repository.git(&["revert", "--no-edit", "HEAD"]);
    repository.git(&["revert", "--no-edit", "HEAD"]);
    repository.write("a.py", &file("eval(x)", "float(x)", "run([x])"));
    repository.commit("Fix command injection in three");
    repository.write("a.py", &file("eval(x)", "float(x)", "system(x)"));
    repository.commit("Revert \"Fix command injection in three\"\n\nIt broke everything.");
    let imported = repository.mine();
    assert_eq!(changes(&imported), ["a.py two: return exec(x) -> return float(x)"]);
    let counts = drops(&imported);
    assert_eq!(counts.get(&DropReason::RevertedFix), Some(&2));
    assert_eq!(
        counts.keys().filter(|reason| **reason != DropReason::RevertedFix).collect::<Vec<_>>(),
        [&DropReason::RevertCommit]
    );
}

#[test]
fn a_merge_counts_where_its_own_commits_do_not() {
    let mut repository = Repository::new();
    let file = |argument: &str| format!("def run(x):\n    return call({argument})\n");
    repository.write("a.py", &file("x"));
    repository.write("b.py", &file("x"));
    repository.commit("Start");
    repository.git(&["checkout", "--quiet", "-b", "fix"]);
    repository.write("a.py", &file("[x]"));
    let fix = repository.commit("Prevent command injection (CVE-2021-0004)");
    repository.git(&["checkout", "--quiet", "main"]);
    repository.commit("Unrelated");
    repository.git(&["merge", "--quiet", "--no-ff", "-m", "Merge the fix of CVE-2021-0004", "fix"]);
    repository.git(&["checkout", "--quiet", "-b", "wip"]);
    repository.write("b.py", &file("quote(x)"));
    repository.commit("wip");
    repository.git(&["checkout", "--quiet", "main"]);
    repository.git(&["merge", "--quiet", "--no-ff", "-m", "Merge the fix of CVE-2021-0005", "wip"]);
    let imported = repository.mine();
    assert_eq!(
        changes(&imported),
        ["a.py run: return call(x) -> return call([x])", "b.py run: return call(x) -> return call(quote(x))"]
    );
    assert_eq!(imported.records[0].commit.as_deref(), Some(fix.as_str()));
    assert_eq!(drops(&imported), BTreeMap::from([(DropReason::MergeCommit, 1)]));
}

#[test]
fn a_given_list_of_commits_goes_before_their_messages() {
    let mut repository = Repository::new();
    repository.write("a.py", "def f(x):\n    return eval(x)\n");
    repository.commit("Start");
    repository.write("a.py", "def f(x):\n    return int(x)\n");
    let plain = repository.commit("Be strict");
    repository.write("a.py", "def f(x):\n    return float(x)\n");
    repository.commit("Fix CVE-2021-0007");
    let commits = vec![plain[..10].to_uppercase(), "0123456789".into()];
    let imported = mined(repository.path(), &MineConfig { commits, ..MineConfig::default() });
    assert_eq!(changes(&imported), ["a.py f: return eval(x) -> return int(x)"]);
    assert_eq!(imported.dropped[0].reason, DropReason::UnknownCommit);
    assert_eq!(imported.dropped[0].place, "0123456789");
    let folder = repository.path().canonicalize().unwrap();
    assert_eq!(imported.records[0].project.as_deref(), folder.file_name().and_then(|name| name.to_str()));
    repository.git(&["remote", "add", "origin", "git@example.org:team/tool.git"]);
    let imported = mined(repository.path(), &MineConfig { commits: vec![plain], ..MineConfig::default() });
    assert_eq!(imported.records[0].project.as_deref(), Some("team/tool"));
}

#[test]
fn nothing_of_a_repository_is_run() {
    let mut repository = Repository::new();
    repository.write("a.py", FIND);
    repository.commit("Start");
    repository.write("a.py", FOUND);
    repository.commit("Fix CVE-2021-0001");
    let mark = repository.path().join("was-run");
    let program = repository.path().join("program.sh");
    std::fs::write(&program, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
    Command::new("chmod").arg("+x").arg(&program).status().unwrap();
    let program = program.to_str().unwrap();
    for (name, value) in [
        ("core.fsmonitor", program),
        ("core.pager", program),
        ("core.sshCommand", program),
        ("core.editor", program),
        ("diff.external", program),
        ("diff.evil.textconv", program),
        ("diff.evil.command", program),
        ("filter.evil.smudge", program),
        ("filter.evil.clean", program),
        ("gpg.program", program),
        ("log.showSignature", "true"),
        ("alias.rev-list", "!touch was-run"),
        ("alias.cat-file", "!touch was-run"),
        ("remote.origin.url", "ext::sh -c touch% was-run"),
    ] {
        repository.git(&["config", name, value]);
    }
    std::fs::write(repository.path().join(".git/info/attributes"), "*.py diff=evil filter=evil\n").unwrap();
    for hook in ["post-checkout", "pre-commit", "reference-transaction", "post-index-change"] {
        std::fs::copy(program, repository.path().join(".git/hooks").join(hook)).unwrap();
    }
    assert_eq!(repository.mine().records.len(), 1);
    mined(repository.path(), &MineConfig::default());
    assert!(!mark.exists());
}

#[test]
fn what_is_no_repository_or_revision_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path, config: &MineConfig| mine(path, config).unwrap_err();
    let absent = error(&folder.path().join("none"), &MineConfig::default());
    assert!(absent.hint().is_some_and(|hint| hint.contains("git repository")), "{absent}");
    let none = error(folder.path(), &MineConfig::default());
    assert!(none.to_string().contains("not a git repository") && none.hint().is_some(), "{none}");
    let repository = Repository::new();
    let config = |revision: &str| MineConfig { revision: revision.into(), ..MineConfig::default() };
    assert!(matches!(error(repository.path(), &config("HEAD")), CorpusError::Git { .. }));
    assert!(matches!(error(repository.path(), &config("--output=x")), CorpusError::Git { .. }));
    let odd = MineConfig { commits: vec!["HEAD; rm".into()], ..MineConfig::default() };
    assert!(error(repository.path(), &odd).to_string().contains("`HEAD; rm`"));
}
