//! All hosts ask for one file, within a moment or one after the other.
//!
//! The bound is the time below which no protocol can come, at the payload rate that one curl reaches on the same links just
//! before, without loss:
//!
//! - **All start at once**: the source must send the file once, the slowest host must receive it once, it must cross the
//!   trunk once where there is one, and all senders together must send it to all hosts: max{F/us, F/dmin, F/t,
//!   N·F/(us+Σu)}. Links are full duplex and alike, so Σu = N·u and dmin = u. It is held against the time from the first
//!   start to the last end.
//! - **Starts are spread** (`--spread`): max{F/us, F/dmin, F/t}, held against the slowest host's own time, from its own
//!   start to its own end. Senders together are no bound of it: who starts late finds many who have the file already.
//! - **Some are slow** (`--slow`): the others are judged, and each group is held against the bound that it would have by
//!   itself. Slow hosts are thus neither in N nor in Σu nor in dmin of the others, and what they could upload to them makes no
//!   difference: among equal links the fourth term is below the second. For the slow ones it is max{F/us, F/d, F/t} with d
//!   a tenth, and the fourth term is below the second whoever is counted. Only where starts are spread and the source or the
//!   trunk is slower than a slow host can the other group's help bring one below its bound.

mod bound;
mod loss;
mod plan;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::bound::Ways;
pub(crate) use self::plan::Plan;
use crate::cluster::{Cluster, Node};
use crate::figures::{Report, float, length, median};
use crate::files::{noise, sha256, sha256_of};
use crate::lab::{Counters, Finished, Host, Job, Lab, Usage, run_all};
use crate::origin::Origin;
use crate::torrent;

/// The stage of one run.
pub(crate) struct Crowd<'run> {
    lab: &'run Lab,
    plan: &'run Plan,
    starts: Vec<Duration>,
    origin: Origin,
    bytes: u64,
    digest: String,
}

/// The counters before a contender began.
pub(crate) struct Before {
    /// Of the source's link.
    link: Counters,
    /// Of the trunk, if there is one.
    trunk: Option<Counters>,
}

/// How a contender did in one run.
pub(crate) struct Figures {
    /// Seconds that the slowest host took, of those that do not have a slow link.
    seconds: f64,
    /// Seconds that the slowest host took, of those that do.
    slow_seconds: Option<f64>,
    /// Copies that left the source as bodies, when its log can tell.
    copies_logged: Option<f64>,
    /// Copies that left the source by its link's counter, with all headers.
    copies_on_link: f64,
    /// Copies that came into the second zone by the trunk's counter, with all headers and whatever else was said.
    copies_on_trunk: Option<f64>,
    /// Processor seconds of all hosts, for each GiB that reached a host.
    cpu_per_gib: f64,
    /// The biggest process, in MiB.
    peak_rss_mib: f64,
}

/// The bounds of one run, in seconds.
#[derive(Clone, Copy)]
struct Bounds {
    /// Of the hosts that are judged.
    fast: f64,
    /// Of the slow ones.
    slow: f64,
}

/// What a column shows of a run.
type Column = (&'static str, fn(&Figures, Bounds) -> Option<f64>);

/// The columns for `plan`.
fn columns(plan: &Plan) -> Vec<Column> {
    let mut columns: Vec<Column> = vec![
        ("last finisher s", |figures, _| Some(figures.seconds)),
        ("x bound", |figures, bounds| {
            Some(figures.seconds / bounds.fast)
        }),
    ];
    if plan.slow > 0 {
        columns.push(("slow ones s", |figures, _| figures.slow_seconds));
        columns.push(("slow ones x bound", |figures, bounds| {
            Some(figures.slow_seconds? / bounds.slow)
        }));
    }
    columns.push(("copies (log)", |figures, _| figures.copies_logged));
    columns.push(("copies (link)", |figures, _| Some(figures.copies_on_link)));
    if plan.trunk_mbit.is_some() {
        columns.push(("copies (trunk)", |figures, _| figures.copies_on_trunk));
    }
    columns.push(("CPU s/GiB", |figures, _| Some(figures.cpu_per_gib)));
    columns.push(("peak RSS MiB", |figures, _| Some(figures.peak_rss_mib)));
    columns
}

/// Runs everybody, run by run, so that what drifts drifts for all.
pub(crate) fn measure(plan: &Plan) -> Report {
    let python = torrent::python();
    if python.is_none() {
        eprintln!("SKIPPED libtorrent: no python3 here can import it");
    }
    let (mut all_bounds, mut rates) = (Vec::new(), Vec::new());
    let mut found: Vec<(&str, Vec<(Figures, Bounds)>)> = Vec::new();
    for run in 0..plan.runs {
        let lab = plan.layout().build();
        let crowd = Crowd::gather(&lab, plan, u64::from(run));
        let rate = crowd.rate_before_loss();
        let bounds = bounds(plan, &lab, rate);
        eprintln!(
            "run {}: one curl reaches {:.1} Mbit, so the bound is {:.2} s",
            run + 1,
            rate * 8e-6,
            bounds.fast
        );
        all_bounds.push(bounds);
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
                figures.seconds / bounds.fast
            );
            match found.iter_mut().find(|(known, _)| *known == name) {
                Some((_, list)) => list.push((figures, bounds)),
                None => found.push((name, vec![(figures, bounds)])),
            }
        }
    }
    let columns = columns(plan);
    let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
    let mut report = Report::new(plan.title(), &names);
    report.fact("payload rate of one curl, Mbit", median(rates) * 8e-6);
    let middle = |pick: fn(&Bounds) -> f64| median(all_bounds.iter().map(pick).collect::<Vec<_>>());
    report.fact("bound, s", middle(|bounds| bounds.fast));
    if plan.slow > 0 {
        report.fact("bound of the slow ones, s", middle(|bounds| bounds.slow));
    }
    for (name, list) in found {
        let cells = columns.iter().map(|(_, pick)| {
            let values: Option<Vec<f64>> = list
                .iter()
                .map(|(figures, bounds)| pick(figures, *bounds))
                .collect();
            values.map(median)
        });
        report.row(name, cells.collect());
    }
    report
}

/// The bounds, when one curl reaches `rate` bytes a second from the source to a host that is not slow, in the source's zone.
fn bounds(plan: &Plan, lab: &Lab, rate: f64) -> Bounds {
    let per_mbit = rate / f64::from(plan.mbit.min(plan.source_mbit));
    let ways = |hosts: &[Host], mbit: u32| Ways {
        file: float(plan.file.0),
        source: per_mbit * f64::from(plan.source_mbit),
        host: per_mbit * f64::from(mbit),
        trunk: match plan.trunk_mbit {
            Some(trunk) if hosts.iter().any(|host| host.zone() != lab.source().zone()) => {
                per_mbit * f64::from(trunk)
            }
            Some(_) | None => f64::INFINITY,
        },
    };
    let (fast, slow) = lab.hosts().split_at(plan.fast());
    let judged = ways(fast, plan.mbit);
    Bounds {
        fast: if plan.spread.is_zero() {
            judged.crowd_secs(float(fast.len() as u64))
        } else {
            judged.own_secs()
        },
        slow: ways(slow, plan.slow_mbit()).own_secs(),
    }
}

impl<'run> Crowd<'run> {
    fn gather(lab: &'run Lab, plan: &'run Plan, seed: u64) -> Self {
        let content = noise(seed, length(plan.file));
        let origin = Origin::start(lab.source());
        origin.publish("file", &content);
        Self {
            lab,
            plan,
            starts: plan.starts(),
            origin,
            bytes: plan.file.0,
            digest: sha256(&content),
        }
    }

    /// The lab it runs on.
    pub(crate) fn lab(&self) -> &'run Lab {
        self.lab
    }

    /// When each host starts, in the hosts' order, counted from the first start.
    pub(crate) fn starts(&self) -> &[Duration] {
        &self.starts
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
            trunk: self.lab.trunk(),
        }
    }

    /// Sums up, and checks that every output is right. `times` are the hosts', in seconds: each from its own start if
    /// starts are spread, else all from the first start.
    pub(crate) fn figures(
        &self,
        times: &[f64],
        usages: &[Usage],
        outputs: &[PathBuf],
        before: &Before,
        logged: bool,
    ) -> Figures {
        let sent = self.lab.source().counters().since(before.link).sent_bytes;
        let trunk = self.lab.trunk().zip(before.trunk);
        let crossed = trunk.map(|(now, before)| now.since(before).received_bytes);
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
        let (fast, slow) = times.split_at(self.plan.fast());
        Figures {
            seconds: slowest(fast).unwrap(),
            slow_seconds: slowest(slow),
            copies_logged: logged
                .then(|| float(self.origin.copies("file").body_bytes) / float(self.bytes)),
            copies_on_link: float(sent) / float(self.bytes),
            copies_on_trunk: crossed.map(|bytes| float(bytes) / float(self.bytes)),
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

    /// The payload rate that one curl reaches alone, in bytes a second. From then on hosts lose packets, if any does.
    fn rate_before_loss(&self) -> f64 {
        let lossy = self.plan.loss > 0.0;
        if lossy {
            loss::send_singly(self.lab);
        }
        let done = self.curl_job(&self.lab.hosts()[0]).run();
        if lossy {
            loss::begin(self.lab, self.plan.loss);
        }
        done.expect_success("curl").stdout.parse().unwrap()
    }

    /// The hosts' times, in seconds, as [`Crowd::figures`] wants them; panics when one failed.
    fn times(&self, all: &[Finished]) -> Vec<f64> {
        for done in all {
            done.expect_success("download");
        }
        let first: Instant = all.iter().map(|done| done.started).min().unwrap();
        let spread = !self.plan.spread.is_zero();
        let time = |done: &Finished| done.ended - if spread { done.started } else { first };
        all.iter().map(|done| time(done).as_secs_f64()).collect()
    }

    fn curl(&self) -> Figures {
        let before = self.begin();
        let hosts = self.lab.hosts().iter().zip(&self.starts);
        let jobs = hosts.map(|(host, start)| self.curl_job(host).after(*start));
        let all = run_all(jobs.collect());
        let outputs: Vec<_> = self
            .lab
            .hosts()
            .iter()
            .map(|host| host.dir().join("curled"))
            .collect();
        let usages: Vec<_> = all.iter().map(|done| done.usage).collect();
        self.figures(&self.times(&all), &usages, &outputs, &before, true)
    }

    fn dfnode(&self) -> Figures {
        let cluster = Cluster::start(self.lab);
        let before = self.begin();
        let used: Vec<_> = cluster.nodes().iter().map(Node::usage).collect();
        let output = |host: &Host| host.dir().join("got");
        let url = self.origin.url("file");
        let jobs = cluster.nodes().iter().zip(&self.starts);
        let jobs = jobs.map(|(node, start)| {
            node.get(&url, &output(node.host()))
                .after(*start)
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
        self.figures(&self.times(&all), &usages, &outputs, &before, true)
    }
}

fn slowest(times: &[f64]) -> Option<f64> {
    times.iter().copied().reduce(f64::max)
}
