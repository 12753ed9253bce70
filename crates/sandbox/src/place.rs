//! What a run holds on this machine: a user and a private folder.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::base::MountPoints;
use crate::capabilities::Capabilities;
use crate::folder::{FolderOptions, PrivateFolder};
use crate::job::{Job, Limits};
use crate::mount;
use crate::namespace;
use crate::run::RunError;
use crate::user::{User, Users};

/// Hands out places.
pub(crate) struct Places {
    users: Option<Users>,
    /// Where mere folders are made.
    pub(crate) base: PathBuf,
    /// Where runs attach file systems of their own; `None` where they have mere folders.
    pub(crate) mount_points: Option<MountPoints>,
    /// Whether a leader can reach a file system of its follower.
    open_file_system: bool,
    in_user_namespace: bool,
    /// User namespaces that show the files of the first user as the second's. Users are used again, so few are needed.
    translations: Mutex<HashMap<(u32, u32), Arc<OwnedFd>>>,
}

/// More translations than this are forgotten: each holds a descriptor.
const MOST_TRANSLATIONS: usize = 64;

impl Places {
    pub(crate) fn new(
        capabilities: &Capabilities,
        users: Option<Users>,
        base: PathBuf,
        mount_points: Option<MountPoints>,
    ) -> Places {
        Places {
            users,
            base,
            mount_points,
            open_file_system: capabilities.open_file_system,
            in_user_namespace: capabilities.user_namespace,
            translations: Mutex::default(),
        }
    }

    /// Whether this is a user that runs are given.
    pub(crate) fn gives_out(&self, user: u32) -> bool {
        self.users.as_ref().is_some_and(|users| users.contains(user))
    }

    /// A private folder with the job's files and a user for it; `open_to` is the leader's place where it may reach
    /// the folder.
    pub(crate) fn take(&self, job: &Job, open_to: Option<&Place>) -> Result<Place<'_>, RunError> {
        let user = match &self.users {
            Some(users) => Some((users, users.take().map_err(RunError::User)?)),
            None => None,
        };
        let options = FolderOptions {
            owner: user.as_ref().map(|(_, user)| user.id),
            shared: open_to.is_some(),
            bytes: folder_bytes(&job.limits),
        };
        // From here on an early return gives the user back.
        let mut place = Place { folder: None, seen_as: None, seen_by_leader: None, user };
        let failed = |source| RunError::Folder { base: self.base.clone(), source };
        let folder = match &self.mount_points {
            Some(points) if !options.shared || self.open_file_system => {
                // A leader and its follower call the same files by the same paths.
                place.seen_as = Some(if options.shared { &points.follower } else { &points.own }.clone());
                place.seen_by_leader = Some(points.follower.clone());
                PrivateFolder::mounted(options, self.in_user_namespace, &job.files).map_err(failed)?
            }
            _ => PrivateFolder::create(&self.base, options, &job.files).map_err(failed)?,
        };
        if let (Some(file_system), Some(leader)) = (folder.file_system(), open_to) {
            self.show_as_own(&file_system.second_view, options.owner, leader.user_id()).map_err(failed)?;
        }
        place.folder = Some(folder);
        Ok(place)
    }

    /// Shows the files of a view as the leader's, where it has another user than the follower.
    fn show_as_own(
        &self,
        view: &Option<OwnedFd>,
        follower: Option<u32>,
        leader: Option<u32>,
    ) -> io::Result<()> {
        let (Some(view), Some(follower), Some(leader)) = (view, follower, leader) else { return Ok(()) };
        let mut known = self.translations.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let translation = match known.get(&(follower, leader)) {
            Some(translation) => translation.clone(),
            None => {
                let made = Arc::new(namespace::translation(follower, leader)?);
                if known.len() >= MOST_TRANSLATIONS {
                    known.clear();
                }
                known.insert((follower, leader), made.clone());
                made
            }
        };
        drop(known);
        mount::translate(view, &translation)
    }
}

/// What the private folder as a whole may hold.
pub(crate) fn folder_bytes(limits: &Limits) -> u64 {
    limits.file_bytes.saturating_mul(4)
}

/// What a run holds until it is over.
pub(crate) struct Place<'a> {
    /// Always there once the place is handed out; an option so that it can be removed before the user is given back.
    folder: Option<PrivateFolder>,
    /// Where the run sees a file system of its own, and where its leader does.
    seen_as: Option<PathBuf>,
    seen_by_leader: Option<PathBuf>,
    user: Option<(&'a Users, User)>,
}

impl Place<'_> {
    pub(crate) fn folder(&self) -> &PrivateFolder {
        self.folder.as_ref().expect("only `drop` takes the folder out")
    }

    pub(crate) fn user_id(&self) -> Option<u32> {
        self.user.as_ref().map(|(_, user)| user.id)
    }

    /// The path of the private folder as the run sees it.
    pub(crate) fn seen_as(&self) -> &Path {
        self.seen_as.as_deref().unwrap_or_else(|| self.folder().path())
    }

    /// The path of the private folder as the run's leader sees it, where it is open to it.
    pub(crate) fn seen_by_leader(&self) -> &Path {
        self.seen_by_leader.as_deref().unwrap_or_else(|| self.folder().path())
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        drop(self.folder.take());
        // Only now: the next holder of this user must not meet anything of this run.
        if let Some((users, user)) = self.user.take() {
            users.give_back(user);
        }
    }
}
