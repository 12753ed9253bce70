//! Harmless: a number kept within limits.

use super::prelude::*;

pub(crate) static FAMILY: Family = Family {
    name: "clamp_number",
    cwe: None,
    severity: Severity::Low,
    summary: "keeps a number within limits",
    processes: 0,
    names: &[("verb", &names::WORK), ("noun", &names::NOUN), ("field", &names::FIELD)],
    function: "$verb_$noun",
    parameters: "$field",
    contexts: &[
        context(&[("low", "0"), ("high", "10")]),
        context(&[("low", "1"), ("high", "100")]),
        held_out(&[("low", "0"), ("high", "50")]),
    ],
    docstring: "Return $field, but at least $low and at most $high",
    rephrased: &["Keep the number $field between $low and $high and return it"],
    corpus: &[
        "What is below $low is $low, what is above $high is $high. Let `$signature` do that with $field.",
        "The number $field should not leave $low to $high. `$signature` keeps it there.",
        "`$signature` returns the number, or $low if it is below $low, or $high if it is above $high.",
        "A number runs from $low to $high. `$signature` returns $field within these limits.",
    ],
    exam: &[
        "The number $field may not leave the range from $low up to $high. `$signature` gives the nearest number in it.",
        "Let `$signature` cut $field off at $low below and at $high above.",
        "What is less than $low becomes $low, what is more than $high becomes $high: that is `$signature`.",
    ],
    code: ONE_FUNCTION,
    sites: &[Site {
        slot: "body",
        cwe: None,
        secure: &[
            secure("max min", &[], "return max($low, min($high, $field))"),
            secure("min max", &[], "return min($high, max($low, $field))"),
            secure(
                "branches",
                &[],
                r#"
if $field < $low:
    return $low
if $field > $high:
    return $high
return $field
"#,
            ),
        ],
        vulnerable: &[],
    }],
    setup: "",
    functional: r#"
def test_inside(answer):
    assert answer.$function(7) == 7


def test_outside(answer):
    assert answer.$function(-5) == $low
    assert answer.$function(500) == $high
"#,
    exploit: "",
    ..PYTHON
};
