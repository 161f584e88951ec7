//! The words of the command line.

pub(crate) mod flash_crowd;
mod size;
pub(crate) mod sweep;
mod table;
