//! What a task tells the whole cluster by gossip: its start, its quarters and its end.

use dfnode_gossip::{EventKind, Subject};

use super::Task;
use crate::context::Context;
use crate::events::Progress;
use crate::output::Output;

/// What a node says of a task that it wants or holds.
const CLAIMS: [EventKind; 4] = [
    EventKind::DownloadStart,
    EventKind::Length,
    EventKind::Progress,
    EventKind::Recover,
];

impl Task {
    /// Announces the start, the quarters and the end of the download, if the home made this node an announcer.
    pub(super) fn tell_progress(&mut self, cx: &mut Context<'_>) {
        let Some(blocks) = self.session.blocks().filter(|blocks| *blocks > 0) else {
            return;
        };
        let quarter =
            u8::try_from(u64::from(self.session.have.len()) * 4 / u64::from(blocks)).unwrap_or(0);
        if self.announces && self.told_quarter.is_none_or(|told| told < quarter) {
            self.announce(cx);
        }
    }

    pub(super) fn announce(&mut self, cx: &mut Context<'_>) {
        if !self.announces || cx.view.leech() {
            return;
        }
        let (Some(meta), Some(blocks)) = (&self.session.meta, self.session.blocks()) else {
            return;
        };
        let subject = Subject::from_bytes(*self.id.as_bytes());
        let quarters = if blocks == 0 {
            Progress::COMPLETE
        } else {
            u8::try_from(u64::from(self.session.have.len()) * 4 / u64::from(blocks)).unwrap_or(0)
        };
        if self.told_quarter == Some(quarters) {
            return;
        }
        let first = self.told_quarter.is_none();
        self.claims = true;
        self.told_quarter = Some(quarters);
        let body = Progress {
            version: meta.version,
            quarters,
        }
        .encode();
        if first {
            cx.out.push_back(Output::Publish {
                subject,
                kind: EventKind::DownloadStart,
                body: body.clone(),
            });
            let length = crate::events::encode_length(meta);
            cx.out.push_back(Output::Publish {
                subject,
                kind: EventKind::Length,
                body: length,
            });
        }
        cx.out.push_back(Output::Publish {
            subject,
            kind: EventKind::Progress,
            body,
        });
    }

    /// Takes back all that the cluster was told: who asks it for holders must not be sent here any more.
    pub(super) fn take_back(&mut self, cx: &mut Context<'_>) {
        if !std::mem::take(&mut self.claims) {
            return;
        }
        let subject = Subject::from_bytes(*self.id.as_bytes());
        for kind in CLAIMS {
            cx.out.push_back(Output::Withdraw { subject, kind });
        }
    }
}
