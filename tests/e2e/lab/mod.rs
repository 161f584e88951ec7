//! A network of hosts on one machine: a namespace per host, a bridge between them, a shaped link each.
//!
//! ```text
//!   peer-a ─eth0══p0─┐
//!   peer-b ─eth0══p1─┤ br0 (namespace "switch")          ══ a veth pair, token buckets on both ends
//!   source ─eth0══p2─┘
//! ```
//! [`Layout::in_two_zones`] makes two such switches, with a trunk between them, a shaped veth pair as well.
//!
//! A host sees the machine's files, with names of its own in /etc/hosts; [`Lab::furnish`] gives it files of
//! its own as well, as container engines need.
//!
//! Everything is named after this process, and gone when the [`Lab`] is dropped. What a killed run left
//! behind is swept by the next one.

mod layout;
mod link;
mod machine;
mod netns;
mod process;
mod ready;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::thread;

pub(crate) use self::layout::Layout;
pub(crate) use self::link::{Counters, Shape};
use self::machine::Machine;
use self::netns::Netns;
pub(crate) use self::process::{Finished, Job, Process, Usage, run_all};
pub(crate) use self::ready::{program, take_turn};

/// The name under which every host finds the source.
pub(crate) const SOURCE_NAME: &str = "source.test";

/// Set, it keeps what a failed test's hosts wrote.
const KEEP: &str = "DFNODE_E2E_KEEP";
/// Labs that this process has built: two that live at once must not share names.
static LABS: AtomicU32 = AtomicU32::new(0);

/// The hosts, the source and the switches between them.
pub(crate) struct Lab {
    hosts: Vec<Host>,
    source: Host,
    // Dropped after the hosts: their links end here. One for each zone.
    switches: Vec<Netns>,
    dir: tempfile::TempDir,
}

impl Lab {
    /// Builds `hosts` hosts with a link of shape `link` each, and a source behind `source_link`.
    pub(crate) fn new(hosts: usize, link: Shape, source_link: Shape) -> Self {
        Layout::new(hosts, link, source_link).build()
    }

    /// The hosts, `peer-a` first.
    pub(crate) fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host that origins run on.
    pub(crate) fn source(&self) -> &Host {
        &self.source
    }

    /// Gives the link of the host of that number another rate.
    pub(crate) fn reshape(&self, place: usize, shape: Shape) {
        let host = &self.hosts[place];
        link::reshape(&host.netns, &self.switches[host.zone], &host.port, shape);
    }

    /// How many zones the hosts are in: one, or two with a trunk between them.
    pub(crate) fn zones(&self) -> usize {
        self.switches.len()
    }

    /// What the trunk has carried so far, if there is one: received is what came into the second zone.
    pub(crate) fn trunk(&self) -> Option<Counters> {
        let second = self.switches.get(1)?;
        Some(link::counters(second, link::TRUNK))
    }

    /// A folder that lives as long as the lab.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Gives every host a root of its own, in which `authority` (PEM) is one of the trusted ones and
    /// the source has the further names `aliases`. What ran on a host before does not move.
    pub(crate) fn furnish(&mut self, authority: &str, aliases: &[&str]) {
        let mut names = self.names();
        for alias in aliases {
            writeln!(names, "{} {alias}", self.source.v4).unwrap();
        }
        let etc = [("hosts", names.as_str()), ("resolv.conf", NO_RESOLVER)];
        let lab = self.dir.path();
        for host in self.hosts.iter_mut().chain([&mut self.source]) {
            let machine =
                Machine::furnish(&host.netns, &host.name, &host.dir, lab, authority, &etc);
            host.machine = Some(machine);
        }
    }

    /// Gives every namespace an /etc/hosts of its own, so that names work without a DNS server.
    fn publish_names(&self) {
        let names = self.names();
        for host in self.hosts.iter().chain([&self.source]) {
            host.netns.write_etc("hosts", &names);
            host.netns.write_etc("resolv.conf", NO_RESOLVER);
        }
    }

    /// The hosts' names, as in /etc/hosts.
    fn names(&self) -> String {
        let mut names = String::from("127.0.0.1 localhost\n::1 localhost\n");
        for host in self.hosts.iter().chain([&self.source]) {
            writeln!(names, "{} {}", host.v4, host.name).unwrap();
            writeln!(names, "{} {}", host.v6, host.name).unwrap();
        }
        names
    }
}

/// No resolver listens here, so a name that is not in /etc/hosts fails at once.
const NO_RESOLVER: &str = "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n";

/// The source's place on the lab's subnet, and the first host's.
const SOURCE_PLACE: u16 = 1;
const FIRST_HOST: u16 = 10;

/// `peer-a` … `peer-z`, then `peer-27` and on.
fn peer_name(place: u16) -> String {
    match u8::try_from(place) {
        Ok(small @ 0..26) => format!("peer-{}", char::from(b'a' + small)),
        _ => format!("peer-{}", place + 1),
    }
}

impl Drop for Lab {
    /// Keeps the folder, with all logs, of a test that failed while `DFNODE_E2E_KEEP` is set.
    fn drop(&mut self) {
        if thread::panicking() && env::var_os(KEEP).is_some() {
            self.dir.disable_cleanup(true);
            eprintln!("kept: {}", self.dir().display());
        }
    }
}

/// One machine of the lab: a namespace, an address of each family, a link.
pub(crate) struct Host {
    name: String,
    // Dropped before the machine: it ends what still runs there.
    netns: Netns,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    dir: PathBuf,
    /// The switch's end of its cable.
    port: String,
    zone: usize,
    machine: Option<Machine>,
}

impl Host {
    fn plug_in(
        number: u32,
        tag: &str,
        place: u16,
        shape: Shape,
        switches: &[Netns],
        zone: usize,
        dir: &Path,
    ) -> Self {
        let netns = Netns::create(number, tag);
        let [high, low] = place.to_be_bytes();
        let v4 = Ipv4Addr::new(10, 99, high, low);
        let v6 = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, place);
        let port = format!("p{place}");
        link::plug(&netns, &switches[zone], &port, v4, v6, shape);
        let dir = dir.join(tag);
        fs::create_dir(&dir).unwrap();
        let name = if place == SOURCE_PLACE {
            SOURCE_NAME.to_owned()
        } else {
            tag.to_owned()
        };
        Self {
            name,
            netns,
            v4,
            v6,
            dir,
            port,
            zone,
            machine: None,
        }
    }

    /// The name that other hosts resolve.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The IPv4 address on the lab's subnet.
    pub(crate) fn v4(&self) -> Ipv4Addr {
        self.v4
    }

    /// The IPv6 address on the lab's subnet.
    pub(crate) fn v6(&self) -> Ipv6Addr {
        self.v6
    }

    /// The number of the zone that it is in, from 0; the source is in the first.
    pub(crate) fn zone(&self) -> usize {
        self.zone
    }

    /// A folder of this host's own.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// `program`, to be run inside this host. The child's pid is the program's: `ip` and `nsenter`
    /// exec it.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match &self.machine {
            Some(machine) => machine.command(program),
            None => self.netns.command(program),
        }
    }

    /// What this host's link has carried so far, Ethernet headers included.
    pub(crate) fn counters(&self) -> Counters {
        link::counters(&self.netns, link::HOST_SIDE)
    }

    /// The longest packet that this host sends.
    pub(crate) fn set_mtu(&self, bytes: u16) {
        let bytes = bytes.to_string();
        self.netns
            .ip(&["link", "set", link::HOST_SIDE, "mtu", &bytes]);
    }

    /// Pulls the cable, or plugs it in again.
    pub(crate) fn set_link_up(&self, up: bool) {
        self.netns.ip(&[
            "link",
            "set",
            link::HOST_SIDE,
            if up { "up" } else { "down" },
        ]);
    }
}
