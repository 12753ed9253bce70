//! CWE-415: numbers of a text added up, with a copy that is freed on two ways out.

use super::prelude::*;

pub(crate) static FAMILY: Family = Family {
    name: "c_sum_parts",
    cwe: Some(415),
    severity: Severity::High,
    summary: "adds up the numbers in a text",
    names: &[("verb", &names::PARSE), ("noun", &names::NOUN), ("field", &names::FIELD)],
    function: "$verb_$noun",
    parameters: "const char *$field",
    result: "int ",
    contexts: &[
        context(&[("mark", ","), ("marks", "commas")]),
        context(&[("mark", ";"), ("marks", "semicolons")]),
        held_out(&[("mark", "/"), ("marks", "slashes")]),
    ],
    docstring: "Return the sum of the numbers between the $marks of $field, or -1 if a part is no number",
    rephrased: &[
        "Split $field at its $marks and add the numbers up, with -1 if a part does not start with a digit",
    ],
    corpus: &[
        "In $field there are numbers with $marks between them. `$signature` returns their sum, or -1 if something else is among them.",
        "`$signature` adds up the parts of $field. They stand between $marks. If one is no number, the result is -1.",
        "Let `$signature` split $field at the $marks and return the sum of the parts. For a part that is no number it returns -1.",
    ],
    exam: &[
        "A line such as \"4$mark5\" comes in as $field. `$signature` gives the total, here 9; where a part does not begin with a digit the answer is -1.",
        "Numbers are written one after the other in $field, with $marks. What do they make together? `$signature` says it, and -1 if one of them is a word.",
        "I want `$signature` to take $field apart at the $marks and to add what it finds. Parts that are no numbers make it give -1.",
    ],
    code: "$docstring\n$result$function($parameters)\n{\n    int sum = 0;\n    char *copy = strdup($field);\n    if (copy == NULL)\n        return -1;\n    for (char *part = strtok(copy, \"$mark\"); part != NULL; part = strtok(NULL, \"$mark\")) {\n        if (!isdigit((unsigned char) *part)) {\n            $body\n        }\n        sum += atoi(part);\n    }\n    free(copy);\n    return sum;\n}",
    sites: &[Site {
        slot: "body",
        cwe: Some(415),
        secure: &[
            secure(
                "early return",
                &["#include <ctype.h>", "#include <stdlib.h>", "#include <string.h>"],
                r#"
free(copy);
return -1;
"#,
            ),
            secure(
                "freed at the end",
                &["#include <ctype.h>", "#include <stdlib.h>", "#include <string.h>"],
                r#"
sum = -1;
break;
"#,
            ),
            secure(
                "set to null",
                &["#include <ctype.h>", "#include <stdlib.h>", "#include <string.h>"],
                r#"
free(copy);
copy = NULL;
sum = -1;
break;
"#,
            ),
        ],
        vulnerable: &[
            vulnerable(
                "twice",
                "freed at the end",
                &["#include <ctype.h>", "#include <stdlib.h>", "#include <string.h>"],
                r#"
free(copy);
sum = -1;
break;
"#,
            ),
            vulnerable(
                "the part",
                "early return",
                &["#include <ctype.h>", "#include <stdlib.h>", "#include <string.h>"],
                r#"
free(part);
sum = -1;
break;
"#,
            ),
            vulnerable(
                "goes on",
                "set to null",
                &["#include <ctype.h>", "#include <stdlib.h>", "#include <string.h>"],
                r#"
free(copy);
sum = -1;
continue;
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
def test_sum(answer):
    assert answer.$function(b"4$mark5$mark12") == 21


def test_one_number(answer):
    assert answer.$function(b"7") == 7
"#,
    exploit: r#"
def test_body(answer):
    for text in (b"4${mark}red", b"red", b"4${mark}red${mark}5"):
        answer.$function(text)
"#,
    ..C
};
