//! What matching forgives and what it does not, and what a person reads about it.

mod support;

use proptest::prelude::*;
use support::{pair, patterns, score};
use vul2safe_code::{Language, parse};
use vul2safe_reward::{Evidence, Origin, Outcome, Patterns, Sign, find_evidence};

const VULNERABLE: &str = "\
import subprocess


def archive(folder, target):
    command = f\"tar cf {target} {folder}\"
    result = subprocess.run(command, shell=True)
    return result.returncode
";

const SECURE: &str = "\
import subprocess


def archive(folder, target):
    command = [\"tar\", \"cf\", target, folder]
    result = subprocess.run(command, shell=False)
    return result.returncode
";

fn evidence(answer: &str, patterns: &Patterns) -> Vec<Evidence> {
    find_evidence(&parse(Language::Python, answer).unwrap(), patterns, &[])
}

/// Sign, weight, pattern and text of the evidence, without its place.
fn summary(answer: &str, patterns: &Patterns) -> Vec<(Sign, f32, usize)> {
    evidence(answer, patterns).into_iter().map(|item| (item.sign, item.weight, item.pattern)).collect()
}

#[test]
fn free_names_and_attributes_are_exact() {
    let patterns = patterns(VULNERABLE, SECURE);
    assert!(!summary(VULNERABLE, &patterns).is_empty());
    let other = VULNERABLE.replace("shell", "check").replace("tar cf", "zip");
    assert_eq!(summary(&other, &patterns), []);
}

#[test]
fn two_names_are_not_merged_into_one() {
    let vulnerable = "def copy(first, second):\n    send(first, first)\n    return second\n";
    let secure = "def copy(first, second):\n    send(first, second)\n    return second\n";
    let patterns = patterns(vulnerable, secure);
    let swapped = "def copy(one, other):\n    send(one, other)\n    return other\n";
    assert!(evidence(swapped, &patterns).iter().all(|item| item.sign == Sign::Positive));
    let merged = "def copy(one, other):\n    send(one, one)\n    return other\n";
    assert!(evidence(merged, &patterns).iter().all(|item| item.sign == Sign::Negative));
    assert!(!evidence(merged, &patterns).is_empty());
}

#[test]
fn sides_that_differ_in_a_local_name_only_are_told_apart() {
    let vulnerable = "def check(given, limit, size):\n    take(given, limit)\n    give(size)\n";
    let secure = "def check(given, limit, size):\n    take(given, size)\n    give(limit)\n";
    let patterns = patterns(vulnerable, secure);
    assert!(evidence(secure, &patterns).iter().all(|item| item.sign == Sign::Positive));
    assert!(evidence(vulnerable, &patterns).iter().all(|item| item.sign == Sign::Negative));
    assert!(!evidence(secure, &patterns).is_empty() && !evidence(vulnerable, &patterns).is_empty());
}

#[test]
fn c_code_is_matched_too() {
    let vulnerable =
        "void greet(char *name) {\n    char text[16];\n    strcpy(text, name);\n    puts(text);\n}\n";
    let secure = "void greet(char *name) {\n    char text[16];\n    snprintf(text, sizeof text, \"%s\", name);\n    puts(text);\n}\n";
    let patterns = Patterns::of_pair(&pair("test/c", Language::C, vulnerable, secure)).unwrap();
    let found = |text: &str| find_evidence(&parse(Language::C, text).unwrap(), &patterns, &[]);
    let renamed = secure.replace("text", "line").replace("name", "who");
    assert!(found(&renamed).iter().all(|item| item.sign == Sign::Positive) && !found(&renamed).is_empty());
    let dead = vulnerable
        .replace("    puts", "    return;\n    snprintf(text, sizeof text, \"%s\", name);\n    puts");
    assert!(found(&dead).iter().all(|item| item.sign == Sign::Negative));
    let disabled = vulnerable
        .replace("    strcpy", "#if 0\n    snprintf(text, sizeof text, \"%s\", name);\n#endif\n    strcpy");
    assert!(found(&disabled).iter().all(|item| item.sign == Sign::Negative));
}

#[test]
fn related_patterns_forgive_other_words_in_a_string_of_the_same_shape() {
    let known = pair(
        "test/known",
        Language::Python,
        "def find(db, name):\n    return db.execute(f\"SELECT id FROM users WHERE name = '{name}'\").fetchall()\n",
        "def find(db, name):\n    return db.execute(\"SELECT id FROM users WHERE name = ?\", (name,)).fetchall()\n",
    );
    let known = Patterns::of_pair(&known).unwrap();
    let own = patterns(VULNERABLE, SECURE);
    let merged = Patterns::merge(&own, &[&known]);
    assert!(merged.len() > own.len());

    let flawed = "def load(box, city):\n    return box.execute(f\"SELECT street FROM towns WHERE city = '{city}'\").fetchall()\n";
    let found = evidence(flawed, &merged);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].sign, found[0].origin), (Sign::Negative, Origin::Related));
    assert!(evidence(flawed, &known).is_empty(), "own patterns ask for the very string");

    let fixed = "def load(box, city):\n    return box.execute(\"SELECT street FROM towns WHERE city = ?\", (city,)).fetchall()\n";
    let found = evidence(fixed, &merged);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].sign, found[0].origin), (Sign::Positive, Origin::Related));

    let no_placeholder = fixed.replace('?', "5");
    assert!(evidence(&no_placeholder, &merged).is_empty(), "the placeholder has to be there");
}

#[test]
fn contradicted_general_patterns_are_withdrawn() {
    let first = pair(
        "a",
        Language::Python,
        "def f(x):\n    return lib.load(x, mode)\n",
        "def f(x):\n    return lib.safe_load(x, mode)\n",
    );
    let second = pair(
        "b",
        Language::Python,
        "def f(x):\n    return lib.safe_load(x, mode)\n",
        "def f(x):\n    return lib.none(x, mode)\n",
    );
    let mut both = [Patterns::of_pair(&first).unwrap(), Patterns::of_pair(&second).unwrap()];
    let before: usize = both.iter().map(Patterns::general_count).sum();
    let withdrawn = Patterns::screen(&mut both);
    assert!(withdrawn >= 1, "safe_load is secure in one record and vulnerable in the other");
    assert_eq!(both.iter().map(Patterns::general_count).sum::<usize>(), before - withdrawn);
}

#[test]
fn patterns_can_be_shared_by_threads() {
    fn check<T: Send + Sync>() {}
    check::<Patterns>();
}

#[test]
fn a_person_can_read_why() {
    let patterns = patterns(VULNERABLE, SECURE);
    let mut page = String::new();
    for (title, answer, outcome) in [
        ("secure", SECURE, Outcome { functional: Some(true), ..Outcome::unjudged() }),
        ("vulnerable", VULNERABLE, Outcome { functional: Some(true), ..Outcome::unjudged() }),
        ("secure, a test fails", SECURE, Outcome { functional: Some(false), ..Outcome::unjudged() }),
    ] {
        let scored = score(answer, &patterns, &[], outcome);
        page.push_str(&format!("## {title}: {:+.2}\n", scored.total));
        let mut last = Vec::new();
        for reasons in &scored.reasons {
            for reason in reasons {
                if !last.contains(reason) {
                    page.push_str(&format!("{reason}\n"));
                }
            }
            last.clone_from(reasons);
        }
    }
    insta::assert_snapshot!(page);
}

/// Three new names, all different.
fn names() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::btree_set("[a-z]{3,8}_[a-z0-9]{1,6}", 4)
        .prop_map(|names| names.into_iter().collect())
}

/// White space and comments to put in front of lines.
fn noise() -> impl Strategy<Value = Vec<(bool, String)>> {
    proptest::collection::vec((any::<bool>(), "[ -~]{0,30}"), 16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn renaming_and_reformatting_change_no_evidence(names in names(), noise in noise(), secure in any::<bool>()) {
        let patterns = patterns(VULNERABLE, SECURE);
        let plain = if secure { SECURE } else { VULNERABLE };
        let mut text = String::new();
        for (line, (comment, words)) in plain.lines().zip(noise) {
            let mut line = line.replace(", ", " ,   ").replace(" = ", "  =  ");
            // The word `tar` stands in strings too, so only whole local names are replaced.
            for (old, new) in ["folder", "target", "command", "result"].iter().zip(&names) {
                line = line.replace(old, new);
            }
            if comment && !line.trim().is_empty() {
                line.push_str(&format!("  # {words}"));
            } else if comment {
                line.push_str(&format!("# {words}"));
            }
            text.push_str(&line);
            text.push('\n');
        }
        prop_assert_eq!(summary(&text, &patterns), summary(plain, &patterns), "{}", text);
    }

    /// Whatever a model writes, nothing panics and rewards stay finite.
    #[test]
    fn any_text_is_scored(text in "[ -~\\n\u{e9}\u{4e2d}]{0,200}", cut in 0usize..200) {
        let patterns = patterns(VULNERABLE, SECURE);
        let mixed: String = SECURE.chars().take(cut).chain(text.chars()).collect();
        let scored = score(&mixed, &patterns, &[], Outcome::unjudged());
        prop_assert!(scored.total.is_finite());
        prop_assert!(scored.rewards.iter().all(|reward| reward.is_finite()));
    }
}
