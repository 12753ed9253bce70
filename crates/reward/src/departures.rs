//! Where an answer departs from its record: the places that a failure is most likely to come from.

use vul2safe_code::{Parsed, Span, diff_leaves};

/// The leaves of `answer` that no version of the record has at their place: what differs from every one of `versions`, compared leaf
/// by leaf; where there is none of that, what differs from the nearest version. Where the answer lacks something, the leaf that stands
/// there instead. Nothing without a version that holds code.
///
/// Names are compared as they are written: that a local has another name is no error, but where an answer fails nothing tells
/// which of its differences is to blame.
pub(crate) fn departures(versions: &[&Parsed], answer: &Parsed) -> Vec<Span> {
    let leaves = answer.leaves();
    if leaves.is_empty() {
        return Vec::new();
    }
    let from_each: Vec<Vec<bool>> = versions
        .iter()
        .filter(|version| !version.leaves().is_empty())
        .map(|version| {
            let mut from_this = vec![false; leaves.len()];
            for hunk in diff_leaves(version, answer) {
                let place = if hunk.after.is_empty() {
                    let instead = hunk.after.start.min(leaves.len() - 1);
                    instead..instead + 1
                } else {
                    hunk.after
                };
                from_this[place].fill(true);
            }
            from_this
        })
        .collect();
    let spans = |departs: &dyn Fn(usize) -> bool| -> Vec<Span> {
        (0..leaves.len()).filter(|&leaf| departs(leaf)).map(|leaf| leaves[leaf].span).collect()
    };
    let count = |from_this: &&Vec<bool>| from_this.iter().filter(|departs| **departs).count();
    let Some(nearest) = from_each.iter().min_by_key(count) else { return Vec::new() };
    let from_all = spans(&|leaf| from_each.iter().all(|from_this| from_this[leaf]));
    if from_all.is_empty() { spans(&|leaf| nearest[leaf]) } else { from_all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vul2safe_code::{Language, parse};

    const VULNERABLE: &str = "def rows(db, name):\n    sql = \"SELECT * FROM pets WHERE name = '\" + name + \"'\"\n    return db.execute(sql).fetchall()\n";
    const SECURE: &str = "def rows(db, name):\n    sql = \"SELECT * FROM pets WHERE name = ?\"\n    return db.execute(sql, (name,)).fetchall()\n";

    fn found(answer: &str) -> Vec<String> {
        let read = |text: &str| parse(Language::Python, text).expect("parses");
        let (vulnerable, secure, answer) = (read(VULNERABLE), read(SECURE), read(answer));
        departures(&[&secure, &vulnerable], &answer)
            .into_iter()
            .filter_map(|span| span.text(answer.text()).map(str::to_owned))
            .collect()
    }

    #[test]
    fn both_versions_depart_nowhere() {
        assert!(found(VULNERABLE).is_empty() && found(SECURE).is_empty());
    }

    #[test]
    fn a_copying_error_is_found_whichever_version_the_answer_follows() {
        let wrong = found(&SECURE.replace("FROM pets", "FROM owners"));
        assert!(wrong.iter().any(|text| text.contains("owners")) && wrong.len() <= 3, "{wrong:?}");
        let wrong = found(&VULNERABLE.replace("fetchall", "fetchone"));
        assert_eq!(wrong, ["fetchone"]);
    }

    #[test]
    fn what_is_missing_is_shown_where_it_should_stand() {
        let wrong = found(&SECURE.replace(".fetchall()", ""));
        assert!(!wrong.is_empty() && wrong.len() <= 2, "{wrong:?}");
    }

    #[test]
    fn without_a_version_nothing_is_known() {
        let nothing = parse(Language::Python, "").expect("parses");
        let answer = parse(Language::Python, SECURE).expect("parses");
        assert!(departures(&[&nothing], &answer).is_empty() && departures(&[], &answer).is_empty());
        assert!(departures(&[&answer], &nothing).is_empty());
    }
}
