//! Known ways to earn a reward without earning it. Each cheat has to stay below the secure working answer, and
//! may not come out above the vulnerable working one.

mod support;

use support::{patterns, score};
use vul2safe_code::{Language, Span};
use vul2safe_reward::{Cheat, Finding, Origin, Outcome, Patterns, RewardConfig, Score, Sign, score_answer};

const VULNERABLE: &str = "\
import os


def show(folder, name):
    path = os.path.join(folder, name)
    with open(path) as stream:
        return stream.read()
";

/// The fix only inserts, so the vulnerable side has nothing but an anchor.
const SECURE: &str = "\
import os


def show(folder, name):
    path = os.path.realpath(os.path.join(folder, name))
    if os.path.commonpath([folder, path]) != folder:
        raise ValueError(name)
    with open(path) as stream:
        return stream.read()
";

const QUERY_VULNERABLE: &str = "\
def find(db, name):
    rows = db.execute(f\"SELECT id FROM users WHERE name = '{name}'\")
    return rows.fetchall()
";

const QUERY_SECURE: &str = "\
def find(db, name):
    rows = db.execute(\"SELECT id FROM users WHERE name = ?\", (name,))
    return rows.fetchall()
";

fn working() -> Outcome {
    Outcome { functional: Some(true), ..Outcome::unjudged() }
}

fn unparsable() -> Outcome {
    Outcome { parses: false, ..Outcome::unjudged() }
}

fn total(answer: &str, patterns: &Patterns, outcome: Outcome) -> f32 {
    score(answer, patterns, &[], outcome).total
}

/// A cheat that leaves the flaw in, or breaks the code.
#[track_caller]
fn check(patterns: &Patterns, secure: &str, vulnerable: &str, cheat: &str, outcome: Outcome) {
    let secure = total(secure, patterns, working());
    let vulnerable = total(vulnerable, patterns, working());
    let cheated = total(cheat, patterns, outcome);
    assert!(secure > 0.5 && vulnerable < -0.5, "secure {secure}, vulnerable {vulnerable}");
    assert!(cheated < secure, "{cheated} is not below the secure answer's {secure}:\n{cheat}");
    assert!(
        cheated <= vulnerable + 1e-6,
        "{cheated} is above the vulnerable answer's {vulnerable}:\n{cheat}"
    );
}

#[track_caller]
fn check_query(cheat: &str, outcome: Outcome) {
    check(&patterns(QUERY_VULNERABLE, QUERY_SECURE), QUERY_SECURE, QUERY_VULNERABLE, cheat, outcome);
}

#[test]
fn suppression_comments() {
    check_query(&QUERY_VULNERABLE.replace("'\")", "'\")  # nosec B608 NOLINT"), working());
    let comment = QUERY_VULNERABLE.replace("    rows", "    # nosec: parameterised, safe\n    rows");
    check_query(&comment, working());
}

#[test]
fn unparsable_code() {
    check_query(&QUERY_SECURE.replace("(name,))", "(name,)"), unparsable());
    // The judge may be wrong about it; the text is asked as well.
    check_query(&QUERY_SECURE.replace("(name,))", "(name,)"), working());
}

#[test]
fn empty_answers() {
    check_query("", working());
    check_query("  \n", working());
    check_query("# parameterised query\n", working());
}

#[test]
fn truncated_answers() {
    let cut = QUERY_SECURE.split_inclusive('\n').take(2).collect::<String>();
    check_query(&cut, Outcome { truncated: true, ..Outcome::unjudged() });
}

#[test]
fn deleted_behaviour() {
    check_query(
        "def find(db, name):\n    return []\n",
        Outcome { functional: Some(false), ..Outcome::unjudged() },
    );
    // Without tests the intent is compared.
    check_query("def find(db, name):\n    return []\n", Outcome::unjudged());
    check_query("def find(db, name):\n    pass\n", Outcome::unjudged());
    check_query("def other():\n    return 1\n", Outcome::unjudged());
    check_query("users = 1\n", Outcome::unjudged());
}

#[test]
fn the_fix_in_a_string_or_comment() {
    let quoted = "'rows = db.execute(\"SELECT id FROM users WHERE name = ?\", (name,))'";
    check_query(&QUERY_VULNERABLE.replace("    rows", &format!("    fix = {quoted}\n    rows")), working());
    let comment = "# rows = db.execute(\"SELECT id FROM users WHERE name = ?\", (name,))";
    check_query(&QUERY_VULNERABLE.replace("    rows", &format!("    {comment}\n    rows")), working());
    let docstring = "\"\"\"rows = db.execute(\"SELECT id FROM users WHERE name = ?\", (name,))\"\"\"";
    check_query(&QUERY_VULNERABLE.replace("    rows", &format!("    {docstring}\n    rows")), working());
}

#[test]
fn the_fix_in_dead_code() {
    let fix = "rows = db.execute(\"SELECT id FROM users WHERE name = ?\", (name,))";
    for condition in ["if False", "if 0", "while 0", "if not True", "if (None)"] {
        let dead = format!("    {condition}:\n        {fix}\n    rows = db");
        check_query(&QUERY_VULNERABLE.replace("    rows = db", &dead), working());
    }
    check_query(&format!("{QUERY_VULNERABLE}    {fix}\n"), working());
    let nested = format!("    def unused(db, name):\n        {fix}\n        return rows\n    rows = db");
    check_query(&QUERY_VULNERABLE.replace("    rows = db", &nested), working());
    check_query(
        &format!("{QUERY_VULNERABLE}\n\ndef unused(db, name):\n    {fix}\n    return rows\n"),
        working(),
    );
    let twice = format!("{fix}\n        raise KeyError(name)\n        {fix}");
    check_query(
        &QUERY_VULNERABLE.replace("    rows = db", &format!("    if 0:\n        {twice}\n    rows = db")),
        working(),
    );
}

#[test]
fn the_fix_beside_the_flaw() {
    let fix = "rows = db.execute(\"SELECT id FROM users WHERE name = ?\", (name,))";
    check_query(&QUERY_VULNERABLE.replace("    rows = db", &format!("    {fix}\n    rows = db")), working());
}

#[test]
fn repeated_guards() {
    let patterns = patterns(VULNERABLE, SECURE);
    let secure = total(SECURE, &patterns, working());
    let guard = "    if os.path.commonpath([folder, path]) != folder:\n        raise ValueError(name)\n";
    let repeated = SECURE.replace(guard, &guard.repeat(4));
    assert!(total(&repeated, &patterns, working()) <= secure, "a guard pays once");
    // Behind the flaw a guard guards nothing, and behind the return it never runs.
    let late = format!("{VULNERABLE}{}", guard.repeat(3));
    check(&patterns, SECURE, VULNERABLE, &late, working());
}

#[test]
fn renamed_variables_neither_hide_a_flaw_nor_lose_a_fix() {
    let patterns = patterns(QUERY_VULNERABLE, QUERY_SECURE);
    let rename = |text: &str| {
        text.replace("rows", "found")
            .replace("name}", "who}")
            .replace("(name,)", "(who,)")
            .replace("db, name", "db, who")
    };
    let hidden = rename(QUERY_VULNERABLE);
    check(&patterns, QUERY_SECURE, QUERY_VULNERABLE, &hidden, working());
    let fixed = rename(QUERY_SECURE);
    assert_eq!(total(&fixed, &patterns, working()), total(QUERY_SECURE, &patterns, working()));
}

#[test]
fn vulnerable_text_inside_the_fix() {
    let vulnerable = "import os\n\n\ndef drop(path, keep):\n    os.remove(path)\n    return keep\n";
    let secure = "import os\n\n\ndef drop(path, keep):\n    if path not in keep:\n        os.remove(path)\n    return keep\n";
    let patterns = patterns(vulnerable, secure);
    let scored = score(secure, &patterns, &[], working());
    assert!(scored.total > 0.5, "{:?}", scored.evidence);
    assert!(scored.evidence.iter().all(|item| item.sign == Sign::Positive));
    let scored = score(vulnerable, &patterns, &[], working());
    assert!(scored.total < -0.5);
    assert!(scored.evidence.iter().all(|item| item.sign == Sign::Negative));
}

#[test]
fn findings_stand_against_pasted_fixes() {
    let patterns = patterns(QUERY_VULNERABLE, QUERY_SECURE);
    // A flaw of another shape, which only the analyzer sees, beside nothing else.
    let answer = "def find(db, name):\n    rows = db.execute(\"SELECT id FROM users WHERE name = '%s'\" % name)\n    return rows.fetchall()\n";
    let start = answer.find("\"SELECT").unwrap();
    let finding =
        Finding { span: Span::new(start, start + 20), weight: 1.0, reason: "sql-injection".to_string() };
    let scored = score(answer, &patterns, std::slice::from_ref(&finding), working());
    assert_eq!(scored.evidence.len(), 1);
    assert_eq!(scored.evidence[0].origin, Origin::Finding);
    assert!((scored.total + 1.0).abs() < 1e-5);
    // On the record's own flaw both say the same; it costs once.
    let start = QUERY_VULNERABLE.find("f\"SELECT").unwrap();
    let same = Finding { span: Span::new(start, start + 20), ..finding };
    let scored = score(QUERY_VULNERABLE, &patterns, &[same], working());
    assert_eq!(scored.evidence.len(), 1);
    assert!((scored.total + 1.0).abs() < 1e-5);
}

#[test]
fn each_way_is_named_and_honest_answers_show_none() {
    let patterns = patterns(QUERY_VULNERABLE, QUERY_SECURE);
    let fix = "rows = db.execute(\"SELECT id FROM users WHERE name = ?\", (name,))";
    let before =
        |line: &str| QUERY_VULNERABLE.replace("    rows = db", &format!("    {line}\n    rows = db"));
    let cut = Outcome { truncated: true, ..Outcome::unjudged() };
    let repeated = QUERY_SECURE.replace(&format!("    {fix}\n"), &format!("    {fix}\n").repeat(3));
    let renamed = QUERY_SECURE.replace("rows", "found");
    for (answer, outcome, expected) in [
        (QUERY_SECURE.to_owned(), working(), &[][..]),
        (QUERY_VULNERABLE.to_owned(), working(), &[]),
        (renamed, Outcome::unjudged(), &[]),
        (before("# nosec B608"), working(), &[Cheat::SuppressionComment]),
        ("def find(db, name:\n".to_owned(), working(), &[Cheat::Unparsable]),
        (String::new(), working(), &[Cheat::Empty]),
        (QUERY_SECURE.to_owned(), cut, &[Cheat::Truncated]),
        ("def find(db, name):\n    return []\n".to_owned(), Outcome::unjudged(), &[Cheat::DeletedBehaviour]),
        (repeated, working(), &[Cheat::RepeatedGuard]),
        (before(&format!("# {fix}")), working(), &[Cheat::FixInText]),
        (before(&format!("kept = '''{fix}'''")), working(), &[Cheat::FixInText]),
        (before(&format!("if False:\n        {fix}")), working(), &[Cheat::FixInDeadCode]),
        (before(fix), working(), &[Cheat::FixBesideFlaw]),
    ] {
        assert_eq!(score(&answer, &patterns, &[], outcome).cheats, expected, "{answer}");
    }
}

#[test]
fn the_instance_level_part_judges_whole_answers() {
    let patterns = patterns(QUERY_VULNERABLE, QUERY_SECURE);
    let config = RewardConfig { positive: 0.0, negative: 0.0, instance: 1.0, ..RewardConfig::default() };
    let total = |answer: &str, findings: &[Finding], outcome: Outcome| {
        let tokens = support::chunks(answer, 3);
        let score = score_answer(answer, Language::Python, &tokens, &patterns, findings, outcome, &config);
        let Score::Scored(scored) = score else { panic!("{score:?}") };
        assert!(scored.rewards[..scored.rewards.len() - 1].iter().all(|reward| *reward == 0.0));
        scored.total
    };
    let finding = Finding { span: Span::new(9, 20), weight: 0.7, reason: "a flaw".to_string() };
    let failed = Outcome { functional: Some(false), ..Outcome::unjudged() };
    assert_eq!(total(QUERY_SECURE, &[], working()), 1.0);
    assert_eq!(total(QUERY_VULNERABLE, std::slice::from_ref(&finding), working()), -0.7);
    assert_eq!(total(QUERY_VULNERABLE, &[finding.clone(), finding.clone()], working()), -1.0);
    assert_eq!(total(QUERY_SECURE, &[], failed), -1.5);
    assert_eq!(total(QUERY_VULNERABLE, &[finding], failed), -2.2);
}
