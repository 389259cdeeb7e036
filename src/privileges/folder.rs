//! Finding and making a folder as root, step by step and through no link: a link that somebody else can put there would lend them root's
//! rights.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};

/// Only looked at, and no link.
const LOOK: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// The folder at `path`, which is made with those above it where it is missing and `make` says so.
///
/// # Errors
///
/// If a link is on the way to it, which the message names, or what the system refuses.
pub(super) fn without_links(path: &Path, make: bool) -> Result<Metadata> {
    let begin = if path.is_absolute() { "/" } else { "." };
    let mut folder = open(begin, LOOK, Mode::empty())?;
    let mut passed = PathBuf::new();
    for component in path.components() {
        passed.push(component);
        let name = match component {
            Component::Normal(name) => name,
            Component::ParentDir => OsStr::new(".."),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
        };
        folder = step(&folder, name, make).map_err(|errno| refused(errno, &passed, path))?;
    }
    let metadata = File::from(folder).metadata();
    metadata.with_context(|| format!("the folder {} cannot be looked at", path.display()))
}

fn step(folder: &OwnedFd, name: &OsStr, make: bool) -> nix::Result<OwnedFd> {
    match openat(folder.as_fd(), name, LOOK, Mode::empty()) {
        Err(Errno::ENOENT) if make => {
            match mkdirat(folder.as_fd(), name, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
            openat(folder.as_fd(), name, LOOK, Mode::empty())
        }
        opened => opened,
    }
}

/// Why `passed`, which is `path` or a folder above it, cannot be used.
fn refused(errno: Errno, passed: &Path, path: &Path) -> anyhow::Error {
    let is_link = fs::symlink_metadata(passed).is_ok_and(|metadata| metadata.is_symlink());
    if !is_link {
        return std::io::Error::from(errno).into();
    }
    match link(passed, path) {
        Ok(()) => std::io::Error::from(errno).into(),
        Err(explained) => explained,
    }
}

fn link(passed: &Path, path: &Path) -> Result<()> {
    let Ok(real) = fs::canonicalize(path) else {
        bail!(
            "root follows no link to the state folder {}, and {} is one, to nothing: remove it",
            path.display(),
            passed.display()
        );
    };
    bail!(
        "root follows no link to the state folder {}, and {} is one: name the folder itself, {}, in globals.persistence.config.directory_name, \
         or start the collector as the user that the folder belongs to",
        path.display(),
        passed.display(),
        real.display()
    );
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn folders_are_made_for_their_owner_alone_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/./b/../state");
        assert!(without_links(&path, false).is_err());
        assert!(!folder.path().join("a").exists());
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        let made = without_links(&path, true).unwrap();
        assert_eq!(made.mode() & 0o7777, 0o700);
        assert_eq!(made.ino(), fs::metadata(&path).unwrap().ino());
        assert_eq!(made.ino(), without_links(&path, false).unwrap().ino());
    }

    #[test]
    fn a_link_anywhere_on_the_way_is_refused_and_nothing_is_made_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("there");
        fs::create_dir(&there).unwrap();
        symlink(&there, folder.path().join("link")).unwrap();
        symlink("nowhere", folder.path().join("dangling")).unwrap();
        for name in ["link", "link/state", "dangling", "dangling/state"] {
            let error = without_links(&folder.path().join(name), true).unwrap_err();
            let error = format!("{error:#}");
            assert!(
                error.contains("no link") && error.contains(" is one"),
                "{error}"
            );
        }
        assert_eq!(fs::read_dir(&there).unwrap().count(), 0);
        assert!(!folder.path().join("nowhere").exists());
    }

    #[test]
    fn a_file_is_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let error = without_links(&folder.path().join("file/state"), true).unwrap_err();
        let error: &std::io::Error = error.downcast_ref().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::NotADirectory);
    }
}
