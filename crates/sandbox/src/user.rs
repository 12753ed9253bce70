//! A user id of its own for each concurrent run.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;

/// A range of user ids that no account uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserRange {
    first: u32,
    count: u32,
}

impl UserRange {
    /// The range to use in this user namespace, from `/proc/self/uid_map`; `None` where the map is too small.
    pub(crate) fn of_this_namespace() -> Option<UserRange> {
        UserRange::from_map(&std::fs::read_to_string("/proc/self/uid_map").ok()?)
    }

    /// Reads `inside outside length` lines. Far above every account where the map reaches that far; the upper end of
    /// the largest mapped block (below `nobody`, 65534) otherwise.
    fn from_map(map: &str) -> Option<UserRange> {
        const WANTED: UserRange = UserRange { first: 3_900_000_000, count: 1 << 16 };
        let blocks = map.lines().filter_map(|line| {
            let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().ok());
            let (inside, _outside, length) = (numbers.next()??, numbers.next()??, numbers.next()??);
            Some((inside, length))
        });
        let mut largest = None;
        for (inside, length) in blocks {
            if inside <= u64::from(WANTED.first)
                && inside + length >= u64::from(WANTED.first) + u64::from(WANTED.count)
            {
                return Some(WANTED);
            }
            if length >= 10_000 && largest.is_none_or(|(_, seen)| length > seen) {
                largest = Some((inside, length));
            }
        }
        let (inside, length) = largest?;
        Some(UserRange { first: u32::try_from(inside + length - 5_536).ok()?, count: 5_000 })
    }
}

/// One user id, held until dropped. An abstract socket name is the lock: the kernel frees it when its holder dies, and
/// two processes cannot hold the same one.
pub(crate) struct User {
    pub(crate) id: u32,
    _lock: UnixDatagram,
}

/// The users this process has taken, kept for the next run.
pub(crate) struct Users {
    range: UserRange,
    free: Mutex<Vec<User>>,
}

impl Users {
    pub(crate) fn new(range: UserRange) -> Users {
        Users { range, free: Mutex::new(Vec::new()) }
    }

    /// Whether this is one of the ids that runs are given.
    pub(crate) fn contains(&self, id: u32) -> bool {
        id.checked_sub(self.range.first).is_some_and(|offset| offset < self.range.count)
    }

    /// A user that no other run has.
    pub(crate) fn take(&self) -> io::Result<User> {
        if let Some(user) = self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop() {
            return Ok(user);
        }
        // Processes start their search at different places, so that the first try nearly always succeeds.
        let start = std::process::id().wrapping_mul(977) % self.range.count;
        for step in 0..self.range.count {
            let id = self.range.first + (start + step) % self.range.count;
            let address = SocketAddr::from_abstract_name(format!("vul2safe-sandbox-user-{id}"))?;
            match UnixDatagram::bind_addr(&address) {
                Ok(lock) => return Ok(User { id, _lock: lock }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("every user id of the sandbox's range is taken"))
    }

    /// Gives a user back whose processes have all ended.
    pub(crate) fn give_back(&self, user: User) {
        self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_follows_the_namespace() {
        let full = UserRange::from_map("         0          0 4294967295\n").unwrap();
        assert_eq!(full.first, 3_900_000_000);
        let container = UserRange::from_map("0 1000 1\n1 100000 65536\n").unwrap();
        assert!(container.first >= 1 && container.first + container.count < 65_534);
        assert_eq!(UserRange::from_map("0 1000 1\n"), None);
        assert_eq!(UserRange::from_map("garbage\n-1 x 9"), None);
    }

    #[test]
    fn two_holders_never_share_a_user() {
        let range = UserRange { first: 3_900_000_000, count: 1 << 16 };
        let (one, two) = (Users::new(range), Users::new(range));
        let taken = [one.take().unwrap(), one.take().unwrap(), two.take().unwrap()];
        let mut ids: Vec<u32> = taken.iter().map(|user| user.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 3);
    }
}
