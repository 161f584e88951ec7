//! When the hosts of a crowd finished: what share of them had the file after how long.

use std::path::Path;

use plotters::element::Text;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::{self, BLUE, FAINT, Frame, INK, RIGHT};
use super::{Crowd, PlotError, canvas, words};

const NAME: &str = "finish";
/// Percent; leaves room for words above the curve.
const TOP: f64 = 108.0;

pub(super) fn draw(crowd: &Crowd, dir: &Path) -> Result<(), PlotError> {
    let (times, hosts) = crowd.report.times();
    if times.is_empty() {
        return Err(PlotError::Nothing { picture: NAME });
    }
    let steps = steps(&times, hosts);
    let (report, scenario) = (&crowd.report, &crowd.scenario);
    let below = format!(
        "{}, {} hosts, seed {}",
        words::setting(scenario),
        words::count(scenario.nodes),
        scenario.seed
    );
    let frame = Frame {
        title: "When the hosts have the whole file",
        below_title: &below,
        x: &format!(
            "time since a host's own start, in bounds (1 = {:.2} s)",
            report.bound_s
        ),
        y: "share of the hosts, %",
        x_label: &|x| format!("{x:.2}"),
        y_label: &|y| format!("{y:.0}"),
        right: RIGHT,
    };
    let shown = chart::around(times.iter().copied().chain([1.0]), 0.08);
    canvas::write(dir, NAME, |canvas| {
        let mut plane = frame.draw(canvas, shown.clone(), 0.0..TOP)?;
        chart::mark(&mut plane, (1.0, 0.0), (1.0, TOP))?;
        let beside = (shown.end - shown.start) * 0.015;
        let faint = chart::letters(FAINT, chart::left_of_words());
        let bound = "the bound: nobody could be faster";
        plane.draw_series([Text::new(bound, (1.0 + beside, 4.0), faint)])?;
        let from = [(shown.start, 0.0)].into_iter();
        let line: Vec<(f64, f64)> = from.chain(steps.iter().copied()).collect();
        chart::line(&mut plane, &line, BLUE)?;
        for (name, at) in [("p50", 0.5), ("p99", 0.99)] {
            let Some(time) = quantile(&steps, at * 100.0) else {
                continue;
            };
            let point = (time, at * 100.0);
            chart::dots(&mut plane, &[point], BLUE)?;
            let words = format!("{name}: {time:.3}");
            // A curve that only rises leaves the room above and left of it free.
            let style = chart::letters(INK, Pos::new(HPos::Right, VPos::Bottom));
            let point = (time - beside, point.1 + 0.5);
            plane.draw_series([Text::new(words, point, style)])?;
        }
        Ok(())
    })
}

/// The corners of the curve, in percent of all hosts: those that never finish keep it below 100.
fn steps(times: &[f64], hosts: usize) -> Vec<(f64, f64)> {
    #[expect(clippy::cast_precision_loss, reason = "numbers of hosts")]
    let share = |finished: usize| 100.0 * finished as f64 / hosts.max(1) as f64;
    let corners =
        |(before, time): (usize, &f64)| [(*time, share(before)), (*time, share(before + 1))];
    times.iter().enumerate().flat_map(corners).collect()
}

/// When the curve reaches a percentage, if it does.
fn quantile(steps: &[(f64, f64)], percent: f64) -> Option<f64> {
    let reached = steps.iter().find(|(_, share)| *share >= percent - 1e-9);
    reached.map(|(time, _)| *time)
}

#[cfg(test)]
mod tests {
    use super::{quantile, steps};

    #[test]
    fn who_never_finishes_keeps_the_curve_below_all() {
        let steps = steps(&[1.0, 1.5], 4);
        assert_eq!(steps, [(1.0, 0.0), (1.0, 25.0), (1.5, 25.0), (1.5, 50.0)]);
        assert_eq!(quantile(&steps, 50.0), Some(1.5));
        assert_eq!(quantile(&steps, 99.0), None);
    }
}
