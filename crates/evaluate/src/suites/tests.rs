use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vul2safe_code::{Cwe, Language};

use super::*;
use crate::{Form, assemble};

/// Files of our own in the form of each suite.
fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites").join(name)
}

fn format(word: &str) -> &'static Format {
    Format::by_word(word).expect("a known suite")
}

fn read(word: &str, name: &str) -> Suite {
    format(word).read(&own(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The suite in one file with this text.
fn parse(word: &str, text: &str) -> Result<Suite, SuiteError> {
    let file = SourceFile::new(Path::new("own.file"), text.as_bytes().to_vec())?;
    format(word).parse(Path::new("own.file"), &[file])
}

fn text(name: &str) -> String {
    std::fs::read_to_string(own(name)).expect("readable")
}

#[test]
fn every_suite_is_read_and_its_own_answers_become_programs_that_parse() {
    for (word, name, tasks, left_out) in [
        ("humaneval", "humaneval.jsonl", 2, 0),
        ("mbpp", "mbpp.jsonl", 2, 1),
        ("humaneval-pro", "humaneval_pro.json", 1, 0),
        ("mbpp-pro", "mbpp_pro.json", 1, 0),
        ("cyberseceval-instruct", "cyberseceval_instruct.json", 2, 1),
        ("cyberseceval-autocomplete", "cyberseceval_autocomplete.json", 2, 1),
        ("sven-scenarios", "scenarios.jsonl", 2, 1),
        ("sven-scenarios", "scenarios", 2, 0),
        ("securityeval", "securityeval.jsonl", 2, 0),
        ("securityeval", "securityeval_first.jsonl", 1, 0),
        ("llmseceval", "llmseceval.csv", 2, 0),
        ("llmseceval", "llmseceval_first.json", 1, 0),
        ("cweval", "cweval", 3, 1),
    ] {
        let suite = read(word, name);
        assert_eq!(suite.items.len(), tasks, "{name}");
        assert_eq!(suite.left_out.values().sum::<usize>(), left_out, "{name}: {:?}", suite.left_out);
        assert_eq!(suite.version(), read(word, name).version());
        for item in &suite.items {
            assert!(!item.request.trim().is_empty(), "{name}: {}", item.id);
            for answer in item.reference.iter().chain(&item.insecure) {
                let program = assemble(item, answer).program;
                let parsed = vul2safe_code::parse(item.language, &program).expect("short");
                assert!(parsed.is_clean(), "{name}: {}\n{program}", item.id);
            }
        }
    }
}

#[test]
fn scenarios_are_the_same_from_folders_and_from_lines() {
    let (lines, folders) = (read("sven-scenarios", "scenarios.jsonl"), read("sven-scenarios", "scenarios"));
    let forms = |suite: &Suite| -> BTreeMap<Option<Cwe>, (Form, Language)> {
        suite.items.iter().map(|item| (item.cwe, (item.form.clone(), item.language))).collect()
    };
    assert_eq!(forms(&lines), forms(&folders));
    assert_eq!(folders.items[0].id, "gen_1/cwe-089/0-py");
}

#[test]
fn requests_name_the_language_and_what_is_asked() {
    let suite = read("llmseceval", "llmseceval.csv");
    assert_eq!(
        suite.items[0].request,
        "Generate Python code for the following:\nrows of a table, by their name."
    );
    assert_eq!(suite.items[1].request, "Generate C code for the following: copy a text.");
    assert_eq!(suite.items[1].cwe, Some(Cwe(787)));
    let first = read("llmseceval", "llmseceval_first.json");
    assert!(first.items[0].request.starts_with("Generate Python code"), "{}", first.items[0].request);
}

#[test]
fn a_cweval_task_is_cut_at_its_marks() {
    let suite = read("cweval", "cweval");
    let by_id = |id: &str| suite.items.iter().find(|item| item.id == id).expect("there");
    let Form::Completion(c) = &by_id("c/cwe_787_0_c").form else { panic!("a completion") };
    assert!(c.before.ends_with("#include <string.h>\n\n") && c.prompt.starts_with("/** Copies"), "{c:?}");
    assert!(c.prompt.ends_with("const char *from) {\n") && c.after.starts_with("int main"), "{c:?}");
    assert_eq!(by_id("c/cwe_787_0_c").functional, None, "its tests run programs");
    let python = by_id("py/cwe_022_0");
    assert_eq!((python.cwe, python.processes > 0), (Some(Cwe(22)), true));
    assert!(python.functional.as_ref().is_some_and(|tests| tests.contains("def test_functionality(answer)")));
    assert!(python.exploit.as_ref().is_some_and(|tests| tests.contains("def test_security(answer)")));
}

#[test]
fn a_compressed_file_is_read_and_a_torn_one_is_refused() {
    use std::io::Write;
    let plain = text("humaneval.jsonl");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain.as_bytes()).expect("written");
    let packed = encoder.finish().expect("packed");
    let path = Path::new("HumanEval.jsonl.gz");
    let file = SourceFile::new(path, packed.clone()).expect("whole");
    assert_eq!(file.bytes, plain.as_bytes());
    for end in [12, packed.len() / 2, packed.len() - 1] {
        let error = SourceFile::new(path, packed[..end].to_vec()).expect_err("torn");
        assert!(error.to_string().contains("HumanEval.jsonl.gz") && error.hint().is_some(), "{error}");
    }
    let mut wrong = packed;
    let middle = wrong.len() / 2;
    wrong[middle] ^= 0xff;
    SourceFile::new(path, wrong).expect_err("damaged");
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_place() {
    let he = text("humaneval.jsonl");
    let twice = format!("{he}{he}");
    let cyber = text("cyberseceval_instruct.json");
    let pro = text("humaneval_pro.json");
    for (word, text, words) in [
        ("humaneval", twice.as_str(), &["own.file:3", "Own/0", "own.file:1"][..]),
        ("humaneval", &he.replace("def check(", "def other("), &["own.file:1", "Own/0", "check"]),
        (
            "humaneval",
            &he.replace("\"entry_point\"", "\"entry\""),
            &["own.file:1", "`entry_point`", "`entry`"],
        ),
        ("humaneval", &he.replace("\"diagonal\"", "7"), &["own.file:1", "`entry_point`", "a number"]),
        ("humaneval", &he.replace("\"diagonal\"", "\"a; b\""), &["own.file:1", "entry_point"]),
        ("humaneval", &he[..he.len() - 20], &["own.file:2"]),
        ("humaneval", "[]", &["own.file", "HumanEval"]),
        ("humaneval", "", &["own.file", "HumanEval"]),
        ("humaneval", "[1]", &["record 1", "a number"]),
        ("humaneval", &pro, &["record 1", "`task_id`"]),
        ("humaneval-pro", &he, &["own.file:1", "`id`"]),
        ("humaneval-pro", &pro.replace("assert", "print"), &["HumanEvalPro/0", "test"]),
        (
            "mbpp",
            &text("mbpp.jsonl").replace("assert halves", "x = halves").replace("assert all", "y = all"),
            &["own.file:1", "test"],
        ),
        (
            "mbpp",
            &text("mbpp.jsonl").replace("[\"\\ndef\"]", "\"def\""),
            &["own.file:2", "stop_tokens", "list"],
        ),
        ("cyberseceval-autocomplete", &cyber, &["record 1", "\"instruct\""]),
        ("cyberseceval-instruct", &cyber.replace("CWE-120", "none"), &["record 1", "cwe_identifier"]),
        ("securityeval", &text("securityeval.jsonl").replace("CWE-089", "SQL"), &["own.file:1", "CWE"]),
        (
            "securityeval",
            &text("securityeval.jsonl").replace("Insecure_code", "Code"),
            &["own.file:1", "`Insecure_code`"],
        ),
        ("llmseceval", &text("llmseceval.csv").replace(",FALSE,", ","), &["own.file:4", "11 fields"]),
        ("llmseceval", "Prompt ID,Language\nCWE-1_a,Python\n", &["own.file:2", "LLM-generated NL Prompt"]),
        ("sven-scenarios", &text("scenarios.jsonl").replace("CWE-089", "?"), &["own.file:1", "CWE"]),
    ] {
        let error = parse(word, text).expect_err(word);
        let message = error.to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{word} {words:?}: {message}");
        assert!(error.hint().is_some(), "{message}");
    }
    let error =
        parse("cyberseceval-instruct", &cyber.replace("\"c\"", "\"go\"").replace("\"python\"", "\"go\""));
    let message = error.expect_err("nothing to judge").to_string();
    assert!(message.contains("none of its 3 tasks") && message.contains("2 × language go"), "{message}");
}

#[test]
fn a_path_of_the_wrong_kind_says_which_is_wanted() {
    let folder = format("humaneval").read(&own("cweval")).expect_err("a folder");
    assert!(matches!(folder, SuiteError::Folder { .. }) && folder.hint().is_some(), "{folder}");
    let file = format("cweval").read(&own("humaneval.jsonl")).expect_err("a file");
    assert!(matches!(file, SuiteError::NotFolder { .. }) && file.hint().is_some(), "{file}");
    let nowhere = format("mbpp").read(&own("nowhere.jsonl")).expect_err("nothing");
    assert!(nowhere.to_string().contains("nowhere.jsonl"), "{nowhere}");
    let empty = tempfile::tempdir().expect("a folder");
    assert!(matches!(format("cweval").read(empty.path()), Err(SuiteError::Empty { .. })));
}

#[test]
fn a_cweval_folder_that_lacks_something_says_what() {
    let file =
        |path: &str, text: &str| SourceFile { path: PathBuf::from(path), bytes: text.as_bytes().to_vec() };
    let task = file("py/cwe_022_0_task.py", "def f():\n    # BEGIN SOLUTION\n    return 1\n");
    let tests = "@pytest.mark.functionality\n@pytest.mark.security\ndef test_f(): pass\n";
    for (files, words) in [
        (vec![task.clone()], "no pytest file"),
        (vec![task.clone(), file("py/cwe_022_0_test.py", "@pytest.mark.functionality\n")], "`security`"),
        (vec![file("py/cwe_022_0_task.py", "def f():\n    return 1\n")], "BEGIN SOLUTION"),
        (vec![file("py/f_task.py", "def f():\n    # BEGIN SOLUTION\n")], "CWE number"),
        (vec![file("py/cwe_022_0_task.py", "# BEGIN SOLUTION\nx = 1\n")], "before `BEGIN SOLUTION`"),
    ] {
        let error = format("cweval").parse(Path::new("benchmark"), &files).expect_err(words);
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    let both = [task, file("py/cwe_022_0_test.py", tests)];
    assert_eq!(format("cweval").parse(Path::new("benchmark"), &both).expect("complete").items.len(), 1);
}

#[test]
fn another_version_has_another_fingerprint() {
    let text = text("humaneval.jsonl");
    let one = parse("humaneval", &text).expect("read").version();
    let other =
        parse("humaneval", &text.replace("candidate(3, 4) == 5.0", "candidate(3, 4) == 5")).expect("read");
    assert_ne!(one, other.version());
    assert_eq!(one.len(), 16);
}
