//! Finds the reference numbers; tests that need them say so and pass where they are absent.

#![allow(dead_code)] // Each test file uses its part.

use std::path::PathBuf;

use serde_json::Value;

/// The file or folder `name` among the reference numbers, or a printed reason why the test is skipped.
pub fn path(name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden");
    let path = std::env::var_os("VUL2SAFE_GOLDEN").map_or_else(beside, PathBuf::from).join(name);
    if !path.exists() {
        println!("skipped: {} not found", path.display());
        return None;
    }
    Some(path)
}

/// A JSON array of numbers.
pub fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}
