//! Repair pairs from the history of a git repository on this machine.
//!
//! A fix is a commit whose message names a CVE, a CWE or speaks of a vulnerability, or one of a given list. Every
//! function that it changes becomes one record. No record comes from a commit that was reverted later, from a revert,
//! from a merge whose own commits are looked at, from tests, from others' code in the repository, or from functions that
//! only moved, got another name or other comments; each of these is counted.

mod functions;
mod git;
mod history;
mod license;
mod places;

use std::path::Path;

use vul2safe_code::{Language, parse};

use self::functions::{Change, Definition, changes, definitions};
use self::git::{Git, Object, Objects};
use self::history::{Chosen, Commit, Standing, choose};
use crate::collect::{Collector, Refusal};
use crate::fields::{day_of_seconds, language_of_file};
use crate::{CorpusError, DropReason, Imported, ReadLimits, SourceId, VulnerabilityRecord};

/// What to mine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MineConfig {
    /// The newest commit to look at, and everything before it: a branch, a tag, an id.
    pub revision: String,
    /// These commits only, as ids or their first characters; none: those whose message speaks of a vulnerability.
    pub commits: Vec<String>,
    /// Name of the project; none: from the address of the remote `origin`, else the folder's name.
    pub project: Option<String>,
    /// Bounds on what is read.
    pub limits: ReadLimits,
}

impl Default for MineConfig {
    fn default() -> Self {
        Self { revision: "HEAD".into(), commits: Vec::new(), project: None, limits: ReadLimits::default() }
    }
}

/// Mines a repository. Units of input are changed functions, and files and commits that were left out whole.
///
/// # Errors
/// A folder that is no repository, a revision that is not there, and what git cannot read.
pub fn mine(repository: &Path, config: &MineConfig) -> Result<Imported, CorpusError> {
    if let Some(odd) = config
        .commits
        .iter()
        .find(|id| !(4..=64).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return Err(CorpusError::Git {
            path: repository.to_owned(),
            message: format!("`{odd}` is not the id of a commit: four to 64 hexadecimal digits"),
        });
    }
    let git = Git::open(repository)?;
    let mut objects = git.objects()?;
    let wanted: Vec<String> = config.commits.iter().map(|id| id.to_ascii_lowercase()).collect();
    let Chosen { commits, unknown } = choose(&git, &mut objects, &config.revision, &wanted)?;
    let project = match &config.project {
        Some(project) => project.clone(),
        None => project_name(&git, repository),
    };
    let mut collector = Collector::new("git", &config.limits);
    for id in unknown {
        let detail = format!("not among the commits of `{}`", config.revision);
        collector.add_at(id, Err((DropReason::UnknownCommit, detail)));
    }
    for commit in &commits {
        if let Some(refusal) = refused(&git, commit, &commits)? {
            collector.add_at(commit.short().to_owned(), Err(refusal));
            continue;
        }
        let mut mining = Mining {
            objects: &mut objects,
            commit,
            project: &project,
            limit: config.limits.line_bytes as u64,
            license: None,
        };
        mining.commit(&git, &mut collector)?;
    }
    Ok(collector.imported)
}

/// Why a whole commit gives nothing.
fn refused(git: &Git, commit: &Commit, chosen: &[Commit]) -> Result<Option<Refusal>, CorpusError> {
    Ok(match (commit.standing, commit.parents.as_slice()) {
        (Standing::Reverts, _) => Some((DropReason::RevertCommit, "it takes another commit back".to_owned())),
        (Standing::Reverted, _) => Some((DropReason::RevertedFix, "a later commit takes it back".to_owned())),
        (_, []) => Some((DropReason::OneSided, "the first commit has nothing before it".to_owned())),
        (_, [_]) => None,
        (_, [first, ..]) => {
            let merged = git.output(["rev-list", &format!("{first}..{}", commit.id)])?;
            let merged = String::from_utf8_lossy(&merged);
            let own =
                merged.lines().find(|id| *id != commit.id && chosen.iter().any(|other| other.id == *id));
            own.map(|id| {
                (
                    DropReason::MergeCommit,
                    format!("its commit {} is looked at itself", id.get(..12).unwrap_or(id)),
                )
            })
        }
    })
}

/// `owner/name` of the remote `origin`, else the folder's name.
fn project_name(git: &Git, repository: &Path) -> String {
    let of_remote = git.setting("remote.origin.url").and_then(|address| {
        let address = address.trim_end_matches('/').trim_end_matches(".git").to_owned();
        // `https://host/owner/name` and `host:owner/name`; a folder of this machine is no address.
        let path = match address.split_once("://") {
            Some((scheme, rest)) if scheme != "file" => rest.split_once('/').map(|(_, path)| path.to_owned()),
            Some(_) => None,
            None if address.starts_with(['/', '.']) => None,
            None => address.split_once(':').map(|(_, path)| path.to_owned()),
        };
        path.filter(|path| !path.is_empty())
    });
    of_remote.unwrap_or_else(|| {
        let folder = repository.canonicalize().unwrap_or_else(|_| repository.to_owned());
        folder.file_name().map_or_else(|| "repository".to_owned(), |name| name.to_string_lossy().into_owned())
    })
}

/// One file that a commit changed.
struct FileChange {
    old: Option<(String, String)>,
    new: Option<(String, String)>,
}

impl FileChange {
    /// Its path after the commit, or before where it is gone.
    fn path(&self) -> &str {
        self.new.as_ref().or(self.old.as_ref()).map_or("", |(path, _)| path)
    }
}

struct Mining<'a> {
    objects: &'a mut Objects,
    commit: &'a Commit,
    project: &'a str,
    limit: u64,
    /// The repository's licence at this commit, once it was looked for.
    license: Option<Option<String>>,
}

impl Mining<'_> {
    fn commit(&mut self, git: &Git, collector: &mut Collector<'_>) -> Result<(), CorpusError> {
        let files = self.changed_files(git)?;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let mut marks: Vec<Option<String>> = Vec::new();
        for (index, file) in files.iter().enumerate() {
            marks.push(None);
            let read = self.sides(file)?.and_then(|(old, new)| {
                let definitions = |side: &Option<(Language, String)>| match side {
                    Some((language, text)) => parse(*language, text)
                        .map(|parsed| definitions(&parsed, index))
                        .map_err(|error| (DropReason::TooLong, error.to_string())),
                    None => Ok(Vec::new()),
                };
                let found = (definitions(&old)?, definitions(&new)?);
                Ok((found, new.and_then(|(_, text)| license::mark(&text))))
            });
            match read {
                Ok((found, mark)) => {
                    before.extend(found.0);
                    after.extend(found.1);
                    marks[index] = mark;
                }
                Err(refusal) => {
                    collector.add_at(format!("{}:{}", self.commit.short(), file.path()), Err(refusal));
                }
            }
        }
        let mut changes = changes(before, after);
        changes.sort_by_key(|change| {
            let of = match change {
                Change::Changed(_, of) | Change::Moved(of) | Change::Comments(of) | Change::OneSided(of) => {
                    of
                }
            };
            (of.file, of.line)
        });
        for change in changes {
            let (definition, record) = match change {
                Change::Changed(old, new) => {
                    let mark = marks[new.file].clone();
                    let record = self.record(&old, &new, files[new.file].path(), mark)?;
                    (new, Ok(record))
                }
                Change::Moved(new) => {
                    let detail = format!("`{}` stands elsewhere or has another name", new.name);
                    (new, Err((DropReason::OnlyMoved, detail)))
                }
                Change::Comments(new) => {
                    let detail = format!("comments or white space of `{}` changed", new.name);
                    (new, Err((DropReason::OnlyComments, detail)))
                }
                Change::OneSided(one) => {
                    let detail = format!("`{}` was added or taken out", one.name);
                    (one, Err((DropReason::OneSided, detail)))
                }
            };
            let file = files[definition.file].path();
            collector.add_at(format!("{}:{file}:{}", self.commit.short(), definition.line), record);
        }
        Ok(())
    }

    /// Files that differ from the first parent; renamed ones with both their names.
    fn changed_files(&self, git: &Git) -> Result<Vec<FileChange>, CorpusError> {
        let parent = self.commit.parents.first().map_or("", String::as_str);
        let raw = git.output([
            "diff-tree",
            "-r",
            "-z",
            "--raw",
            "--no-abbrev",
            "-M50%",
            "--no-ext-diff",
            "--no-textconv",
            "--end-of-options",
            parent,
            &self.commit.id,
        ])?;
        let mut fields =
            raw.split(|byte| *byte == 0).map(|field| String::from_utf8_lossy(field).into_owned());
        let mut files = Vec::new();
        // `:<old mode> <new mode> <old id> <new id> <status>`, then one path, or two where it was renamed.
        while let Some(head) = fields.next().filter(|head| head.starts_with(':')) {
            let parts: Vec<&str> = head[1..].split(' ').collect();
            let [old_mode, new_mode, old_id, new_id, status] = parts.as_slice() else {
                return Err(git.failed(format!("git diff-tree wrote `{head}`")));
            };
            let path = fields.next().unwrap_or_default();
            let new_path =
                if status.starts_with(['R', 'C']) { fields.next().unwrap_or_default() } else { path.clone() };
            // Links and submodules are no source files.
            let regular = |mode: &str| mode.starts_with("100");
            let old = regular(old_mode).then(|| (path, (*old_id).to_owned()));
            let new = regular(new_mode).then(|| (new_path, (*new_id).to_owned()));
            if old.is_some() || new.is_some() {
                files.push(FileChange { old, new });
            }
        }
        Ok(files)
    }

    /// The texts of both sides of a file, or why they are of no use.
    #[expect(clippy::type_complexity, reason = "two sides, each a language and a text")]
    fn sides(
        &mut self,
        file: &FileChange,
    ) -> Result<Result<(Option<(Language, String)>, Option<(Language, String)>), Refusal>, CorpusError> {
        let path = file.path();
        if places::is_test(path) {
            return Ok(Err((DropReason::TestCode, format!("`{path}` is a test"))));
        }
        if places::is_vendored(path) {
            return Ok(Err((DropReason::VendoredCode, format!("`{path}` is others' code"))));
        }
        if language_of_file(path, "").is_none() {
            return Ok(Err((DropReason::UnknownLanguage, format!("no known language in `{path}`"))));
        }
        let old = match self.text(&file.old)? {
            Ok(side) => side,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(self.text(&file.new)?.map(|new| (old, new)))
    }

    fn text(
        &mut self,
        side: &Option<(String, String)>,
    ) -> Result<Result<Option<(Language, String)>, Refusal>, CorpusError> {
        let Some((path, id)) = side else { return Ok(Ok(None)) };
        Ok(match self.objects.read(id, self.limit)? {
            Object::Missing => Err((DropReason::MissingField, format!("`{path}` is not in the repository"))),
            Object::TooLong(size) => {
                Err((DropReason::TooLong, format!("`{path}` has {size} bytes, {} are allowed", self.limit)))
            }
            Object::Bytes(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(language_of_file(path, &text).map(|language| (language, text))),
                Err(error) => Err((DropReason::NotUtf8, format!("`{path}` is not UTF-8: {error}"))),
            },
        })
    }

    fn record(
        &mut self,
        old: &Definition,
        new: &Definition,
        path: &str,
        mark: Option<String>,
    ) -> Result<VulnerabilityRecord, CorpusError> {
        let license = match mark {
            Some(mark) => Some(mark),
            None => self.repository_license()?,
        };
        let commit = self.commit;
        Ok(VulnerabilityRecord {
            id: format!("git-{}-{}", commit.short(), new.name),
            language: new.language,
            cwe: commit.cwe(),
            cve: commit.cve(),
            project: Some(self.project.to_owned()),
            commit: Some(commit.id.clone()),
            date: day_of_seconds(commit.seconds),
            license,
            file_name: Some(path.to_owned()),
            function: Some(new.name.clone()),
            description: Some(commit.message.trim().to_owned()),
            vulnerable: old.text.clone(),
            secure: Some(new.text.clone()),
            tests: None,
            split: None,
            original: Vec::new(),
            source: SourceId { dataset: "git".into(), id: format!("{}:{path}:{}", commit.id, new.name) },
        })
    }

    /// The licence of the repository at this commit, where its text is plain.
    fn repository_license(&mut self) -> Result<Option<String>, CorpusError> {
        if let Some(known) = &self.license {
            return Ok(known.clone());
        }
        let mut found = None;
        for file in license::FILES {
            if let Object::Bytes(bytes) = self.objects.read(&format!("{}:{file}", self.commit.id), 1 << 20)? {
                found = license::of_text(&String::from_utf8_lossy(&bytes));
                break;
            }
        }
        Ok(self.license.insert(found).clone())
    }
}
