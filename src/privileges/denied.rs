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
    explain(path, READ, &Process::this())
}

/// As [`explain_denied`], of a file that is to be written, or replaced by another one in its folder.
pub fn explain_unwritable(path: &Path) -> String {
    explain(path, READ | WRITE, &Process::this())
}

/// `wanted` are the rights that are needed on a file.
fn explain(path: &Path, wanted: u32, process: &Process) -> String {
    let mut inner = None;
    for place in path.ancestors().map(here_if_empty) {
        match place.metadata() {
            Ok(metadata) => {
                let obstacle = Obstacle::new(place, &metadata, wanted, inner);
                // A file that has the rights can only be denied by a folder above it, or by what is no mode.
                let above = || above(place, wanted, process);
                let obstacle = if obstacle.is_denied_to(process) {
                    obstacle
                } else {
                    above().unwrap_or(obstacle)
                };
                return obstacle.explain(process);
            }
            Err(error) => inner = Some(error.kind()),
        }
    }
    format!("nothing can be seen of {}", path.display())
}

/// The first folder above a file, from the top, that does not let the process through, or does not let it write there if it has to.
fn above(path: &Path, wanted: u32, process: &Process) -> Option<Obstacle> {
    let mut folders: Vec<_> = path.ancestors().skip(1).map(here_if_empty).collect();
    folders.reverse();
    let nearest = folders.len().checked_sub(1)?;
    let obstacles = folders.into_iter().enumerate().filter_map(|(nth, folder)| {
        let metadata = folder.metadata().ok()?;
        let mut obstacle = Obstacle::new(folder, &metadata, wanted, None);
        obstacle.wanted = if nth == nearest && wanted & WRITE != 0 {
            READ | WRITE | SEARCH
        } else {
            SEARCH
        };
        Some(obstacle)
    });
    obstacles
        .into_iter()
        .find(|obstacle| obstacle.is_denied_to(process))
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
    namespace: Option<Namespace>,
}

/// A user namespace, as that of a container without root: it knows some users of its host, by other numbers.
struct Namespace {
    /// The number by which it shows all users that it does not know.
    unknown: u32,
    /// Who this process is outside of it.
    uid: u32,
    gid: u32,
}

impl Namespace {
    fn this(uid: u32, gid: u32) -> Option<Self> {
        let read = |name: &str| std::fs::read_to_string(name).ok();
        let uids = read("/proc/self/uid_map")?;
        let gids = read("/proc/self/gid_map")?;
        let unknown = read("/proc/sys/kernel/overflowuid")?;
        (!is_whole(&uids)).then_some(Self {
            unknown: unknown.trim().parse().ok()?,
            uid: outside(&uids, uid)?,
            gid: outside(&gids, gid)?,
        })
    }
}

/// The ranges of a map: the first number inside, the first outside, and how many there are.
fn ranges(map: &str) -> impl Iterator<Item = [u32; 3]> {
    map.lines().filter_map(|line| {
        let numbers: Result<Vec<_>, _> = line.split_whitespace().map(str::parse).collect();
        numbers.ok()?.try_into().ok()
    })
}

/// Whether all users are known, by their own numbers.
fn is_whole(map: &str) -> bool {
    ranges(map).eq([[0, 0, u32::MAX]])
}

fn outside(map: &str, id: u32) -> Option<u32> {
    ranges(map).find_map(|[inside, outside, count]| {
        let offset = id.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    })
}

impl Process {
    fn this() -> Self {
        let groups = unistd::getgroups().unwrap_or_default();
        let (uid, gid) = (unistd::geteuid().as_raw(), unistd::getegid().as_raw());
        Self {
            uid,
            gid,
            namespace: Namespace::this(uid, gid),
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
    fn new(path: &Path, metadata: &Metadata, of_file: u32, inner: Option<ErrorKind>) -> Self {
        let folder = metadata.is_dir();
        let wanted = match inner {
            Some(ErrorKind::PermissionDenied) => READ | SEARCH,
            _ if folder => READ | WRITE | SEARCH,
            _ => of_file,
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
            match self.wanted {
                wanted if wanted & WRITE != 0 => "write to",
                SEARCH => "pass through",
                _ => "read",
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
        if let Some(namespace) = &process.namespace
            && namespace.unknown == self.uid
        {
            return format!(
                "that number stands for every user that this container's user namespace does not know; run `chown {}{}:{} {path}` on the host (as \
                 root, or with `podman unshare chown {}:{}` as the user of the container), where this process is {}:{}",
                if self.folder { "-R " } else { "" },
                namespace.uid,
                namespace.gid,
                process.uid,
                process.gid,
                namespace.uid,
                namespace.gid,
            );
        }
        if !self.is_denied_to(process) {
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

    fn is_denied_to(&self, process: &Process) -> bool {
        self.granted(process) & self.wanted != self.wanted
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
            namespace: None,
        });
        assert!(message.ends_with(expected), "{message}");
    }

    #[test]
    fn a_user_that_a_namespace_does_not_know_is_not_given_as_one() {
        let obstacle = Obstacle {
            path: "state".into(),
            uid: 65_534,
            gid: 65_534,
            mode: 0o755,
            folder: true,
            read_only: false,
            wanted: READ | WRITE | SEARCH,
        };
        let message = obstacle.explain(&Process {
            uid: 0,
            gid: 0,
            groups: vec![],
            namespace: Some(Namespace {
                unknown: 65_534,
                uid: 100_000,
                gid: 100_000,
            }),
        });
        assert!(
            message.contains("`chown -R 100000:100000 state` on the host")
                && !message.contains("--user"),
            "{message}"
        );
    }

    #[test]
    fn a_process_is_found_outside_of_its_namespace() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(outside(map, 0), Some(1000));
        assert_eq!(outside(map, 10), Some(100_009));
        assert_eq!(outside(map, 65_537), None);
        assert!(!is_whole(map) && is_whole("         0          0 4294967295\n"));
    }

    #[test]
    fn a_folder_above_that_denies_is_named_and_no_security_module() {
        let folder = tempfile::tempdir().unwrap();
        let (above, within) = (
            folder.path().join("above"),
            folder.path().join("above/state"),
        );
        std::fs::create_dir_all(&within).unwrap();
        let file = within.join("cursor");
        std::fs::write(&file, "").unwrap();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
                .unwrap();
        };
        set(folder.path(), 0o755);
        set(&file, 0o666);
        let process = Process {
            uid: 4_242,
            gid: 4_242,
            groups: vec![],
            namespace: None,
        };
        let check = |modes: (u32, u32), wanted, expected: &str| {
            set(&above, modes.0);
            set(&within, modes.1);
            let message = super::explain(&file, wanted, &process);
            assert!(message.contains(expected), "{message}");
            set(&above, 0o755);
        };
        let named =
            |path: &Path, doing: &str| format!("may not {doing} the folder {},", path.display());
        check((0o755, 0o755), READ | WRITE, &named(&within, "write to"));
        check((0o700, 0o777), READ, &named(&above, "pass through"));
        check((0o755, 0o777), READ | WRITE, "SELinux");
        check((0o755, 0o755), READ, "SELinux");
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
