//! The push/pull: what makes events certain, members complete, and a join a join.
//!
//! Initiator                                Acceptor
//! [`sync_open`](Gossip::sync_open)         → [`sync_answer`](Gossip::sync_answer)
//! [`sync_finish`](Gossip::sync_finish)     ← its answer
//! its last message                         → [`sync_close`](Gossip::sync_close)
//!
//! Only buckets whose hashes differ travel. What the initiator brings is new to the cluster and
//! passed on by gossip; what it takes home is not.

use super::Gossip;
use crate::roster::bucket;
use crate::wire::{
    Answer, Buckets, Last, Load, Open, Packer, Record, Standing, split_aged_items, split_records,
};
use crate::{Member, Now, PeerId, Violation};

impl Gossip {
    /// The first message of a push/pull, for the one who dialled.
    #[expect(
        unused_variables,
        reason = "as all calls of the contract, it may come to need the time"
    )]
    pub fn sync_open(&mut self, now: Now) -> Vec<u8> {
        let open = Open {
            me: self.me().clone(),
            members: self.roster.digest_with(self.me()),
            events: *self.slots.digest(),
        };
        open.to_bytes()
    }

    /// What we know, in 16 bytes: two members with equal glances have nothing to tell each other.
    ///
    /// A glance fits in a packet, so members at rest need no connection for their push/pulls.
    pub fn glance(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        for hash in self
            .roster
            .digest_with(self.me())
            .iter()
            .chain(self.slots.digest())
        {
            hasher.update(&hash.to_le_bytes());
        }
        let mut glance = [0; 16];
        glance.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        glance
    }

    /// A member's glance equals ours: as good as a push/pull that brought nothing.
    pub fn saw_the_same(&mut self, from: PeerId) {
        self.plan.in_contact_with(from);
    }

    /// Answers a push/pull that `from` opened.
    ///
    /// # Errors
    ///
    /// If the message is wrong; nothing changed then.
    pub fn sync_answer(
        &mut self,
        now: Now,
        from: PeerId,
        open: &[u8],
    ) -> Result<Vec<u8>, Violation> {
        let open = Open::read(open)?;
        self.check_partner(from, &open.me)?;
        let members_differ = Buckets::differing(&self.roster.digest_with(self.me()), &open.members);
        let events_differ = Buckets::differing(self.slots.digest(), &open.events);
        let load = self.load(now, members_differ, events_differ);
        self.plan.in_contact_with(from);
        self.swim.apply(now, vec![alive(open.me)], true);
        self.settle(now);
        let answer = Answer {
            me: self.me().clone(),
            members_differ,
            events_differ,
            load,
        };
        Ok(answer.to_bytes())
    }

    /// Takes the answer of `from`, and gives our last message.
    ///
    /// # Errors
    ///
    /// If the answer is wrong. What was right in it is used all the same.
    pub fn sync_finish(
        &mut self,
        now: Now,
        from: PeerId,
        answer: &[u8],
    ) -> Result<Vec<u8>, Violation> {
        let answer = Answer::read(answer)?;
        self.check_partner(from, &answer.me)?;
        let load = self.load(now, answer.members_differ, answer.events_differ);
        self.take_load(now, answer.me, &answer.load, false)?;
        // We may have learnt that we were taken for dead: then this is our new record.
        let last = Last {
            me: self.me().clone(),
            load,
        };
        Ok(last.to_bytes())
    }

    /// Takes the last message of `from`.
    ///
    /// # Errors
    ///
    /// If it is wrong. What was right in it is used all the same.
    pub fn sync_close(&mut self, now: Now, from: PeerId, last: &[u8]) -> Result<(), Violation> {
        let last = Last::read(last)?;
        self.check_partner(from, &last.me)?;
        self.take_load(now, last.me, &last.load, true)
    }

    fn check_partner(&self, from: PeerId, partner: &Member) -> Result<(), Violation> {
        if partner.peer == from && from != self.me().peer {
            Ok(())
        } else {
            Err(Violation::SenderMismatch)
        }
    }

    /// Our side of the buckets that differ.
    fn load(&self, now: Now, members_differ: Buckets, events_differ: Buckets) -> Load {
        let mut packer = Packer::default();
        let is_due = |record: &Record| members_differ.contains(bucket(&record.member.peer));
        self.swim
            .known()
            .filter(is_due)
            .for_each(|record| packer.add_member(&record));
        for (age, raw) in self.slots.in_buckets(now, events_differ) {
            packer.add_item(age, raw);
        }
        packer.finish()
    }

    fn take_load(
        &mut self,
        now: Now,
        partner: Member,
        load: &Load,
        tell: bool,
    ) -> Result<(), Violation> {
        let from = partner.peer;
        let learnt = self.learnt;
        let mut verdict = Ok(());
        let mut records = vec![alive(partner)];
        for record in split_records(&load.members) {
            let taken = record.map(|record| records.push(record));
            verdict = verdict.and(taken);
        }
        self.plan.in_contact_with(from);
        self.swim.apply(now, records, tell);
        self.settle(now);
        for aged in split_aged_items(&load.items) {
            let taken = aged.and_then(|aged| self.take_item(now, aged.item, aged.age, tell));
            verdict = verdict.and(taken);
        }
        self.plan.done(now, from, load.more, self.learnt != learnt);
        self.settle(now);
        verdict
    }
}

fn alive(member: Member) -> Record {
    Record {
        member,
        incarnation: 0,
        standing: Standing::Alive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Unsigned;
    use crate::{Config, EventKind, Labels, Subject};

    /// Origins, and what each says: some 5 MB in all.
    const ORIGINS: u8 = 40;
    const EACH: u32 = 1000;

    fn node(number: u8) -> Gossip {
        let me = Member {
            peer: PeerId::from_bytes([number; 32]),
            addrs: vec!["10.0.0.1:65000".parse().unwrap()],
            generation: 1000,
            labels: Labels::default(),
        };
        Gossip::new(
            Config::default(),
            me,
            u64::from(number),
            Now::from_micros(0),
        )
    }

    #[test]
    fn what_one_message_cannot_hold_is_learnt_by_a_few() {
        let now = Now::from_micros(1);
        let (mut knows, mut late) = (node(1), node(2));
        for origin in 100..100 + ORIGINS {
            for number in 0..EACH {
                let write = Unsigned {
                    origin: PeerId::from_bytes([origin; 32]),
                    subject: Subject::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes()),
                    kind: EventKind::Progress.into(),
                    clock: 2000,
                    content: Some(bytes::Bytes::from_static(&[7; 60])),
                };
                knows
                    .slots
                    .write(now, write.finish(), std::time::Duration::ZERO);
            }
        }
        let all = knows.slots.len();
        let mut rounds = 0;
        while late.slots.digest() != knows.slots.digest() {
            rounds += 1;
            assert!(
                rounds <= 4,
                "{} of {all} after {rounds} rounds",
                late.slots.len()
            );
            let open = late.sync_open(now);
            let answer = knows
                .sync_answer(now, PeerId::from_bytes([2; 32]), &open)
                .unwrap();
            assert!(answer.len() <= crate::MAX_SYNC_BYTES);
            let last = late
                .sync_finish(now, PeerId::from_bytes([1; 32]), &answer)
                .unwrap();
            knows
                .sync_close(now, PeerId::from_bytes([2; 32]), &last)
                .unwrap();
        }
        assert!(rounds > 1, "{all} items fit into one message");
    }
}
