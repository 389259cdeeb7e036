//! Whole files on disk: replaced in one atomic step, or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::LedgerError;

/// Writes `parts` aside, syncs, puts the file in the place of `folder/name`, and syncs the folder.
pub(super) fn replace(folder: &Path, name: &str, parts: &[&[u8]]) -> Result<(), LedgerError> {
    let aside = folder.join(format!("{name}.new"));
    let path = folder.join(name);
    let write = || {
        #[cfg(test)]
        refused()?;
        let mut file = File::create(&aside)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()
    };
    write().map_err(|cause| LedgerError::io("write", &aside, cause))?;
    fs::rename(&aside, &path).map_err(|cause| LedgerError::io("replace", &path, cause))?;
    sync_folder(folder)
}

/// Makes a folder, with those above it, where there is none. Its name is durable then: without it, what is synced inside is lost.
pub(super) fn make_folder(path: &Path) -> Result<(), LedgerError> {
    let existed = path.is_dir();
    fs::create_dir_all(path).map_err(|cause| LedgerError::io("make", path, cause))?;
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    match sync_folder(above.unwrap_or(Path::new("."))) {
        // Whoever made it may not have come to this; but what is above it need not be ours.
        Err(_) if existed => Ok(()),
        synced => synced,
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), LedgerError> {
    let sync = || File::open(folder)?.sync_all();
    sync().map_err(|cause| LedgerError::io("sync", folder, cause))
}

/// Reads a file that may be missing.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, LedgerError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(LedgerError::io("read", path, cause)),
    }
}

#[cfg(test)]
thread_local! {
    static REFUSED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Has the disk refuse so many writes on this thread, as a full one does.
#[cfg(test)]
pub(crate) fn refuse_writes(count: u32) {
    REFUSED.set(count);
}

#[cfg(test)]
pub(super) fn refused() -> std::io::Result<()> {
    let left = REFUSED.get();
    REFUSED.set(left.saturating_sub(1));
    if left > 0 {
        return Err(std::io::ErrorKind::StorageFull.into());
    }
    Ok(())
}
