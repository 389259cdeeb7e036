//! The file system that a state folder is on.

use std::path::Path;

use nix::sys::statfs::{FsType, statfs};

/// The network file systems, and those that may be one, by the numbers that `statfs` tells (`linux/magic.h`).
const NETWORK: [(u32, &str); 12] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFE53_4D42, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "AFS"),
    (0x0BD0_0BD0, "Lustre"),
    (0x1983_0326, "BeeGFS"),
    (0x0116_1970, "GFS2"),
];

/// The kind of the file system that `path`, or what is there of the folders above it, is on, if other machines may write to it as well.
pub fn network_file_system(path: &Path) -> Option<&'static str> {
    let above = path.ancestors().map(super::reading::here_if_empty);
    let kind = above.map(statfs).find_map(Result::ok)?.filesystem_type();
    name_of(kind)
}

fn name_of(kind: FsType) -> Option<&'static str> {
    // The type is wider than the numbers, and signed on some machines.
    let number = u32::try_from(kind.0 & 0xFFFF_FFFF).ok()?;
    let mut known = NETWORK.iter();
    known
        .find(|(known, _)| *known == number)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use nix::sys::statfs::{FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, TMPFS_MAGIC};

    use super::*;

    #[test]
    fn a_disk_and_memory_are_no_network() {
        assert_eq!(network_file_system(Path::new("/dev/shm/not/there")), None);
        assert_eq!(network_file_system(Path::new("/proc")), None);
    }

    #[test]
    fn the_numbers_are_those_of_the_system() {
        let check = |kind, expected| assert_eq!(name_of(kind), expected);
        check(NFS_SUPER_MAGIC, Some("NFS"));
        check(SMB_SUPER_MAGIC, Some("SMB"));
        check(FUSE_SUPER_MAGIC, Some("FUSE"));
        check(TMPFS_MAGIC, None);
    }
}
