//! Harmless: values without those that came before.

use super::prelude::*;

pub(crate) static FAMILY: Family = Family {
    name: "unique_values",
    summary: "keeps each value once",
    names: &[("verb", &names::WORK), ("noun", &names::NOUN), ("field", &names::FIELD)],
    function: "$verb_$noun",
    parameters: "$field",
    contexts: &[
        context(&[("what", "in the order of $field"), ("open", "list(dict.fromkeys($field)"), ("end", "")]),
        context(&[("what", "in sorted order"), ("open", "sorted(set($field)"), ("end", "")]),
        held_out(&[
            ("what", "from the last to the first"),
            ("open", "list(dict.fromkeys($field)"),
            ("end", "[::-1]"),
        ]),
    ],
    docstring: "Return the list of the values of $field, each one once, $what",
    rephrased: &["Leave out the values of $field that came before and return a list, $what"],
    corpus: &[
        "Some values of $field are there twice. `$signature` returns each of them once, as a list, $what.",
        "Let `$signature` return a list of the different values of $field, $what.",
        "`$signature` takes the list $field and leaves out what is there twice; the values come $what.",
        "What different values are in $field? `$signature` lists them, $what.",
    ],
    exam: &[
        "I want each value of $field only once. `$signature` gives them as a list, $what.",
        "The list $field has doubles. Make `$signature` hand over a list without them, $what.",
        "From $field, `$signature` produces the list of different values, $what.",
    ],
    sites: &[Site {
        slot: "body",
        cwe: None,
        secure: &[
            secure("keys", &[], r#"return $open)$end"#),
            secure(
                "result",
                &[],
                r#"
result = $open)
return result$end
"#,
            ),
            secure(
                "values",
                &[],
                r#"
values = $open)$end
return values
"#,
            ),
        ],
        vulnerable: &[],
    }],
    setup: r#"
RIGHT = {
    "in the order of $field": ["red", "blue", "green"],
    "in sorted order": ["blue", "green", "red"],
    "from the last to the first": ["green", "blue", "red"],
}
"#,
    functional: r#"
def test_doubles(answer):
    assert answer.$function(["red", "blue", "red", "green", "blue"]) == RIGHT["$what"]


def test_none(answer):
    assert answer.$function([]) == []
"#,
    ..PYTHON
};
