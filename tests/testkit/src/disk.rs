//! A small disk under a folder, to be filled, or to be made read-only. Needs root.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// A file system mounted on a folder; it goes with this value, and all that is on it.
pub struct Disk {
    folder: PathBuf,
    /// How many mounts lie on the folder.
    mounts: u32,
}

impl Disk {
    /// Whether this process may mount.
    pub fn is_possible() -> bool {
        nix::unistd::geteuid().is_root()
            && tempfile::tempdir().is_ok_and(|folder| Disk::mount(folder.path(), 64).is_ok())
    }

    /// An empty disk of so many KiB on an existing folder.
    pub fn mount(folder: &Path, kib: u32) -> Result<Disk> {
        let size = format!("size={kib}k,mode=0755");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs"], folder)?;
        Ok(Disk {
            folder: folder.to_owned(),
            mounts: 1,
        })
    }

    /// Takes all the space that is left.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.filler())?;
        let mut piece = 4096;
        while piece > 0 {
            match file.write_all(&vec![0; piece]) {
                Ok(()) => {}
                Err(full) if full.kind() == ErrorKind::StorageFull => piece /= 2,
                Err(error) => return Err(error).context("cannot fill the disk"),
            }
        }
        Ok(())
    }

    /// Gives the space back.
    pub fn empty(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("the disk was not full")
    }

    /// Makes the folder read-only for whoever comes by its name; files that are open already stay writable, as the
    /// system does not take a right back that it has given.
    pub fn make_read_only(&mut self) -> Result<()> {
        let source = self.folder.to_string_lossy().into_owned();
        run("mount", &["--bind", &source], &self.folder)?;
        self.mounts += 1;
        run("mount", &["-o", "remount,bind,ro"], &self.folder)
    }

    /// Makes the folder writable again.
    pub fn make_writable(&mut self) -> Result<()> {
        self.mounts -= 1;
        run("umount", &["--lazy"], &self.folder)
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for _ in 0..self.mounts {
            // Whoever still has files open there keeps them.
            let _ = run("umount", &["--lazy"], &self.folder);
        }
    }
}

fn run(program: &str, arguments: &[&str], folder: &Path) -> Result<()> {
    let output = Command::new(program).args(arguments).arg(folder).output();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
