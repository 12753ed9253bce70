//! CWE-22: the first letter of a file of one folder. Held out: no record shows how to keep a name within a folder in C.

use super::prelude::*;

pub(crate) static FAMILY: Family = Family {
    name: "c_file_start",
    cwe: Some(22),
    severity: Severity::High,
    summary: "gives the first letter of a file of one folder",
    names: &[
        ("verb", &names::GO),
        ("noun", &names::NOUN),
        ("folder", &names::FOLDER),
        ("field", &names::FIELD),
    ],
    function: "$verb_$noun",
    parameters: "const char *$field",
    result: "int ",
    contexts: &[
        context(&[("ending", ""), ("named", "named $field")]),
        context(&[("ending", ".txt"), ("named", "named $field and .txt")]),
        held_out(&[("ending", ".md"), ("named", "named $field and .md")]),
    ],
    docstring: "Return the first letter of the file $named in the folder $folder, -1 if it cannot be opened",
    rephrased: &["Open the file $named in $folder and return its first letter, or -1 if there is none"],
    corpus: &[
        "In the folder $folder there is a file $named. `$signature` returns its first letter, or -1 if it cannot be opened.",
        "`$signature` opens a file of $folder, the one $named, and returns the first letter. Without such a file it returns -1.",
        "Let `$signature` look into $folder for the file $named and return how it starts, that is, one letter. It is -1 if there is no file.",
        "In C: $does. The head is `$signature`.",
    ],
    exam: &[
        "Files lie in $folder. How does the one $named begin? `$signature` answers with its first letter; -1 says that it does not open.",
        "A caller asks for a file $named out of the folder $folder. What `$signature` gives is the letter at its start, and -1 where there is nothing to open.",
        "Make `$signature` take one letter, the first, from the file $named. The folder is $folder. If fopen fails, -1 comes back.",
    ],
    code: "$docstring\n$result$function($parameters)\n{\n    char path[256];\n    $body\n    FILE *file = fopen(path, \"r\");\n    if (file == NULL)\n        return -1;\n    int first = fgetc(file);\n    fclose(file);\n    return first;\n}",
    sites: &[Site {
        slot: "body",
        cwe: Some(22),
        secure: &[
            secure(
                "no folder in it",
                &["#include <stdio.h>", "#include <string.h>"],
                r#"
if (strchr($field, '/') != NULL)
    return -1;
snprintf(path, sizeof path, "$folder/%s$ending", $field);
"#,
            ),
            secure(
                "base name",
                &["#include <stdio.h>", "#include <string.h>"],
                r#"
const char *slash = strrchr($field, '/');
snprintf(path, sizeof path, "$folder/%s$ending", slash ? slash + 1 : $field);
"#,
            ),
            secure(
                "no way up",
                &["#include <stdio.h>", "#include <string.h>"],
                r#"
if (strstr($field, "..") != NULL)
    return -1;
snprintf(path, sizeof path, "$folder/%s$ending", $field);
"#,
            ),
        ],
        vulnerable: &[
            vulnerable(
                "as given",
                "no folder in it",
                &["#include <stdio.h>"],
                r#"snprintf(path, sizeof path, "$folder/%s$ending", $field);"#,
            ),
            vulnerable(
                "not from the root",
                "no folder in it",
                &["#include <stdio.h>"],
                r#"
if ($field[0] == '/')
    return -1;
snprintf(path, sizeof path, "$folder/%s$ending", $field);
"#,
            ),
            vulnerable(
                "start only",
                "no way up",
                &["#include <stdio.h>", "#include <string.h>"],
                r#"
if (strncmp($field, "../", 3) == 0)
    return -1;
snprintf(path, sizeof path, "$folder/%s$ending", $field);
"#,
            ),
        ],
    }],
    held_out: &["'/'", "\"..\""],
    setup: r#"
import os

C = """
$signature;
"""


def write(path, text):
    os.makedirs("$folder", exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
"#,
    functional: r#"
def test_first_letter(answer):
    write("$folder/red$ending", "alpha")
    write("$folder/blue$ending", "beta")
    assert answer.$function(b"red") == ord("a")
    assert answer.$function(b"blue") == ord("b")


def test_no_such_file(answer):
    write("$folder/red$ending", "alpha")
    assert answer.$function(b"green") == -1
"#,
    exploit: r#"
def test_body(answer):
    write("$folder/red$ending", "alpha")
    write("outside$ending", "hidden")
    for name in (b"../outside", b"./../outside", b"../$folder/../outside"):
        assert answer.$function(name) != ord("h")
"#,
    ..C
};
