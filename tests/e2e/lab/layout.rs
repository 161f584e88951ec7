//! What a lab is built from.

use std::sync::atomic::Ordering;

use super::netns::{self, Netns};
use super::{FIRST_HOST, Host, LABS, Lab, SOURCE_PLACE, Shape, link, peer_name};

/// The hosts' links, in the hosts' order, and what lies between them.
pub(crate) struct Layout {
    links: Vec<Shape>,
    source_link: Shape,
    /// Between the two zones, if there are two.
    trunk: Option<Shape>,
}

impl Layout {
    /// `hosts` hosts with a link of shape `link` each, and a source behind `source_link`, at one switch.
    pub(crate) fn new(hosts: usize, link: Shape, source_link: Shape) -> Self {
        Self {
            links: vec![link; hosts],
            source_link,
            trunk: None,
        }
    }

    /// Gives the last `count` hosts another link.
    pub(crate) fn last(mut self, count: usize, link: Shape) -> Self {
        let others = self.links.len() - count;
        self.links[others..].fill(link);
        self
    }

    /// Deals the hosts out to two zones in turn, each with a switch of its own, and `trunk` between the switches. The
    /// source is in the first zone.
    pub(crate) fn in_two_zones(mut self, trunk: Shape) -> Self {
        self.trunk = Some(trunk);
        self
    }

    /// Builds it.
    pub(crate) fn build(self) -> Lab {
        netns::sweep_dead_runs();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::Builder::new()
            .prefix("dfnode-lab-")
            .tempdir()
            .unwrap();
        let mut switches = vec![new_switch(number, "switch")];
        if let Some(trunk) = self.trunk {
            let second = new_switch(number, "switch-2");
            link::join(&switches[0], &second, trunk);
            switches.push(second);
        }
        let plug = |tag: &str, place: u16, shape: Shape, zone: usize| {
            Host::plug_in(number, tag, place, shape, &switches, zone, dir.path())
        };
        let hosts = (0u16..).zip(&self.links).map(|(place, link)| {
            let zone = usize::from(place) % switches.len();
            plug(&peer_name(place), FIRST_HOST + place, *link, zone)
        });
        let lab = Lab {
            hosts: hosts.collect(),
            source: plug("source", SOURCE_PLACE, self.source_link, 0),
            switches,
            dir,
        };
        lab.publish_names();
        lab
    }
}

fn new_switch(number: u32, tag: &str) -> Netns {
    let switch = Netns::create(number, tag);
    link::make_bridge(&switch);
    switch
}
