//! A few machines, driven by hand, that say to each other what they like.

mod clearance;
mod cluster;
mod content;
mod disputes;
mod endings;
mod failures;
mod homes;
mod losses;
mod offers;
mod offices;
mod parts;
mod sessions;
mod zones;
