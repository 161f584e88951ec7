//! How the blocks spread: which share of the live hosts held each of them, from moment to moment.

use std::path::Path;

use plotters::element::{Rectangle, Text};
use plotters::style::ShapeStyle;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::canvas::{self, Canvas, Drawn, SIZE};
use super::chart::{self, FAINT, Frame, INK};
use super::{Crowd, PlotError, shades, words};
use crate::report::Moment;

const NAME: &str = "blocks";
/// Rows that a map has at most; where there are more blocks, neighbours share one.
const MOST_ROWS: usize = 200;
/// Room for the scale of shades.
const SCALE: u32 = 230;

pub(super) fn draw(crowd: &Crowd, dir: &Path) -> Result<(), PlotError> {
    let (report, scenario) = (&crowd.report, &crowd.scenario);
    let moments = &report.moments;
    let blocks = moments.first().map_or(0, |moment| moment.holders.len());
    let Some(end) = moments.last().map(|moment| moment.seconds) else {
        return Err(PlotError::Nothing { picture: NAME });
    };
    let below = format!(
        "{}, {} hosts, seed {}",
        words::setting(scenario),
        words::count(scenario.nodes),
        scenario.seed
    );
    let frame = Frame {
        title: "How the blocks spread",
        below_title: &below,
        x: "time since the first start, s",
        y: "block of the file",
        x_label: &|x| format!("{}", (x * 100.0).round() / 100.0),
        y_label: &|y| format!("{y:.0}"),
        right: SCALE,
    };
    #[expect(clippy::cast_precision_loss, reason = "numbers of blocks")]
    let height = blocks as f64;
    canvas::write(dir, NAME, |canvas| {
        let mut plane = frame.draw(canvas, 0.0..end.max(0.001), 0.0..height.max(1.0))?;
        let rows = blocks.div_ceil(MOST_ROWS).max(1);
        for first in (0..blocks).step_by(rows) {
            let last = (first + rows).min(blocks);
            #[expect(clippy::cast_precision_loss, reason = "numbers of blocks")]
            let (low, high) = (first as f64, last as f64);
            let row = row(moments, first, last);
            plane.draw_series(row.iter().map(|(from, share)| {
                // Up to the end: what comes later is painted over it, and no seam can show.
                chart::tile((*from, low), (end, high), shades::of(*share))
            }))?;
        }
        scale(canvas)
    })
}

/// The shares of a row of blocks: since when, and how great; equal shades in one.
fn row(moments: &[Moment], first: usize, last: usize) -> Vec<(f64, f64)> {
    let mut runs: Vec<(f64, f64)> = Vec::new();
    for moment in moments {
        let holders: u32 = moment.holders[first..last].iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "numbers of blocks")]
        let all = f64::from(moment.live.max(1)) * (last - first) as f64;
        let share = f64::from(holders) / all;
        let same = |(_, before): &(f64, f64)| shades::of(*before) == shades::of(share);
        if !runs.last().is_some_and(same) {
            runs.push((moment.seconds, share));
        }
    }
    runs
}

/// The scale of shades, right of the map.
fn scale(canvas: &Canvas<'_>) -> Drawn {
    const STEPS: i32 = 50;
    let left = i32::try_from(SIZE.0 - SCALE).unwrap_or(0) + 50;
    let (top, step) = (250, 12);
    let bottom = top + STEPS * step;
    for number in 0..STEPS {
        let shade = shades::of(f64::from(number) / f64::from(STEPS - 1));
        let low = bottom - number * step;
        canvas.draw(&chart::tile((left, low - step), (left + 40, low), shade))?;
    }
    let border = ShapeStyle::from(FAINT).stroke_width(2);
    canvas.draw(&Rectangle::new([(left, top), (left + 40, bottom)], border))?;
    for percent in [0, 25, 50, 75, 100] {
        let y = bottom - STEPS * step * percent / 100;
        let style = chart::letters(INK, chart::left_of_words());
        canvas.draw(&Text::new(format!("{percent} %"), (left + 52, y), style))?;
    }
    let above = chart::letters(INK, Pos::new(HPos::Left, VPos::Bottom));
    canvas.draw(&Text::new("live hosts", (left, top - 62), above.clone()))?;
    canvas.draw(&Text::new("that hold it", (left, top - 22), above))
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::report::Moment;

    #[test]
    fn equal_moments_make_one_rectangle() {
        let moment = |seconds, holders: u32| Moment {
            seconds,
            live: 4,
            holders: vec![holders, holders],
        };
        let moments = [
            moment(0.0, 0),
            moment(1.0, 0),
            moment(2.0, 2),
            moment(3.0, 4),
        ];
        assert_eq!(row(&moments, 0, 2), [(0.0, 0.0), (2.0, 0.5), (3.0, 1.0)]);
    }
}
