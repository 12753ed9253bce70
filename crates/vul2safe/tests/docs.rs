//! The documentation's links lead somewhere, and its generated pages are current.
//!
//! `UPDATE_DOCS=1 cargo test -p vul2safe --test docs` writes the generated pages anew.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use vul2safe::cli::Cli;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}

/// The help of every command as one Markdown page.
fn command_line() -> String {
    let mut page = "# Command line\n\nGenerated from the program's own help.\n".to_owned();
    describe(Cli::command().term_width(100), &mut Vec::new(), &mut page);
    page
}

fn describe(mut command: clap::Command, path: &mut Vec<String>, page: &mut String) {
    path.push(command.get_name().to_owned());
    let name = path.join(" ");
    // clap names the binary in usage lines; a subcommand alone would call itself by its last word.
    command = command.bin_name(&name);
    let help = command.render_long_help().to_string();
    let help = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    page.push_str(&format!("\n## `{name}`\n\n```text\n{}\n```\n", help.trim_end()));
    let below: Vec<clap::Command> =
        command.get_subcommands().filter(|below| below.get_name() != "help").cloned().collect();
    for below in below {
        describe(below.term_width(100), path, page);
    }
    path.pop();
}

#[test]
fn the_command_line_page_is_current() {
    let path = workspace().join("docs/src/reference/command-line.md");
    let expected = command_line();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).expect("writable");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/src/reference/command-line.md is out of date; see the top of this test");
}

/// The families of the range as a Markdown table, with their totals.
fn families() -> String {
    use std::collections::BTreeSet;
    let families = vul2safe_range::families();
    let mut table =
        "| family | language | weakness by site (secure + vulnerable variants) | severity | held out | what it does |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for family in &families {
        let sites: Vec<String> = family
            .sites
            .iter()
            .map(|site| format!("`{}` {} ({} + {})", site.name, site.cwe, site.secure, site.vulnerable))
            .collect();
        table.push_str(&format!(
            "| `{}` | {} | {} | {} | {} | {} |\n",
            family.name,
            family.language,
            if family.harmless { "harmless".to_owned() } else { sites.join("<br>") },
            family.severity.map_or("", |severity| severity.as_str()),
            if family.held_out { "yes" } else { "" },
            family.summary
        ));
    }
    let open = || families.iter().filter(|family| !family.harmless);
    let of = |language| open().filter(|family| family.language == language).count();
    let cwes: BTreeSet<_> = open().flat_map(|family| &family.sites).map(|site| site.cwe).collect();
    format!(
        "{} families that invite a weakness ({} in Python, {} in C) over {} CWEs; {} of them have two or three sites, {} are held out as a whole; {} harmless families.\n\n{table}",
        open().count(),
        of(vul2safe_code::Language::Python),
        of(vul2safe_code::Language::C),
        cwes.len(),
        open().filter(|family| family.sites.len() >= 2).count(),
        open().filter(|family| family.held_out).count(),
        families.len() - open().count(),
    )
}

#[test]
fn the_table_of_families_is_current() {
    let path = workspace().join("docs/src/reference/range.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let (start, end) = ("<!-- families -->\n", "<!-- end of families -->");
    let (before, rest) = page.split_once(start).expect("the mark before the table");
    let (_, after) = rest.split_once(end).expect("the mark after the table");
    let expected = format!("{before}{start}\n{}\n{end}{after}", families());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).expect("writable");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/src/reference/range.md is out of date; see the top of this test");
}

#[test]
fn the_range_page_names_every_field_of_an_export() {
    let page = std::fs::read_to_string(workspace().join("docs/src/reference/range.md")).expect("the page");
    let task = vul2safe_range::tasks(vul2safe_range::Level::HeldOutNames, 1, 0).remove(0);
    let line = serde_json::to_value(vul2safe_range::ExportedTask::new(task, true)).expect("JSON");
    let names: Vec<&String> = line.as_object().expect("an object").keys().collect();
    assert!(names.len() >= 12, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "docs/src/reference/range.md does not explain {missing:?}");
}

#[test]
fn the_schema_of_primevul_plus_is_current() {
    let path = workspace().join("docs/src/reference/primevul-plus.schema.json");
    let mut expected = serde_json::to_string_pretty(&vul2safe_corpus::json_schema()).expect("JSON");
    expected.push('\n');
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).expect("writable");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "primevul-plus.schema.json is out of date; see the top of this test");
}

#[test]
fn the_sources_page_names_every_source_and_reason() {
    use clap::ValueEnum;
    let page = std::fs::read_to_string(workspace().join("docs/src/reference/sources.md")).expect("the page");
    let sources =
        vul2safe::recipe::SourceKind::value_variants().iter().map(|source| source.word().to_owned());
    let reasons = vul2safe_corpus::DropReason::ALL.iter().map(ToString::to_string);
    let missing: Vec<String> =
        sources.chain(reasons).filter(|word| !page.contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "docs/src/reference/sources.md does not explain {missing:?}");
}

#[test]
fn the_recipe_page_names_every_key() {
    let page = std::fs::read_to_string(workspace().join("docs/src/reference/recipe.md")).expect("the page");
    let resolved: toml::Table =
        toml::from_str(&vul2safe::recipe::Recipe::default().to_toml().expect("TOML")).expect("TOML");
    let mut missing = Vec::new();
    fn walk(table: &toml::Table, page: &str, missing: &mut Vec<String>) {
        for (key, value) in table {
            if !page.contains(&format!("`{key}`")) && !page.contains(&format!("`[{key}]`")) {
                missing.push(key.clone());
            }
            if let toml::Value::Table(inner) = value {
                walk(inner, page, missing);
            }
        }
    }
    let mut top = resolved;
    top.remove("arms");
    walk(&top, &page, &mut missing);
    missing.sort();
    missing.dedup();
    assert!(missing.is_empty(), "docs/src/reference/recipe.md does not explain {missing:?}");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = workspace();
    let mut pages = vec![root.join("README.md"), root.join("ARCHITECTURE.md"), root.join("CHANGELOG.md")];
    collect(&root.join("docs/src"), &mut pages);
    let mut broken = Vec::new();
    for page in &pages {
        let text =
            std::fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            if !page.parent().expect("a page lies in a folder").join(file).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

fn collect(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("docs/src").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            collect(&entry, pages);
        } else if entry.extension().is_some_and(|extension| extension == "md") {
            pages.push(entry);
        }
    }
}

#[test]
fn the_primevul_plus_page_names_every_field() {
    let page =
        std::fs::read_to_string(workspace().join("docs/src/reference/primevul-plus.md")).expect("the page");
    let schema = vul2safe_corpus::json_schema();
    fn fields(value: &serde_json::Value, found: &mut Vec<String>) {
        if let Some(properties) = value.get("properties").and_then(serde_json::Value::as_object) {
            found.extend(properties.keys().cloned());
        }
        if let Some(object) = value.as_object() {
            object.values().for_each(|below| fields(below, found));
        }
    }
    let mut found = Vec::new();
    fields(&schema, &mut found);
    assert!(found.len() > 20, "{found:?}");
    let missing: Vec<&String> = found.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/src/reference/primevul-plus.md does not explain {missing:?}");
}
