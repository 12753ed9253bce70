//! Hunks of known edits, and the property that hunks turn one side into the other.

use proptest::prelude::*;

use super::*;
use crate::{Language, normalised_leaves, parse};

/// Hunks as `before => after`, leaf texts joined by spaces.
fn shown(language: Language, before: &str, after: &str) -> Vec<String> {
    let (before, after) = (parse(language, before).unwrap(), parse(language, after).unwrap());
    let (old, new) = (normalised_leaves(&before), normalised_leaves(&after));
    diff_leaves(&before, &after)
        .into_iter()
        .map(|hunk| format!("{} => {}", old[hunk.before].join(" "), new[hunk.after].join(" ")))
        .collect()
}

#[test]
fn known_edits() {
    assert_eq!(
        shown(Language::Python, "c.execute('a = %s' % x)", "c.execute('a = %s', (x,))"),
        ["% => , (", " => , )"]
    );
    assert_eq!(shown(Language::Python, "a = 1\nb = 2\n", "a = 1 # note\n\n\nb  = 2\n"), [] as [&str; 0]);
    assert_eq!(
        shown(Language::Python, "def f(x):\n    return g(x)\n", "def f(x):\n    check(x)\n    return g(x)\n"),
        [" => check ( x )"]
    );
    assert_eq!(shown(Language::C, "strcpy(a, b);", "strncpy(a, b, n);"), ["strcpy => strncpy", " => , n"]);
    assert_eq!(shown(Language::C, "", "x;"), [" => x ;"]);
}

#[test]
fn very_long_functions_compare_in_bounded_time() {
    let function = |seed: usize, step: usize| {
        let mut text = String::from("int f(void)\n{\n");
        let mut value = seed;
        while text.len() < 114_000 {
            value = (value * 1_103_515_245 + 12_345 + step) % 2_147_483_648;
            text.push_str(&format!(
                "  if (v{} > {}) call_{}(v{}, {});\n",
                value % 97,
                value % 13,
                value % 331,
                value % 89,
                value
            ));
        }
        text.push_str("}\n");
        text
    };
    let (first, second) = (function(1, 0), function(7, 3));
    let edited = first.replacen("call_", "checked_call_", 40);
    for (before, after) in [(&first, &second), (&first, &edited), (&first, &first)] {
        let (before, after) = (parse(Language::C, before).unwrap(), parse(Language::C, after).unwrap());
        reconstructs(&before, &after);
    }
    let edited = parse(Language::C, &edited).unwrap();
    assert_eq!(diff_leaves(&parse(Language::C, &first).unwrap(), &edited).len(), 40);
}

/// Replaces the hunks of the old side and compares with the new side.
fn reconstructs(before: &Parsed, after: &Parsed) {
    let (old, new) = (normalised_leaves(before), normalised_leaves(after));
    let mut built: Vec<&str> = Vec::new();
    let mut position = 0;
    let mut last_after = 0;
    for hunk in diff_leaves(before, after) {
        assert!(hunk.before.start >= position && hunk.after.start >= last_after, "ordered and disjoint");
        assert!(!hunk.before.is_empty() || !hunk.after.is_empty());
        built.extend(&old[position..hunk.before.start]);
        built.extend(&new[hunk.after.clone()]);
        position = hunk.before.end;
        last_after = hunk.after.end;
    }
    built.extend(&old[position..]);
    assert_eq!(built, new);
}

const LINES: &[&str] = &[
    "    x = a + b\n",
    "    y = f(x, 1)\n",
    "    if x:\n        y = 2\n",
    "    db.execute('q=%s' % x)\n",
    "    db.execute('q=%s', (x,))\n",
    "    return x\n",
    "    # a comment\n",
    "    z = f'{x}/{y}'\n",
    "    )\n",
];

proptest! {
    #[test]
    fn hunks_turn_before_into_after(
        before in prop::collection::vec(prop::sample::select(LINES), 0..14),
        after in prop::collection::vec(prop::sample::select(LINES), 0..14),
    ) {
        let text = |lines: &[&str]| format!("def f(a, b):\n{}", lines.concat());
        reconstructs(
            &parse(Language::Python, &text(&before)).unwrap(),
            &parse(Language::Python, &text(&after)).unwrap(),
        );
    }

    #[test]
    fn arbitrary_texts_reconstruct(before in "[ -~\n]{0,120}", after in "[ -~\n]{0,120}") {
        reconstructs(&parse(Language::C, &before).unwrap(), &parse(Language::C, &after).unwrap());
    }
}
