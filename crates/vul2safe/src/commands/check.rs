//! `data check`.

use vul2safe_corpus::{check_pair, read_primevul_plus};

use super::println;
use crate::cli::CheckArguments;
use crate::failure::{Failure, Result};

pub(super) fn run(arguments: &CheckArguments) -> Result<()> {
    let pairs = read_primevul_plus(&arguments.data)?;
    let mut wrong = 0_usize;
    let mut seen = std::collections::BTreeSet::new();
    for pair in &pairs {
        let mut problems = check_pair(pair);
        if !seen.insert(pair.id.as_str()) {
            problems.push("another pair has the same id".to_owned());
        }
        wrong += usize::from(!problems.is_empty());
        for problem in problems {
            println(&format!("{}: {problem}", pair.id))?;
        }
    }
    if wrong > 0 {
        return Err(Failure::user(format!(
            "{}: {wrong} of {} pairs have problems",
            arguments.data.display(),
            pairs.len()
        ))
        .with_hint("`vul2safe data build` writes files that pass; see the list above for what to mend"));
    }
    println(&format!("{}: {} pairs, no problem", arguments.data.display(), pairs.len()))
}
