//! SVEN's records, where they are present.

use std::path::PathBuf;

use vul2safe_corpus::{ReadLimits, Source, VulnerabilityRecord, read};

/// All records as they are read; nothing, with a word on it, where the data is not there.
pub fn sven() -> Option<Vec<VulnerabilityRecord>> {
    let data = std::env::var_os("VUL2SAFE_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let path = data.join("sven");
    if !path.is_dir() {
        println!("skipped: {} not found", path.display());
        return None;
    }
    Some(read(&Source::Sven { path }, &ReadLimits::default()).unwrap().records)
}
