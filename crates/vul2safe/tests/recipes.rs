//! Every shipped recipe parses, survives a round trip, and can be planned.

use std::path::{Path, PathBuf};

use vul2safe::recipe::{SourceKind, parse_recipe};

fn recipes() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("recipes/")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    found.sort();
    assert!(found.len() >= 3, "recipes/ holds {found:?}");
    found
}

/// A pair of records for recipes whose data is the user's own.
fn own_data(folder: &Path) -> PathBuf {
    let path = folder.join("fixes.jsonl");
    let line = serde_json::json!({
        "vulnerable": "def find(conn, name):\n    return conn.execute(\"SELECT * FROM users WHERE name = '%s'\" % name).fetchone()\n",
        "secure": "def find(conn, name):\n    return conn.execute(\"SELECT * FROM users WHERE name = ?\", (name,)).fetchone()\n",
        "cwe": "CWE-89",
    });
    std::fs::write(&path, format!("{line}\n")).expect("a file");
    path
}

#[test]
fn every_recipe_parses_and_can_be_planned() {
    let folder = tempfile::tempdir().expect("a folder");
    for path in recipes() {
        let text = std::fs::read_to_string(&path).expect("readable");
        let recipe = parse_recipe(&text, &path, &[]).unwrap_or_else(|failure| panic!("{failure}"));
        let again = parse_recipe(&recipe.to_toml().expect("TOML"), &path, &[]).expect("its own output");
        assert_eq!(again.to_toml().expect("TOML"), recipe.to_toml().expect("TOML"));

        // Data and models that are not here are replaced; everything else is planned as it stands.
        let mut overrides = Vec::new();
        if recipe.data.source != SourceKind::Range {
            overrides.push("data.source=jsonl".to_owned());
            overrides.push(format!("data.path={}", own_data(folder.path()).display()));
            overrides.push("data.columns={ vulnerable = \"vulnerable\", secure = \"secure\", cwe = \"cwe\", default_language = \"python\" }".to_owned());
        }
        let mut recipe = parse_recipe(&text, &path, &overrides).unwrap_or_else(|failure| panic!("{failure}"));
        recipe.model.path = None;
        let out = folder.path().join("run");
        let plan =
            vul2safe::plan::describe(&recipe, Some(&out)).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(plan.contains("records") && plan.contains("disk"), "{plan}");
        assert!(!out.exists(), "a plan touches nothing");
    }
}
