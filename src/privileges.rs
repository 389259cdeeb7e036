//! Giving up root, before anything else is done.
//!
//! Started as root (as a container is) the process becomes the owner of the state folder, so that mounted folders work
//! whoever owns them and what it writes belongs to the same owner. It keeps no capability, except the one that reads
//! files of another owner, and that only if a file it has to read needs it. Started as anybody else it stays who it is.
//! It does not change the owner or mode of anything, and as root it reaches the state folder through no link.

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{self, AccessFlags, Gid, Uid};

mod denied;
mod folder;

pub use denied::{explain_denied, explain_unwritable};

/// What reads a file of another owner, the narrower first; Docker grants only the second unless told otherwise.
const READERS: [Capability; 2] = [
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_DAC_OVERRIDE,
];

/// Who the process is from now on.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// Whether the process was started as root, and gave it up.
    pub dropped: bool,
    /// The capability that had to be kept.
    pub kept: Option<Kept>,
}

/// Files that the configuration names may not be read; each with the command that mends it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DeniedFiles(String);

/// A capability that had to be kept, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// The capability.
    pub capability: Capability,
    /// The files that `uid` could not read without it.
    pub files: Vec<PathBuf>,
}

/// Becomes the owner of `state`, which is created where it is missing, with no more rights than reading `files` and `others` takes.
///
/// Has to be called while the process has one thread: Linux keeps capabilities by thread.
///
/// # Errors
///
/// If `state` cannot be written or one of `files` cannot be read by whom the process is then, each with the command that
/// mends it ([`explain_denied`]). A file that does not exist is none of them, and whether `others` can be read is left to who reads them. [`DeniedFiles`] if it is the files alone.
pub fn drop_root(state: &Path, files: &[PathBuf], others: &[PathBuf]) -> Result<Outcome> {
    let outcome = become_who_owns(&existing(state)?, &[files, others].concat())?;
    let explained = |paths: &[PathBuf]| {
        let problems: Vec<_> = paths.iter().map(|path| explain_denied(path)).collect();
        problems.join("\n")
    };
    let (state, files) = (unwritable(state), denied(files));
    if let Some(state) = state {
        bail!("{}", explained(&[&[state], &files[..]].concat()));
    }
    if !files.is_empty() {
        bail!(DeniedFiles(explained(&files)));
    }
    Ok(outcome)
}

/// Becomes who [`drop_root`] would become, and makes nothing: a state folder that is missing would belong to who makes it. What may not be
/// read or written then is found by trying.
///
/// Has to be called while the process has one thread.
///
/// # Errors
///
/// If the system refuses.
pub fn rehearse(state: &Path, files: &[PathBuf]) -> Result<Outcome> {
    if !unistd::geteuid().is_root() {
        return become_who_owns(&fs::metadata("/proc/self")?, files);
    }
    match folder::without_links(state, false) {
        Ok(owner) => become_who_owns(&owner, files),
        Err(error) if !error.is::<std::io::Error>() => Err(error),
        Err(_) => become_who_owns(&fs::metadata("/proc/self")?, files),
    }
}

fn become_who_owns(owner: &Metadata, files: &[PathBuf]) -> Result<Outcome> {
    let dropped = unistd::geteuid().is_root();
    let kept = if dropped {
        become_owner(owner).context("giving up root")?;
        give_up_capabilities(files).context("giving up root's capabilities")?
    } else {
        None
    };
    Ok(Outcome {
        uid: unistd::geteuid().as_raw(),
        gid: unistd::getegid().as_raw(),
        dropped,
        kept,
    })
}

fn existing(state: &Path) -> Result<Metadata> {
    let made = if unistd::geteuid().is_root() {
        folder::without_links(state, true)
    } else {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(state);
        made.and_then(|()| fs::metadata(state)).map_err(Into::into)
    };
    made.map_err(|error| {
        let kind = error.downcast_ref().map(std::io::Error::kind);
        match kind {
            Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                error.context(explain_denied(state))
            }
            Some(_) => error.context(format!(
                "the state folder {} cannot be made",
                state.display()
            )),
            None => error,
        }
    })
}

/// Takes the owner's ids, and with them loses the way back; the permitted capabilities stay until they have been looked through.
///
/// A container may be denied this (`--cap-drop`); it goes on as a root without rights then, and what it can't do is found by trying.
fn become_owner(owner: &Metadata) -> Result<()> {
    drop_bounding_set()?;
    let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    prctl::set_keepcaps(true)?;
    let taken = unistd::setgroups(&[])
        .and_then(|()| unistd::setresgid(gid, gid, gid))
        .and_then(|()| unistd::setresuid(uid, uid, uid));
    prctl::set_keepcaps(false)?;
    match taken {
        // In a user namespace the owner may be one that it does not know.
        Ok(()) | Err(Errno::EPERM | Errno::EINVAL) => Ok(()),
        Err(error) => Err(error)
            .with_context(|| format!("becoming {uid}:{gid}, the owner of the state folder")),
    }
}

fn drop_bounding_set() -> Result<()> {
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        caps::clear(None, CapSet::Bounding)?;
    }
    Ok(())
}

fn give_up_capabilities(files: &[PathBuf]) -> Result<Option<Kept>> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective] {
        caps::clear(None, set)?;
    }
    let denied = denied(files);
    let capability = READERS
        .into_iter()
        .find(|reader| !denied.is_empty() && permitted.contains(reader));
    let needed = capability.into_iter().collect();
    caps::set(None, CapSet::Permitted, &needed)?;
    caps::set(None, CapSet::Effective, &needed)?;
    prctl::set_no_new_privs()?;
    Ok(capability.map(|capability| Kept {
        capability,
        files: denied,
    }))
}

/// Those of `files` that may not be read: found by opening them, since modes are not all that decides.
fn denied(files: &[PathBuf]) -> Vec<PathBuf> {
    let may_not = |path: &&PathBuf| {
        File::open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    files.iter().filter(may_not).cloned().collect()
}

fn unwritable(state: &Path) -> Option<PathBuf> {
    unistd::eaccess(state, AccessFlags::all())
        .is_err()
        .then(|| state.to_owned())
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            uid,
            gid,
            dropped,
            kept,
        } = self;
        write!(f, "running as {uid}:{gid}")?;
        if *dropped {
            f.write_str(", root's rights given up")?;
        }
        if let Some(Kept { capability, files }) = kept {
            let files: Vec<_> = files
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            write!(f, ", {capability} kept to read {}", files.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
