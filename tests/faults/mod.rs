//! The failure matrix: one row a fault, one column a promise, on real processes and shaped links.
//!
//! ```text
//! DFNODE_FULL=1 cargo test -p dfnode-cli --test e2e every_promise -- --nocapture      # every row
//! DFNODE_FAULTS=suspended,loss-5 cargo test -p dfnode-cli --test e2e every_promise -- --nocapture
//! ```
//! Six hosts want one file at once; the fault strikes once a quarter of it has left the source. Without either
//! variable the few rows run that no other test covers.

mod disks;
mod hosts;
mod members;
mod network;
mod scene;
mod sources;
mod table;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use self::scene::Scene;
use self::table::{Row, Table};
use crate::disk::Disk;
use crate::lab::take_turn;
use crate::sizes::full;

/// Names the rows to run, separated by commas.
const ROWS: &str = "DFNODE_FAULTS";
/// Without any fault: what the others' times are compared with.
const NONE: &str = "none";
/// What may leave the source, headers included, where the fault costs it nothing.
const ONE_COPY: f64 = 1.08;
/// What one host may have under way at the source when it dies: two extents of 4 MiB.
const UNDER_WAY: f64 = 0.42;
/// The same, and the copy of a host that must fetch all by itself.
const ITS_OWN: f64 = ONE_COPY + UNDER_WAY + 1.0;
/// How much later the last host may be, where the fault gives no reason for more.
const SOON: Duration = Duration::from_secs(4);

/// A fault, and what is promised in spite of it.
struct Fault {
    name: &'static str,
    /// What happens, in words.
    what: &'static str,
    /// Where the file is at the source with faults; at nginx if empty.
    path: &'static str,
    /// The version of the source's content that is right: see [`crate::fault_source::content`].
    version: u64,
    /// Further arguments of every `dfnode get`.
    arguments: fn(&Scene<'_>) -> Vec<String>,
    /// The lie that the second host tells.
    lie: Option<&'static str>,
    /// What is done before the nodes start.
    before: fn(&Scene<'_>) -> Option<Disk>,
    /// What happens once a quarter of the file has left the source.
    strike: Option<fn(&mut Scene<'_>)>,
    /// What happens after all downloads.
    after: fn(&mut Scene<'_>),
    /// Hosts that are struck themselves, and of which nothing is asked.
    struck: &'static [usize],
    /// The exit code that all others end with.
    code: i32,
    /// Copies that may leave the source.
    copies: f64,
    /// How much later than without the fault the last host may be done.
    late: Duration,
    /// Whether the second host must be isolated by somebody.
    isolates: bool,
    /// Whether it runs in the small size.
    is_small: bool,
}

impl Fault {
    const fn new(name: &'static str, what: &'static str) -> Self {
        Self {
            name,
            what,
            path: "",
            version: 0,
            arguments: |_| Vec::new(),
            lie: None,
            before: |_| None,
            strike: None,
            after: |_| (),
            struck: &[],
            code: 0,
            copies: ONE_COPY,
            late: SOON,
            isolates: false,
            is_small: false,
        }
    }

    /// A fault of the source: the path that commits it.
    const fn at_source(name: &'static str, what: &'static str, path: &'static str) -> Self {
        Self {
            path,
            ..Self::new(name, what)
        }
    }

    const fn strikes(self, strike: fn(&mut Scene<'_>)) -> Self {
        Self {
            strike: Some(strike),
            ..self
        }
    }

    /// The first version can reach nobody whole, so the second is right.
    const fn changes(self) -> Self {
        Self { version: 1, ..self }
    }

    const fn then(self, after: fn(&mut Scene<'_>)) -> Self {
        Self { after, ..self }
    }

    const fn prepared(self, before: fn(&Scene<'_>) -> Option<Disk>) -> Self {
        Self { before, ..self }
    }

    const fn with(self, arguments: fn(&Scene<'_>) -> Vec<String>) -> Self {
        Self { arguments, ..self }
    }

    const fn struck(self, struck: &'static [usize]) -> Self {
        Self { struck, ..self }
    }

    const fn ends_with(self, code: i32) -> Self {
        Self { code, ..self }
    }

    const fn copies(self, copies: f64) -> Self {
        Self { copies, ..self }
    }

    const fn late(self, seconds: u64) -> Self {
        Self {
            late: Duration::from_secs(seconds),
            ..self
        }
    }

    const fn small(self) -> Self {
        Self {
            is_small: true,
            ..self
        }
    }

    /// The second host lies, and is found out.
    const fn lies(self, lie: &'static str) -> Self {
        Self {
            lie: Some(lie),
            isolates: true,
            ..self
        }
    }
}

fn all() -> Vec<Fault> {
    let none = Fault::new(NONE, "nothing fails").small();
    [
        vec![none],
        hosts::faults(),
        network::faults(),
        sources::faults(),
        members::faults(),
        disks::faults(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The rows that are asked for; the first is always the one without a fault.
fn asked() -> Vec<Fault> {
    let names = env::var(ROWS).ok();
    let names: Option<Vec<&str>> = names.as_ref().map(|names| names.split(',').collect());
    let mut all = all();
    for name in names.iter().flatten() {
        let known = all.iter().any(|fault| fault.name == *name);
        assert!(known, "{ROWS}: there is no fault {name}");
    }
    all.retain(|fault| match &names {
        Some(names) => fault.name == NONE || names.contains(&fault.name),
        None => full() || fault.is_small,
    });
    all
}

#[test]
fn every_promise_holds_under_every_fault() {
    let Some(_turn) = take_turn(&["nginx", "ss", "iptables", "mount", "umount"]) else {
        return;
    };
    let mut table = Table::default();
    for fault in asked() {
        let outcome = catch_unwind(AssertUnwindSafe(|| scene::play(&fault)));
        let row = Row::judge(
            &fault,
            outcome.map_err(|panic| said(panic.as_ref())),
            table.usual(),
        );
        eprintln!("{}", row.in_a_line());
        table.push(row);
    }
    eprintln!("{}", table.to_text());
    let red = table.red();
    assert!(red.is_empty(), "{red:#?}");
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}
