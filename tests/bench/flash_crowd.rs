//! All hosts ask for one file within a moment.
//!
//! The bound is the time below which no protocol can come: the source must send the file once, the
//! slowest host must receive it once, and all senders together must send it to all hosts:
//! max{F/us, F/dmin, N·F/(us+Σu)}, at the payload rate that one curl reaches on the same links just
//! before. Links are full duplex and alike, so Σu = N·u and dmin = u.

use std::path::PathBuf;
use std::time::Instant;

use dfnode_node::limits::ByteSize;

use crate::cluster::{Cluster, Node};
use crate::figures::{Report, float, length, median};
use crate::files::{noise, sha256, sha256_of};
use crate::lab::{Counters, Finished, Host, Job, Lab, Shape, Usage, run_all};
use crate::origin::Origin;
use crate::torrent;

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Plan {
    /// How many hosts ask.
    #[arg(long, default_value_t = 8)]
    hosts: usize,
    /// The rate of a host's link, both ways.
    #[arg(long, default_value_t = 100)]
    mbit: u32,
    /// The rate of the source's link.
    #[arg(long, default_value_t = 100)]
    source_mbit: u32,
    /// The file's size.
    #[arg(long, default_value = "100MB")]
    file: ByteSize,
    /// How often; the medians are shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Who runs: dfnode, curl, libtorrent.
    #[arg(long, value_delimiter = ',', default_value = "dfnode,curl,libtorrent")]
    only: Vec<String>,
}

/// The stage of one run.
pub(crate) struct Crowd<'lab> {
    lab: &'lab Lab,
    origin: Origin,
    bytes: u64,
    digest: String,
}

/// The source's counters before a contender began.
pub(crate) struct Before {
    link: Counters,
}

/// How a contender did in one run.
#[derive(Clone)]
pub(crate) struct Figures {
    /// Seconds from the first start to the last end.
    seconds: f64,
    /// Copies that left the source as bodies, when its log can tell.
    copies_logged: Option<f64>,
    /// Copies that left the source by its link's counter, with all headers.
    copies_on_link: f64,
    /// Processor seconds of all hosts, for each GiB that reached a host.
    cpu_per_gib: f64,
    /// The biggest process, in MiB.
    peak_rss_mib: f64,
}

/// Runs everybody, run by run, so that what drifts drifts for all.
pub(crate) fn measure(plan: &Plan) -> Report {
    let title = format!(
        "{} hosts at {} Mbit, source at {} Mbit, {} file, median of {}",
        plan.hosts, plan.mbit, plan.source_mbit, plan.file, plan.runs
    );
    let mut report = Report::new(
        title,
        &[
            "last finisher s",
            "x bound",
            "copies (log)",
            "copies (link)",
            "CPU s/GiB",
            "peak RSS MiB",
        ],
    );
    let python = torrent::python();
    if python.is_none() {
        eprintln!("SKIPPED libtorrent: no python3 here can import it");
    }
    let (mut bounds, mut rates) = (Vec::new(), Vec::new());
    let mut found: Vec<(&str, Vec<(Figures, f64)>)> = Vec::new();
    for run in 0..plan.runs {
        let lab = Lab::new(
            plan.hosts,
            Shape::Mbit(plan.mbit),
            Shape::Mbit(plan.source_mbit),
        );
        let crowd = Crowd::gather(&lab, plan.file, u64::from(run));
        let rate = crowd.rate_of_one_curl();
        let bound = bound(plan, rate);
        eprintln!(
            "run {}: one curl reaches {:.1} Mbit, so the bound is {bound:.2} s",
            run + 1,
            rate * 8e-6
        );
        bounds.push(bound);
        rates.push(rate);
        for name in ["dfnode", "curl", "libtorrent"] {
            if !plan.only.iter().any(|only| only == name) {
                continue;
            }
            let figures = match (name, python) {
                ("dfnode", _) => crowd.dfnode(),
                ("curl", _) => crowd.curl(),
                (_, Some(python)) => torrent::measure(&crowd, python),
                (_, None) => continue,
            };
            eprintln!(
                "run {}: {name} {:.2} s, {:.3} x bound",
                run + 1,
                figures.seconds,
                figures.seconds / bound
            );
            match found.iter_mut().find(|(known, _)| *known == name) {
                Some((_, list)) => list.push((figures, bound)),
                None => found.push((name, vec![(figures, bound)])),
            }
        }
    }
    report.fact("payload rate of one curl, Mbit", median(rates) * 8e-6);
    report.fact("bound, s", median(bounds));
    for (name, list) in found {
        let middle =
            |pick: &dyn Fn(&(Figures, f64)) -> f64| Some(median(list.iter().map(pick).collect()));
        let logged = list[0].0.copies_logged.is_some();
        report.row(
            name,
            vec![
                middle(&|(figures, _)| figures.seconds),
                middle(&|(figures, bound)| figures.seconds / bound),
                logged
                    .then(|| middle(&|(figures, _)| figures.copies_logged.unwrap_or_default()))
                    .flatten(),
                middle(&|(figures, _)| figures.copies_on_link),
                middle(&|(figures, _)| figures.cpu_per_gib),
                middle(&|(figures, _)| figures.peak_rss_mib),
            ],
        );
    }
    report
}

/// The bound for `plan`, when one curl reaches `rate` bytes a second on the slower of the two links.
fn bound(plan: &Plan, rate: f64) -> f64 {
    let slower = f64::from(plan.mbit.min(plan.source_mbit));
    let host = rate * f64::from(plan.mbit) / slower;
    let source = rate * f64::from(plan.source_mbit) / slower;
    let file = float(plan.file.0);
    let hosts = float(plan.hosts as u64);
    let together = hosts * file / (source + hosts * host);
    (file / source).max(file / host).max(together)
}

impl<'lab> Crowd<'lab> {
    fn gather(lab: &'lab Lab, size: ByteSize, seed: u64) -> Self {
        let content = noise(seed, length(size));
        let origin = Origin::start(lab.source());
        origin.publish("file", &content);
        Self {
            lab,
            origin,
            bytes: size.0,
            digest: sha256(&content),
        }
    }

    /// The lab it runs on.
    pub(crate) fn lab(&self) -> &'lab Lab {
        self.lab
    }

    /// The web server with the file.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Notes the counters before a contender begins.
    pub(crate) fn begin(&self) -> Before {
        self.origin.forget();
        Before {
            link: self.lab.source().counters(),
        }
    }

    /// Sums up, and checks that every output is right.
    pub(crate) fn figures(
        &self,
        seconds: f64,
        usages: &[Usage],
        outputs: &[PathBuf],
        before: &Before,
        logged: bool,
    ) -> Figures {
        let sent = self.lab.source().counters().since(before.link).sent_bytes;
        for output in outputs {
            assert_eq!(
                sha256_of(output).as_ref(),
                Some(&self.digest),
                "{}",
                output.display()
            );
            std::fs::remove_file(output).unwrap();
        }
        let delivered_gib = float(self.bytes) * float(outputs.len() as u64) / float(1 << 30);
        let cpu: f64 = usages.iter().map(|usage| usage.cpu.as_secs_f64()).sum();
        let peak = usages
            .iter()
            .map(|usage| usage.peak_rss_bytes)
            .max()
            .unwrap_or_default();
        Figures {
            seconds,
            copies_logged: logged
                .then(|| float(self.origin.copies("file").body_bytes) / float(self.bytes)),
            copies_on_link: float(sent) / float(self.bytes),
            cpu_per_gib: cpu / delivered_gib,
            peak_rss_mib: float(peak) / float(1 << 20),
        }
    }

    fn curl_job(&self, host: &Host) -> Job {
        let mut command = host.command("curl");
        command.args(["-sS", "--fail", "-w", "%{speed_download}", "-o"]);
        command
            .arg(host.dir().join("curled"))
            .arg(self.origin.url("file"));
        Job::new(command).within(torrent::TIMEOUT)
    }

    /// The payload rate that one curl reaches alone, in bytes a second.
    fn rate_of_one_curl(&self) -> f64 {
        let done = self.curl_job(&self.lab.hosts()[0]).run();
        done.expect_success("curl").stdout.parse().unwrap()
    }

    fn curl(&self) -> Figures {
        let before = self.begin();
        let all = run_all(
            self.lab
                .hosts()
                .iter()
                .map(|host| self.curl_job(host))
                .collect(),
        );
        let outputs: Vec<_> = self
            .lab
            .hosts()
            .iter()
            .map(|host| host.dir().join("curled"))
            .collect();
        let usages: Vec<_> = all.iter().map(|done| done.usage).collect();
        self.figures(last_finisher(&all), &usages, &outputs, &before, true)
    }

    fn dfnode(&self) -> Figures {
        let cluster = Cluster::start(self.lab);
        let before = self.begin();
        let used: Vec<_> = cluster.nodes().iter().map(Node::usage).collect();
        let output = |host: &Host| host.dir().join("got");
        let url = self.origin.url("file");
        let jobs = cluster.nodes().iter().map(|node| {
            node.get(&url, &output(node.host()))
                .within(torrent::TIMEOUT)
        });
        let all = run_all(jobs.collect());
        let mut usages: Vec<_> = all.iter().map(|done| done.usage).collect();
        for (node, earlier) in cluster.nodes().iter().zip(used) {
            let now = node.usage();
            usages.push(Usage {
                cpu: now.cpu.saturating_sub(earlier.cpu),
                ..now
            });
        }
        let outputs: Vec<_> = self.lab.hosts().iter().map(output).collect();
        self.figures(last_finisher(&all), &usages, &outputs, &before, true)
    }
}

/// Seconds from the first start to the last end; panics when one failed.
fn last_finisher(all: &[Finished]) -> f64 {
    for done in all {
        done.expect_success("download");
    }
    let first: Instant = all.iter().map(|done| done.started).min().unwrap();
    let last = all.iter().map(|done| done.ended).max().unwrap();
    (last - first).as_secs_f64()
}
