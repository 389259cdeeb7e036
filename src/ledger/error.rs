//! What can be wrong with the state folder, and what an operator does about it.

use std::io;
use std::path::{Path, PathBuf};

use super::Moved;

/// Why state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process holds the folder.
    #[error(
        "another collector is running on the state folder {}: stop it first, or give this one a folder of its own \
         (globals.persistence.config.directory_name)",
        directory.display()
    )]
    Locked {
        /// The state folder.
        directory: PathBuf,
    },
    /// There is no memory that holds files.
    #[error(
        "state cannot be kept in memory: {} cannot be used: mount a tmpfs there, or keep the state on disk (globals.persistence of \
         type `filesystem`, without `--no-save-state`)",
        folder.display()
    )]
    NoMemory {
        /// Where memory that holds files is looked for.
        folder: PathBuf,
        /// What is the matter with it.
        source: io::Error,
    },
    /// The folder's file system has no locks.
    #[error(
        "the file system of the state folder {} has no locks, so nothing keeps a second collector from writing there as well: mount it with \
         locks (NFS: without `nolock`, and with the lock service running), or keep the state on a local disk \
         (globals.persistence.config.directory_name)",
        directory.display()
    )]
    NoLocks {
        /// The state folder.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The operating system refused.
    #[error("cannot {action} {}{hint}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What to do about it, where that is known.
        hint: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not as it was written.
    #[error(
        "the state file {} cannot be trusted ({what}); either put it back from a backup, or remove the folder {} to start \
         this service over (from start_time, else from where the original collector's files in the state folder say, else from now \
         less the delay; records may then be skipped or come again)",
        file.display(), folder.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The folder of the service.
        folder: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file of the relays' addresses is not as it was written.
    #[error(
        "the state file {} cannot be trusted ({what}); either put it back from a backup, or remove it: how the relays confirm is then \
         learnt anew, by empty deliveries",
        file.display()
    )]
    DamagedAddresses {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The state is of another tenant.
    #[error(
        "the state in {} is of another tenant ({known}, and this input signs in to {now}): give this input an id of its own; or, if it is the \
         same directory under another name, name it as before; or clear the state by a new value of reset_persistence_auth",
        folder.display()
    )]
    OtherTenant {
        /// The folder of the service.
        folder: PathBuf,
        /// Whose state it is.
        known: String,
        /// Who signs in.
        now: String,
    },
    /// The state was exported for another collector.
    #[error(
        "the state of this input was exported at {} to {}, for another collector to go on with: remove the input from this one's configuration; or          bring the state back, once no other collector has it, with `state import`; or, if it has never been imported anywhere, remove the mark {}",
        moved.at.format("%Y-%m-%dT%H:%M:%SZ"), moved.file.display(), mark.display()
    )]
    Exported {
        /// What the mark says.
        moved: Moved,
        /// Where it is.
        mark: PathBuf,
    },
    /// An import was interrupted.
    #[error(
        "the import of {} into this input's state has not come to its end: carry it out again with `state import {}` (the mark is {})",
        moved.file.display(), moved.file.display(), mark.display()
    )]
    HalfImported {
        /// What the mark says.
        moved: Moved,
        /// Where it is.
        mark: PathBuf,
    },
    /// The mark of an export or import is not as it was written.
    #[error(
        "the mark {} cannot be read: it stands for an export of this input's state, or for an import that was interrupted; remove it once it is certain          that no other collector has this state, or import the state again",
        mark.display()
    )]
    DamagedMark {
        /// The mark.
        mark: PathBuf,
    },
    /// It is no export, or a damaged one.
    #[error("{} cannot be imported ({what}); export the state again; nothing has been changed", file.display())]
    NoExport {
        /// The file.
        file: PathBuf,
        /// What is the matter with it.
        what: String,
    },
    /// The fingerprints on disk were made with a key that is gone.
    #[error(
        "the key {} is missing or is not the one that the records in {} were written with; either put the key back from a \
         backup, or remove that folder to start this service over (from start_time, else from where the original collector's files in the state \
         folder say, else from now less the delay; records may then be skipped or come again)",
        file.display(), folder.display()
    )]
    KeyMissing {
        /// The key's file.
        file: PathBuf,
        /// The folder of the service.
        folder: PathBuf,
    },
}

impl LedgerError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::PermissionDenied => {
                format!(" ({})", crate::privileges::explain_unwritable(path))
            }
            io::ErrorKind::ReadOnlyFilesystem => " (mount the state folder writable)".to_owned(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                " (make room on the disk of the state folder)".to_owned()
            }
            _ if source.raw_os_error() == Some(libc::ELOOP) => {
                " (it is a link, and none is followed there: put what it points to in its place, or name the folder itself in \
                 globals.persistence.config.directory_name)"
                    .to_owned()
            }
            _ => String::new(),
        };
        LedgerError::Io {
            action,
            path: path.to_owned(),
            hint,
            source,
        }
    }

    /// What an operator does about it, where it is something that the system refused; all other messages say so themselves.
    pub fn action(&self) -> Option<&str> {
        let LedgerError::Io { hint, .. } = self else {
            return None;
        };
        let hint = hint
            .strip_prefix(" (")
            .and_then(|hint| hint.strip_suffix(')'));
        Some(hint.unwrap_or(
            "look into why the system refuses it, or name another folder in globals.persistence.config.directory_name",
        ))
    }

    /// Whether trying again may succeed without anybody mending a file.
    pub fn may_pass(&self) -> bool {
        matches!(self, LedgerError::Io { .. })
    }
}
