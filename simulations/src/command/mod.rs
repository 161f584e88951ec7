//! The words of the command line.

pub(crate) mod day;
pub(crate) mod flash_crowd;
pub(crate) mod growth;
mod progress;
mod seeds;
mod setting;
mod size;
pub(crate) mod sweep;
mod table;
