//! How fast one node feeds another, and what a byte costs.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use dfnode_node::limits::ByteSize;

use crate::cluster::Cluster;
use crate::figures::{Report, float, length, median};
use crate::files::{noise, sha256, sha256_of};
use crate::lab::{Job, Lab, Shape};
use crate::origin::Origin;

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Plan {
    /// The file's size.
    #[arg(long, default_value = "1GiB")]
    file: ByteSize,
    /// How often; the medians are shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

const TIMEOUT: Duration = Duration::from_mins(5);
/// How often a transfer holds the file in memory, at most: as the cache, as the output, and on its way.
const COPIES_IN_MEMORY: u64 = 3;

/// Bytes a second, and processor seconds per GiB of sender and receiver.
struct Transfer {
    mib_per_sec: f64,
    sender_cpu: f64,
    receiver_cpu: f64,
}

impl Transfer {
    fn new(bytes: ByteSize, took: Duration, sender: Duration, receiver: Duration) -> Self {
        let gib = float(bytes.0) / float(1 << 30);
        Self {
            mib_per_sec: gib * 1024.0 / took.as_secs_f64(),
            sender_cpu: sender.as_secs_f64() / gib,
            receiver_cpu: receiver.as_secs_f64() / gib,
        }
    }
}

/// Both transfers cross the same two unshaped cables, end in a file, and are encrypted.
pub(crate) fn measure(plan: &Plan) -> Report {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 0..plan.runs {
        let lab = Lab::new(2, Shape::Unshaped, Shape::Unshaped);
        let origin = Origin::start(lab.source());
        let content = noise(u64::from(run), length(plan.file));
        origin.publish("file", &content);
        let digest = sha256(&content);
        drop(content);
        theirs.push(over_tls(plan.file, &lab, &origin, &digest));
        ours.push(between_nodes(plan.file, &lab, &origin, &digest));
    }
    let title = format!(
        "{} from one to one, unshaped, median of {}",
        plan.file, plan.runs
    );
    let mut report = Report::new(title, &["MiB/s", "sender CPU s/GiB", "receiver CPU s/GiB"]);
    for (name, list) in [("dfnode", ours), ("nginx + curl, TLS", theirs)] {
        let middle = |pick: fn(&Transfer) -> f64| Some(median(list.iter().map(pick).collect()));
        report.row(
            name,
            vec![
                middle(|t| t.mib_per_sec),
                middle(|t| t.sender_cpu),
                middle(|t| t.receiver_cpu),
            ],
        );
    }
    report
}

fn over_tls(bytes: ByteSize, lab: &Lab, origin: &Origin, digest: &str) -> Transfer {
    let output = lab.hosts()[1].dir().join("curled");
    warm_up(bytes, lab);
    let mut curl = lab.hosts()[1].command("curl");
    curl.args(["-sS", "--fail", "--cacert"])
        .arg(origin.ca())
        .arg("-o")
        .arg(&output)
        .arg(origin.https_url("file"));
    let before = origin.usage().cpu;
    let done = Job::new(curl).within(TIMEOUT).run();
    let sender = origin.usage().cpu.saturating_sub(before);
    assert_eq!(sha256_of(&output).as_deref(), Some(digest));
    std::fs::remove_file(output).unwrap();
    Transfer::new(
        bytes,
        done.expect_success("curl").took(),
        sender,
        done.usage.cpu,
    )
}

fn between_nodes(bytes: ByteSize, lab: &Lab, origin: &Origin, digest: &str) -> Transfer {
    let cluster = Cluster::start(lab);
    let [sender, receiver] = cluster.nodes() else {
        unreachable!("two hosts")
    };
    let url = origin.url("file");
    let first = sender.host().dir().join("got");
    sender
        .get(&url, &first)
        .within(TIMEOUT)
        .run()
        .expect_success("the first node");
    let output = receiver.host().dir().join("got");
    warm_up(bytes, lab);
    let before = [sender, receiver].map(|node| node.usage().cpu);
    let done = receiver.get(&url, &output).within(TIMEOUT).run();
    let [sent, got] = [sender, receiver].map(|node| node.usage().cpu);
    done.expect_success("the second node");
    assert_eq!(sha256_of(&output).as_deref(), Some(digest));
    Transfer::new(
        bytes,
        done.took(),
        sent.saturating_sub(before[0]),
        got.saturating_sub(before[1]) + done.usage.cpu,
    )
}

/// Makes the machine take from its own host the memory that the transfer will fill: a virtual machine gives free
/// memory back after seconds, and to touch it again costs ten times what writing it does.
fn warm_up(bytes: ByteSize, lab: &Lab) {
    let path = lab.hosts()[1].dir().join("scratch");
    let chunk = vec![1; 1 << 20];
    let mut scratch = File::create(&path).unwrap();
    for _ in 0..COPIES_IN_MEMORY * bytes.0 / (1 << 20) {
        scratch.write_all(&chunk).unwrap();
    }
    std::fs::remove_file(path).unwrap();
}
