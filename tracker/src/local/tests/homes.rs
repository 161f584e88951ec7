//! Who may grant, and when.

use std::time::Duration;

use super::cluster::{Cluster, task};
use crate::holds::Holds;
use crate::home::MAX_TABLE_BYTES;
use crate::ids::{BlockIndex, TaskId, VersionId};
use crate::layout::{MAX_BLOCK_BYTES, MAX_BLOCKS};
use crate::message::{Extent, Message, Outcome, Register, Registered};
use crate::meta::{Meta, SourceFailure, SourceHead, Validators};
use crate::output::{BlameReason, TaskFailure};
use crate::task::Wish;
use crate::tracker::Tracker;

const MOMENT: Duration = Duration::from_millis(100);
/// Blocks of 256 KiB in a probe of 4 MiB.
const PROBED: u32 = 16;

#[test]
fn rank_one_asks_the_other_ranks_before_its_first_grant() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.want(ranks[4]);
    let order: Vec<(usize, usize, &str)> = cluster
        .said
        .iter()
        .map(|(_, from, to, message)| (*from, *to, message.name()))
        .filter(|(.., name)| *name != "registered")
        .collect();
    assert_eq!(order[0], (ranks[4], ranks[0], "register"));
    for rank in [ranks[1], ranks[2]] {
        assert!(order.contains(&(ranks[0], rank, "home probe")));
        assert!(order.contains(&(rank, ranks[0], "home state")));
    }
    let (_, granter) = cluster.first_grant().expect("a grant");
    assert_eq!(granter, ranks[0]);
}

#[test]
fn without_an_answer_of_the_other_ranks_rank_one_grants_a_little_later() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.dead.extend([ranks[1], ranks[2]]);
    let start = cluster.now;
    cluster.want(ranks[4]);
    assert_eq!(cluster.first_grant(), None);
    cluster.pass(Duration::from_millis(200));
    let (at, _) = cluster.first_grant().expect("a grant");
    assert!(at.saturating_since(start) >= Duration::from_millis(150));
}

#[test]
fn grants_are_copied_to_rank_two() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.want(ranks[4]);
    cluster.pass(MOMENT);
    let copied = cluster.said.iter().any(|(_, from, to, message)| {
        (*from, *to) == (ranks[0], ranks[1])
            && matches!(message, Message::HomeState(state)
                if state.request == 0 && state.table.as_ref().is_some_and(|table| table.leases.len() == 1))
    });
    assert!(copied);
}

#[test]
fn a_successor_gives_registrants_a_second_before_it_grants() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.dead.insert(ranks[0]);
    cluster.want(ranks[4]);
    cluster.pass(Duration::from_secs(3));
    let asked = cluster
        .said
        .iter()
        .find(|(_, _, to, message)| *to == ranks[1] && matches!(message, Message::Register(_)))
        .map(|(at, ..)| *at)
        .expect("rank 2 is asked");
    let (at, granter) = cluster.first_grant().expect("a grant");
    assert_eq!(granter, ranks[1]);
    assert!(at.saturating_since(asked) >= Duration::from_secs(1));
}

#[test]
fn a_node_that_is_not_ready_neither_grants_nor_reads() {
    let mut cluster = Cluster::unready(4);
    let ranks = cluster.by_rank();
    for node in &ranks[1..] {
        cluster.nodes[*node].set_ready(cluster.now);
    }
    cluster.want(ranks[3]);
    cluster.pass(Duration::from_millis(900));
    assert_eq!(cluster.first_grant(), None);
    cluster.nodes[ranks[0]].set_ready(cluster.now);
    cluster.pass(Duration::from_millis(500));
    assert_eq!(cluster.first_grant().map(|(_, from)| from), Some(ranks[0]));
}

#[test]
fn a_registrant_that_is_not_ready_is_given_nothing_to_read() {
    let mut cluster = Cluster::unready(4);
    let ranks = cluster.by_rank();
    for node in &ranks[..3] {
        cluster.nodes[*node].set_ready(cluster.now);
    }
    cluster.want(ranks[3]);
    cluster.pass(MOMENT);
    assert_eq!(cluster.reads(), []);
    cluster.nodes[ranks[3]].set_ready(cluster.now);
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.reads().len(), 1);
}

#[test]
fn who_waits_behind_a_live_probe_reads_nothing() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.want(ranks[4]);
    cluster.want(ranks[5]);
    cluster.pass(Duration::from_secs(5));
    assert_eq!(
        cluster.reads().len(),
        1,
        "the reader reports, so its lease lives"
    );
}

#[test]
fn a_reader_that_falls_silent_loses_its_lease_after_a_second() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.want(ranks[4]);
    cluster.want(ranks[5]);
    cluster.dead.insert(ranks[4]);
    let died = cluster.now;
    cluster.pass(Duration::from_secs(2));
    let (at, reader, _) = cluster.reads().pop().expect("a second read");
    assert_eq!(reader, ranks[5]);
    let after = at.saturating_since(died);
    assert!(
        (Duration::from_millis(900)..=Duration::from_millis(1500)).contains(&after),
        "{after:?}"
    );
}

#[test]
fn a_node_whose_homes_are_all_silent_acts_for_itself() {
    let mut cluster = Cluster::new(5);
    let ranks = cluster.by_rank();
    cluster.dead.extend(&ranks[..3]);
    let start = cluster.now;
    cluster.want(ranks[3]);
    cluster.pass(Duration::from_secs(4));
    let (at, reader, _) = cluster.reads().pop().expect("a read");
    assert_eq!(reader, ranks[3]);
    assert!(at.saturating_since(start) >= Duration::from_secs(1));
}

#[test]
fn a_node_alone_that_cannot_read_the_source_asks_the_homes_once_more() {
    let failure = || SourceFailure::Transient {
        what: "no route".to_owned(),
    };
    let mut cluster = Cluster::new(5);
    let ranks = cluster.by_rank();
    cluster.dead.extend(&ranks[..3]);
    let alone = ranks[3];
    cluster.want(alone);
    cluster.pass(Duration::from_secs(4));
    let fail_five_times = |cluster: &mut Cluster| {
        for _ in 0..5 {
            assert_eq!(cluster.failure(alone), None);
            cluster.pass(Duration::from_secs(5));
            cluster.fail_read(alone, failure());
        }
    };
    fail_five_times(&mut cluster);
    assert_eq!(cluster.failure(alone), None);
    cluster.dead.clear();
    cluster.pass(MOMENT);
    let welcome = cluster.said.iter().rev().find(|(_, from, to, message)| {
        (*from, *to) == (ranks[0], alone) && matches!(message, Message::Registered(_))
    });
    assert!(welcome.is_some(), "the first home did not answer");
    fail_five_times(&mut cluster);
    assert_eq!(
        cluster.failure(alone),
        Some(TaskFailure::Source(failure())),
        "the source is down for all"
    );
}

#[test]
fn callers_who_keep_coming_do_not_keep_a_lonely_node_from_failing() {
    let mut cluster = Cluster::new(5);
    let ranks = cluster.by_rank();
    cluster.dead.extend(&ranks[..3]);
    let alone = ranks[3];
    let verdicts = (0..12).take_while(|_| {
        cluster.want(alone);
        cluster.pass(Duration::from_secs(5));
        let failure = SourceFailure::Transient {
            what: "no route".to_owned(),
        };
        cluster.fail_read(alone, failure);
        cluster.failure(alone).is_none()
    });
    assert!(verdicts.count() < 12, "nobody is told");
}

#[test]
fn an_old_home_sends_registrants_to_a_better_one_that_came() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.dead.insert(ranks[0]);
    cluster.down(ranks[0]);
    cluster.want(ranks[4]);
    cluster.dead.remove(&ranks[0]);
    cluster.up(ranks[0]);
    let shown = cluster.said.iter().any(|(_, from, to, message)| {
        (*from, *to) == (ranks[1], ranks[4])
            && matches!(message, Message::Registered(answer)
                if matches!(answer.outcome, Outcome::Redirect { .. }))
    });
    assert!(shown);
    cluster.pass(Duration::from_secs(5));
    assert_eq!(
        cluster.reads().len(),
        1,
        "the read goes on under the new home"
    );
}

#[test]
fn nobody_is_sent_to_an_isolated_home_that_comes_back() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    let (now, liar) = (cluster.now, cluster.peer(ranks[0]));
    for node in &ranks[1..] {
        cluster.nodes[*node].report_error(now, liar, BlameReason::AlteredBytes);
    }
    cluster.dead.insert(ranks[0]);
    cluster.want(ranks[4]);
    cluster.pass(Duration::from_secs(3));
    assert_eq!(cluster.first_grant().map(|(_, from)| from), Some(ranks[1]));
    cluster.down(ranks[0]);
    cluster.dead.remove(&ranks[0]);
    cluster.said.clear();
    cluster.up(ranks[0]);
    cluster.pass(Duration::from_secs(3));
    let led = cluster.said.iter().find(|(.., message)| {
        matches!(message, Message::Registered(answer)
            if answer.outcome == (Outcome::Redirect { home: liar }))
    });
    assert!(led.is_none(), "{led:?}");
}

#[test]
fn an_isolated_home_loses_its_office_at_once_and_gets_it_back_on_probation() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    cluster.want(ranks[4]);
    cluster.pass(Duration::from_secs(1));
    let (now, liar) = (cluster.now, cluster.peer(ranks[0]));
    for node in &ranks[1..] {
        cluster.nodes[*node].report_error(now, liar, BlameReason::AlteredBytes);
    }
    let to_liar = |said: &[(_, usize, usize, Message)]| {
        let asked = said.iter().filter(|(_, from, to, message)| {
            (*from, *to) == (ranks[4], ranks[0]) && matches!(message, Message::Register(_))
        });
        asked.count()
    };
    cluster.said.clear();
    cluster.pass(MOMENT);
    let next = cluster.said.iter().any(|(_, from, to, message)| {
        (*from, *to) == (ranks[4], ranks[1]) && matches!(message, Message::Register(_))
    });
    assert!(
        next,
        "the next rank is asked without waiting for the isolated one"
    );
    cluster.pass(Duration::from_secs(3));
    assert_eq!(cluster.reads().len(), 1, "the read goes on");
    assert_eq!(to_liar(&cluster.said), 0);

    for node in &ranks[1..] {
        let now = cluster.now;
        cluster.nodes[*node].set_isolated(now, liar, None);
    }
    cluster.pass(Duration::from_secs(3));
    assert!(to_liar(&cluster.said) > 0, "its tables are its own again");
    assert_eq!(cluster.reads().len(), 1, "the read goes on");
}

#[test]
fn a_homes_answer_to_an_older_question_is_no_word_about_now() {
    let mut cluster = Cluster::new(5);
    let ranks = cluster.by_rank();
    let node = ranks[3];
    cluster.want(node);
    read_whole(&mut cluster, node);
    let meta = cluster.nodes[node].task(&task()).expect("a task").meta;
    cluster.nodes[node].service_down(cluster.now, &task());
    cluster.pass(Duration::from_secs(1));

    let wish = Wish {
        can_read: true,
        credentialed: false,
        named: None,
        seen: None,
        max_age: Duration::ZERO,
        part: None,
    };
    cluster.nodes[node].register(cluster.now, task(), wish);
    // The home's word on what this node reported before it was asked again.
    let late = Message::Registered(Registered {
        task: task(),
        request: 0,
        outcome: Outcome::Welcome {
            peers: Vec::new(),
            meta,
            lease: None,
            announce: false,
            readers: 0,
        },
    });
    let home = cluster.peer(ranks[0]);
    cluster.nodes[node]
        .handle_message(cluster.now, home, late)
        .expect("an honest answer");
    cluster.settle();
    assert_eq!(cluster.completions(node), 1, "the source was not asked yet");

    cluster.pass(Duration::from_millis(100));
    let (_, reader, lease) = cluster.reads().pop().expect("a read");
    assert_eq!(reader, node);
    assert!(matches!(lease.extent, Extent::Validate { .. }));
    cluster.end_read(node);
    assert_eq!(cluster.completions(node), 2);
}

/// Wants what is cached, if the source still has it.
fn want_validated(cluster: &mut Cluster, node: usize, seen: Option<VersionId>) {
    let wish = Wish {
        can_read: true,
        credentialed: false,
        named: None,
        seen,
        max_age: Duration::ZERO,
        part: None,
    };
    cluster.nodes[node].register(cluster.now, task(), wish);
    cluster.settle();
}

/// Nodes of which the last two hold the whole file, and nobody wants it.
fn two_holders() -> (Cluster, [usize; 2]) {
    let mut cluster = Cluster::new(5);
    let ranks = cluster.by_rank();
    let holders = [ranks[3], ranks[4]];
    cluster.want(holders[0]);
    read_whole(&mut cluster, holders[0]);
    cluster.want(holders[1]);
    cluster.pass(Duration::from_millis(600));
    while cluster.carry_a_block(holders[0], holders[1]) {
        cluster.pass(Duration::from_millis(50));
    }
    for holder in holders {
        assert_eq!(cluster.completions(holder), 1);
        cluster.nodes[holder].service_down(cluster.now, &task());
    }
    cluster.pass(Duration::from_secs(1));
    (cluster, holders)
}

/// Two holders that both want a validated version, and how many reads there were before.
fn two_who_ask() -> (Cluster, [usize; 2], usize) {
    let (mut cluster, holders) = two_holders();
    let before = cluster.reads().len();
    for node in holders {
        want_validated(&mut cluster, node, None);
    }
    (cluster, holders, before)
}

#[test]
fn a_host_that_no_answer_reaches_holds_up_nobody_elses_validation() {
    let (mut cluster, [deaf, other], before) = two_who_ask();
    cluster.pass(Duration::from_secs(1));
    let readers = |cluster: &Cluster| -> Vec<usize> {
        let reads = cluster.reads().split_off(before);
        reads.iter().map(|(_, node, _)| *node).collect()
    };
    assert_eq!(readers(&cluster), [deaf], "one asks for all");
    cluster.pass(Duration::from_secs(3));
    assert_eq!(readers(&cluster), [deaf, other]);
    cluster.end_read(other);
    assert_eq!(cluster.completions(other), 2);
    assert_eq!(cluster.completions(deaf), 2, "the answer is for all");
    cluster.pass(Duration::from_secs(5));
    assert_eq!(readers(&cluster), [deaf, other], "nobody asks any more");
}

#[test]
fn a_source_that_is_down_is_asked_once_more_and_not_again_and_again() {
    let (mut cluster, [deaf, other], before) = two_who_ask();
    cluster.pass(Duration::from_secs(4));
    let what = "connection refused".to_owned();
    cluster.fail_read(other, SourceFailure::Transient { what });
    for node in [deaf, other] {
        assert_eq!(
            cluster.completions(node),
            2,
            "what was current is the best there is"
        );
    }
    cluster.pass(Duration::from_secs(5));
    assert_eq!(cluster.reads().len(), before + 2);
}

#[test]
fn what_is_gone_is_gone_for_whoever_else_was_asking() {
    let (mut cluster, [deaf, other], _) = two_who_ask();
    cluster.pass(Duration::from_millis(2_200));
    let reads = cluster.reads();
    let [.., (_, first, lost), (_, second, _)] = &reads[..] else {
        panic!("two ask: {reads:?}");
    };
    assert_eq!([*first, *second], [deaf, other]);
    let gone = Err(SourceFailure::NotFound);
    cluster.nodes[deaf].handle_source_end(cluster.now, &task(), lost.id, gone);
    cluster.settle();
    cluster.pass(Duration::from_secs(5));
    for node in [deaf, other] {
        let failure = Some(TaskFailure::Source(SourceFailure::NotFound));
        assert_eq!(
            (cluster.failure(node), cluster.completions(node)),
            (failure, 1)
        );
    }
    assert_eq!(cluster.reads().len(), reads.len(), "nobody asks any more");
}

#[test]
fn a_version_that_its_caller_heard_the_source_name_is_not_asked_for_again() {
    let (mut cluster, [holder, _]) = two_holders();
    let before = cluster.reads().len();
    let version = cluster.version(holder);
    want_validated(&mut cluster, holder, Some(version));
    assert_eq!(cluster.completions(holder), 2, "at once");
    assert_eq!(cluster.reads().len(), before);
    cluster.nodes[holder].service_down(cluster.now, &task());
    cluster.pass(Duration::from_millis(100));
    want_validated(&mut cluster, holder, Some(VersionId::from_bytes([9; 32])));
    assert_eq!(cluster.completions(holder), 2, "it has another");
    cluster.pass(Duration::from_millis(100));
    assert_eq!(cluster.reads().len(), before + 1);
}

/// Reads a whole file of the default size on `node`, which wants it.
pub(super) fn read_whole(cluster: &mut Cluster, node: usize) {
    cluster.pass(Duration::from_millis(600));
    cluster.head(node);
    let meta = cluster.nodes[node].task(&task()).expect("a task").meta;
    let blocks = meta.and_then(|meta| meta.layout.blocks());
    for block in 0..blocks.expect("a known length") {
        cluster.read_block(node, BlockIndex(block));
    }
    cluster.end_read(node);
    assert_eq!(cluster.completions(node), 1);
}

#[test]
fn rank_two_does_not_forget_a_table_in_which_nothing_changes() {
    let mut cluster = Cluster::new(5);
    let ranks = cluster.by_rank();
    let [first, second, holder] = [ranks[0], ranks[1], ranks[4]];
    cluster.want(holder);
    read_whole(&mut cluster, holder);
    cluster.nodes[holder].service_down(cluster.now, &task());
    // Longer than tables of which nobody speaks are kept.
    cluster.pass(Duration::from_mins(25));
    assert_eq!(cluster.nodes[first].footprint().tables, 1);
    assert_eq!(cluster.nodes[second].footprint().tables, 1);
}

#[test]
fn a_node_to_which_blocks_keep_coming_speaks_to_its_home_every_five_minutes() {
    let mut cluster = Cluster::new(5);
    // Blocks enough that one can come each 400 ms for longer than five minutes.
    cluster.file_bytes = 260_000_000;
    let ranks = cluster.by_rank();
    let [home, reader, taker] = [ranks[0], ranks[3], ranks[4]];
    cluster.want(reader);
    let only_takes = Wish {
        can_read: false,
        credentialed: false,
        named: None,
        seen: None,
        max_age: Duration::from_mins(1),
        part: None,
    };
    cluster.nodes[taker].register(cluster.now, task(), only_takes);
    cluster.pass(Duration::from_millis(600));
    cluster.head(reader);
    for block in 0..PROBED {
        cluster.read_block(reader, BlockIndex(block));
    }
    cluster.end_read(reader);
    cluster.read_all();
    let start = cluster.now;
    let mut arrived = 0;
    while cluster.now < start + Duration::from_mins(6) {
        cluster.pass(Duration::from_millis(400));
        arrived += u32::from(cluster.carry_a_block(reader, taker));
    }
    assert!(arrived > 850, "blocks kept coming: {arrived}");
    let spoke = cluster.said.iter().any(|(at, from, to, message)| {
        let late = *at > start + Duration::from_mins(4);
        late && (*from, *to) == (taker, home) && matches!(message, Message::Register(_))
    });
    assert!(spoke, "its home would forget the task");
}

/// A few hundred bytes can stand for millions of blocks: what a home keeps for them has an end.
#[test]
fn registrants_of_huge_files_do_not_fill_a_homes_memory() {
    let mut cluster = Cluster::new(2);
    let head = SourceHead {
        length: Some(u64::from(MAX_BLOCKS) * u64::from(MAX_BLOCK_BYTES) / 2),
        validators: Validators {
            etag: Some("\"1\"".to_owned()),
            last_modified: None,
        },
        ranges: true,
        digest: None,
        authority: None,
        public: true,
    };
    let meta = Meta::of(&head, [0; 32]).expect("a file that can be");
    assert!(meta.layout.blocks() > Some(MAX_BLOCKS / 4), "a large one");
    let mut busy = 0;
    for number in 0..400_u32 {
        let register = Register {
            task: TaskId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes()),
            request: 1,
            meta: Some(meta.clone()),
            holds: Holds::All,
            nearby: Holds::All,
            wants: true,
            can_read: true,
            leases: Vec::new(),
            max_age_ms: 0,
            validated_ms: 0,
            stalled: false,
            addr: None,
            parts: Vec::new(),
        };
        let from = cluster.peer(1);
        let home = &mut cluster.nodes[0];
        home.handle_message(cluster.now, from, Message::Register(register))
            .expect("a sound message");
        while let Some(output) = home.poll_output() {
            let answer = crate::output::Output::Send {
                to: from,
                message: Message::Registered(Registered {
                    task: TaskId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes()),
                    request: 1,
                    outcome: Outcome::Busy,
                }),
            };
            busy += u32::from(output == answer);
        }
    }
    let bytes = cluster.nodes[0].home_bytes();
    assert!(bytes < MAX_TABLE_BYTES + (16 << 20), "{bytes}");
    assert!(busy > 0, "who finds no place is told");
}
