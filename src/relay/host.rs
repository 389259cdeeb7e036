//! What lines call this machine.

use std::fs;
use std::io;

/// Where names that need no name server are kept (hosts(5)).
const HOSTS: &str = "/etc/hosts";

/// This machine's name, as the two formats of a line want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The name itself, `gethostname()`.
    pub name: String,
    /// The name with its domain, or the name alone where nobody here knows the domain.
    pub qualified: String,
}

impl Host {
    /// Asks the system. The domain is looked for in the name itself and in `/etc/hosts`, which is where `hostname --fqdn` finds it on most
    /// machines; no name server is asked, since what a machine is called must not depend on whether one answers.
    ///
    /// # Errors
    /// If the system does not say its name. That it does not know its domain is no error.
    pub fn of_this_machine() -> io::Result<Self> {
        let name = nix::unistd::gethostname()?.to_string_lossy().into_owned();
        let hosts = fs::read(HOSTS).unwrap_or_default();
        Ok(Self::of(name, &String::from_utf8_lossy(&hosts)))
    }

    /// The host of this name, on a machine with these hosts.
    fn of(name: String, hosts: &str) -> Self {
        let qualified = if name.contains('.') {
            None
        } else {
            hosts.lines().find_map(|line| qualified(line, &name))
        };
        Self {
            qualified: qualified.map_or_else(|| name.clone(), str::to_owned),
            name,
        }
    }
}

/// The first name with a domain on a line of the hosts, if the line is this machine's.
fn qualified<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let line = line.split_once('#').map_or(line, |(line, _)| line);
    let mut names = line.split_ascii_whitespace().skip(1);
    let is_ours = |candidate: &str| {
        candidate.eq_ignore_ascii_case(name)
            || candidate
                .split_once('.')
                .is_some_and(|(first, _)| first.eq_ignore_ascii_case(name))
    };
    if !names.clone().any(is_ours) {
        return None;
    }
    names.find(|candidate| candidate.contains('.') && !candidate.starts_with("localhost."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, hosts: &str, qualified: &str) {
        let host = Host::of(name.to_owned(), hosts);
        assert_eq!(
            (host.name.as_str(), host.qualified.as_str()),
            (name, qualified)
        );
    }

    const DEBIAN: &str = "127.0.0.1\tlocalhost\n# 127.0.1.1 old.example.org box\n127.0.1.1\tbox.example.com\tbox # ours\n::1 ip6-localhost\n";

    #[test]
    fn the_domain_comes_from_the_name_or_from_the_hosts() {
        check("box", DEBIAN, "box.example.com");
        check("Box", DEBIAN, "box.example.com");
        check("box.example.net", DEBIAN, "box.example.net");
        check("box", "10.0.0.7 box box.example.com", "box.example.com");
    }

    #[test]
    fn where_nobody_knows_the_domain_the_name_stands_alone() {
        check("other", DEBIAN, "other");
        check("box", "", "box");
        check(
            "box",
            "127.0.0.1 localhost.localdomain localhost box",
            "box",
        );
        check("", DEBIAN, "");
    }

    #[test]
    fn this_machine_has_a_name() {
        let host = Host::of_this_machine().unwrap();
        assert!(
            !host.name.is_empty() && host.qualified.starts_with(&host.name),
            "{host:?}"
        );
    }
}
