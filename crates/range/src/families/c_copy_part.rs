//! CWE-195: a length of the caller's with a sign, used as one without.

use super::prelude::*;

pub(crate) static FAMILY: Family = Family {
    name: "c_copy_part",
    cwe: Some(195),
    severity: Severity::High,
    summary: "copies the first bytes of some data",
    names: &[("verb", &names::WORK), ("noun", &names::NOUN), ("field", &names::FIELD)],
    function: "$verb_$noun",
    parameters: "char *out, int size, const char *$field, int length",
    result: "int ",
    contexts: &[
        context(&[("given", "length"), ("tell", "length"), ("first", "3"), ("second", "10")]),
        context(&[
            ("given", "size - length"),
            ("tell", "how many bytes of out are left"),
            ("first", "9"),
            ("second", "2"),
        ]),
        held_out(&[("given", "2 * length"), ("tell", "twice the length"), ("first", "6"), ("second", "20")]),
    ],
    docstring: "Copy length bytes of $field to out and return $tell, or -1 if they are more than size",
    rephrased: &[
        "Put the first length bytes of $field into out, return $tell, and -1 if length is more than size",
    ],
    corpus: &[
        "In out there is room for size bytes. `$signature` copies length bytes of $field there and returns $tell, or -1 if they do not fit.",
        "`$signature` copies bytes, length of them, from $field to out. It returns $tell. If length is more than size, it returns -1 and does nothing.",
        "Let `$signature` fill out with length bytes of $field. The result is $tell. It is -1 if size is too small.",
    ],
    exam: &[
        "The caller has data in $field and wants length bytes of it in out. `$signature` tells $tell; if they are more than size, it leaves out alone and says -1.",
        "`$signature` moves the first length bytes from $field over to out. As out has only size bytes, -1 comes back when that is not enough, and otherwise $tell.",
        "I need the beginning of $field, length bytes, in the buffer out of size bytes. What `$signature` gives is $tell, or -1 if there is no room.",
    ],
    sites: &[Site {
        slot: "body",
        cwe: Some(195),
        secure: &[
            secure(
                "both ends",
                &["#include <string.h>"],
                r#"
if (length < 0 || length > size)
    return -1;
memcpy(out, $field, length);
return $given;
"#,
            ),
            secure(
                "inside",
                &["#include <string.h>"],
                r#"
if (length >= 0 && length <= size) {
    memcpy(out, $field, length);
    return $given;
}
return -1;
"#,
            ),
            secure(
                "unsigned",
                &["#include <string.h>"],
                r#"
if ((unsigned) length > (unsigned) size)
    return -1;
memmove(out, $field, length);
return $given;
"#,
            ),
            secure(
                "loop",
                &[],
                r#"
if (length > size)
    return -1;
for (int i = 0; i < length; i++)
    out[i] = $field[i];
return $given;
"#,
            ),
        ],
        vulnerable: &[
            vulnerable(
                "upper end only",
                "both ends",
                &["#include <string.h>"],
                r#"
if (length > size)
    return -1;
memcpy(out, $field, length);
return $given;
"#,
            ),
            vulnerable(
                "if it fits",
                "inside",
                &["#include <string.h>"],
                r#"
if (length <= size) {
    memcpy(out, $field, length);
    return $given;
}
return -1;
"#,
            ),
            vulnerable(
                "what is left",
                "both ends",
                &["#include <string.h>"],
                r#"
int left = size - length;
if (left < 0)
    return -1;
memmove(out, $field, length);
return $given;
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
def test_copied(answer):
    out = answer.buffer(12)
    assert answer.$function(out, 12, b"red and blue", 3) == $first
    assert bytes(out)[:3] == b"red"


def test_no_room(answer):
    out = answer.buffer(12)
    assert answer.$function(out, 12, b"light green or blue", 10) == $second
    assert bytes(out)[:10] == b"light gree"
    assert answer.$function(out, 12, b"light green or blue", 13) == -1
"#,
    exploit: r#"
def test_body(answer):
    for length in (-1, -100, -(2**30)):
        answer.$function(answer.buffer(12), 12, b"red and blue", length)
"#,
    ..C
};
