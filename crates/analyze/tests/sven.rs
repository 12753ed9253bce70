//! The rules on real pairs, where the data set lies beside the project: how many vulnerable sides are flagged with
//! the right weakness, and how many of these findings the fix removes. A sanity measure, not a target to tune for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vul2safe_analyze::analyze;
use vul2safe_code::{Cwe, Language, parse};

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
