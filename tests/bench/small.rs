//! The wait for a small file that a neighbour holds.

use dfnode_node::limits::ByteSize;

use crate::cluster::Cluster;
use crate::figures::{Report, length, median};
use crate::files::noise;
use crate::lab::{Job, Lab, Shape};
use crate::origin::Origin;

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Plan {
    /// The rate of all links.
    #[arg(long, default_value_t = 100)]
    mbit: u32,
    /// The file's size.
    #[arg(long, default_value = "4KiB")]
    file: ByteSize,
    /// How many files, each asked for once by each contender, in turn.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// `dfnode get` of a file that the other node holds, and curl of the same file from nginx, in turn.
/// Both times begin before the program is started and end when it has exited.
pub(crate) fn measure(plan: &Plan) -> Report {
    let link = Shape::Mbit(plan.mbit);
    let lab = Lab::new(2, link, link);
    let origin = Origin::start(lab.source());
    let cluster = Cluster::start(&lab);
    let [holder, asker] = cluster.nodes() else {
        unreachable!("two hosts")
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 0..plan.runs {
        let name = format!("file-{run}");
        let url = origin.url(&name);
        origin.publish(&name, &noise(u64::from(run), length(plan.file)));
        holder
            .get(&url, &holder.host().dir().join(&name))
            .run()
            .expect_success("the holder");
        let got = asker.get(&url, &asker.host().dir().join(&name)).run();
        ours.push(got.expect_success("the asker").took().as_secs_f64() * 1e3);
        let mut curl = asker.host().command("curl");
        curl.args(["-sS", "--fail", "-o"])
            .arg(asker.host().dir().join("curled"))
            .arg(&url);
        theirs.push(
            Job::new(curl)
                .run()
                .expect_success("curl")
                .took()
                .as_secs_f64()
                * 1e3,
        );
    }
    let title = format!(
        "{} held by a neighbour, {} Mbit, {} files",
        plan.file, plan.mbit, plan.runs
    );
    let mut report = Report::new(title, &["median ms", "worst ms"]);
    let (ours_median, theirs_median) = (median(ours.clone()), median(theirs.clone()));
    report.fact("dfnode / curl", ours_median / theirs_median);
    report.row(
        "dfnode get",
        vec![Some(ours_median), ours.into_iter().reduce(f64::max)],
    );
    report.row(
        "curl",
        vec![Some(theirs_median), theirs.into_iter().reduce(f64::max)],
    );
    report
}
