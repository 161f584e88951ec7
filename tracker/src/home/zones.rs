//! Which registrants bring blocks into their zone.
//!
//! Where registrants stand in several zones, a home names to each only peers of its own zone, but for a few *inlets* of
//! each zone: these are named to each other and to inlets of other zones, and alone read the source. The first who come
//! hold the office, until they go or have no part in the task any more. How inlets share the work: `session/border.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId, Zone};

use super::census::{FRESH, REPORT_PATIENCE};
use super::grants::SourceRules;
use super::registrants::AGAIN;
use super::table::{Role, Table};
use crate::context::Context;
use crate::message::{Border, Message, Outcome, PeerRef};

/// Inlets of one zone.
const INLETS: usize = 6;
/// Inlets of other zones that one inlet is named.
const OUTSIDE: usize = 12;
/// Who got nothing for so long although its zone has inlets takes the place of one.
const HOPELESS: Duration = Duration::from_secs(10);

/// The registrants of one zone.
#[derive(Debug, Default)]
struct Inhabitants {
    /// In the order in which they came.
    all: Vec<PeerId>,
    /// In the order in which they were appointed.
    inlets: Vec<PeerId>,
    /// When somebody last took another's place in despair.
    replaced: Option<Now>,
}

/// Where the registrants of a table stand.
#[derive(Debug, Default)]
pub(super) struct Zones {
    by_name: BTreeMap<Zone, Inhabitants>,
    of: BTreeMap<PeerId, Zone>,
}

/// How much a registrant is worth to its zone as an inlet: the least is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// It fetches and serves.
    Works,
    /// It has everything.
    Full,
    /// It fetches for itself alone.
    Selfish,
    /// It has no part in the task any more.
    Nothing,
}

impl Zones {
    /// Whether registrants stand in more than one zone.
    pub(super) fn are_several(&self) -> bool {
        self.by_name.len() > 1
    }

    /// The registrants of a registrant's zone, where there are several zones.
    pub(super) fn around(&self, peer: &PeerId) -> Option<&[PeerId]> {
        let zone = self.of.get(peer).filter(|_| self.are_several())?;
        self.by_name.get(zone).map(|zone| zone.all.as_slice())
    }

    pub(super) fn are_together(&self, cx: &Context<'_>, one: &PeerId, other: &PeerId) -> bool {
        let zone = |peer| {
            let known = self.of.get(peer).copied();
            known.unwrap_or_else(|| cx.view.zone_of(peer))
        };
        zone(one) == zone(other)
    }

    fn inlets_of(&self, zone: &Zone) -> &[PeerId] {
        self.by_name
            .get(zone)
            .map_or(&[], |zone| zone.inlets.as_slice())
    }

    fn is_inlet(&self, peer: &PeerId) -> bool {
        let zone = self.of.get(peer);
        zone.is_some_and(|zone| self.inlets_of(zone).contains(peer))
    }

    fn inlets(&self) -> impl Iterator<Item = &PeerId> {
        self.by_name.values().flat_map(|zone| &zone.inlets)
    }

    fn enter(&mut self, peer: PeerId, zone: Zone) {
        if self.of.get(&peer) != Some(&zone) {
            self.leave(&peer);
            self.of.insert(peer, zone);
            self.by_name.entry(zone).or_default().all.push(peer);
        }
    }

    /// The zone of one who is no registrant any more, and whether it was an inlet of it.
    fn leave(&mut self, peer: &PeerId) -> Option<(Zone, bool)> {
        let zone = self.of.remove(peer)?;
        let left = self.by_name.get_mut(&zone)?;
        left.all.retain(|one| one != peer);
        let before = left.inlets.len();
        left.inlets.retain(|one| one != peer);
        let was_inlet = left.inlets.len() < before;
        if left.all.is_empty() {
            self.by_name.remove(&zone);
        }
        Some((zone, was_inlet))
    }
}

impl Table {
    /// A registrant spoke: it may become an inlet of its zone, or cease to be one.
    pub(super) fn enter_zone(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        let zone = cx.view.zone_of(&peer);
        let before = self.zones.are_several();
        self.zones.enter(peer, zone);
        let worth = self.worth(cx, &peer);
        let inlets = self.zones.inlets_of(&zone);
        let changed = if inlets.contains(&peer) {
            worth == Worth::Nothing && {
                self.dismiss(zone, &peer);
                self.fill(cx, zone);
                true
            }
        } else if worth == Worth::Nothing {
            false
        } else if inlets.len() < INLETS {
            self.appoint(zone, peer)
        } else {
            let worst = inlets.iter().max_by_key(|one| self.worth(cx, one)).copied();
            let worst = worst.filter(|worst| self.worth(cx, worst) > worth.max(Worth::Full));
            worst.is_some_and(|worst| {
                self.dismiss(zone, &worst);
                self.appoint(zone, peer)
            })
        };
        if self.zones.are_several() != before {
            self.tell_borders(cx);
        } else if changed {
            self.tell_inlets(cx, zone);
        }
    }

    /// A registrant is gone: another becomes an inlet in its place.
    pub(super) fn leave_zone(&mut self, cx: &mut Context<'_>, peer: &PeerId) {
        if let Some((zone, true)) = self.zones.leave(peer) {
            self.fill(cx, zone);
            self.tell_inlets(cx, zone);
        }
    }

    fn worth(&self, cx: &Context<'_>, peer: &PeerId) -> Worth {
        let Some(known) = self.registrants.get(peer) else {
            return Worth::Nothing;
        };
        let meta = self.leases.meta.as_ref();
        let blocks = meta.and_then(|meta| meta.layout.blocks());
        if known.wants && !known.wants_all() {
            // It looks after itself.
            Worth::Nothing
        } else if known.wants && cx.view.is_leech(peer) {
            Worth::Selfish
        } else if known.wants {
            Worth::Works
        } else if blocks == Some(known.holds().len()) {
            Worth::Full
        } else {
            Worth::Nothing
        }
    }

    /// Whether a registrant owes no sign of life.
    fn speaks(&self, peer: &PeerId) -> bool {
        let known = self.registrants.get(peer);
        known.is_some_and(|known| known.asked.is_none())
    }

    fn appoint(&mut self, zone: Zone, peer: PeerId) -> bool {
        if let Some(zone) = self.zones.by_name.get_mut(&zone) {
            zone.inlets.push(peer);
        }
        true
    }

    fn dismiss(&mut self, zone: Zone, peer: &PeerId) {
        if let Some(zone) = self.zones.by_name.get_mut(&zone) {
            zone.inlets.retain(|one| one != peer);
        }
    }

    /// Appoints those who are worth most while there are places.
    fn fill(&mut self, cx: &Context<'_>, zone: Zone) {
        let Some(here) = self.zones.by_name.get(&zone) else {
            return;
        };
        let mut others: Vec<(Worth, PeerId)> = here
            .all
            .iter()
            .filter(|peer| !here.inlets.contains(peer) && self.speaks(peer))
            .map(|peer| (self.worth(cx, peer), *peer))
            .filter(|(worth, _)| *worth != Worth::Nothing)
            .collect();
        others.sort_by_key(|(worth, _)| *worth);
        for (_, peer) in others
            .into_iter()
            .take(INLETS.saturating_sub(here.inlets.len()))
        {
            self.appoint(zone, peer);
        }
    }

    /// Tells all inlets who they are.
    pub(super) fn tell_borders(&self, cx: &mut Context<'_>) {
        let zones: Vec<Zone> = self.zones.by_name.keys().copied().collect();
        for zone in zones {
            self.tell_inlets(cx, zone);
        }
    }

    fn tell_inlets(&self, cx: &mut Context<'_>, zone: Zone) {
        for inlet in self.zones.inlets_of(&zone).to_vec() {
            self.tell_border(cx, inlet, &[]);
        }
    }

    /// Tells a registrant whether it is an inlet. `holders` are peers that gossip says are complete.
    pub(super) fn tell_border(&self, cx: &mut Context<'_>, to: PeerId, holders: &[PeerId]) {
        let zone = self.zones.of.get(&to).copied();
        let Some(zone) = zone.filter(|_| self.zones.are_several() && self.role == Role::Granting)
        else {
            return;
        };
        let (mut inlets, mut outside) = (Vec::new(), Vec::new());
        if self.zones.is_inlet(&to) {
            let here = self.zones.inlets_of(&zone);
            inlets = here.iter().map(|peer| self.name(cx, *peer)).collect();
            let place = here.iter().position(|peer| *peer == to).unwrap_or(0);
            outside = self.outside(cx, zone, place, holders);
        } else if self.wants_parts(&to) {
            // No inlet may want the same: it is one for itself, and asks for what nobody near has.
            inlets = vec![self.name(cx, to)];
            outside = self.outside(cx, zone, 0, holders);
        }
        let task = self.task;
        cx.send(
            to,
            Message::Border(Border {
                task,
                inlets,
                outside,
            }),
        );
    }

    /// Inlets of other zones, of each alike, and of each other ones for each place; and holders there.
    fn outside(
        &self,
        cx: &Context<'_>,
        zone: Zone,
        place: usize,
        holders: &[PeerId],
    ) -> Vec<PeerRef> {
        let others: Vec<&[PeerId]> = self
            .zones
            .by_name
            .iter()
            .filter(|(name, _)| **name != zone)
            .map(|(_, zone)| zone.inlets.as_slice())
            .collect();
        let turns = (0..INLETS).flat_map(|turn| others.iter().map(move |inlets| (turn, *inlets)));
        let inlets = turns
            .filter(|(turn, inlets)| *turn < inlets.len())
            .map(|(turn, inlets)| inlets[(turn + place) % inlets.len()]);
        let far = holders
            .iter()
            .filter(|peer| cx.view.zone_of(peer) != zone && !self.zones.is_inlet(peer))
            .copied();
        inlets
            .chain(far)
            .filter(|peer| !cx.is_isolated(peer))
            .take(OUTSIDE)
            .map(|peer| self.name(cx, peer))
            .collect()
    }

    /// Whether a registrant may be given leases: inlets alone, if any of them can read.
    pub(super) fn is_reader(&self, peer: &PeerId) -> bool {
        let reads = |inlet| {
            let known = self.registrants.get(inlet);
            known.is_some_and(super::registrants::Registrant::may_read)
        };
        !self.zones.are_several()
            || self.zones.is_inlet(peer)
            || self.wants_parts(peer)
            || !self.zones.inlets().any(reads)
    }

    fn wants_parts(&self, peer: &PeerId) -> bool {
        let known = self.registrants.get(peer);
        known.is_some_and(|known| known.wants && !known.wants_all())
    }

    /// Nothing comes to a registrant: its zone's inlets may be dead, or cut off.
    pub(super) fn look_after_zone(
        &mut self,
        cx: &mut Context<'_>,
        rules: SourceRules,
        from: PeerId,
    ) {
        let zone = self.zones.of.get(&from).copied();
        let Some(zone) = zone.filter(|_| self.zones.are_several()) else {
            return;
        };
        for inlet in self.zones.inlets_of(&zone).to_vec() {
            let Some(known) = self.registrants.get_mut(&inlet).filter(|_| inlet != from) else {
                continue;
            };
            match known.asked {
                Some(at) if cx.now.saturating_since(at) >= REPORT_PATIENCE => {
                    self.drop_registrant(cx, rules, &inlet);
                }
                None if cx.now.saturating_since(known.told) > FRESH => {
                    known.asked = Some(cx.now);
                    self.tell(cx, inlet, 0, Outcome::Report);
                }
                Some(_) | None => {}
            }
        }
        self.replace_in_despair(cx, zone, from);
    }

    /// Who waits and waits although the inlets live takes the place of the one who has been in office for longest.
    fn replace_in_despair(&mut self, cx: &mut Context<'_>, zone: Zone, from: PeerId) {
        let now = cx.now;
        let Some(known) = self.registrants.get_mut(&from) else {
            return;
        };
        let since = known
            .stalled
            .filter(|(_, last)| now.saturating_since(*last) < AGAIN)
            .map_or(now, |(since, _)| since);
        known.stalled = Some((since, now));
        if now.saturating_since(since) < HOPELESS
            || self.zones.is_inlet(&from)
            || self.worth(cx, &from) == Worth::Nothing
        {
            return;
        }
        let Some(here) = self.zones.by_name.get_mut(&zone) else {
            return;
        };
        let recent = |at: Now| now.saturating_since(at) < HOPELESS;
        if !here.replaced.is_some_and(recent) && !here.inlets.is_empty() {
            here.replaced = Some(now);
            here.inlets.remove(0);
            here.inlets.push(from);
            self.tell_inlets(cx, zone);
        }
    }
}
