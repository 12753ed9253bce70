//! Paths of tests, and of code that a project carries along and did not write.

/// Folders of tests.
const TEST_FOLDERS: [&str; 9] =
    ["test", "tests", "testing", "testdata", "spec", "specs", "__tests__", "fuzz", "testsuite"];
/// Folders of others' code.
const VENDORED_FOLDERS: [&str; 13] = [
    "vendor",
    "vendored",
    "third_party",
    "third-party",
    "thirdparty",
    "3rdparty",
    "external",
    "externals",
    "extern",
    "node_modules",
    "site-packages",
    "bundled",
    "_vendor",
];

/// Whether a file is a test, by its folders or its name.
pub(super) fn is_test(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    let name = path.rsplit('/').next().unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    folders(&path).any(|folder| TEST_FOLDERS.contains(&folder))
        || stem == "conftest"
        || stem == "test"
        || stem == "tests"
        || ["test_", "test-", "tests_"].iter().any(|start| stem.starts_with(start))
        || ["_test", "-test", "_tests", "_unittest", "_spec"].iter().any(|end| stem.ends_with(end))
}

/// Whether a file lies in a folder for others' code.
pub(super) fn is_vendored(path: &str) -> bool {
    folders(&path.to_ascii_lowercase()).any(|folder| VENDORED_FOLDERS.contains(&folder))
}

fn folders(path: &str) -> impl Iterator<Item = &str> {
    path.rsplit('/').skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_names_decide() {
        for path in [
            "tests/login.py",
            "src/Test/a.c",
            "test_login.py",
            "src/login_test.cc",
            "conftest.py",
            "a/b/parser-test.c",
        ] {
            assert!(is_test(path), "{path}");
        }
        for path in ["src/contest.py", "latest/login.py", "src/attestation.c", "testament.py"] {
            assert!(!is_test(path), "{path}");
        }
        assert!(is_vendored("lib/third_party/zlib/inflate.c") && is_vendored("vendor/a.py"));
        assert!(!is_vendored("src/vendor.py") && !is_vendored("vendors/list.py"));
    }
}
