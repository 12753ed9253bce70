//! A licence where it is plain: an SPDX mark, or a licence's own unmistakable sentences.

/// Files of a repository's root that hold its licence.
pub(super) const FILES: [&str; 9] = [
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "LICENCE",
    "LICENCE.txt",
    "COPYING",
    "COPYING.txt",
    "license.txt",
    "UNLICENSE",
];

/// Bytes at a source file's start in which an SPDX mark is looked for.
const MARK_WITHIN: usize = 4_096;

/// The expression behind `SPDX-License-Identifier:` near the start of a text.
pub(super) fn mark(text: &str) -> Option<String> {
    let start: &str = match text.char_indices().map(|(index, _)| index).find(|index| *index >= MARK_WITHIN) {
        Some(end) => &text[..end],
        None => text,
    };
    let (_, rest) = start.split_once("SPDX-License-Identifier:")?;
    let line = rest.lines().next()?;
    let expression = line.trim().trim_end_matches("*/").trim_end_matches("-->").trim();
    let plain = |character: char| character.is_ascii_alphanumeric() || "-.+() ".contains(character);
    (!expression.is_empty() && expression.chars().all(plain)).then(|| expression.to_owned())
}

/// The SPDX identifier of a licence's text. More than one licence in a text, or words that differ, give nothing.
pub(super) fn of_text(text: &str) -> Option<String> {
    if let Some(mark) = mark(text) {
        return Some(mark);
    }
    let flowing = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let has = |words: &str| flowing.contains(words);
    let gnu = |title: &str, version: &str| {
        // The title and version stand together at the start; later the text names its sister licences.
        flowing.find(title).is_some_and(|start| {
            start < 400 && flowing[start + title.len()..].trim_start().starts_with(version)
        })
    };
    let mut found = Vec::new();
    if gnu("gnu affero general public license", "version 3") {
        found.push("AGPL-3.0");
    } else if gnu("gnu lesser general public license", "version 3") {
        found.push("LGPL-3.0");
    } else if gnu("gnu lesser general public license", "version 2.1") {
        found.push("LGPL-2.1");
    } else if gnu("gnu general public license", "version 3") {
        found.push("GPL-3.0");
    } else if gnu("gnu general public license", "version 2") {
        found.push("GPL-2.0");
    }
    if has("apache license") && has("version 2.0, january 2004") {
        found.push("Apache-2.0");
    }
    if has("mozilla public license version 2.0")
        || has("mozilla public license, version 2.0") && found.is_empty()
    {
        found.push("MPL-2.0");
    }
    if has("permission is hereby granted, free of charge") && has("without warranty of any kind") {
        found.push("MIT");
    }
    if has("permission to use, copy, modify, and/or distribute this software") {
        found.push("ISC");
    }
    if has("redistribution and use in source and binary forms") {
        let endorse = has("neither the name") || has("may be used to endorse");
        found.push(if endorse { "BSD-3-Clause" } else { "BSD-2-Clause" });
    }
    if has("this is free and unencumbered software released into the public domain") {
        found.push("Unlicense");
    }
    match found.as_slice() {
        [one] => Some((*one).to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_licences_are_known_and_others_are_not() {
        let check =
            |text: &str, expected: Option<&str>| assert_eq!(of_text(text).as_deref(), expected, "{text}");
        check(
            "MIT License\n\nPermission is hereby granted, free\nof charge ... WITHOUT WARRANTY OF ANY KIND",
            Some("MIT"),
        );
        check("Apache License\nVersion 2.0, January 2004", Some("Apache-2.0"));
        check(
            "GNU GENERAL PUBLIC LICENSE\n   Version 2, June 1991\n use the GNU Lesser General Public License instead",
            Some("GPL-2.0"),
        );
        check(
            "GNU LESSER GENERAL PUBLIC LICENSE Version 3 ... GNU General Public License version 3",
            Some("LGPL-3.0"),
        );
        check(
            "Redistribution and use in source and binary forms ... Neither the name of",
            Some("BSD-3-Clause"),
        );
        check(
            "SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note",
            Some("GPL-2.0-only WITH Linux-syscall-note"),
        );
        check("All rights reserved.", None);
        check(
            "Apache License Version 2.0, January 2004; or: Permission is hereby granted, free of charge ... without warranty of any kind",
            None,
        );
        assert_eq!(mark("/* SPDX-License-Identifier: MIT */\nint x;").as_deref(), Some("MIT"));
        assert_eq!(mark("# SPDX-License-Identifier: <b>\n"), None);
    }
}
