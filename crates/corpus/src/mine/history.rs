//! The commits of a history: which of them fix a vulnerability, and which of those were taken back.

use std::collections::{HashMap, HashSet};

use vul2safe_code::Cwe;

use super::git::{Git, Object, Objects};
use crate::CorpusError;
use crate::fields::first_cve;

/// Words that a message about a vulnerability uses, in lower case. Each is looked for at the start of a word.
const SECURITY_WORDS: &[&str] = &[
    "vulnerab",
    "security fix",
    "security issue",
    "security bug",
    "security hole",
    "security patch",
    "exploit",
    "buffer overflow",
    "buffer overrun",
    "buffer over-read",
    "heap overflow",
    "stack overflow",
    "integer overflow",
    "integer underflow",
    "out-of-bounds",
    "out of bounds",
    "oob read",
    "oob write",
    "use-after-free",
    "use after free",
    "double free",
    "double-free",
    "null pointer deref",
    "null dereference",
    "memory corruption",
    "format string",
    "uninitialized memory",
    "information leak",
    "information disclosure",
    "info leak",
    "sql injection",
    "command injection",
    "code injection",
    "shell injection",
    "header injection",
    "path traversal",
    "directory traversal",
    "cross-site scripting",
    "cross site scripting",
    "xss",
    "csrf",
    "ssrf",
    "xxe",
    "open redirect",
    "unsafe deserialization",
    "insecure deserialization",
    "remote code execution",
    "arbitrary code",
    "privilege escalation",
    "authentication bypass",
    "auth bypass",
    "timing attack",
    "denial of service",
    "redos",
    "race condition",
    "toctou",
    "zip slip",
    "hardcoded password",
    "hard-coded password",
];

/// The longest commit object that is read; longer ones are no messages that a person wrote.
const LONGEST_COMMIT: u64 = 1 << 20;

/// A commit that is looked at.
pub(super) struct Commit {
    pub(super) id: String,
    pub(super) parents: Vec<String>,
    pub(super) message: String,
    /// Seconds since 1970 of the committer.
    pub(super) seconds: i64,
    /// What it is in the history.
    pub(super) standing: Standing,
}

/// What a chosen commit is in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It holds to this day.
    Stands,
    /// A later commit took it back.
    Reverted,
    /// It takes another one back.
    Reverts,
}

impl Commit {
    pub(super) fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// The CVE named first.
    pub(super) fn cve(&self) -> Option<String> {
        first_cve(&self.message)
    }

    /// Every weakness that is named.
    pub(super) fn cwe(&self) -> Vec<Cwe> {
        let upper = self.message.to_ascii_uppercase();
        let mut found = Vec::new();
        for (start, _) in upper.match_indices("CWE-") {
            let digits: String = upper[start + 4..].chars().take_while(char::is_ascii_digit).collect();
            if let Some(cwe) = Cwe::parse(&format!("CWE-{digits}"))
                && !found.contains(&cwe)
            {
                found.push(cwe);
            }
        }
        found
    }
}

/// The chosen commits, oldest first, and the wanted ones that are not in the history.
pub(super) struct Chosen {
    pub(super) commits: Vec<Commit>,
    pub(super) unknown: Vec<String>,
}

/// Reads the history of `revision` and chooses the commits in `wanted` (ids or their beginnings), or without any, those
/// whose message speaks of a vulnerability.
pub(super) fn choose(
    git: &Git,
    objects: &mut Objects,
    revision: &str,
    wanted: &[String],
) -> Result<Chosen, CorpusError> {
    let listed = git.output(["rev-list", "--topo-order", "--reverse", "--end-of-options", revision, "--"])?;
    let ids: Vec<String> =
        String::from_utf8_lossy(&listed).lines().map(|line| line.trim().to_owned()).collect();
    let mut history = History::default();
    let mut chosen: Vec<(usize, Commit)> = Vec::new();
    let mut met: HashSet<&str> = HashSet::new();
    for (index, id) in ids.iter().enumerate() {
        let Object::Bytes(bytes) = objects.read(id, LONGEST_COMMIT)? else {
            history.add(index, "", &[], &ids);
            continue;
        };
        let commit = parsed(id, &bytes);
        let subject = commit.message.lines().next().unwrap_or_default().trim();
        history.add(index, subject, &reverted_ids(&commit.message), &ids);
        let mut asked = false;
        for wanted in wanted.iter().filter(|wanted| id.starts_with(wanted.as_str())) {
            met.insert(wanted);
            asked = true;
        }
        if asked || (wanted.is_empty() && speaks_of_a_vulnerability(&commit.message)) {
            chosen.push((index, commit));
        }
    }
    let unknown = wanted.iter().filter(|wanted| !met.contains(wanted.as_str())).cloned().collect();
    let commits = chosen
        .into_iter()
        .map(|(index, commit)| Commit { standing: history.standing(index), ..commit })
        .collect();
    Ok(Chosen { commits, unknown })
}

fn parsed(id: &str, bytes: &[u8]) -> Commit {
    let text = String::from_utf8_lossy(bytes);
    let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut commit = Commit {
        id: id.to_owned(),
        parents: Vec::new(),
        message: message.to_owned(),
        seconds: 0,
        standing: Standing::Stands,
    };
    for line in head.lines() {
        if let Some(parent) = line.strip_prefix("parent ") {
            commit.parents.push(parent.trim().to_owned());
        } else if let Some(committer) = line.strip_prefix("committer ") {
            // `Name <address> seconds zone`
            let seconds = committer.rsplit(' ').nth(1).and_then(|seconds| seconds.parse().ok());
            commit.seconds = seconds.unwrap_or(0);
        }
    }
    commit
}

/// Whether a message names a CVE, a CWE or uses the words of security.
pub(super) fn speaks_of_a_vulnerability(message: &str) -> bool {
    let lower = message.to_lowercase();
    let at_word = |start: usize| !lower[..start].ends_with(|before: char| before.is_alphanumeric());
    let numbered = lower.match_indices("cwe-").any(|(start, _)| {
        at_word(start) && lower[start + 4..].starts_with(|next: char| next.is_ascii_digit())
    });
    // A message wraps its lines where it likes.
    let flowing = lower.split_whitespace().collect::<Vec<_>>().join(" ");
    let at_flowing_word = |start: usize| !flowing[..start].ends_with(|before: char| before.is_alphanumeric());
    numbered
        || first_cve(message).is_some()
        || SECURITY_WORDS
            .iter()
            .any(|word| flowing.match_indices(word).any(|(start, _)| at_flowing_word(start)))
}

/// The ids that a message says it reverts, as git writes it: `This reverts commit <id>`.
fn reverted_ids(message: &str) -> Vec<String> {
    let flowing = message.split_whitespace().collect::<Vec<_>>().join(" ");
    flowing
        .split("This reverts commit ")
        .skip(1)
        .map(|rest| rest.chars().take_while(char::is_ascii_hexdigit).collect::<String>())
        .filter(|id| id.len() >= 7)
        .collect()
}

/// Which commits stand, built from the oldest to the newest.
#[derive(Default)]
struct History {
    stands: Vec<bool>,
    /// What each revert takes back.
    reverts: HashMap<usize, Vec<usize>>,
    last_with_subject: HashMap<String, usize>,
    by_id: Vec<(String, usize)>,
    sorted: bool,
}

impl History {
    /// Adds the commit at `index` of `ids`.
    fn add(&mut self, index: usize, subject: &str, reverted: &[String], ids: &[String]) {
        self.stands.push(true);
        let mut targets: Vec<usize> = reverted.iter().filter_map(|id| self.find(id, ids)).collect();
        if reverted.is_empty()
            && let Some(quoted) = subject.strip_prefix("Revert \"").and_then(|rest| rest.strip_suffix('"'))
        {
            // Without an id the newest commit with that subject is meant.
            targets.extend(self.last_with_subject.get(quoted));
        }
        targets.retain(|target| *target < index);
        if !targets.is_empty() || subject.starts_with("Revert \"") {
            let mut open: Vec<(usize, bool)> = targets.iter().map(|target| (*target, false)).collect();
            // Taking back a revert gives back what that revert took.
            while let Some((target, stands)) = open.pop() {
                self.stands[target] = stands;
                open.extend(self.reverts.get(&target).into_iter().flatten().map(|below| (*below, !stands)));
            }
            self.reverts.insert(index, targets);
        }
        self.last_with_subject.insert(subject.to_owned(), index);
    }

    /// The commit whose id starts so.
    fn find(&mut self, start: &str, ids: &[String]) -> Option<usize> {
        if !self.sorted {
            self.by_id = ids.iter().cloned().zip(0..).collect();
            self.by_id.sort_unstable();
            self.sorted = true;
        }
        let start = start.to_ascii_lowercase();
        let place = self.by_id.partition_point(|(id, _)| *id < start);
        self.by_id.get(place).filter(|(id, _)| id.starts_with(&start)).map(|(_, index)| *index)
    }

    fn standing(&self, index: usize) -> Standing {
        match (self.reverts.contains_key(&index), self.stands[index]) {
            (true, _) => Standing::Reverts,
            (false, true) => Standing::Stands,
            (false, false) => Standing::Reverted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_speak_of_a_vulnerability() {
        for message in [
            "Fix cve-2021-1234",
            "Escape names (CWE-79)",
            "parser: avoid a buffer\n  overflow in read_name",
            "Prevent XSS in titles",
            "Fix vulnerability in login",
        ] {
            assert!(speaks_of_a_vulnerability(message), "{message}");
        }
        for message in ["Fix typo", "boxxss", "cwe-x", "CVE-12-3", "Add security to the team page", ""] {
            assert!(!speaks_of_a_vulnerability(message), "{message}");
        }
    }

    #[test]
    fn a_revert_of_a_revert_gives_the_fix_back() {
        let ids: Vec<String> = (0..6).map(|index| format!("{index}{}", "0".repeat(39))).collect();
        let mut history = History::default();
        history.add(0, "fix", &[], &ids);
        history.add(1, "Revert \"fix\"", &["0000000".into()], &ids);
        assert_eq!(history.standing(0), Standing::Reverted);
        history.add(2, "Reapply \"fix\"", &["10000000".into()], &ids);
        assert_eq!((history.standing(0), history.standing(2)), (Standing::Stands, Standing::Reverts));
        history.add(3, "Revert \"Reapply \"fix\"\"", &["2000000".into()], &ids);
        assert_eq!(history.standing(0), Standing::Reverted);
        history.add(4, "other", &[], &ids);
        history.add(5, "Revert \"other\"", &[], &ids);
        assert_eq!(history.standing(4), Standing::Reverted);
    }
}
