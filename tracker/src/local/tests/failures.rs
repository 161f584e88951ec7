//! Sources that fail, each in its way.

use std::time::Duration;

use super::cluster::{Cluster, task};
use super::homes::read_whole;
use crate::meta::SourceFailure;
use crate::output::TaskFailure;
use crate::tracker::Tracker as _;

fn transient() -> SourceFailure {
    SourceFailure::Transient {
        what: "reset".to_owned(),
    }
}

#[test]
fn nothing_at_the_source_fails_all_who_ask() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.want(ranks[4]);
    cluster.want(ranks[5]);
    cluster.fail_read(ranks[4], SourceFailure::NotFound);
    for node in [ranks[4], ranks[5]] {
        assert_eq!(
            cluster.failure(node),
            Some(TaskFailure::Source(SourceFailure::NotFound))
        );
    }
}

#[test]
fn a_refused_reader_ends_its_own_turn_and_nobody_elses() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.want(ranks[4]);
    cluster.want(ranks[5]);
    cluster.fail_read(ranks[4], SourceFailure::Refused { status: 403 });
    assert_eq!(
        cluster.failure(ranks[4]),
        Some(TaskFailure::Source(SourceFailure::Refused { status: 403 }))
    );
    assert_eq!(cluster.failure(ranks[5]), None);
    cluster.pass(Duration::from_secs(1));
    let (_, reader, _) = cluster.reads().pop().expect("a further read");
    assert_eq!(reader, ranks[5]);
}

#[test]
fn a_busy_source_is_left_alone_for_as_long_as_it_asks() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.want(ranks[4]);
    cluster.want(ranks[5]);
    let told = cluster.now;
    cluster.fail_read(
        ranks[4],
        SourceFailure::Busy {
            status: 429,
            retry_after_ms: 3000,
        },
    );
    cluster.pass(Duration::from_secs(5));
    let (at, ..) = cluster.reads().pop().expect("a further read");
    assert_eq!(cluster.reads().len(), 2);
    assert!(at.saturating_since(told) >= Duration::from_secs(3));
}

#[test]
fn a_source_that_fails_five_times_in_a_row_is_given_up() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.want(ranks[4]);
    for _ in 0..4 {
        cluster.fail_read(ranks[4], transient());
        assert_eq!(cluster.failure(ranks[4]), None);
        cluster.pass(Duration::from_secs(5));
    }
    cluster.fail_read(ranks[4], transient());
    assert_eq!(
        cluster.failure(ranks[4]),
        Some(TaskFailure::Source(transient()))
    );
    assert_eq!(cluster.reads().len(), 5);
}

#[test]
fn a_source_that_has_shown_the_file_is_given_a_quarter_of_a_minute() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.file_bytes = 200_000_000;
    cluster.want(ranks[4]);
    cluster.head(ranks[4]);
    let began = cluster.now;
    let mut reads = 0;
    while cluster.failure(ranks[4]).is_none() {
        cluster.fail_read(ranks[4], transient());
        cluster.pass(Duration::from_millis(2100));
        reads += 1;
        assert!(reads < 20, "nobody is told");
    }
    let lasted = cluster.now.saturating_since(began);
    assert!(lasted >= Duration::from_secs(15), "{lasted:?}");
    assert!(lasted < Duration::from_secs(20), "{lasted:?}");
    assert!(reads > 5, "{reads} reads");
}

#[test]
fn readers_that_fail_together_tell_of_one_failure() {
    let mut cluster = Cluster::new(8);
    let ranks = cluster.by_rank();
    cluster.file_bytes = 200_000_000;
    let readers = [ranks[3], ranks[4], ranks[5], ranks[6], ranks[7]];
    for reader in readers {
        cluster.want(reader);
    }
    cluster.pass(Duration::from_secs(1));
    let prober = cluster.reads()[0].1;
    cluster.head(prober);
    cluster.pass(Duration::from_secs(1));
    let reading: Vec<usize> = readers
        .into_iter()
        .filter(|reader| cluster.reads().iter().any(|(_, node, _)| node == reader))
        .collect();
    assert!(reading.len() >= 4, "{reading:?} read");
    for reader in &reading {
        cluster.fail_read(*reader, transient());
    }
    cluster.pass(Duration::from_millis(300));
    for reader in readers {
        assert_eq!(cluster.failure(reader), None);
    }
}

fn untrusted() -> SourceFailure {
    SourceFailure::Final {
        what: "the certificate is not trusted".to_owned(),
    }
}

#[test]
fn what_a_source_says_no_to_for_good_does_not_count_as_current() {
    let mut cluster = Cluster::new(1);
    cluster.want(0);
    read_whole(&mut cluster, 0);
    cluster.nodes[0].service_down(cluster.now, &task());
    cluster.pass(Duration::from_mins(2));
    cluster.want(0);
    cluster.pass(Duration::from_millis(100));
    cluster.fail_read(0, untrusted());
    cluster.pass(Duration::from_secs(1));
    assert_eq!(
        cluster.completions(0),
        1,
        "it was not shown to be current again"
    );
    assert_eq!(cluster.failure(0), Some(TaskFailure::Source(untrusted())));
}

#[test]
fn an_old_outage_neither_hides_a_verdict_nor_keeps_the_source_from_being_asked_again() {
    let mut cluster = Cluster::new(1);
    cluster.want(0);
    for _ in 0..5 {
        cluster.pass(Duration::from_secs(5));
        cluster.fail_read(0, transient());
    }
    assert_eq!(cluster.failure(0), Some(TaskFailure::Source(transient())));
    for _ in 0..2 {
        cluster.done.clear();
        cluster.pass(Duration::from_secs(5));
        cluster.want(0);
        cluster.pass(Duration::from_secs(1));
        assert_eq!(cluster.reads().len(), 1, "it is asked again");
        cluster.fail_read(0, untrusted());
        cluster.pass(Duration::from_secs(1));
        assert_eq!(cluster.failure(0), Some(TaskFailure::Source(untrusted())));
    }
}
