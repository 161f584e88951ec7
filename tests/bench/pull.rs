//! `docker pull` on all hosts at once: by itself, and through the nodes.
//!
//! Both in one run and on the same links, with the same registry, engines and image, so that the ratio
//! does not depend on the machine. Copies are counted by the registry's link, all headers included.

use std::time::Instant;

use crate::engines::{Engines, Way};
use crate::figures::{Report, float, median};
use crate::lab::{Finished, Job, Lab, Shape, run_all};
use crate::proxied;
use crate::registries::{BIG, Image, MANY, Registries, SMALL_BIG};

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Plan {
    /// How many hosts pull.
    #[arg(long, default_value_t = 6)]
    hosts: usize,
    /// The rate of a host's link, both ways.
    #[arg(long, default_value_t = 100)]
    mbit: u32,
    /// The rate of the registry's link.
    #[arg(long, default_value_t = 100)]
    source_mbit: u32,
    /// Which image: big (5 layers, 211 MB), small (5 layers, 9 MB), one (a layer of 20 MiB), many (20
    /// layers of 100 KiB).
    #[arg(long, default_value = "big")]
    image: Layers,
    /// How often; the medians are shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Who pulls: dfnode, native.
    #[arg(long, value_delimiter = ',', default_value = "dfnode,native")]
    only: Vec<String>,
}

/// The sizes of an image's layers.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Layers {
    Big,
    Small,
    One,
    Many,
}

impl Layers {
    fn layers(self) -> Vec<usize> {
        match self {
            Self::Big => BIG.to_vec(),
            Self::Small => SMALL_BIG.to_vec(),
            Self::One => vec![20 << 20],
            Self::Many => MANY.to_vec(),
        }
    }
}

/// The name that all hosts pull.
const NAME: &str = "registry.test/test/pulled";

/// How a contender did in one run.
struct Figures {
    /// Seconds until the first and until the last host had the image.
    first: f64,
    last: f64,
    /// How often the image left the registry's link.
    copies: f64,
}

/// Measures all contenders, run by run.
pub(crate) fn measure(plan: &Plan) -> Report {
    let mut found: [(&str, Vec<Figures>); 2] = [("dfnode", Vec::new()), ("native", Vec::new())];
    let mut wire_mb = 0.0;
    for run in 0..plan.runs {
        let mut lab = Lab::new(
            plan.hosts,
            Shape::Mbit(plan.mbit),
            Shape::Mbit(plan.source_mbit),
        );
        let registries = Registries::open(&mut lab);
        let storage = registries.storage();
        let layers = storage.layers(u64::from(run) + 1, &plan.image.layers());
        let image = storage.image("test/pulled", layers);
        wire_mb = float(image.wire_bytes()) / 1e6;
        for (name, list) in &mut found {
            if !plan.only.iter().any(|only| only == name) {
                continue;
            }
            let figures = match *name {
                "dfnode" => {
                    let _cluster = proxied::start(&lab, &[]);
                    pull(&lab, Way::Proxy, &image)
                }
                _ => pull(&lab, Way::Native, &image),
            };
            eprintln!(
                "run {}: {name} {:.2} s (the first {:.2} s), {:.3} copies",
                run + 1,
                figures.last,
                figures.first,
                figures.copies
            );
            list.push(figures);
        }
    }
    let title = format!(
        "docker pull of {:?} ({wire_mb:.1} MB) on {} hosts at {} Mbit, registry at {} Mbit, median of {}",
        plan.image, plan.hosts, plan.mbit, plan.source_mbit, plan.runs
    );
    let mut report = Report::new(
        title,
        &["last host, s", "first host, s", "copies on the link"],
    );
    report.fact("wire floor, s", wire_mb * 8.0 / f64::from(plan.mbit));
    let last = |list: &[Figures]| median(list.iter().map(|figures| figures.last).collect());
    if let [(_ours, ours), (_theirs, theirs)] = &found
        && !ours.is_empty()
        && !theirs.is_empty()
    {
        report.fact("dfnode's time / native time", last(ours) / last(theirs));
    }
    for (name, list) in found.iter().filter(|(_name, list)| !list.is_empty()) {
        let middle = |pick: fn(&Figures) -> f64| Some(median(list.iter().map(pick).collect()));
        report.row(
            name,
            vec![
                middle(|figures| figures.last),
                middle(|figures| figures.first),
                middle(|figures| figures.copies),
            ],
        );
    }
    report
}

/// Lets all hosts pull at once, checks what they have then, and makes them forget it.
fn pull(lab: &Lab, way: Way, image: &Image) -> Figures {
    let hosts = lab.hosts().iter();
    let mut engines: Vec<_> = hosts.map(|host| Engines::new(host, way)).collect();
    let pulls = engines.iter_mut().map(|engines| {
        let pull = engines.docker().command(&["pull", "--quiet", NAME]);
        Job::new(pull).within(crate::torrent::TIMEOUT)
    });
    let pulls = pulls.collect();
    let before = lab.source().counters();
    let all = run_all(pulls);
    let sent = lab.source().counters().since(before).sent_bytes;
    for (done, host) in all.iter().zip(lab.hosts()) {
        done.expect_success(host.name());
    }
    for engines in &mut engines {
        let docker = engines.docker();
        assert_eq!(docker.id(NAME).unwrap(), image.id());
        docker.remove(NAME).unwrap();
    }
    let (first, last) = first_and_last(&all);
    Figures {
        first,
        last,
        copies: float(sent) / float(image.wire_bytes()),
    }
}

/// Seconds from the first start to the first and to the last end.
fn first_and_last(all: &[Finished]) -> (f64, f64) {
    let begun: Instant = all.iter().map(|done| done.started).min().unwrap();
    let ends: Vec<f64> = all
        .iter()
        .map(|done| (done.ended - begun).as_secs_f64())
        .collect();
    let first = ends.iter().copied().fold(f64::INFINITY, f64::min);
    let last = ends.iter().copied().fold(0.0, f64::max);
    (first, last)
}
