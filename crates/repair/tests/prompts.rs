//! What the prompts of a pair look like, and what a leak check catches.

#[path = "support/plain.rs"]
mod plain;

use proptest::prelude::*;
use vul2safe_code::Language;
use vul2safe_corpus::{Tests, VulnerabilityRecord};
use vul2safe_repair::{Decision, Draft, OfflineTeacher, Proposal, RepairConfig, leak_checks, repair};

/// With functional tests of the greeting, an assertion of which a prompt may quote.
fn record(language: Language, cwe: u32, vulnerable: &str, secure: &str) -> VulnerabilityRecord {
    let functional =
        "def test_greeting(answer):\n    assert answer.greeting(\"Ann\") == \"<p>Hello Ann</p>\"\n".into();
    let tests = Some(Tests { functional, processes: 0 });
    VulnerabilityRecord { tests, ..plain::record(language, cwe, vulnerable, secure) }
}

const GREETING: &str = "def greeting(name):\n    \"\"\"Returns a paragraph that says hello to the visitor.\"\"\"\n    return \"<p>Hello \" + name + \"</p>\"\n";

fn escaped() -> String {
    GREETING.replace("+ name +", "+ html.escape(name) +")
}

fn shown(record: VulnerabilityRecord, count: usize) -> String {
    let config = RepairConfig { prompts_per_pair: count, ..RepairConfig::default() };
    match repair(&[record], &OfflineTeacher, None, &config, &|_| {}).remove(0) {
        Decision::Accepted(pair) => pair
            .prompts
            .iter()
            .map(|prompt| {
                let prefix = prompt.prefix.as_ref().map(|prefix| format!("\n--- prefix ---\n{prefix}"));
                format!("[{}]\n{}{}\n", prompt.style, prompt.text, prefix.unwrap_or_default())
            })
            .collect::<Vec<_>>()
            .join("\n"),
        Decision::Rejected(rejection) => format!("{}: {}", rejection.reason, rejection.detail),
        Decision::Open(open) => format!("open: {}", open.detail),
    }
}

#[test]
fn prompts_of_a_documented_function() {
    insta::assert_snapshot!(shown(record(Language::Python, 79, GREETING, &escaped()), 14));
}

#[test]
fn prompts_of_a_method_without_a_docstring() {
    let vulnerable = "    def get_user_by_name(self, cursor, name):\n        # only active people count\n        cursor.execute(\"SELECT * FROM people WHERE name = '\" + name + \"'\")\n        return cursor.fetchone()\n";
    let secure = vulnerable.replace("'\" + name + \"'\")", "?\", (name,))");
    insta::assert_snapshot!(shown(record(Language::Python, 89, vulnerable, &secure), 7));
}

#[test]
fn prompts_of_a_c_function() {
    let vulnerable = "static int copy_title(char *title, const char *line)\n{\n\tstrcpy(title, line);\n\treturn strlen(title);\n}\n";
    let secure = vulnerable.replace("strcpy(title, line);", "snprintf(title, TITLE_BYTES, \"%s\", line);");
    insta::assert_snapshot!(shown(record(Language::C, 787, vulnerable, &secure), 7));
}

#[test]
fn prompts_of_a_java_method() {
    let vulnerable = "/** Finds the row of an account. */\npublic ResultSet findAccount(String name) throws SQLException {\n    Statement statement = connection.createStatement();\n    return statement.executeQuery(\"SELECT * FROM accounts WHERE name = '\" + name + \"'\");\n}\n";
    let secure = vulnerable
        .replace("Statement statement = connection.createStatement();", "PreparedStatement statement = connection.prepareStatement(\"SELECT * FROM accounts WHERE name = ?\");\n    statement.setString(1, name);")
        .replace("executeQuery(\"SELECT * FROM accounts WHERE name = '\" + name + \"'\")", "executeQuery()");
    insta::assert_snapshot!(shown(record(Language::Java, 89, vulnerable, &secure), 7));
}

#[test]
fn prompts_of_a_javascript_function() {
    let vulnerable = "exports.sendReport = async function (req, res) {\n  const file = `reports/${req.params.name}`;\n  if (!fs.existsSync(file)) {\n    throw new NotFound(file);\n  }\n  res.send(await fs.promises.readFile(file));\n};\n";
    let secure =
        vulnerable.replace("`reports/${req.params.name}`", "`reports/${path.basename(req.params.name)}`");
    insta::assert_snapshot!(shown(record(Language::JavaScript, 22, vulnerable, &secure), 7));
}

#[test]
fn prompts_of_a_go_method() {
    let vulnerable = "// pingHost sends one packet to a host and gives back what the program says.\nfunc (s *Server) pingHost(host string) (string, error) {\n\tout, err := exec.Command(\"sh\", \"-c\", \"ping -c 1 \"+host).Output()\n\treturn string(out), err\n}\n";
    let secure =
        vulnerable.replace("\"sh\", \"-c\", \"ping -c 1 \"+host", "\"ping\", \"-c\", \"1\", \"--\", host");
    insta::assert_snapshot!(shown(record(Language::Go, 78, vulnerable, &secure), 7));
}

#[test]
fn prompts_of_a_php_method_without_its_class() {
    let vulnerable = "public function renderComment($comment, $user) {\n    if ($comment === null) {\n        return null;\n    }\n    return '<p class=\"comment\">' . $user . ': ' . $comment . '</p>';\n}\n";
    let secure = vulnerable.replace("' . $comment . '", "' . htmlspecialchars($comment) . '");
    insta::assert_snapshot!(shown(record(Language::Php, 79, vulnerable, &secure), 7));
}

#[test]
fn prompts_of_a_fragment() {
    let vulnerable = "<?php\n// List the orders of one customer.\n$query = \"SELECT * FROM orders WHERE customer = '$customer'\";\n$rows = $link->query($query)->fetchAll();\nforeach ($rows as $row) {\n    echo $row['title'] . \"\\n\";\n}\n";
    let secure = vulnerable.replace("'$customer'\"", "\" . $link->quote($customer)");
    insta::assert_snapshot!(shown(record(Language::Php, 89, vulnerable, &secure), 7));
    let vulnerable = "char title[16];\nstrcpy(title, request->title);\nprintf(\"%s\\n\", title);\n";
    let secure = vulnerable
        .replace("strcpy(title, request->title)", "snprintf(title, sizeof title, \"%s\", request->title)");
    insta::assert_snapshot!(shown(record(Language::C, 787, vulnerable, &secure), 7));
}

#[track_caller]
fn leaks(prompt: &str, name: &str) {
    let record = record(Language::Python, 79, GREETING, &escaped());
    let proposal = Proposal { secure: escaped(), by: "upstream".into() };
    let draft = Draft::new(&record, &proposal, 1).unwrap();
    let failed: Vec<_> = leak_checks(prompt, &draft)
        .into_iter()
        .filter(|check| !check.passed)
        .map(|check| check.name)
        .collect();
    let wanted: &[&str] = if name.is_empty() { &[] } else { &[name] };
    assert_eq!(failed, wanted, "{prompt}");
}

#[test]
fn each_leak_is_caught_by_its_own_check() {
    leaks("Write `greeting(name)`: return a paragraph that says hello to the visitor.", "");
    leaks("Write `greeting(name)`: return a sanitized paragraph that says hello.", "no_security_vocabulary");
    leaks("Write `greeting(name)`: return a paragraph that says hello. Mind CWE-79.", "no_cwe");
    leaks("Write `greeting(name)` with html: return a paragraph that says hello.", "no_one_sided_api");
    leaks("Write `greeting`: return a paragraph that says hello to the visitor.", "describes_parameters");
    leaks("Write `greeting(name)`.", "describes_effect");
    leaks("Write `greeting(name)`, a paragraph that says hello, as return \"<p>Hello \" + name.", "");
}

#[test]
fn a_statement_of_the_repair_is_caught() {
    let vulnerable = "def size(path):\n    \"\"\"Return the size of the file.\"\"\"\n    log(path)\n    total = count(path, 1)\n    return total + 1\n";
    let secure = vulnerable.replace("log(path)", "log(str(path))");
    let record = record(Language::Python, 117, vulnerable, &secure);
    let draft = Draft::new(&record, &Proposal { secure, by: "upstream".into() }, 1).unwrap();
    let failed: Vec<_> =
        leak_checks("size(path): return the size of the file, total = count(path,  1)", &draft)
            .into_iter()
            .filter(|check| !check.passed)
            .map(|check| check.name)
            .collect();
    // `count(path,  1)` stands in other white space than in the code.
    assert_eq!(failed, ["not_the_code"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the two sides hold, there is one decision and no panic.
    #[test]
    fn any_texts_get_a_decision(vulnerable in "(def |f\\(|\\)|:|\n| {4}|[ -~]|é|\"\"\"|'){0,40}", secure in "[ -~\n]{0,60}") {
        for language in Language::ALL {
            let decisions = repair(
                &[record(language, 79, &vulnerable, &secure)],
                &OfflineTeacher,
                None,
                &RepairConfig::default(),
                &|_| {},
            );
            prop_assert_eq!(decisions.len(), 1);
        }
    }
}
