//! What a run may read and write: the landlock rules.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};

/// The interface whose rights are asked for; an older kernel enforces those of them that it knows.
const WANTED: ABI = ABI::V6;

/// Folders with programs and libraries: read and execute.
const PROGRAMS: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];

/// What the C library and interpreters look up. Named one by one, because the rest of `/etc` is nobody's business.
const SETTINGS: &[&str] = &[
    "/etc/alternatives",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/timezone",
];

const DEVICES_READ: &[&str] = &["/dev/random", "/dev/urandom", "/dev/zero"];
const DEVICES_WRITE: &[&str] = &["/dev/null", "/dev/full"];

/// Opened places outside the private folder, with what is allowed there.
pub(crate) struct SystemRules {
    rules: Vec<(PathFd, BitFlags<AccessFs>)>,
}

impl SystemRules {
    /// Opens the system's places; those that do not exist are left out.
    pub(crate) fn open() -> SystemRules {
        let file_rights = AccessFs::from_file(WANTED);
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let groups: [(&[&str], BitFlags<AccessFs>); 4] = [
            (PROGRAMS, AccessFs::from_read(WANTED)),
            (SETTINGS, read),
            (DEVICES_READ, AccessFs::ReadFile.into()),
            (DEVICES_WRITE, AccessFs::ReadFile | AccessFs::WriteFile),
        ];
        let mut rules = Vec::new();
        for (paths, rights) in groups {
            for path in paths {
                let Ok(metadata) = fs::metadata(path) else { continue };
                let rights = if metadata.is_dir() { rights } else { rights & file_rights };
                if let Ok(place) = PathFd::new(path) {
                    rules.push((place, rights));
                }
            }
        }
        SystemRules { rules }
    }

    /// A rule set for one run, ready to be enforced by the child: `private` folders are open to it, `extra` places can
    /// be read and executed. `None` where the kernel has no landlock.
    pub(crate) fn rule_set(
        &self,
        private: &[&Path],
        extra: &[PathBuf],
    ) -> Result<Option<OwnedFd>, RulesetError> {
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(WANTED))?
            .handle_access(AccessNet::from_all(WANTED))?
            .scope(Scope::from_all(WANTED))?
            .create()?
            .set_compatibility(CompatLevel::BestEffort);
        for (place, rights) in &self.rules {
            rules = rules.add_rule(PathBeneath::new(place.as_fd(), *rights))?;
        }
        for path in extra {
            if let Ok(place) = PathFd::new(path) {
                let rights = if path.is_dir() {
                    AccessFs::from_read(WANTED)
                } else {
                    AccessFs::from_read(WANTED) & AccessFs::from_file(WANTED)
                };
                rules = rules.add_rule(PathBeneath::new(place, rights))?;
            }
        }
        for path in private {
            if let Ok(place) = PathFd::new(path) {
                rules = rules.add_rule(PathBeneath::new(place, AccessFs::from_all(WANTED)))?;
            }
        }
        Ok(rules.into())
    }
}

/// A program on this machine: where it is, and what it needs to be readable beside the system's own folders.
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) readable: Vec<PathBuf>,
}

/// Finds a program by absolute path or on the fixed search path. An interpreter installed in a prefix of its own
/// (`…/versions/3.11/bin/python3`) needs that prefix; the prefix is never the root or a home folder.
pub(crate) fn find_program(name: &Path) -> io::Result<Program> {
    let missing =
        || io::Error::new(io::ErrorKind::NotFound, format!("{}: program not found", name.display()));
    let found = if name.is_absolute() {
        name.to_path_buf()
    } else if name.components().count() > 1 {
        // A path inside the private folder, resolved by the child after it has gone there.
        return Ok(Program { path: name.to_path_buf(), readable: Vec::new() });
    } else {
        ["/usr/local/bin", "/usr/bin", "/bin"]
            .iter()
            .map(|folder| Path::new(folder).join(name))
            .find(|path| path.is_file())
            .ok_or_else(missing)?
    };
    let path = fs::canonicalize(&found).map_err(|_| missing())?;
    if !path.is_file() {
        return Err(missing());
    }
    let mut readable = Vec::new();
    if !PROGRAMS.iter().any(|folder| fs::canonicalize(folder).is_ok_and(|folder| path.starts_with(folder))) {
        readable.push(install_prefix(&path).unwrap_or_else(|| path.clone()));
    }
    // Several tools look at the name they were called by, so the found name is what is executed.
    Ok(Program { path: if readable.is_empty() { found } else { path }, readable })
}

/// `prefix` of `prefix/bin/program`, if it is a folder that is safe to make readable.
fn install_prefix(program: &Path) -> Option<PathBuf> {
    let folder = program.parent()?;
    let prefix = folder.parent()?;
    let is_home = std::env::home_dir()
        .and_then(|home| fs::canonicalize(home).ok())
        .is_some_and(|home| home.starts_with(prefix));
    let shallow = prefix.components().count() < 3;
    (folder.file_name()? == "bin" && !is_home && !shallow).then(|| prefix.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_is_an_installation_and_never_a_home() {
        let python = Path::new("/opt/python/3.11/bin/python3.11");
        assert_eq!(install_prefix(python), Some(PathBuf::from("/opt/python/3.11")));
        assert_eq!(install_prefix(Path::new("/opt/tool/program")), None);
        assert_eq!(install_prefix(Path::new("/home/bin/program")), None);
        if let Some(home) = std::env::home_dir().and_then(|home| fs::canonicalize(home).ok()) {
            assert_eq!(install_prefix(&home.join("bin/program")), None);
        }
    }

    #[test]
    fn programs_are_found_on_the_fixed_path_only() {
        assert!(find_program(Path::new("sh")).unwrap().path.is_absolute());
        assert!(find_program(Path::new("no-such-program-anywhere")).is_err());
        assert!(find_program(Path::new("/no/such/program")).is_err());
    }
}
