//! Documents about names alone: lists, pairs, columns, calls. Code is full of such lines, and they teach a model that a
//! name in the request is the name in the code.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::Document;
use crate::names::{self, Names, pick};

/// A form with its slots: `$noun` for the whole, `$list` and `$pairs` filled by name.
struct Form {
    request: &'static str,
    code: &'static str,
}

const FORMS: [Form; 11] = [
    Form {
        request: "Query the $first from the table $noun where $second is 1.",
        code: "rows = db.execute(\"SELECT $first FROM $noun WHERE $second = 1\").fetchall()\n",
    },
    Form {
        request: "In the table $noun, set the $first to 0 where the $second is 1.",
        code: "db.execute(\"UPDATE $noun SET $first = 0 WHERE $second = 1\")\n",
    },
    Form {
        request: "Where $second is 1, what is the $first in the table $noun?",
        code: "rows = db.execute(\"SELECT $first FROM $noun WHERE $second = 1\").fetchall()\n",
    },
    Form { request: "Make a list `$noun` of the texts $list.", code: "$noun = [$quoted]\n" },
    Form { request: "Make the tuple `$noun` out of the variables $list.", code: "$noun = ($list)\n" },
    Form {
        request: "Write a function `$noun($list)` that returns its parameters as a tuple.",
        code: "def $noun($list):\n    return ($list)\n",
    },
    Form {
        request: "Create the table $noun with the text columns $list.",
        code: "db.execute(\"CREATE TABLE $noun ($columns)\")\n",
    },
    Form { request: "Call `$noun` with $list.", code: "$noun($list)\n" },
    Form { request: "Map $pairs in the dictionary `$noun`.", code: "$noun = {$entries}\n" },
    Form {
        request: "Query $list from the table $noun.",
        code: "rows = db.execute(\"SELECT $list FROM $noun\").fetchall()\n",
    },
    Form { request: "Take $list out of the dictionary `$noun`.", code: "$list = $lookups\n" },
];

/// One document about names.
pub(crate) fn document(random: &mut ChaCha8Rng) -> Document {
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
    filled.set("columns", join(&|word| format!("{word} TEXT")));
    filled.set("lookups", join(&|word| format!("{noun}[\"{word}\"]")));
    filled.set("pairs", two_by_two(&|key, value| format!("{key} to {value}")));
    filled.set("entries", two_by_two(&|key, value| format!("\"{key}\": \"{value}\"")));
    let form = pick(&FORMS, random);
    Document { request: filled.fill(form.request), code: filled.fill(form.code) }
}
