//! A world with a virtual clock, shaped links and faults, in which the production machines run.
//!
//! Nothing here knows how a swarm works: nodes are `Gossip` and `LocalTracker` exactly as a real node owns them; the
//! world only carries what they send and tells them the time. Equal seeds give equal runs, to the last event.

mod agenda;
mod case;
mod catalogue;
mod chance;
mod day;
mod links;
mod node;
mod plot;
mod report;
mod scenario;
mod signatures;
mod world;

pub use case::{Case, soundness};
pub use catalogue::{catalogue, crowd, usual};
pub use day::{Day, DayProgress, DayReport, Rest, live};
pub use plot::{Crowd, PlotError, plot_crowd, plot_growth};
pub use report::{Moment, Outcome, Report, Traffic};
pub use scenario::{Fault, Membership, Scenario, SourceKind, When, Zones};
pub use world::{Progress, run, run_watched};
