//! Messages between homes and registrants, as a reader of a log wants them.

use std::ops::Range;

use dfnode_tracker::{Extent, Holds, Message, Outcome};

fn runs(holds: &Holds, blocks: Option<u32>) -> Vec<Range<u32>> {
    holds
        .unpack(blocks)
        .map(|set| set.runs())
        .unwrap_or_default()
}

pub(super) fn extent(extent: &Extent) -> String {
    match extent {
        Extent::Probe => "to probe".to_owned(),
        Extent::Blocks { run, .. } => format!("{run:?}"),
        Extent::Validate { .. } => "to validate".to_owned(),
    }
}

pub(super) fn message(message: &Message, blocks: Option<u32>) -> String {
    let name = message.name();
    if let Message::Register(told) = message {
        return format!(
            "{name} holds {:?} nearby {:?} wants {} stalled {} reads {:?}",
            runs(&told.holds, blocks),
            runs(&told.nearby, blocks),
            told.wants,
            told.stalled,
            told.leases
                .iter()
                .map(|lease| extent(&lease.extent))
                .collect::<Vec<_>>(),
        );
    }
    if let Message::LeaseReport(told) = message {
        return format!(
            "{name} read to {}, {} unspread, end {:?}",
            told.read_to, told.unspread, told.end
        );
    }
    let Message::Registered(told) = message else {
        return name.to_owned();
    };
    match &told.outcome {
        Outcome::Welcome { peers, lease, .. } => format!(
            "welcome, {} peers, lease {:?}",
            peers.len(),
            lease.as_ref().map(|lease| extent(&lease.extent))
        ),
        Outcome::Redirect { .. } => "redirect".to_owned(),
        Outcome::NotYet => "not yet".to_owned(),
        Outcome::Failed { failure } => format!("failed: {failure}"),
        Outcome::Report => "report".to_owned(),
        Outcome::LeaseGone { .. } => "the lease is gone".to_owned(),
        Outcome::Busy => "busy".to_owned(),
    }
}
