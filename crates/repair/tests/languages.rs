//! Functions, methods and fragments of every language become pairs with prompts of many styles.

#[path = "support/plain.rs"]
mod plain;

use std::collections::HashSet;

use vul2safe_code::Language;
use vul2safe_corpus::RepairPair;
use vul2safe_repair::{Decision, OfflineTeacher, RepairConfig, repair};

/// Language, weakness, the vulnerable side, and what takes the place of what.
type Case = (Language, u32, &'static str, &'static [(&'static str, &'static str)]);

const CASES: &[Case] = &[
    // Functions.
    (
        Language::Python,
        78,
        "def ping_host(host):\n    command = \"ping -c 1 \" + host\n    return subprocess.call(command, shell=True)\n",
        &[("\"ping -c 1 \" + host", "[\"ping\", \"-c\", \"1\", \"--\", host]"), (", shell=True", "")],
    ),
    (
        Language::C,
        787,
        "int read_name(char *name, FILE *file)\n{\n    char line[80];\n    if (!fgets(line, sizeof line, file))\n        return -1;\n    strcpy(name, line);\n    return 0;\n}\n",
        &[("strcpy(name, line)", "snprintf(name, NAME_BYTES, \"%s\", line)")],
    ),
    (
        Language::Cpp,
        416,
        "int take_total(std::unique_ptr<Order> order, Ledger& ledger) {\n  int total = order->total();\n  ledger.store(std::move(order));\n  return total + order->fee();\n}\n",
        &[("order->total();", "order->total() + order->fee();"), ("total + order->fee()", "total")],
    ),
    (
        Language::Java,
        22,
        "static byte[] loadAvatar(Path folder, String name) throws IOException {\n    Path file = folder.resolve(name);\n    return Files.readAllBytes(file);\n}\n",
        &[("folder.resolve(name)", "folder.resolve(Path.of(name).getFileName())")],
    ),
    (
        Language::JavaScript,
        79,
        "function renderGreeting(visitor, element) {\n  element.innerHTML = 'Hello ' + visitor;\n  return element;\n}\n",
        &[("innerHTML", "textContent")],
    ),
    (
        Language::Go,
        89,
        "func findOrder(db *sql.DB, number string) *sql.Row {\n\treturn db.QueryRow(\"SELECT * FROM orders WHERE number = '\" + number + \"'\")\n}\n",
        &[("'\" + number + \"'\"", "?\", number")],
    ),
    (
        Language::Php,
        78,
        "function resize_picture($file, $width) {\n    $output = shell_exec(\"convert $file -resize $width out.png\");\n    return $output;\n}\n",
        &[
            ("\"convert $file", "\"convert \" . escapeshellarg($file) . \" "),
            ("-resize $width out", "-resize \" . (int) $width . \" out"),
        ],
    ),
    // Methods, as they stand in their class.
    (
        Language::Python,
        89,
        "    def count_visits(self, page):\n        self.cursor.execute(\"SELECT COUNT(*) FROM visits WHERE page = '%s'\" % page)\n        return self.cursor.fetchone()[0]\n",
        &[("'%s'\" % page", "?\", (page,)")],
    ),
    (
        Language::Cpp,
        125,
        "int Table::price_of_row(size_t row) const {\n  return values_[row];\n}\n",
        &[("values_[row]", "values_.at(row)")],
    ),
    (
        Language::Java,
        89,
        "@Override\npublic Order findOrder(String number) {\n    return jdbc.queryForObject(\"SELECT * FROM orders WHERE number = '\" + number + \"'\", mapper);\n}\n",
        &[("'\" + number + \"'\", mapper", "?\", mapper, number")],
    ),
    (
        Language::JavaScript,
        89,
        "async findOrder(number) {\n  const rows = await this.db.query(`SELECT * FROM orders WHERE number = '${number}'`);\n  return rows[0];\n}\n",
        &[(
            "`SELECT * FROM orders WHERE number = '${number}'`",
            "'SELECT * FROM orders WHERE number = ?', [number]",
        )],
    ),
    (
        Language::Go,
        22,
        "func (s *Server) loadPage(name string) ([]byte, error) {\n\treturn os.ReadFile(s.root + \"/\" + name)\n}\n",
        &[("name)\n", "filepath.Base(name))\n")],
    ),
    (
        Language::Php,
        79,
        "    private function renderTitle($title)\n    {\n        return '<h1>' . $title . '</h1>';\n    }\n",
        &[("$title .", "htmlspecialchars($title) .")],
    ),
    // Fragments.
    (
        Language::Python,
        502,
        "with open(path, 'rb') as handle:\n    session = pickle.load(handle)\n",
        &[("pickle.load", "json.load")],
    ),
    (
        Language::C,
        134,
        "char message[128];\nsnprintf(message, sizeof message, \"%s\\n\", text);\nprintf(message);\n",
        &[("printf(message);", "fputs(message, stdout);")],
    ),
    (
        Language::Cpp,
        125,
        "int first = values[index];\nstd::cout << read(first) << std::endl;\n",
        &[("values[index]", "values.at(index)")],
    ),
    (
        Language::Java,
        78,
        "Process process = new ProcessBuilder(\"sh\", \"-c\", \"ping \" + host).start();\nint status = process.waitFor();\n",
        &[("\"sh\", \"-c\", \"ping \" + host", "\"ping\", \"--\", host")],
    ),
    (
        Language::JavaScript,
        22,
        "// Send the picture that was asked for.\nconst file = folder + '/' + req.query.name;\nres.send(fs.readFileSync(file));\n",
        &[("req.query.name", "path.basename(req.query.name)")],
    ),
    (
        Language::Go,
        79,
        "name := request.FormValue(\"name\")\nfmt.Fprintf(writer, \"<p>Hello %s</p>\", name)\n",
        &[(", name)", ", html.EscapeString(name))")],
    ),
    (
        Language::Php,
        22,
        "<?php\n$page = $_GET['page'];\n$text = file_get_contents($folder . '/' . $page);\necho $text;\n",
        &[("'/' . $page", "'/' . basename($page)")],
    ),
];

fn pair(language: Language, cwe: u32, vulnerable: &str, changes: &[(&str, &str)]) -> RepairPair {
    let mut secure = vulnerable.to_owned();
    for (from, to) in changes {
        assert!(secure.contains(from), "{language}: {from}");
        secure = secure.replacen(from, to, 1);
    }
    let record = plain::record(language, cwe, vulnerable, &secure);
    let config = RepairConfig { prompts_per_pair: 14, ..RepairConfig::default() };
    match repair(&[record], &OfflineTeacher, None, &config, &|_| {}).remove(0) {
        Decision::Accepted(pair) => *pair,
        Decision::Rejected(rejection) => {
            panic!("{language} {vulnerable}\n{}: {}", rejection.reason, rejection.detail)
        }
        Decision::Open(open) => panic!("{}", open.detail),
    }
}

#[test]
fn six_prompts_of_five_styles_for_functions_methods_and_fragments_of_every_language() {
    let mut seen = HashSet::new();
    for &(language, cwe, vulnerable, changes) in CASES {
        seen.insert(language);
        let pair = pair(language, cwe, vulnerable, changes);
        let styles: HashSet<&str> = pair.prompts.iter().map(|prompt| prompt.style.as_str()).collect();
        assert!(pair.prompts.len() >= 6 && styles.len() >= 5, "{language} {vulnerable}: {:#?}", pair.prompts);
        assert!(!pair.spans.is_empty());
    }
    assert_eq!(seen.len(), Language::ALL.len());
}
