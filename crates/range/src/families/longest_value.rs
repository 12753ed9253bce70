//! Harmless: the longest of some texts.

use super::prelude::*;

pub(crate) static FAMILY: Family = Family {
    name: "longest_value",
    summary: "finds the longest or shortest text",
    names: &[("verb", &names::READ), ("noun", &names::NOUN), ("field", &names::FIELD)],
    function: "$verb_$noun",
    parameters: "$field",
    contexts: &[
        context(&[("what", "longest"), ("call", "max"), ("key", "len"), ("right", "yellow")]),
        context(&[("what", "shortest"), ("call", "min"), ("key", "len"), ("right", "red")]),
        held_out(&[("what", "last by alphabet"), ("call", "max"), ("key", "str"), ("right", "yellow")]),
    ],
    docstring: "Return the $what of the texts in $field, or None if there are none",
    rephrased: &["Find the $what text of the list $field and return it, None for an empty list"],
    corpus: &[
        "Which text of $field is the $what? `$signature` returns it, and None for an empty list.",
        "In the list $field there are texts. `$signature` returns the $what one, or None without any.",
        "Let `$signature` return the $what text of $field; an empty list gives None.",
        "`$signature` looks for the $what of the texts in $field. Without texts the result is None.",
    ],
    exam: &[
        "I have a list $field of texts and want the $what from `$signature`; when it is empty, None.",
        "From all the texts in $field, `$signature` hands over the $what. If there are none, None will do.",
        "Pick the $what text of $field in `$signature`, or give None when the list has nothing in it.",
    ],
    sites: &[Site {
        slot: "body",
        cwe: None,
        secure: &[
            secure("default", &[], r#"return $call($field, key=$key, default=None)"#),
            secure(
                "empty first",
                &[],
                r#"
if not $field:
    return None
return $call($field, key=$key)
"#,
            ),
            secure("one line", &[], r#"return $call($field, key=$key) if $field else None"#),
        ],
        vulnerable: &[],
    }],
    setup: "",
    functional: r#"
def test_three(answer):
    assert answer.$function(["green", "yellow", "red"]) == "$right"


def test_one(answer):
    assert answer.$function(["blue"]) == "blue"


def test_none(answer):
    assert answer.$function([]) is None
"#,
    ..PYTHON
};
