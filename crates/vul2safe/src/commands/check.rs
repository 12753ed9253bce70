//! `data check`.

use std::collections::BTreeSet;

use vul2safe_corpus::{RepairPair, check_pair};

use super::println;
use crate::cli::CheckArguments;
use crate::failure::{Failure, Result, read_bytes};

pub(super) fn run(arguments: &CheckArguments) -> Result<()> {
    // The strict reader stops at the first problem; a check lists them all.
    let bytes = read_bytes(&arguments.data, "PrimeVul+ file")?;
    let place = arguments.data.display();
    let (mut lines, mut wrong) = (0_usize, 0_usize);
    let mut seen = BTreeSet::new();
    // Bytes, so that one line that is not UTF-8 does not hide the problems of the others.
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        lines += 1;
        let problems = match serde_json::from_slice::<RepairPair>(line) {
            Ok(pair) => {
                let mut problems = check_pair(&pair);
                if !seen.insert(pair.id.clone()) {
                    problems.push(format!("another pair has the id `{}` too", pair.id));
                }
                problems
            }
            Err(error) => vec![format!("not a PrimeVul+ pair: {error}")],
        };
        wrong += usize::from(!problems.is_empty());
        for problem in problems {
            println(&format!("{place}:{}: {problem}", index + 1))?;
        }
    }
    if wrong > 0 {
        return Err(Failure::user(format!("{place}: {wrong} of {lines} lines have problems"))
            .with_hint("they are listed above; `vul2safe data build` writes files that pass"));
    }
    if lines == 0 {
        return Err(Failure::user(format!("{place}: the file is empty"))
            .with_hint("`vul2safe data build` writes PrimeVul+"));
    }
    println(&format!("{place}: {lines} pairs, no problem"))
}
