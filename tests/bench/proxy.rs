//! What the proxy adds to a request that it only passes on, and how fast it gives what it has.

use dfnode_node::limits::ByteSize;

use crate::engines::PROXY;
use crate::figures::{Report, float, length, median};
use crate::lab::{Host, Job, Lab, Shape};
use crate::proxied;
use crate::registries::{Image, Registries, curl};

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Plan {
    /// How many HEAD requests of each kind, rounded up to fifties.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..))]
    requests: u32,
    /// The size of the blob that is read from the cache.
    #[arg(long, default_value = "256MiB")]
    blob: ByteSize,
    /// How often the blob is read; the medians are shown.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// How many requests are made by one way before the other has its turn.
const TURN: u32 = 50;

/// Whether a request goes through the node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Road {
    Direct,
    Proxy,
}

/// Measures on one host with unshaped links.
pub(crate) fn measure(plan: &Plan) -> Report {
    let mut lab = Lab::new(1, Shape::Unshaped, Shape::Unshaped);
    let registries = Registries::open(&mut lab);
    let storage = registries.storage();
    let image = storage.image("test/hit", storage.layers(1, &[length(plan.blob)]));
    let _cluster = proxied::start(&lab, &[]);
    let host = &lab.hosts()[0];
    let title = format!(
        "one host, unshaped: {} HEADs of each kind, and a cached blob",
        plan.requests
    );
    let mut report = Report::new(title, &["direct", "proxied", "difference", "ratio"]);
    let [manifest, blob] = urls(&image);
    for (what, url) in [("manifest", &manifest), ("blob", &blob)] {
        for (how, more) in [
            ("kept alive", &[][..]),
            ("a connection each", &["-H", "Connection: close"]),
        ] {
            let [mut direct, mut proxied] = [Vec::new(), Vec::new()];
            // In turns: the machine is not as fast at one time as at another.
            for _ in 0..plan.requests.div_ceil(TURN) {
                direct.extend(heads(host, Road::Direct, url, more));
                proxied.extend(heads(host, Road::Proxy, url, more));
            }
            direct.sort_by(f64::total_cmp);
            proxied.sort_by(f64::total_cmp);
            for (name, percent) in [("p50", 50), ("p99", 99)] {
                let at = |list: &[f64]| list[list.len() * percent / 100] * 1e3;
                let (direct, proxied) = (at(&direct), at(&proxied));
                report.row(
                    &format!("HEAD {what}, {how}, {name}, ms"),
                    vec![
                        Some(direct),
                        Some(proxied),
                        Some(proxied - direct),
                        Some(proxied / direct),
                    ],
                );
            }
        }
    }
    // The first reading brings it into the cache.
    read(host, Road::Proxy, &blob);
    let rate = |road| {
        let rates = (0..plan.runs).map(|_| read(host, road, &blob));
        median(rates.collect()) / float(1 << 20)
    };
    let (direct, proxied) = (rate(Road::Direct), rate(Road::Proxy));
    report.row(
        "reading a blob that the node has, MiB/s",
        vec![
            Some(direct),
            Some(proxied),
            Some(proxied - direct),
            Some(proxied / direct),
        ],
    );
    report
}

/// The addresses of an image's manifest and of its layer.
fn urls(image: &Image) -> [String; 2] {
    let base = "https://registry.test/v2/test/hit";
    [
        format!("{base}/manifests/{}", image.top.digest),
        format!("{base}/blobs/{}", image.layers[0].blob.digest),
    ]
}

fn ask(host: &Host, road: Road) -> std::process::Command {
    let mut command = curl(host);
    command.args(["--fail", "-o", "/dev/null"]);
    if road == Road::Proxy {
        command.args(["--proxy", &format!("http://{PROXY}")]);
    }
    command
}

/// The seconds that each HEAD of a turn took. Before them goes one that is not counted: it makes the connection that the
/// others keep alive.
fn heads(host: &Host, road: Road, url: &str, more: &[&str]) -> Vec<f64> {
    let mut command = ask(host, road);
    command
        .args(["--http1.1", "--head", "-w", "%{time_total}\\n"])
        .args(more);
    // With all authorities of the world to read, each connection would cost curl 40 ms of its own.
    let authority = match road {
        Road::Direct => "lab-internet.crt",
        Road::Proxy => "dfnode.crt",
    };
    command.args([
        "--cacert",
        &format!("/usr/local/share/ca-certificates/{authority}"),
    ]);
    // All requests would otherwise share the time of one.
    command.args(["--max-time", "600"]);
    command.args([
        "-H",
        "Accept: */*, application/vnd.docker.distribution.manifest.v2+json",
    ]);
    command.arg(format!("{url}?n=[0-{TURN}]"));
    let done = Job::new(command).run();
    let times: Vec<f64> = done
        .expect_success("HEAD")
        .stdout
        .lines()
        .skip(1)
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(times.len(), TURN as usize);
    times
}

/// Reads `url` once; says the rate in bytes a second.
fn read(host: &Host, road: Road, url: &str) -> f64 {
    let mut command = ask(host, road);
    command.args(["-w", "%{speed_download}"]).arg(url);
    Job::new(command)
        .run()
        .expect_success("GET")
        .stdout
        .parse()
        .unwrap()
}
