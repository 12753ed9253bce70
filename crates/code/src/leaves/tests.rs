//! Leaves of each language, and blanked comments.

use proptest::prelude::*;

use super::*;
use crate::parse;

/// Leaves as `kind:text`, with a letter for each kind.
fn shown(language: Language, text: &str) -> Vec<String> {
    let parsed = parse(language, text).unwrap();
    parsed
        .leaves()
        .iter()
        .map(|leaf| {
            let letter = match leaf.kind {
                LeafKind::Name => 'n',
                LeafKind::Attribute => 'a',
                LeafKind::Keyword => 'k',
                LeafKind::Number => '#',
                LeafKind::StringContent => 's',
                LeafKind::StringDelimiter => 'd',
                LeafKind::Punctuation => 'p',
            };
            format!("{letter}:{}", leaf.span.text(text).unwrap())
        })
        .collect()
}

#[test]
fn python_leaves() {
    assert_eq!(
        shown(Language::Python, "x = a.b(c=1) # note\n"),
        ["n:x", "p:=", "n:a", "p:.", "a:b", "p:(", "a:c", "p:=", "#:1", "p:)"]
    );
    assert_eq!(
        shown(Language::Python, "f\"a {x.y!r:>{w}} {{b\\n\""),
        [
            "d:f\"",
            "s:a ",
            "p:{",
            "n:x",
            "p:.",
            "a:y",
            "p:!r",
            "p::",
            "p:>",
            "p:{",
            "n:w",
            "p:}",
            "p:}",
            "s: {{b\\n",
            "d:\""
        ]
    );
    assert_eq!(
        shown(Language::Python, "f'{n:.2f}'"),
        ["d:f'", "p:{", "n:n", "p::", "p:.", "#:2f", "p:}", "d:'"]
    );
    assert_eq!(
        shown(Language::Python, "if x \\\n   and True:\n    return None\n"),
        ["k:if", "n:x", "k:and", "k:True", "p::", "k:return", "k:None"]
    );
    assert_eq!(shown(Language::Python, "''"), ["d:'", "d:'"]);
    assert_eq!(shown(Language::Python, "x not in y"), ["n:x", "k:not", "k:in", "n:y"]);
}

#[test]
fn c_leaves() {
    assert_eq!(
        shown(Language::C, "int x = p->q + 0x1f; /* c */ char c = '\\n';"),
        [
            "k:int", "n:x", "p:=", "n:p", "p:->", "a:q", "p:+", "#:0x1f", "p:;", "k:char", "n:c", "p:=",
            "d:'", "s:\\n", "d:'", "p:;"
        ]
    );
    assert_eq!(
        shown(Language::C, "puts(\"a\\tb\");"),
        ["n:puts", "p:(", "d:\"", "s:a\\tb", "d:\"", "p:)", "p:;"]
    );
    assert_eq!(
        shown(Language::C, "#include <a.h>\n#define M(x) f(x, 1)\n"),
        [
            "k:#include",
            "s:<a.h>",
            "k:#define",
            "n:M",
            "p:(",
            "n:x",
            "p:)",
            "n:f",
            "p:(",
            "n:x",
            "p:,",
            "#:1",
            "p:)"
        ]
    );
}

#[test]
fn cpp_leaves() {
    assert_eq!(
        shown(Language::Cpp, "auto s = R\"(a)\"; std::string t;"),
        [
            "k:auto", "n:s", "p:=", "d:R\"", "p:(", "s:a", "p:)", "d:\"", "p:;", "n:std", "p:::", "n:string",
            "n:t", "p:;"
        ]
    );
}

#[test]
fn layout_and_comments_do_not_show() {
    let plain = parse(Language::Python, "def f(a):\n    return a\n").unwrap();
    let dressed =
        parse(Language::Python, "    def f( a ):  # nosec\n\n        # why\n        return (\\\n a)\n")
            .unwrap();
    let mut dressed_leaves = normalised_leaves(&dressed);
    dressed_leaves.retain(|text| *text != "(" && *text != ")");
    let mut plain_leaves = normalised_leaves(&plain);
    plain_leaves.retain(|text| *text != "(" && *text != ")");
    assert_eq!(plain_leaves, dressed_leaves);
}

#[test]
fn comments_are_blanked_and_nothing_else() {
    let text = "x = '# no comment'  # nösec\ny = 1\n";
    let blanked = blank_comments(&parse(Language::Python, text).unwrap());
    assert_eq!(blanked, format!("x = '# no comment'  {}\ny = 1\n", " ".repeat("# nösec".len())));
    let text = "a(); /* NOLINT\n strcpy(b, c); */ b(); // end";
    let blanked = blank_comments(&parse(Language::C, text).unwrap());
    assert_eq!(blanked, "a();          \n                  b();       ");
}

proptest! {
    #[test]
    fn blanking_keeps_length_and_leaves(body in prop::collection::vec(
        prop::sample::select(&["    x = 1 # é\n", "    y = f('#')\n", "    # only\n", "    s = '''\n# in\n'''\n"][..]), 1..8)) {
        let text = format!("def f():\n{}    return 1\n", body.concat());
        let parsed = parse(Language::Python, &text).unwrap();
        let blanked = blank_comments(&parsed);
        prop_assert_eq!(blanked.len(), text.len());
        let again = parse(Language::Python, &blanked).unwrap();
        prop_assert_eq!(again.leaves(), parsed.leaves());
    }
}

#[test]
fn leaves_of_the_other_languages() {
    assert_eq!(
        shown(Language::Java, "x = a.b.find(\"q\\n\" + 0x1F + 'c', null); /* no */"),
        [
            "n:x", "p:=", "n:a", "p:.", "a:b", "p:.", "a:find", "p:(", "d:\"", "s:q\\n", "d:\"", "p:+",
            "#:0x1F", "p:+", "s:'c'", "p:,", "k:null", "p:)", "p:;"
        ]
    );
    assert_eq!(
        shown(Language::JavaScript, "const q = `a ${b.c} d`; // no\n/x+/g.test({ e, f: 1 });"),
        [
            "k:const", "n:q", "p:=", "d:`", "s:a ", "p:${", "n:b", "p:.", "a:c", "p:}", "s: d", "d:`", "p:;",
            "p:/", "s:x+", "p:/", "p:g", "p:.", "a:test", "p:(", "p:{", "n:e", "p:,", "a:f", "p::", "#:1",
            "p:}", "p:)", "p:;"
        ]
    );
    assert_eq!(
        shown(Language::Go, "q := \"a\" + `b` + 'c' // no\n_ = x.Y(nil, 1)\n"),
        [
            "n:q", "p::=", "d:\"", "s:a", "d:\"", "p:+", "d:`", "s:b", "d:`", "p:+", "s:'c'", "n:_", "p:=",
            "n:x", "p:.", "a:Y", "p:(", "k:nil", "p:,", "#:1", "p:)"
        ]
    );
    assert_eq!(
        shown(Language::Php, "<?php $q = \"a $n {$o->p}\" . 'r'; # no\nself::go(null, true);"),
        [
            "k:<?php", "p:$", "n:q", "p:=", "d:\"", "s:a ", "p:$", "n:n", "s: ", "p:{", "p:$", "n:o", "p:->",
            "a:p", "p:}", "d:\"", "p:.", "d:'", "s:r", "d:'", "p:;", "k:self", "p:::", "a:go", "p:(",
            "k:null", "p:,", "k:true", "p:)", "p:;"
        ]
    );
}
