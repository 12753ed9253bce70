//! The rules on real pairs, where the data set lies beside the project: how many vulnerable sides are flagged with
//! the right weakness, and how many of these findings the fix removes. A sanity measure, not a target to tune for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vul2safe_analyze::analyze;
use vul2safe_code::{Cwe, Language, blank_comments, parse};

#[test]
fn fixes_remove_findings() {
    let data = std::env::var_os("VUL2SAFE_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let folder = data.join("sven/data_train_val");
    if !folder.is_dir() {
        println!("skipped: {} not found", folder.display());
        return;
    }
    // Weakness → Python pairs, flagged before the fix, of these not flagged after it, flagged after it.
    let mut counts: BTreeMap<Cwe, [usize; 4]> = BTreeMap::new();
    let (mut functions, started) = (0, std::time::Instant::now());
    for part in ["train", "val"] {
        for entry in std::fs::read_dir(folder.join(part)).unwrap() {
            for line in std::fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                let file = record["file_name"].as_str().unwrap_or_default();
                let language = if file.ends_with(".py") { Language::Python } else { Language::Cpp };
                let cwe = Cwe::parse(record["vul_type"].as_str().unwrap()).unwrap();
                let flagged = |field: &str| {
                    let parsed = parse(language, record[field].as_str().unwrap()).unwrap();
                    analyze(&parsed).iter().any(|finding| finding.cwe == cwe)
                };
                let (before, after) = (flagged("func_src_before"), flagged("func_src_after"));
                functions += 2;
                if std::env::var_os("VUL2SAFE_SHOW")
                    .is_some_and(|shown| shown.to_str() == Some(&cwe.0.to_string()))
                    && (!before || after)
                {
                    println!(
                        "==== before {before} after {after}\n{}\n---- after\n{}",
                        record["func_src_before"].as_str().unwrap(),
                        record["func_src_after"].as_str().unwrap()
                    );
                }
                let count = counts.entry(cwe).or_default();
                count[0] += 1;
                count[1] += usize::from(before);
                count[2] += usize::from(before && !after);
                count[3] += usize::from(after);
            }
        }
    }
    println!("{functions} functions in {:.2} s", started.elapsed().as_secs_f64());
    for (cwe, [pairs, before, removed, after]) in &counts {
        println!(
            "{cwe}: {pairs} pairs, {before} flagged before the fix, {removed} of them not after it, {after} flagged after it"
        );
    }
    let sql = counts[&Cwe(89)];
    assert!(sql[2] * 2 > sql[0], "most injections are seen, and seen to be repaired: {sql:?}");
    let total: [usize; 2] = counts.values().fold([0, 0], |sum, count| [sum[0] + count[1], sum[1] + count[3]]);
    assert!(total[1] * 2 < total[0], "fixes remove most findings: {total:?}");
}

/// Every function of the data set with its language; nothing, with a word, where it is not there.
fn functions() -> Vec<(Language, String)> {
    let data = std::env::var_os("VUL2SAFE_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let folder = data.join("sven/data_train_val");
    let mut found = Vec::new();
    for part in ["train", "val"].map(|part| folder.join(part)).iter().filter(|part| part.is_dir()) {
        for entry in std::fs::read_dir(part).unwrap() {
            for line in std::fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                let file = record["file_name"].as_str().unwrap_or_default();
                let language = if file.ends_with(".py") { Language::Python } else { Language::Cpp };
                for field in ["func_src_before", "func_src_after"] {
                    found.push((language, record[field].as_str().unwrap().to_owned()));
                }
            }
        }
    }
    if found.is_empty() {
        println!("skipped: {} not found", folder.display());
    }
    found
}

/// Comments are blanked in the tree that is there; a tree made anew must say the same, and comments behind every line change nothing.
#[test]
fn comments_make_no_difference() {
    let functions = functions();
    let mut with_comments = 0;
    for (language, text) in &functions {
        let parsed = parse(*language, text).unwrap();
        let blanked = blank_comments(&parsed);
        with_comments += usize::from(blanked != *text);
        let (kept, anew) = (parsed.without_comments().unwrap(), parse(*language, &blanked).unwrap());
        assert_eq!(kept.root().to_sexp(), anew.root().to_sexp(), "{text}");
        assert_eq!((kept.text(), kept.leaves()), (anew.text(), anew.leaves()));
        assert_eq!(analyze(&kept), analyze(&anew));
        // And a comment behind every line of Python that can take one.
        if *language != Language::Python
            || !parsed.is_clean()
            || text.contains("\"\"\"")
            || text.contains("'''")
        {
            continue;
        }
        let marked: String = text
            .lines()
            .map(|line| {
                let mark = if line.trim_end().ends_with('\\') { "" } else { "  # nosec NOLINT noqa" };
                format!("{line}{mark}\n")
            })
            .collect();
        let marked = parse(*language, &marked).unwrap();
        let rules = |parsed| analyze(parsed).into_iter().map(|finding| finding.rule).collect::<Vec<_>>();
        if marked.is_clean() {
            assert_eq!(
                rules(&parsed.without_comments().unwrap()),
                rules(&marked.without_comments().unwrap())
            );
        }
    }
    assert!(functions.is_empty() || with_comments > 300, "{with_comments}");
}
