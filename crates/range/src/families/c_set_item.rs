//! CWE-787: a number of an array changed, at an index of the caller's.

use super::prelude::*;

pub(crate) static FAMILY: Family = Family {
    name: "c_set_item",
    cwe: Some(787),
    severity: Severity::High,
    summary: "changes a number of an array",
    names: &[("verb", &names::CHANGE), ("noun", &names::NOUN), ("field", &names::FIELD)],
    function: "$verb_$noun",
    parameters: "int *$field, int count, int at, int value",
    result: "void ",
    contexts: &[
        context(&[
            ("change", "="),
            ("what", "Set the number at position at of $field to value"),
            ("after", "9"),
        ]),
        context(&[
            ("change", "+="),
            ("what", "Add value to the number at position at of $field"),
            ("after", "12"),
        ]),
        held_out(&[
            ("change", "-="),
            ("what", "Take value from the number at position at of $field"),
            ("after", "-6"),
        ]),
    ],
    docstring: "$what, an array of count numbers",
    rephrased: &["In the array $field of count numbers, do this: $what"],
    corpus: &[
        "The array $field has count numbers. $what in `$signature`.",
        "`$signature` is for the array $field, which has count numbers. $what.",
        "Change one of the count numbers of $field: `$signature`. $what.",
    ],
    exam: &[
        "An array $field, count numbers long, is kept by the caller. `$signature` has one thing to do: $what.",
        "I want to call `$signature` and see this happen: $what. By the way, count is the length of that array.",
        "With `$signature` one entry gets changed. $what; the length of the array is count.",
    ],
    sites: &[Site {
        slot: "body",
        cwe: Some(787),
        secure: &[
            secure(
                "both ends",
                &[],
                r#"
if (at < 0 || at >= count)
    return;
$field[at] $change value;
"#,
            ),
            secure(
                "inside",
                &[],
                r#"
if (at >= 0 && at < count)
    $field[at] $change value;
"#,
            ),
            secure(
                "unsigned",
                &[],
                r#"
if ((unsigned) at < (unsigned) count)
    $field[at] $change value;
"#,
            ),
        ],
        vulnerable: &[
            vulnerable("unchecked", "both ends", &[], "$field[at] $change value;"),
            vulnerable(
                "upper end only",
                "inside",
                &[],
                r#"
if (at < count)
    $field[at] $change value;
"#,
            ),
            vulnerable(
                "lower end only",
                "both ends",
                &[],
                r#"
if (at < 0)
    return;
$field[at] $change value;
"#,
            ),
            vulnerable(
                "one too many",
                "both ends",
                &[],
                r#"
if (at < 0 || at > count)
    return;
$field[at] $change value;
"#,
            ),
        ],
    }],
    setup: r#"
C = """
$signature;
"""
"#,
    functional: r#"
def test_changed(answer):
    numbers = answer.array("int", [1, 2, 3, 4])
    answer.$function(numbers, 4, 2, 9)
    assert list(numbers) == [1, 2, $after, 4]


def test_ends(answer):
    numbers = answer.array("int", [3, 2, 3])
    answer.$function(numbers, 3, 0, 9)
    answer.$function(numbers, 3, 2, 9)
    assert list(numbers) == [$after, 2, $after]
"#,
    exploit: r#"
def test_body(answer):
    for at in (-1, 4, 5):
        answer.$function(answer.array("int", [1, 2, 3, 4]), 4, at, 9)
"#,
    ..C
};
