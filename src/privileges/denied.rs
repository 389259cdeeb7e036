//! Why a path is denied to this process, and the command that mends it.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd;

const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;

/// Says, after a "permission denied" or a "read-only file system" on `path`, who this process is, who owns what stands
/// in the way (`path` itself, or a folder above it) and with which mode, and the exact command to run.
///
/// A path under the current folder is shown relative to it: there, a container's folders lie as they do on its host.
pub fn explain_denied(path: &Path) -> String {
    let mut inner = None;
    for place in path.ancestors().map(here_if_empty) {
        match place.metadata() {
            Ok(metadata) => {
                return Obstacle::new(place, &metadata, inner).explain(&Process::this());
            }
            Err(error) => inner = Some(error.kind()),
        }
    }
    format!("nothing can be seen of {}", path.display())
}

fn here_if_empty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

/// What may decide about access to a file on the process's side.
struct Process {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Process {
    fn this() -> Self {
        let groups = unistd::getgroups().unwrap_or_default();
        Self {
            uid: unistd::geteuid().as_raw(),
            gid: unistd::getegid().as_raw(),
            groups: groups.into_iter().map(unistd::Gid::as_raw).collect(),
        }
    }
}

/// What stands in the way.
struct Obstacle {
    path: PathBuf,
    uid: u32,
    gid: u32,
    mode: u32,
    folder: bool,
    read_only: bool,
    /// The rights, one or more of [`READ`], [`WRITE`] and [`SEARCH`], of which at least one is missing.
    wanted: u32,
}

impl Obstacle {
    /// `inner` is why the next place on the way from here to the denied path cannot be seen, if there is one.
    fn new(path: &Path, metadata: &Metadata, inner: Option<ErrorKind>) -> Self {
        let folder = metadata.is_dir();
        let wanted = match inner {
            Some(ErrorKind::PermissionDenied) => READ | SEARCH,
            _ if folder => READ | WRITE | SEARCH,
            _ => READ,
        };
        Self {
            path: shown(path),
            uid: metadata.uid(),
            gid: metadata.gid(),
            mode: metadata.mode() & 0o7777,
            folder,
            read_only: statvfs(path)
                .is_ok_and(|system| system.flags().contains(FsFlags::ST_RDONLY)),
            wanted,
        }
    }

    fn explain(&self, process: &Process) -> String {
        let Self { uid, gid, mode, .. } = self;
        let kind = if self.folder { "folder" } else { "file" };
        let path = quoted(&self.path);
        format!(
            "this process, {}:{}, may not {} the {kind} {path}, which belongs to {uid}:{gid} and has mode {mode:04o}: {}",
            process.uid,
            process.gid,
            if self.wanted & WRITE == 0 {
                "read"
            } else {
                "write to"
            },
            self.remedy(process, &path),
        )
    }

    fn remedy(&self, process: &Process, path: &str) -> String {
        if self.read_only && self.wanted & WRITE != 0 {
            return format!(
                "{path} is mounted read-only; mount it writable (a volume without `:ro`)"
            );
        }
        if self.granted(process) & self.wanted == self.wanted {
            return "the mode would allow it, so look for a security module (SELinux: `:z` at the end of the volume), \
                    an access list, or a user namespace in which the owner has another number"
                .to_owned();
        }
        if self.uid == process.uid {
            return format!("run `chmod u+{} {path}`", letters(self.wanted));
        }
        let all = if self.folder { "-R " } else { "" };
        let chown = format!("run `chown {all}{}:{} {path}`", process.uid, process.gid);
        let owner_may = self.mode >> 6 & self.wanted == self.wanted;
        match self.uid {
            _ if !owner_may => chown,
            0 => format!("{chown}, or start the container without `--user`"),
            _ => format!(
                "{chown}, or start the container with `--user {}:{}`",
                self.uid, self.gid
            ),
        }
    }

    fn granted(&self, process: &Process) -> u32 {
        let class = match self {
            _ if self.uid == process.uid => 6,
            _ if self.gid == process.gid || process.groups.contains(&self.gid) => 3,
            _ => 0,
        };
        self.mode >> class & 0o7
    }
}

fn shown(path: &Path) -> PathBuf {
    match std::env::current_dir() {
        Ok(folder) if folder.parent().is_some() && folder != path => {
            path.strip_prefix(&folder).unwrap_or(path).to_owned()
        }
        _ => path.to_owned(),
    }
}

/// The path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn letters(rights: u32) -> String {
    [(READ, 'r'), (WRITE, 'w'), (SEARCH, 'x')]
        .into_iter()
        .filter(|(right, _)| rights & right != 0)
        .map(|(_, letter)| letter)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `owner` is the uid, gid and mode; a slash ends the path of a folder.
    fn check(path: &str, owner: (u32, u32, u32), us: (u32, u32), expected: &str) {
        let folder = path.ends_with('/');
        let obstacle = Obstacle {
            path: PathBuf::from(path.trim_end_matches('/')),
            uid: owner.0,
            gid: owner.1,
            mode: owner.2,
            folder,
            read_only: false,
            wanted: if folder { READ | WRITE | SEARCH } else { READ },
        };
        let message = obstacle.explain(&Process {
            uid: us.0,
            gid: us.1,
            groups: vec![],
        });
        assert!(message.ends_with(expected), "{message}");
    }

    #[test]
    fn a_key_of_root_is_given_to_us_or_we_stay_root() {
        check(
            "certs/a.key",
            (0, 0, 0o600),
            (1000, 1000),
            "this process, 1000:1000, may not read the file certs/a.key, which belongs to 0:0 and has mode 0600: \
             run `chown 1000:1000 certs/a.key`, or start the container without `--user`",
        );
    }

    #[test]
    fn a_state_folder_of_another_user_names_that_user() {
        check(
            "state/",
            (1000, 100, 0o755),
            (2000, 2000),
            "may not write to the folder state, which belongs to 1000:100 and has mode 0755: \
             run `chown -R 2000:2000 state`, or start the container with `--user 1000:100`",
        );
    }

    #[test]
    fn our_own_file_needs_another_mode() {
        check(
            "certs/a.key",
            (1000, 1000, 0o200),
            (1000, 1000),
            ": run `chmod u+r certs/a.key`",
        );
        check(
            "state/",
            (1000, 1000, 0o500),
            (1000, 1000),
            ": run `chmod u+rwx state`",
        );
    }

    #[test]
    fn the_owner_who_may_not_either_is_no_way_out() {
        check(
            "state/",
            (0, 0, 0o555),
            (1000, 1000),
            ": run `chown -R 1000:1000 state`",
        );
    }

    #[test]
    fn a_mode_that_allows_it_points_elsewhere() {
        check(
            "certs/a.key",
            (0, 1000, 0o640),
            (1000, 1000),
            "the owner has another number",
        );
    }

    #[test]
    fn a_path_is_quoted_for_the_shell() {
        check(
            "certs/it's mine.key",
            (0, 0, 0o000),
            (1000, 1000),
            r"run `chown 1000:1000 'certs/it'\''s mine.key'`",
        );
    }

    #[test]
    fn what_is_missing_is_blamed_on_the_folder_above() {
        let folder = tempfile::tempdir().unwrap();
        let message = explain_denied(&folder.path().join("a/b"));
        assert!(
            message.contains(&format!("write to the folder {}", folder.path().display())),
            "{message}"
        );
    }
}
