//! Pictures of what came of worlds, each as an SVG and, the very same drawing, as a PNG.

mod blocks;
mod canvas;
mod chart;
mod finish;
mod growth;
mod shades;
mod words;

use std::io;
use std::path::{Path, PathBuf};

use plotters::drawing::DrawingAreaErrorKind;

use crate::report::Report;
use crate::scenario::Scenario;

/// A scenario and what came of it.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// What was to happen.
    pub scenario: Scenario,
    /// What happened.
    pub report: Report,
}

/// Why there is no picture. Pictures written before it are whole, and stay.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// There was nothing to draw: nobody finished, or the scenario did not ask for its moments.
    #[error("nothing to draw in {picture}")]
    Nothing {
        /// The picture.
        picture: &'static str,
    },
    /// The drawing went wrong: a mistake in this program.
    #[error("cannot draw")]
    Draw(#[from] DrawingAreaErrorKind<io::Error>),
    /// The drawing cannot be turned into a PNG: a mistake in this program.
    #[error("cannot render: {0}")]
    Render(String),
    /// The picture cannot be stored.
    #[error("cannot write {path}")]
    Write {
        /// Where it should have been.
        path: PathBuf,
        /// Why it is not there.
        #[source]
        source: io::Error,
    },
}

/// Draws when the hosts of a crowd finished, and how the blocks spread among them, into the folder `dir`.
///
/// The scenario must have asked for its moments.
///
/// # Errors
/// If there is nothing to draw, or the folder cannot be written.
pub fn plot_crowd(crowd: &Crowd, dir: &Path) -> Result<(), PlotError> {
    finish::draw(crowd, dir)?;
    blocks::draw(crowd, dir)
}

/// Draws what becomes of time, source and control as crowds grow, and when the hosts of the greatest one finished.
///
/// Crowds of one size, with several seeds, are averaged.
///
/// # Errors
/// If there is nothing to draw, or the folder cannot be written.
pub fn plot_growth(crowds: &[Crowd], dir: &Path) -> Result<(), PlotError> {
    growth::draw(crowds, dir)?;
    // Of several with as many hosts, the first.
    let greatest = crowds.iter().rev().max_by_key(|crowd| crowd.scenario.nodes);
    greatest.map_or(Ok(()), |crowd| finish::draw(crowd, dir))
}

#[cfg(test)]
mod tests;
