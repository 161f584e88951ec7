//! What every host of a crowd finds, whatever then happens to it.

use std::time::Duration;

use dfnode_simulations::{Membership, Scenario, Zones};

use super::size;

/// More hosts than this are simulated with shortcuts unless the command line says otherwise.
const MANY: usize = 3_000;
/// A trunk that holds nobody up.
const UNLIMITED_MBIT: u64 = 1_000_000;
/// Others that each of many hosts knows.
const USUALLY_KNOWN: usize = 64;

#[derive(clap::Args)]
pub(super) struct Setting {
    /// Size of the file, such as 200MB or 1GiB.
    #[arg(long, default_value = "200MB", value_parser = size::parse)]
    file: u64,
    /// Link of each host, Mbit/s each way.
    #[arg(long, default_value_t = 200)]
    host_mbit: u64,
    /// Link of the source, Mbit/s.
    #[arg(long, default_value_t = 4000)]
    source_mbit: u64,
    /// What all hosts get through together, Mbit/s, as in a lab whose processors they share; as much as they like if not
    /// given. The bound does not know of it.
    #[arg(long)]
    machine_mbit: Option<u64>,
    /// Delay between any two hosts, one way.
    #[arg(long, default_value = "250us", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// From a request to the source's first byte.
    #[arg(long, default_value = "20ms", value_parser = humantime::parse_duration)]
    first_byte: Duration,
    /// Deal the hosts out to so many zones; the source stands outside of all.
    #[arg(long, default_value_t = 1)]
    zones: usize,
    /// What crosses the border of each zone, Mbit/s each way; as much as one likes if not given.
    #[arg(long)]
    trunk_mbit: Option<u64>,
    /// Delay between hosts of different zones, one way.
    #[arg(long, default_value = "1ms", value_parser = humantime::parse_duration)]
    zone_latency: Duration,
    /// Tell nobody who is in which zone.
    #[arg(long)]
    zone_blind: bool,
    /// Shortcuts for very large worlds: each host knows the task's homes and so many others, and messages are not
    /// encoded. 0 for none; 64 by default above 3,000 hosts.
    #[arg(long)]
    sampled: Option<usize>,
    /// Uploads, and downloads, that a host has under way at once; the production default if not given.
    #[arg(long)]
    slots: Option<usize>,
}

impl Setting {
    /// So many hosts that all want the file at once, and nothing goes wrong.
    pub(super) fn crowd(&self, nodes: usize, seed: u64) -> Scenario {
        let detection = Duration::from_secs(10);
        let usual = if nodes > MANY { USUALLY_KNOWN } else { 0 };
        let known = self.sampled.unwrap_or(usual);
        let membership = if known > 0 {
            Membership::Sampled { detection, known }
        } else {
            Membership::Told { detection }
        };
        let zones = (self.zones > 1).then(|| Zones {
            count: self.zones,
            trunk_bits_per_sec: self.trunk_mbit.unwrap_or(UNLIMITED_MBIT) * 1_000_000,
            latency: self.zone_latency,
            labelled: !self.zone_blind,
        });
        Scenario {
            zones,
            nodes,
            file_bytes: self.file,
            host_bits_per_sec: self.host_mbit * 1_000_000,
            source_bits_per_sec: self.source_mbit * 1_000_000,
            machine_bits_per_sec: self.machine_mbit.map(|mbit| mbit * 1_000_000),
            spread: Duration::ZERO,
            latency: self.latency,
            first_byte: self.first_byte,
            seed,
            slots: self.slots,
            membership,
            codec: known == 0,
            ..Scenario::default()
        }
    }
}
