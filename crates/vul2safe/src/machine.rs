//! What this machine has: memory that is free, programs that are installed.

use std::path::{Path, PathBuf};

/// Memory that a program started now can take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AvailableMemory {
    /// The smaller of what the system has and what the control group leaves.
    pub bytes: usize,
    /// Whether the control group's limit is the smaller one.
    pub limited: bool,
}

/// What is available now; nothing where the system does not say.
pub fn available_memory() -> Option<AvailableMemory> {
    available_in(Path::new("/"))
}

fn available_in(root: &Path) -> Option<AvailableMemory> {
    let information = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = information.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let system = line.split_whitespace().next()?.parse::<usize>().ok()?.saturating_mul(1024);
    Some(match left_in_control_groups(root) {
        Some(left) if left < system => AvailableMemory { bytes: left, limited: true },
        _ => AvailableMemory { bytes: system, limited: false },
    })
}

/// What the limits of this process's control groups leave: of its own and of those above, in either version.
fn left_in_control_groups(root: &Path) -> Option<usize> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mut least: Option<usize> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (mount, limit, usage, inactive) = if controllers.is_empty() {
            ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file ")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            let names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ");
            ("sys/fs/cgroup/memory", names.0, names.1, names.2)
        } else {
            continue;
        };
        let mount = root.join(mount);
        // Inside a container the path may name a group of the host that is not mounted: the root's own limit counts then.
        let own = mount.join(path.trim_start_matches('/'));
        for folder in own.ancestors().take_while(|folder| folder.starts_with(&mount)) {
            let number = |name: &str| -> Option<usize> {
                std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
            };
            let Some(limit) = number(limit) else { continue };
            // Pages of files that nobody has touched lately are counted as used and given back when they are wanted.
            let given_back = std::fs::read_to_string(folder.join("memory.stat"))
                .ok()
                .and_then(|text| {
                    text.lines().find_map(|line| line.strip_prefix(inactive)?.trim().parse().ok())
                })
                .unwrap_or(0);
            let used = number(usage).unwrap_or(0).saturating_sub(given_back);
            let left = limit.saturating_sub(used);
            least = Some(least.map_or(left, |least| least.min(left)));
        }
    }
    least
}

/// The first of these programs in the folders of `PATH`.
pub fn program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal: 4000 kB\nMemAvailable:    2000 kB\n");

    #[test]
    fn the_smaller_of_system_and_control_group_counts() {
        let free = machine(&[MEMINFO]);
        let found = available_in(free.path());
        assert_eq!(found, Some(AvailableMemory { bytes: 2_048_000, limited: false }));
        // Version 2; the limit stands above the process's own group, and 100 of the 500 used bytes are an old file's.
        let second = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/outer/inner\n"),
            ("sys/fs/cgroup/outer/inner/memory.max", "max\n"),
            ("sys/fs/cgroup/outer/memory.max", "1500\n"),
            ("sys/fs/cgroup/outer/memory.current", "500\n"),
            ("sys/fs/cgroup/outer/memory.stat", "anon 400\ninactive_file 100\n"),
        ]);
        assert_eq!(available_in(second.path()), Some(AvailableMemory { bytes: 1_100, limited: true }));
        // Version 1, in a container whose path is that of the host.
        let first = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1000\n"),
        ]);
        assert_eq!(available_in(first.path()), Some(AvailableMemory { bytes: 8_000, limited: true }));
        // No limit at all in version 1 is a number beyond any memory.
        let unlimited = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "4:memory:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(available_in(unlimited.path()).map(|found| found.limited), Some(false));
        assert_eq!(available_in(machine(&[]).path()), None);
    }
}
