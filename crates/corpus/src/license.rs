//! Licences of pairs: counted, and a filter by a list of allowed ones.

use crate::RepairPair;

/// The class of pairs whose licence is not known. It has to be allowed by this name.
pub const UNKNOWN_LICENSE: &str = "unknown";

/// The licence of a pair as it is counted.
pub fn license_of(pair: &RepairPair) -> &str {
    pair.license.as_deref().map(str::trim).filter(|license| !license.is_empty()).unwrap_or(UNKNOWN_LICENSE)
}

/// Whether a licence is on the list, in any case of letters. Of `A OR B` one must be; anything else that joins licences
/// (`AND`, `WITH`) must stand on the list as it is.
pub fn license_allowed(license: &str, allowed: &[String]) -> bool {
    let listed = |license: &str| allowed.iter().any(|allowed| allowed.trim().eq_ignore_ascii_case(license));
    if listed(license) {
        return true;
    }
    let upper = license.to_ascii_uppercase();
    let plain = !upper.contains(" AND ") && !upper.contains(" WITH ") && !license.contains('(');
    plain && upper.contains(" OR ") && upper.split(" OR ").any(|one| listed(one.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_alternatives_is_enough_and_all_of_a_sum_are_needed() {
        let allowed = ["MIT".to_owned(), "apache-2.0".to_owned()];
        for license in ["mit", "Apache-2.0", "GPL-2.0-only OR MIT"] {
            assert!(license_allowed(license, &allowed), "{license}");
        }
        for license in ["GPL-2.0-only", "unknown", "MIT AND GPL-2.0-only", "(GPL-2.0-only AND X) OR MIT"] {
            assert!(!license_allowed(license, &allowed), "{license}");
        }
        assert!(license_allowed(UNKNOWN_LICENSE, &["unknown".into()]));
    }
}
