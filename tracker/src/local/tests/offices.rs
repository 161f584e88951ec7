//! Homes that come, go and forget, while tasks go on.

use std::time::Duration;

use dfnode_gossip::{Event, EventKind};

use super::cluster::{Cluster, task};
use crate::holds::Holds;
use crate::ids::TaskId;
use crate::message::{HomeState, Message, Outcome, Register};
use crate::meta::{Meta, SourceFailure, SourceHead, Validators};
use crate::output::Output;

fn register(task: TaskId, wants: bool) -> Register {
    Register {
        task,
        request: 7,
        meta: None,
        holds: Holds::Nothing,
        nearby: Holds::Nothing,
        wants,
        can_read: wants,
        leases: Vec::new(),
        max_age_ms: u64::MAX,
        validated_ms: u64::MAX,
        stalled: false,
        addr: None,
        parts: Vec::new(),
    }
}

/// Six nodes, best rank first, of which the last two have wanted the task for a second.
fn two_want() -> (Cluster, Vec<usize>) {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.want(ranks[4]);
    cluster.want(ranks[5]);
    cluster.pass(Duration::from_secs(1));
    (cluster, ranks)
}

/// More tasks than a home has room for.
fn too_many() -> impl Iterator<Item = TaskId> {
    let id = |number: u32| TaskId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes());
    (0..4200).map(id)
}

/// How often somebody was granted a lease or told of peers by this home, since `said` was cleared.
fn welcomes(cluster: &Cluster, home: usize) -> usize {
    let by_home = cluster.said.iter().filter(|(_, from, _, message)| {
        *from == home
            && matches!(message, Message::Registered(answer)
                if matches!(answer.outcome, Outcome::Welcome { .. }))
    });
    by_home.count()
}

#[test]
fn a_second_home_that_once_saw_the_first_alive_still_succeeds_it_at_once() {
    let (mut cluster, ranks) = two_want();
    // Somebody heard nothing of the first home for a moment, and was led back to it.
    let (now, asker) = (cluster.now, cluster.peer(ranks[3]));
    cluster.nodes[ranks[1]]
        .handle_message(now, asker, Message::Register(register(task(), true)))
        .expect("a sound message");
    cluster.settle();
    cluster.pass(Duration::from_secs(2));
    cluster.said.clear();
    cluster.dead.insert(ranks[0]);
    cluster.pass(Duration::from_secs(4));
    assert!(
        welcomes(&cluster, ranks[1]) > 0,
        "before gossip has noticed that the first died"
    );
    assert_eq!(cluster.reads().len(), 1, "the reader reads on");
}

#[test]
fn a_first_home_that_was_silent_for_a_moment_has_its_office_back() {
    let (mut cluster, ranks) = two_want();
    cluster.dead.insert(ranks[0]);
    cluster.pass(Duration::from_secs(4));
    assert_eq!(cluster.nodes[ranks[1]].acting_homes(), 1);
    cluster.dead.clear();
    cluster.said.clear();
    cluster.pass(Duration::from_secs(2));
    assert_eq!(
        cluster.nodes[ranks[1]].acting_homes(),
        0,
        "two homes would have all read twice"
    );
    assert!(welcomes(&cluster, ranks[0]) > 0);
    assert_eq!(cluster.reads().len(), 1, "the reader reads on");
}

#[test]
fn however_late_a_first_home_answers_it_has_its_office_back() {
    let (mut cluster, ranks) = two_want();
    cluster.said.clear();
    cluster.dead.insert(ranks[0]);
    cluster.pass(Duration::from_secs(5));
    assert_eq!(cluster.nodes[ranks[1]].acting_homes(), 1);
    let asked = cluster.said.iter().find_map(|(_, _, to, message)| {
        let Message::HomeProbe(probe) = message else {
            return None;
        };
        (*to == ranks[0]).then_some(probe.request)
    });
    let answer = HomeState {
        task: task(),
        request: asked.expect("a question"),
        table: None,
    };
    let (now, first) = (cluster.now, cluster.peer(ranks[0]));
    cluster.nodes[ranks[1]]
        .handle_message(now, first, Message::HomeState(answer))
        .expect("a sound message");
    assert_eq!(cluster.nodes[ranks[1]].acting_homes(), 0);
}

#[test]
fn a_home_that_forgot_a_task_does_not_stop_its_reader() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.want(ranks[4]);
    cluster.pass(Duration::from_secs(1));
    let removal = Event {
        origin: cluster.peer(ranks[3]),
        subject: dfnode_gossip::Subject::from_bytes(*task().as_bytes()),
        kind: EventKind::FileRemove,
        clock: 1,
        body: bytes::Bytes::new(),
    };
    let now = cluster.now;
    cluster.nodes[ranks[0]].handle_event(now, &removal);
    cluster.pass(Duration::from_secs(3));
    let stopped = cluster
        .done
        .iter()
        .any(|(_, _, output)| matches!(output, Output::StopSource { .. }));
    assert!(!stopped, "it says what it reads, and reads on");
    assert_eq!(cluster.reads().len(), 1);
}

#[test]
fn who_acted_alone_returns_to_the_ranks_once_they_answer() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.dead.extend(&ranks[..3]);
    cluster.want(ranks[4]);
    cluster.pass(Duration::from_secs(6));
    assert_eq!(cluster.reads().len(), 1, "it acts alone");
    cluster.dead.clear();
    cluster.said.clear();
    cluster.pass(Duration::from_secs(4));
    cluster.want(ranks[5]);
    cluster.pass(Duration::from_secs(1));
    assert!(
        welcomes(&cluster, ranks[0]) > 1,
        "both are known to the first rank"
    );
    assert_eq!(cluster.reads().len(), 1, "which learns what is being read");
    assert_eq!(cluster.nodes[ranks[4]].acting_homes(), 0);
}

#[test]
fn one_hosts_own_trouble_with_the_source_is_not_everybodys() {
    let (mut cluster, _) = two_want();
    let failure = || SourceFailure::Final {
        what: "the certificate is not trusted".to_owned(),
    };
    let (_, first, _) = cluster.reads().pop().expect("a read");
    cluster.fail_read(first, failure());
    cluster.pass(Duration::from_secs(1));
    let (_, second, _) = cluster.reads().pop().expect("another read");
    assert_ne!(first, second);
    assert_eq!(cluster.failure(first), None);
    cluster.fail_read(second, failure());
    cluster.pass(Duration::from_secs(1));
    assert!(
        cluster.failure(first).is_some() && cluster.failure(second).is_some(),
        "it is everybody's"
    );
}

#[test]
fn a_full_home_makes_place_for_who_wants_something() {
    let mut cluster = Cluster::new(1);
    let head = SourceHead {
        length: Some(1),
        validators: Validators::default(),
        ranges: true,
        digest: None,
        authority: None,
        public: true,
    };
    for id in too_many() {
        let meta = Meta::of(&head, [1; 32]).expect("a small file");
        let have = crate::blocks::BlockSet::all(1);
        let now = cluster.now;
        cluster.nodes[0].restore(now, id, meta, have, Vec::new());
    }
    cluster.pass(Duration::from_secs(1));
    cluster.want(0);
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.reads().len(), 1);
}

#[test]
fn a_rank_without_room_is_passed_over() {
    let mut cluster = Cluster::new(14);
    let ranks = cluster.by_rank();
    for id in too_many() {
        let (now, asker) = (cluster.now, cluster.peer(ranks[3]));
        let wish = register(id, true);
        cluster.nodes[ranks[0]]
            .handle_message(now, asker, Message::Register(wish))
            .expect("a sound message");
        while cluster.nodes[ranks[0]].poll_output().is_some() {}
    }
    for wanter in &ranks[3..] {
        cluster.want(*wanter);
    }
    cluster.pass(Duration::from_secs(8));
    assert_eq!(cluster.reads().len(), 1);
}

#[test]
fn who_alone_shuns_the_first_rank_of_many_does_not_wait_for_long() {
    let mut cluster = Cluster::new(100);
    let ranks = cluster.by_rank();
    let (now, shunned) = (cluster.now, cluster.peer(ranks[0]));
    cluster.nodes[ranks[4]].set_isolated(
        now,
        shunned,
        Some(crate::output::BlameReason::AlteredBytes),
    );
    cluster.want(ranks[4]);
    cluster.pass(Duration::from_secs(15));
    assert_eq!(cluster.reads().len(), 1);
}
