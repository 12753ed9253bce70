//! `data mine`.

use vul2safe_corpus::{MineConfig, ReadLimits, mine};

use super::import::tell;
use super::{check_output, println};
use crate::cli::MineArguments;
use crate::failure::{Failure, Result, read_text};
use crate::stages::write_lines;

pub(super) fn run(arguments: &MineArguments) -> Result<()> {
    let mut commits = arguments.commit.clone();
    if let Some(file) = &arguments.commits {
        let text = read_text(file, "list of commits")?;
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let listed: Vec<String> =
            lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
        if listed.is_empty() {
            return Err(Failure::user(format!("{}: there is no commit in it", file.display())).with_hint(
                "write one id a line, or leave `--commits` out to look for fixes by their messages",
            ));
        }
        commits.extend(listed);
    }
    let config = MineConfig {
        revision: arguments.revision.clone(),
        commits,
        project: arguments.project.clone(),
        limits: ReadLimits { code_bytes: arguments.maximum_bytes, ..ReadLimits::default() },
    };
    check_output(&arguments.out, &arguments.repository)?;
    let mined = mine(&arguments.repository, &config)?;
    write_lines(&arguments.out, &mined.records)?;
    tell(&mined, &arguments.out)?;
    if mined.read == 0 {
        println("no commit speaks of a vulnerability; name some with --commit or --commits")?;
    }
    Ok(())
}
