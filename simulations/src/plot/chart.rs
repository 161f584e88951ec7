//! What all charts have in common: a title, two axes, lines and their names.

use std::ops::Range;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::prelude::SVGBackend;
use plotters::series::{DashedLineSeries, LineSeries};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, IntoFont as _, RGBColor, ShapeStyle, TextStyle, WHITE};

use super::canvas::{Canvas, DrawError, Drawn, FONT, SIZE};

pub(super) const INK: RGBColor = RGBColor(38, 38, 44);
pub(super) const FAINT: RGBColor = RGBColor(105, 105, 115);
const GRID: RGBColor = RGBColor(226, 226, 230);
/// Told apart also by those who see no red or no green.
pub(super) const BLUE: RGBColor = RGBColor(31, 98, 178);
pub(super) const ORANGE: RGBColor = RGBColor(222, 110, 20);

const TITLE: f64 = 52.0;
const LABEL: f64 = 36.0;
const LEFT: i32 = 60;
const TOP: u32 = 160;
/// Beyond the last tick of the x axis.
pub(super) const RIGHT: u32 = 70;

/// A plane with both axes.
pub(super) type Plane<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

/// The words around a chart.
pub(super) struct Frame<'a> {
    pub(super) title: &'a str,
    pub(super) below_title: &'a str,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    pub(super) x_label: &'a dyn Fn(&f64) -> String,
    pub(super) y_label: &'a dyn Fn(&f64) -> String,
    /// Room for something else on the right.
    pub(super) right: u32,
}

/// Letters of the usual size.
pub(super) fn letters(color: RGBColor, at: Pos) -> TextStyle<'static> {
    sized(LABEL, color, at)
}

fn sized(size: f64, color: RGBColor, at: Pos) -> TextStyle<'static> {
    let font = (FONT, size).into_font();
    font.color(&color).pos(at)
}

/// Words begin at their point.
pub(super) const fn left_of_words() -> Pos {
    Pos {
        h_pos: HPos::Left,
        v_pos: VPos::Center,
    }
}

/// Words begin above their point.
pub(super) const fn below_words() -> Pos {
    Pos {
        h_pos: HPos::Left,
        v_pos: VPos::Bottom,
    }
}

impl Frame<'_> {
    /// Draws the frame, and returns the plane for what comes into it.
    pub(super) fn draw<'a, 'b, X, Y>(
        &self,
        canvas: &'a Canvas<'b>,
        x: X,
        y: Y,
    ) -> Result<Plane<'a, 'b, X::CoordDescType, Y::CoordDescType>, DrawError>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let at = Pos::new(HPos::Left, VPos::Top);
        canvas.draw(&Text::new(self.title, (LEFT, 34), sized(TITLE, INK, at)))?;
        canvas.draw(&Text::new(self.below_title, (LEFT, 98), letters(FAINT, at)))?;
        let mut chart = ChartBuilder::on(canvas)
            .margin_top(TOP)
            .margin_right(self.right)
            .margin_bottom(20)
            .margin_left(30)
            .x_label_area_size(110)
            .y_label_area_size(150)
            .build_cartesian_2d(x, y)?;
        let words = (FONT, LABEL).into_font().color(&INK);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE.mix(0.0))
            .bold_line_style(ShapeStyle::from(GRID).stroke_width(2))
            .axis_style(ShapeStyle::from(FAINT).stroke_width(2))
            .label_style(words.clone())
            .axis_desc_style(words)
            .x_labels(9)
            .y_labels(7)
            .set_all_tick_mark_size(12)
            .x_label_formatter(self.x_label)
            .y_label_formatter(self.y_label)
            .x_desc(self.x)
            .y_desc(self.y)
            .draw()?;
        Ok(chart)
    }
}

/// Draws a line through points.
pub(super) fn line<X, Y>(
    plane: &mut Plane<'_, '_, X, Y>,
    points: &[(f64, f64)],
    color: RGBColor,
) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let style = ShapeStyle::from(color).stroke_width(5);
    plane.draw_series(LineSeries::new(points.iter().copied(), style))?;
    Ok(())
}

/// Draws a dot at each of the points.
pub(super) fn dots<X, Y>(
    plane: &mut Plane<'_, '_, X, Y>,
    points: &[(f64, f64)],
    color: RGBColor,
) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    plane.draw_series(points.iter().map(|at| Circle::new(*at, 10, color.filled())))?;
    Ok(())
}

/// Draws a line of dashes between two points: what is to be compared with.
pub(super) fn mark<X, Y>(plane: &mut Plane<'_, '_, X, Y>, from: (f64, f64), to: (f64, f64)) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let style = ShapeStyle::from(FAINT).stroke_width(3);
    plane.draw_series(DashedLineSeries::new([from, to], 14, 10, style))?;
    Ok(())
}

/// Draws the lines' names, in the upper right corner of the plane, side by side.
pub(super) fn names(canvas: &Canvas<'_>, names: &[(&str, RGBColor)]) -> Drawn {
    const STEP: i32 = 230;
    let right = i32::try_from(SIZE.0 - RIGHT).unwrap_or(0);
    let mut x = right - STEP * i32::try_from(names.len()).unwrap_or(0);
    for (name, color) in names {
        let (y, style) = (114, ShapeStyle::from(color).stroke_width(5));
        canvas.draw(&PathElement::new([(x, y), (x + 60, y)], style))?;
        canvas.draw(&Circle::new((x + 30, y), 10, color.filled()))?;
        canvas.draw(&Text::new(
            (*name).to_owned(),
            (x + 78, y),
            letters(INK, left_of_words()),
        ))?;
        x += STEP;
    }
    Ok(())
}

/// The range of all that is to be seen, with a share of it as room at both ends.
pub(super) fn around(values: impl Iterator<Item = f64>, room: f64) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let room = (high - low).max(0.01) * room;
    low - room..high + room
}

/// A filled rectangle.
pub(super) fn tile<C>(from: C, to: C, color: RGBColor) -> Rectangle<C> {
    Rectangle::new([from, to], color.filled())
}
