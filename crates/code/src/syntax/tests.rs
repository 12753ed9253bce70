use super::*;
use crate::{Parsed, parse};

const TEXTS: [(Language, &str); 9] = [
    (
        Language::Python,
        "import os\n\n\n@once\ndef f(a, *rest, b=1, **more):\n    \"\"\"Doc.\"\"\"\n    # why\n    with open(a) as h:\n        x, y = h.read(), f'{a!r:>{b}}' 'c'\n    if not x and y or a[1:2]:\n        return {k: v for k, v in x if k}\n    elif a: pass\n    else:\n        raise E from None\n    # end\n",
    ),
    (
        Language::C,
        "#include <a.h>\n#define N 3\nstruct s { int a, *b; };\n/* c */ static int f(const char *p, int n) {\n  char b[N] = \"x\", *q = 0; // d\n  for (int i = 0; i < n && p[i]; i++) { if (!p) goto out; else q->a += (int)*p; }\nout:\n  return n > 1 ? f(p, 2) : -1;\n}\n",
    ),
    (
        Language::Cpp,
        "namespace n { template <class T> int A<T>::f(T &&x) const { auto y = std::move(x); for (auto &z : y) g(z); return 0; } }\n",
    ),
    (
        Language::Java,
        "class A { @B int f(String... s) throws E { try (R r = g()) { int a = 1, b; return a; } catch (E e) { h(); } return 0; } }\n",
    ),
    (
        Language::JavaScript,
        "export const f = async ({ a, b = 1 }, ...c) => { let x = `t${a}`; for (const k of c) d[k] = /r/g; return x ?? b; };\n",
    ),
    (
        Language::Go,
        "package p\nfunc (r *T) f(a, b int) (c int, err error) { x, err := g(a); if err != nil { return 0, err }; for i := range x { h(i) }; return }\n",
    ),
    (
        Language::Php,
        "<html><?php function f($a, int $b = 1) { $q = \"x $a {$b[1]}\"; return g($q) . 'c'; } ?></html>\n",
    ),
    (Language::Php, "function f($a) { // c\n return $a; }\n"),
    (Language::Python, "def f(:\n    return (1,\n\nclass\n"),
];

/// The parser's own nodes in the order of the text.
fn nodes(tree: &Tree) -> Vec<tree_sitter::Node<'_>> {
    let mut found = Vec::new();
    let mut open = vec![tree.root_node()];
    while let Some(node) = open.pop() {
        found.push(node);
        open.extend((0..node.child_count()).rev().filter_map(|number| node.child(number)));
    }
    found
}

fn same(one: Option<Node<'_>>, other: Option<tree_sitter::Node<'_>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            one.kind() == other.kind()
                && one.byte_range() == other.byte_range()
                && one.is_named() == other.is_named()
        }
        (one, other) => one.is_none() && other.is_none(),
    }
}

#[test]
fn every_node_says_what_the_parsers_own_says() {
    for (language, text) in TEXTS {
        let grammar = Grammar::of(language, text);
        let mut parser = tree_sitter::Parser::new();
        parser.set_language(grammar.parser).unwrap();
        let tree = parser.parse(text, None).unwrap();
        let parsed = parse(language, text).unwrap();
        let (mut ours, theirs) = (Vec::new(), nodes(&tree));
        Parsed::walk(parsed.root(), |node| {
            ours.push(node);
            true
        });
        assert_eq!(ours.len(), theirs.len());
        assert!(ours.len() > 10, "{language}");
        for (our, their) in ours.iter().zip(&theirs) {
            assert!(same(Some(*our), Some(*their)), "{our:?} {their:?}");
            let at = || format!("{language} {our:?} {:?}", our.parent());
            assert_eq!(our.has_error(), their.has_error(), "{}", at());
            assert_eq!(our.is_error(), their.is_error(), "{}", at());
            assert_eq!(our.is_missing(), their.is_missing(), "{}", at());
            assert_eq!(our.child_count(), their.child_count() as usize, "{}", at());
            assert_eq!(our.named_child_count(), their.named_child_count(), "{}", at());
            assert!(same(our.parent(), their.parent()), "{}", at());
            // To the side, the parser's own passes over what has no width, as tokens that are missing.
            if !tree.root_node().has_error() {
                assert!(same(our.next_sibling(), their.next_sibling()), "{}", at());
                assert!(same(our.next_named_sibling(), their.next_named_sibling()), "{}", at());
                assert!(same(our.prev_sibling(), their.prev_sibling()), "{}", at());
            }
            for number in 0..4 {
                assert!(same(our.child(number), their.child(number as u32)), "{}", at());
                assert!(same(our.named_child(number), their.named_child(number as u32)), "{}", at());
            }
            for field in grammar.fields.iter().filter(|field| !field.is_empty()) {
                let wanted = their.child_by_field_name(field);
                assert!(same(our.child_by_field_name(field), wanted), "{field} of {}", at());
                let mut cursor = their.walk();
                let wanted = their.children_by_field_name(field, &mut cursor);
                let all: Vec<_> = our.children_by_field_name(field).map(|child| child.byte_range()).collect();
                assert_eq!(
                    all,
                    wanted.map(|child| child.byte_range()).collect::<Vec<_>>(),
                    "{field} of {}",
                    at()
                );
            }
            let range = our.byte_range();
            let smallest = parsed.root().descendant_for_byte_range(range.start, range.end);
            let wanted = tree.root_node().descendant_for_byte_range(range.start, range.end);
            assert!(range.is_empty() || same(Some(smallest), wanted), "{smallest:?} {wanted:?}");
        }
        assert!(ours.iter().enumerate().all(|(place, node)| node.id() == place && *node == ours[place]));
    }
}

#[test]
fn a_tree_in_words() {
    let parsed = parse(Language::Python, "x = f(1)\n").unwrap();
    assert_eq!(
        parsed.root().to_sexp(),
        "(module (expression_statement (assignment left: (identifier) right: (call function: (identifier) \
         arguments: (argument_list (integer))))))"
    );
}

#[test]
fn without_comments_it_is_the_tree_of_the_blanked_text() {
    for (language, text) in TEXTS.into_iter().take(8) {
        let parsed = parse(language, text).unwrap();
        let (kept, anew) =
            (parsed.without_comments().unwrap(), parse(language, &crate::blank_comments(&parsed)).unwrap());
        assert!(kept.comments().next().is_none());
        let shown = |parsed: &Parsed| {
            let mut nodes = Vec::new();
            // The root covers white space in its own way.
            Parsed::walk(parsed.root(), |node| {
                nodes.push((node.kind(), node.field_name(), (node.id() > 0).then(|| node.byte_range())));
                true
            });
            nodes
        };
        assert_eq!(shown(&kept), shown(&anew), "{language}");
        assert_eq!((kept.text(), kept.leaves()), (anew.text(), anew.leaves()));
        assert_eq!(kept.functions(), anew.functions());
    }
}
