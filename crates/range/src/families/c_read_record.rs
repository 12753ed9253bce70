//! CWE-125 and CWE-787: a text with its length in front, read from bytes of the caller's into a buffer of the caller's.

use super::prelude::*;

pub(crate) static FAMILY: Family = Family {
    name: "c_read_record",
    cwe: Some(787),
    severity: Severity::High,
    summary: "copies a text whose length stands in front of it",
    names: &[("verb", &names::READ), ("noun", &names::NOUN)],
    function: "$verb_$noun",
    parameters: "char *out, size_t size, const unsigned char *data, size_t length",
    result: "int ",
    contexts: &[
        context(&[("at", "0"), ("head", "1"), ("which", "first"), ("front", "")]),
        context(&[("at", "1"), ("head", "2"), ("which", "second"), ("front", "k")]),
        held_out(&[("at", "2"), ("head", "3"), ("which", "third"), ("front", "kl")]),
    ],
    docstring: "Copy the text in data to out, which has size > 0 bytes, and return its length, that is the $which byte, the text follows",
    rephrased: &[
        "Take the text behind the $which byte of data, which is its length, put it into out and return that length",
    ],
    corpus: &[
        "In data there are length bytes. The $which one tells how long the text behind it is. `$signature` copies the text to out, which has size bytes, and returns how long it is.",
        "`$signature` takes the text out of data. Its length is the $which byte, then come the letters. They go to out, and the length is returned.",
        "The $which byte of data is the length of the text that follows. Let `$signature` put the text into out (size bytes) and return that length.",
    ],
    exam: &[
        "A message has arrived in data, length bytes long. Its $which byte is how many letters follow. Give `$signature`, which leaves them in out, a buffer of size bytes, as a text, and returns how many they are.",
        "Make `$signature`: data (length bytes) has a text behind its $which byte, and that byte is how long the text is. The text goes to out, for which size is the room; the result is how long it is.",
        "Our device sends data of some length. After the $which byte, which counts them, come letters. `$signature` has to store them in out (of this size) and hand back their number.",
    ],
    code: "$docstring\n$result$function($parameters)\n{\n    if (length < $head)\n        return -1;\n    $read\n    $copy\n    return count;\n}",
    sites: &[
        Site {
            slot: "read",
            cwe: Some(125),
            secure: &[
                secure(
                    "refused",
                    &["#include <stddef.h>"],
                    r#"
size_t count = data[$at];
if (count > length - $head)
    return -1;
"#,
                ),
                secure(
                    "cut off",
                    &["#include <stddef.h>"],
                    r#"
size_t count = data[$at];
if (count + $head > length)
    count = length - $head;
"#,
                ),
                secure(
                    "smaller one",
                    &["#include <stddef.h>"],
                    r#"
size_t left = length - $head;
size_t count = data[$at] < left ? data[$at] : left;
"#,
                ),
            ],
            vulnerable: &[
                vulnerable("as it says", "refused", &["#include <stddef.h>"], "size_t count = data[$at];"),
                vulnerable(
                    "whole length",
                    "refused",
                    &["#include <stddef.h>"],
                    r#"
size_t count = data[$at];
if (count > length)
    return -1;
"#,
                ),
                vulnerable(
                    "pointer",
                    "smaller one",
                    &["#include <stddef.h>"],
                    r#"
const unsigned char *start = data + $at;
size_t count = *start;
"#,
                ),
            ],
        },
        Site {
            slot: "copy",
            cwe: Some(787),
            secure: &[
                secure(
                    "refused text",
                    &["#include <string.h>"],
                    r#"
if (count >= size)
    return -1;
memcpy(out, data + $head, count);
out[count] = '\0';
"#,
                ),
                secure(
                    "cut text",
                    &["#include <string.h>"],
                    r#"
if (count > size - 1)
    count = size - 1;
memcpy(out, data + $head, count);
out[count] = '\0';
"#,
                ),
                secure(
                    "snprintf",
                    &["#include <stdio.h>"],
                    r#"snprintf(out, size, "%.*s", (int) count, (const char *) data + $head);"#,
                ),
            ],
            vulnerable: &[
                vulnerable(
                    "memcpy",
                    "refused text",
                    &["#include <string.h>"],
                    r#"
memcpy(out, data + $head, count);
out[count] = '\0';
"#,
                ),
                vulnerable(
                    "no room for the end",
                    "refused text",
                    &["#include <string.h>"],
                    r#"
if (count > size)
    return -1;
memcpy(out, data + $head, count);
out[count] = '\0';
"#,
                ),
                vulnerable(
                    "sprintf",
                    "snprintf",
                    &["#include <stdio.h>"],
                    r#"sprintf(out, "%.*s", (int) count, (const char *) data + $head);"#,
                ),
                vulnerable(
                    "loop",
                    "cut text",
                    &[],
                    r#"
for (size_t i = 0; i < count; i++)
    out[i] = data[$head + i];
out[count] = '\0';
"#,
                ),
            ],
        },
    ],
    setup: r#"
C = """
$signature;
"""


def record(count, text):
    return b"$front" + bytes([count]) + text
"#,
    functional: r#"
def test_text(answer):
    out = answer.buffer(16)
    data = record(3, b"red")
    assert answer.$function(out, 16, data, len(data)) == 3
    assert out.text() == b"red"


def test_more_follows(answer):
    out = answer.buffer(32)
    data = record(4, b"blue and green")
    assert answer.$function(out, 32, data, len(data)) == 4
    assert out.text() == b"blue"
"#,
    exploit: r#"
def test_read(answer):
    for count in (4 + len(b"$front"), 200):
        data = record(count, b"red")
        answer.$function(answer.buffer(300), 300, data, len(data))


def test_copy(answer):
    for count in (16, 17, 200):
        data = record(count, b"x" * count)
        answer.$function(answer.buffer(16), 16, data, len(data))
"#,
    ..C
};
