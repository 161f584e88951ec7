//! What becomes of a crowd's figures as it grows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use plotters::coord::combinators::{BindKeyPoints as _, IntoLogRange as _};
use plotters::element::Text;
use plotters::style::RGBColor;

use super::chart::{self, BLUE, FAINT, Frame, ORANGE, RIGHT};
use super::{Crowd, PlotError, canvas, words};

/// One figure of many crowds.
struct Series {
    name: &'static str,
    color: RGBColor,
    /// By number of hosts, of each crowd.
    dots: Vec<(f64, f64)>,
    /// Through the means of those of one size.
    line: Vec<(f64, f64)>,
}

impl Series {
    fn of(
        name: &'static str,
        color: RGBColor,
        crowds: &[Crowd],
        figure: fn(&Crowd) -> f64,
    ) -> Self {
        let mut by_size: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for crowd in crowds {
            let figures = by_size.entry(crowd.scenario.nodes).or_default();
            figures.push(figure(crowd));
        }
        let mut series = Self {
            name,
            color,
            dots: Vec::new(),
            line: Vec::new(),
        };
        for (nodes, figures) in by_size {
            let nodes = float(nodes);
            series.dots.extend(figures.iter().map(|one| (nodes, *one)));
            let mean = figures.iter().sum::<f64>() / float(figures.len());
            series.line.push((nodes, mean));
        }
        series
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of hosts")]
const fn float(number: usize) -> f64 {
    number as f64
}

/// A picture of figures over the number of hosts.
struct Picture<'a> {
    name: &'static str,
    title: &'a str,
    y: &'a str,
    y_label: &'a dyn Fn(&f64) -> String,
    shown: Range<f64>,
    /// What the figures are to be compared with, and its name.
    mark: Option<(f64, &'a str)>,
    series: Vec<Series>,
}

impl Picture<'_> {
    fn draw(self, crowds: &[Crowd], dir: &Path) -> Result<(), PlotError> {
        let mut sizes: Vec<usize> = crowds.iter().map(|crowd| crowd.scenario.nodes).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let (Some(first), Some(last), Some(crowd)) = (sizes.first(), sizes.last(), crowds.first())
        else {
            return Err(PlotError::Nothing { picture: self.name });
        };
        // A little more than there is, on a scale of powers.
        let (from, to) = (float(*first) / 1.25, float(*last) * 1.25);
        let ticks = sizes.iter().copied().map(float).collect();
        let frame = Frame {
            title: self.title,
            below_title: &words::setting(&crowd.scenario),
            x: "hosts that want the file at once",
            y: self.y,
            x_label: &|number| hosts(*number),
            y_label: self.y_label,
            right: RIGHT,
        };
        canvas::write(dir, self.name, |canvas| {
            let hosts = (from..to).log_scale().with_key_points(ticks);
            let mut plane = frame.draw(canvas, hosts, self.shown)?;
            if let Some((y, name)) = self.mark {
                chart::mark(&mut plane, (from, y), (to, y))?;
                let style = chart::letters(FAINT, chart::below_words());
                plane.draw_series([Text::new(name.to_owned(), (from * 1.03, y), style)])?;
            }
            for series in &self.series {
                chart::line(&mut plane, &series.line, series.color)?;
                chart::dots(&mut plane, &series.dots, series.color)?;
            }
            if let [_, _, ..] = self.series.as_slice() {
                let names = self.series.iter().map(|one| (one.name, one.color));
                chart::names(canvas, &names.collect::<Vec<_>>())?;
            }
            Ok(())
        })
    }
}

fn hosts(number: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of hosts, made a float for the chart"
    )]
    let number = number.round() as usize;
    words::count(number)
}

pub(super) fn draw(crowds: &[Crowd], dir: &Path) -> Result<(), PlotError> {
    time(crowds, dir)?;
    copies(crowds, dir)?;
    control(crowds, dir)
}

fn greatest(crowds: &[Crowd], figure: fn(&Crowd) -> f64) -> f64 {
    crowds.iter().map(figure).fold(0.0, f64::max)
}

fn time(crowds: &[Crowd], dir: &Path) -> Result<(), PlotError> {
    let top = greatest(crowds, |crowd| crowd.report.p99);
    Picture {
        name: "time",
        title: "How long a crowd takes",
        y: "time of a host, in bounds",
        y_label: &|y| format!("{y:.2}"),
        shown: 0.98..(1.0 + (top - 1.0) * 1.25).max(1.1),
        mark: Some((1.0, "the bound: nobody could be faster")),
        series: vec![
            Series::of("median", BLUE, crowds, |crowd| crowd.report.p50),
            Series::of("p99", ORANGE, crowds, |crowd| crowd.report.p99),
        ],
    }
    .draw(crowds, dir)
}

fn copies(crowds: &[Crowd], dir: &Path) -> Result<(), PlotError> {
    let top = greatest(crowds, |crowd| crowd.report.copies);
    Picture {
        name: "copies",
        title: "What the source sends",
        y: "copies of the file",
        y_label: &|y| format!("{y:.1}"),
        shown: 0.0..(top * 1.25).max(2.0),
        mark: None,
        series: vec![Series::of("copies", BLUE, crowds, |crowd| {
            crowd.report.copies
        })],
    }
    .draw(crowds, dir)
}

fn control(crowds: &[Crowd], dir: &Path) -> Result<(), PlotError> {
    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
    const fn megabytes(crowd: &Crowd) -> f64 {
        crowd.report.control_bytes_per_node as f64 / 1e6
    }
    Picture {
        name: "control",
        title: "What the hosts tell each other",
        y: "control sent by a host, MB",
        y_label: &|y| format!("{y:.2}"),
        shown: 0.0..(greatest(crowds, megabytes) * 1.25).max(0.01),
        mark: None,
        series: vec![Series::of("control", BLUE, crowds, megabytes)],
    }
    .draw(crowds, dir)
}

#[cfg(test)]
mod tests {
    use super::hosts;

    #[test]
    fn ticks_are_numbers_of_hosts() {
        assert_eq!(hosts(999.999_999), "1,000");
    }
}
