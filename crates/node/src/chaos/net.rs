//! Networks that can really be cut: each node in a namespace of its own, joined to a bridge.
//!
//! ```text
//!   host: bridge .1 (the store)  .2 (clients)
//!           |          |          |
//!         veth       veth       veth
//!           |          |          |
//!         node 0     node 1     node 2        .10, .11, .12
//! ```
//!
//! A node is cut off from everybody by taking its port of the bridge down, and from some by what a
//! broken switch would do: frames to them go to an address that nobody has. Nobody is told either way.
//!
//! All names carry the number of the process that made them, so what a process which is gone has
//! left behind is found and removed.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::plan::Cut;
use crate::failure::refused;

/// Before the number of the process.
const PREFIX: &str = "efold";
/// An address that no interface has: locally administered.
const NOBODY: &str = "02:00:00:00:00:01";
/// Addresses of nodes begin here.
const FIRST: u8 = 10;
/// More do not fit into a network.
pub const MOST_NODES: usize = 90;
/// The bits of an address that are the network's.
pub const BITS: u8 = 24;

/// A bridge with a namespace for each node; taken down when it is dropped.
#[derive(Debug)]
pub struct Network {
    name: String,
    net: [u8; 2],
    nodes: usize,
}

/// Refuses where networks cannot be made.
///
/// # Errors
/// The user may not, or `ip` is not installed.
pub fn check() -> anyhow::Result<()> {
    let instead = "leave `partition` out of --faults, or say --no-namespaces to run without it";
    match Command::new("ip").arg("-V").stdout(Stdio::null()).status() {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(refused(format!(
                "networks are cut with `ip`, which is not installed: on Debian, apt install \
                 iproute2; or {instead}"
            )));
        }
        Err(error) => return Err(error).context("`ip` cannot be run"),
    }
    // Asked for by doing it: containers may refuse even root.
    let trial = format!("{PREFIX}{}-trial", std::process::id());
    let made = ip(&["netns", "add", &trial]);
    let removed = ip(&["netns", "del", &trial]);
    if let Err(error) = made.and(removed) {
        return Err(refused(format!(
            "network namespaces cannot be made here ({error:#}): run as root, with CAP_SYS_ADMIN and \
             CAP_NET_ADMIN; or {instead}"
        )));
    }
    Ok(())
}

impl Network {
    /// Makes a network for so many nodes.
    ///
    /// # Errors
    /// The system refuses; what was made is removed again.
    pub fn make(nodes: usize) -> anyhow::Result<Self> {
        if nodes > MOST_NODES {
            bail!("{nodes} nodes do not fit into one network: {MOST_NODES} are the most");
        }
        let pid = std::process::id();
        let network = Self {
            name: format!("{PREFIX}{pid}"),
            net: [64 + (pid >> 8) as u8 % 128, pid as u8],
            nodes,
        };
        let (bridge, bits) = (&*network.name, BITS);
        ip(&["link", "add", bridge, "type", "bridge"])?;
        // The first address is the one that clients come from.
        for address in [network.address(2), network.engine()] {
            let address = format!("{address}/{bits}");
            ip(&["addr", "add", &address, "dev", bridge])?;
        }
        ip(&["link", "set", bridge, "up"])?;
        for node in 0..nodes {
            network.attach(node)?;
        }
        Ok(network)
    }

    fn attach(&self, node: usize) -> anyhow::Result<()> {
        let (space, outer, inner) = (self.namespace(node), self.outer(node), self.inner(node));
        let address = format!("{}/{BITS}", self.node(node));
        ip(&["netns", "add", &space])?;
        ip(&[
            "link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", &space,
        ])?;
        ip(&["link", "set", &outer, "master", &self.name, "up"])?;
        ip(&["-n", &space, "link", "set", "lo", "up"])?;
        ip(&["-n", &space, "addr", "add", &address, "dev", &inner])?;
        ip(&["-n", &space, "link", "set", &inner, "up"])
    }

    /// Where the store is to listen.
    pub fn engine(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// Where a node is to listen.
    pub fn node(&self, node: usize) -> Ipv4Addr {
        self.address(FIRST.saturating_add(node as u8))
    }

    /// The namespace of a node, as `ip netns exec` takes it.
    pub fn namespace(&self, node: usize) -> String {
        format!("{}-{node}", self.name)
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net[0], self.net[1], last)
    }

    fn outer(&self, node: usize) -> String {
        format!("{}v{node}", self.name)
    }

    fn inner(&self, node: usize) -> String {
        format!("{}n{node}", self.name)
    }

    /// Cuts a node off.
    ///
    /// # Errors
    /// The system refuses.
    pub fn cut(&self, node: usize, from: Cut) -> anyhow::Result<()> {
        match from {
            Cut::Everybody => ip(&["link", "set", &self.outer(node), "down"]),
            Cut::Engine => self.mislead(node, self.engine()),
            Cut::Peers => self.each_pair(node, Self::mislead),
        }
    }

    /// Ends a cut.
    ///
    /// # Errors
    /// The system refuses.
    pub fn heal(&self, node: usize, from: Cut) -> anyhow::Result<()> {
        match from {
            Cut::Everybody => ip(&["link", "set", &self.outer(node), "up"]),
            Cut::Engine => self.lead(node, self.engine()),
            Cut::Peers => self.each_pair(node, Self::lead),
        }
    }

    /// The node and each other one, in both directions.
    fn each_pair(
        &self,
        node: usize,
        on: impl Fn(&Self, usize, Ipv4Addr) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for other in (0..self.nodes).filter(|other| *other != node) {
            on(self, node, self.node(other))?;
            on(self, other, self.node(node))?;
        }
        Ok(())
    }

    /// What a node sends to an address gets lost.
    fn mislead(&self, node: usize, address: Ipv4Addr) -> anyhow::Result<()> {
        let (space, inner, address) = (self.namespace(node), self.inner(node), address.to_string());
        ip(&[
            "-n",
            &space,
            "neigh",
            "replace",
            &address,
            "lladdr",
            NOBODY,
            "dev",
            &inner,
            "nud",
            "permanent",
        ])
    }

    fn lead(&self, node: usize, address: Ipv4Addr) -> anyhow::Result<()> {
        let (space, inner, address) = (self.namespace(node), self.inner(node), address.to_string());
        ip(&["-n", &space, "neigh", "del", &address, "dev", &inner])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Nobody can be told, and the next run removes what stays.
        for node in 0..self.nodes {
            let _ = ip(&["link", "del", &self.outer(node)]);
            let _ = ip(&["netns", "del", &self.namespace(node)]);
        }
        let _ = ip(&["link", "del", &self.name]);
    }
}

/// Removes networks that a process which is gone has left.
pub fn remove_left_behind() {
    let links = said(&["-o", "link", "show"]).unwrap_or_default();
    // `7: efold1234v0@if2: <...`
    let links = links.lines().filter_map(|line| {
        let name = line.split_whitespace().nth(1)?;
        Some(name.split(['@', ':']).next().unwrap_or(name).to_owned())
    });
    let links: Vec<String> = links.filter(|name| is_left_behind(name)).collect();
    for link in links {
        let _ = ip(&["link", "del", &link]);
    }
    let spaces = said(&["netns", "list"]).unwrap_or_default();
    for line in spaces.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        if is_left_behind(name) {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn is_left_behind(name: &str) -> bool {
    maker(name).is_some_and(|pid| !super::is_running(pid))
}

/// The process that a name names.
fn maker(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?;
    let end = rest.find(|other: char| !other.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    said(arguments).map(drop)
}

fn said(arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::null());
    let done = command.output().context("`ip` cannot be run")?;
    if !done.status.success() {
        let words = String::from_utf8_lossy(&done.stderr);
        bail!("ip {}: {}", arguments.join(" "), words.trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_process_made_them() {
        assert_eq!(maker("efold123"), Some(123));
        assert_eq!(maker("efold123v0"), Some(123));
        assert_eq!(maker("efold123-2"), Some(123));
        assert_eq!(maker("eth0"), None);
        assert_eq!(maker("efold"), None);
    }

    #[test]
    fn names_fit_where_they_are_used() {
        let network = Network {
            name: format!("{PREFIX}4194304"),
            net: [64, 0],
            nodes: 0,
        };
        let longest = [network.outer(MOST_NODES - 1), network.inner(MOST_NODES - 1)];
        assert!(longest.iter().all(|name| name.len() <= 15));
    }
}
