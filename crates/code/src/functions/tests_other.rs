//! What is read from functions of Java, JavaScript, Go and PHP.

use super::*;
use crate::{parse, parse_excerpt};

fn functions(language: Language, text: &str) -> Vec<Function> {
    let parsed = parse_excerpt(language, text).unwrap();
    assert!(parsed.is_clean(), "{language} {:?}\n{}", parsed.first_error(), parsed.root().to_sexp());
    let functions = parsed.functions().to_vec();
    for function in &functions {
        for span in [function.span, function.signature, function.body].iter().chain(&function.statements) {
            assert!(
                span.text(text).is_some_and(|text| !text.is_empty()),
                "{language} {}: {span:?}",
                function.name
            );
        }
    }
    functions
}

#[test]
fn java_methods() {
    let text = r#"
/** Finds the names. */
@Override
public static String find(Connection db, final String name, int... rest) throws SQLException {
    // look
    String q = "a" + name;
    for (String s : names) { total += s.length(); }
    try (Statement st = db.createStatement()) {
        return st.executeQuery(q).first;
    } catch (SQLException e) {
        throw new Failure(e);
    }
}
"#;
    let function = &functions(Language::Java, text)[0];
    assert_eq!(function.name, "find");
    assert_eq!(
        function.signature.text(text),
        Some("public static String find(Connection db, final String name, int... rest) throws SQLException")
    );
    assert_eq!(function.parameters, ["db", "name", "rest"]);
    assert_eq!(function.docstring.as_deref(), Some("Finds the names."));
    assert_eq!(function.locals, ["db", "name", "rest", "q", "s", "st", "e"]);
    assert_eq!(function.calls, ["s.length", "db.createStatement", "st.executeQuery", "Failure"]);
    assert!(function.returns_value && function.is_method);
    let whole = "class A {\n  A(int n) { this.n = n; }\n  void run() { x.forEach(y -> { return; }); }\n}\n";
    let names: Vec<_> = functions(Language::Java, whole).iter().map(|f| f.name.clone()).collect();
    assert_eq!(names, ["A", "run"]);
    // A constructor alone is no Java text, but can be one that was cut out of a class.
    let cut = "A(int n) {\n    this.n = n;\n}\n";
    assert!(!parse(Language::Java, cut).unwrap().is_clean());
    assert_eq!(functions(Language::Java, cut)[0].parameters, ["n"]);
}

#[test]
fn javascript_functions() {
    let text = r"
// Finds them.
async function find(db, { name, other: o = 1 }, [p] = [x], ...rest) {
  const q = `a ${name}`;
  for (const s of names) { total += s.length; }
  try { return await db.query(q, [name]); } catch (e) { log?.warn(e); }
}
exports.go = function (a) { new Job(a).start(); };
export const twice = (a) => a * 2;
const handlers = { load: async (id) => { await read(id); }, 'save-it': function (b) { } };
class Store { get(key) { return rows.map(row => row[key]); } static of = x => new Store(x); }
Store.prototype.clear = function () { this.rows = []; };
list.forEach(function (item) { return item; });
";
    let found = functions(Language::JavaScript, text);
    let shown: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.is_method, f.returns_value)).collect();
    assert_eq!(
        shown,
        [
            ("find", false, true),
            ("go", false, false),
            ("twice", false, true),
            ("load", true, false),
            ("save-it", true, false),
            ("get", true, true),
            ("of", true, true),
            ("clear", true, false),
        ]
    );
    assert_eq!(found[0].docstring.as_deref(), Some("Finds them."));
    assert_eq!(found[0].parameters, ["db", "name", "o", "p", "rest"]);
    assert_eq!(found[0].locals, ["db", "name", "o", "p", "rest", "q", "s", "e"]);
    assert_eq!(found[0].calls, ["db.query", "log?.warn"]);
    assert_eq!(found[2].signature.text(text), Some("export const twice = (a) =>"));
    assert_eq!(found[1].calls, ["Job(a).start", "Job"].map(|call| call.replace("Job(a)", "newJob(a)")));
    // Cut out of a class, and out of an object.
    let method = "async get(key) {\n  return this.rows[key];\n}\n";
    assert!(parse_excerpt(Language::JavaScript, method).unwrap().is_excerpt());
    assert_eq!(functions(Language::JavaScript, method)[0].signature.text(method), Some("async get(key)"));
    let member = "find: function (name) {\n  return rows[name];\n},\n";
    assert_eq!(functions(Language::JavaScript, member)[0].name, "find");
}

#[test]
fn go_functions() {
    let text = "// Find finds.\nfunc (s *Store) Find(db *sql.DB, name, other string, rest ...int) (rows *Rows, err error) {\n\
                \tq := \"a\" + name\n\tvar x, y = 1, 2\n\tfor i, row := range names {\n\t\ttotal += len(row)\n\t}\n\
                \tif err := db.Query(q); err != nil {\n\t\treturn nil, err\n\t}\n\tfn := func(z int) int { return z }\n\treturn\n}\n\
                func run() { go work() }\n";
    let found = functions(Language::Go, text);
    assert_eq!(found[0].name, "Find");
    assert_eq!(found[0].parameters, ["db", "name", "other", "rest"]);
    assert_eq!(
        found[0].locals,
        ["db", "name", "other", "rest", "s", "rows", "err", "q", "x", "y", "i", "row", "fn", "z"]
    );
    assert_eq!(found[0].docstring.as_deref(), Some("Find finds."));
    assert!(found[0].signature.text(text).unwrap().ends_with("(rows *Rows, err error)"));
    assert_eq!(found[0].calls, ["len", "db.Query"]);
    assert!(found[0].is_method && found[0].returns_value);
    assert!(!found[1].is_method && !found[1].returns_value);
}

#[test]
fn php_functions() {
    let text = r#"/**
 * Finds rows.
 */
public static function find(PDO $db, string $name = 'x', ...$rest): array {
    global $conf;
    $q = "a $name";
    foreach ($names as $k => $s) { $total += strlen($s); }
    try {
        list($a, $b) = $db->query($q)->fetch();
        $this->seen[$k] = self::go();
    } catch (Exception $e) { }
    $f = function ($z) use ($q) { return $z; };
    return $a;
}
"#;
    let function = &functions(Language::Php, text)[0];
    assert_eq!(function.name, "find");
    assert_eq!(function.parameters, ["db", "name", "rest"]);
    assert_eq!(
        function.locals,
        ["db", "name", "rest", "conf", "q", "k", "s", "total", "a", "b", "e", "f", "z"]
    );
    assert_eq!(function.docstring.as_deref(), Some("Finds rows."));
    assert_eq!(function.calls, ["strlen", "$db->query($q)->fetch", "$db->query", "self::go"]);
    assert!(function.is_method && function.returns_value);
    // A page, a file with a tag, and code without one.
    for text in [
        "<p>Hi</p>\n<?php function f($a) { echo $a; } ?>\n<b>",
        "<?php\nfunction f($a) { echo $a; }\n",
        "function f($a) { echo $a; }\n",
    ] {
        assert_eq!(functions(Language::Php, text)[0].parameters, ["a"], "{text}");
    }
}

#[test]
fn a_c_function_that_lost_its_return_type_is_an_excerpt() {
    let text = "copy_name(char *to, const char *from)\n{\n  strcpy(to, from);\n  return 1;\n}\n";
    assert!(!parse(Language::C, text).unwrap().is_clean());
    let function = &functions(Language::C, text)[0];
    assert_eq!(function.name, "copy_name");
    assert_eq!(function.span.start, 0);
    assert_eq!(function.signature.text(text), Some("copy_name(char *to, const char *from)"));
    assert_eq!(function.statements.len(), 2);
    // What is broken for another reason stays broken.
    assert!(!parse_excerpt(Language::C, "copy(char *to {\n  x = ;\n}\n").unwrap().is_clean());
}
