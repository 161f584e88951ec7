//! Benchmarks on shaped links, beside curl, libtorrent and docker.
//!
//! ```text
//! cargo test --release -p dfnode-cli --test bench -- flash-crowd --hosts 8 --mbit 100 --file 100MB
//! ```
//! A plain `cargo test` runs this too, without arguments: then it only says how it is used.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for people, outside the node: it measures real time and prints"
)]

mod figures;
mod flash_crowd;
mod idle;
mod pair;
mod proxy;
mod pull;
mod small;
mod torrent;

#[path = "../e2e/cluster.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which need more of it"
)]
mod cluster;
#[path = "../e2e/dice.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which need more of it"
)]
mod dice;
#[path = "../e2e/engines/mod.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which need more of it"
)]
mod engines;
#[path = "../e2e/files.rs"]
mod files;
#[path = "../e2e/http.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which need more of it"
)]
mod http;
#[path = "../e2e/lab/mod.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which need more of it"
)]
mod lab;
#[path = "../e2e/origin.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which need more of it"
)]
mod origin;
#[path = "../e2e/proxied.rs"]
mod proxied;
#[path = "../e2e/registries/mod.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which need more of it"
)]
mod registries;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};

/// Measures dfnode on a lab of network namespaces. Needs root, iproute2, nginx and curl.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    /// What to measure.
    #[command(subcommand)]
    what: What,
    /// Print one JSON object instead of a table.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum What {
    /// All hosts ask for one file at once: dfnode, curl and libtorrent against the bound.
    FlashCrowd(flash_crowd::Plan),
    /// A file of one block that a neighbour holds, beside curl from nginx.
    Small(small::Plan),
    /// One big file between two nodes over an unshaped link, beside nginx and curl over TLS.
    Pair(pair::Plan),
    /// All hosts pull an image with docker at once: through the nodes, and by themselves.
    Pull(pull::Plan),
    /// What the proxy adds to a request, and how fast it gives what it has.
    Proxy(proxy::Plan),
    /// What a cluster at rest costs: bytes on the link, memory, time to notice.
    Idle(idle::Plan),
}

fn main() {
    registries::gate::serve_if_told();
    // `cargo test` runs every test binary, and hands on flags that are meant for the others.
    let asked = std::env::args()
        .nth(1)
        .is_some_and(|first| !first.starts_with('-') || first == "--help");
    if !asked {
        println!(
            "bench: skipped; to measure, run e.g. `cargo test --release -p dfnode-cli --test bench -- flash-crowd`"
        );
        return;
    }
    let arguments = Arguments::parse();
    if let What::FlashCrowd(plan) = &arguments.what
        && let Err(why) = plan.check()
    {
        Arguments::command()
            .error(ErrorKind::ArgumentConflict, why)
            .exit();
    }
    let programs = match &arguments.what {
        What::Pull(_) | What::Proxy(_) => [&engines::PROGRAMS[..], &registries::PROGRAMS].concat(),
        What::FlashCrowd(plan) => plan.programs(),
        What::Small(_) | What::Pair(_) | What::Idle(_) => vec!["nginx", "curl"],
    };
    let Some(_turn) = lab::take_turn(&programs) else {
        std::process::exit(1)
    };
    let report = match arguments.what {
        What::FlashCrowd(plan) => flash_crowd::measure(&plan),
        What::Small(plan) => small::measure(&plan),
        What::Pair(plan) => pair::measure(&plan),
        What::Pull(plan) => pull::measure(&plan),
        What::Proxy(plan) => proxy::measure(&plan),
        What::Idle(plan) => idle::measure(&plan),
    };
    if arguments.json {
        println!("{}", report.to_json());
    } else {
        print!("{}", report.to_text());
    }
}
