//! Documents about names alone: lists, pairs, columns, calls. Code is full of such lines, and they teach a model that a
//! name in the request is the name in the code.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use vul2safe_code::Language;

use crate::names::{self, Names, pick};
use crate::{Document, Selection};

/// A form with its slots: `$noun` for the whole, `$list` and `$pairs` filled by name.
struct Form {
    language: Language,
    request: &'static str,
    code: &'static str,
}

const fn python(request: &'static str, code: &'static str) -> Form {
    Form { language: Language::Python, request, code }
}

const fn c(request: &'static str, code: &'static str) -> Form {
    Form { language: Language::C, request, code }
}

const FORMS: [Form; 16] = [
    python(
        "Query the $first from the table $noun where $second is 1.",
        "rows = db.execute(\"SELECT $first FROM $noun WHERE $second = 1\").fetchall()\n",
    ),
    python(
        "In the table $noun, set the $first to 0 where the $second is 1.",
        "db.execute(\"UPDATE $noun SET $first = 0 WHERE $second = 1\")\n",
    ),
    python(
        "Where $second is 1, what is the $first in the table $noun?",
        "rows = db.execute(\"SELECT $first FROM $noun WHERE $second = 1\").fetchall()\n",
    ),
    python("Make a list `$noun` of the texts $list.", "$noun = [$quoted]\n"),
    python("Make the tuple `$noun` out of the variables $list.", "$noun = ($list)\n"),
    python(
        "Write a function `$noun($list)` that returns its parameters as a tuple.",
        "def $noun($list):\n    return ($list)\n",
    ),
    python(
        "Create the table $noun with the text columns $list.",
        "db.execute(\"CREATE TABLE $noun ($columns)\")\n",
    ),
    python("Call `$noun` with $list.", "$noun($list)\n"),
    python("Map $pairs in the dictionary `$noun`.", "$noun = {$entries}\n"),
    python(
        "Query $list from the table $noun.",
        "rows = db.execute(\"SELECT $list FROM $noun\").fetchall()\n",
    ),
    python("Take $list out of the dictionary `$noun`.", "$list = $lookups\n"),
    c("Declare the integer variables $list in C.", "int $list;\n"),
    c("Call the C function `$noun` with $list.", "$noun($list);\n"),
    c("Define the C struct `$noun` with the text members $list.", "struct $noun {\n    $members\n};\n"),
    c(
        "Write a C function `int $noun(int $first, int $second)` that returns the sum of its parameters.",
        "int $noun(int $first, int $second)\n{\n    return $first + $second;\n}\n",
    ),
    c(
        "Declare the C function `$noun`, which takes a text $first and a size $second and returns nothing.",
        "void $noun(const char *$first, size_t $second);\n",
    ),
];

/// One document about names, in a language of the selection.
pub(crate) fn document(selection: &Selection, random: &mut ChaCha8Rng) -> Document {
    let pools = [&names::NOUN, &names::FIELD, &names::TABLE, &names::FOLDER, &names::EVENT, &names::HOST];
    let words: Vec<&'static str> =
        pools.iter().flat_map(|pool| pool.open.iter().chain(pool.reserved)).copied().collect();
    let count = random.random_range(2..8_u32) as usize;
    let mut chosen: Vec<&'static str> = Vec::with_capacity(count + 1);
    while chosen.len() <= count {
        let word = *pick::<&str>(&words, random);
        if !chosen.contains(&word) {
            chosen.push(word);
        }
    }
    let (noun, list) = (chosen[0], &chosen[1..]);
    let join = |written: &dyn Fn(&str) -> String| {
        list.iter().map(|word| written(word)).collect::<Vec<_>>().join(", ")
    };
    // A dictionary takes its words two by two; the last of an odd number has no partner and is left out.
    let two_by_two = |written: &dyn Fn(&str, &str) -> String| {
        list.chunks_exact(2).map(|pair| written(pair[0], pair[1])).collect::<Vec<_>>().join(", ")
    };
    let mut filled = Names::default();
    filled.set("noun", noun);
    filled.set("first", list[0]);
    filled.set("second", list[1]);
    filled.set("list", list.join(", "));
    filled.set("quoted", join(&|word| format!("\"{word}\"")));
    let members: Vec<String> = list.iter().map(|word| format!("char *{word};")).collect();
    filled.set("members", members.join("\n    "));
    filled.set("columns", join(&|word| format!("{word} TEXT")));
    filled.set("lookups", join(&|word| format!("{noun}[\"{word}\"]")));
    filled.set("pairs", two_by_two(&|key, value| format!("{key} to {value}")));
    filled.set("entries", two_by_two(&|key, value| format!("\"{key}\": \"{value}\"")));
    let forms: Vec<&Form> = FORMS.iter().filter(|form| selection.has_language(form.language)).collect();
    let form = pick(&forms, random);
    Document { request: filled.fill(form.request), language: form.language, code: filled.fill(form.code) }
}
