//! One picture: drawn as an SVG, and rendered from that to a PNG, so that both always show the same.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _};
use plotters::prelude::SVGBackend;
use plotters::style::WHITE;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, fontdb};

use super::PlotError;

/// Points of a picture. Twice as many as it is looked at with: coordinates are rounded to whole ones.
pub(super) const SIZE: (u32, u32) = (1600, 1000);
/// What every machine has under this name, and the font that comes with this program where PNGs are made.
pub(super) const FONT: &str = "sans-serif";

/// Comes with the program: a PNG must not depend on the fonts of the machine that makes it.
const LETTERS: &[u8] = include_bytes!("../../fonts/DejaVuSans-latin.ttf");
const FAMILY: &str = "DejaVu Sans";

pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type DrawError = DrawingAreaErrorKind<io::Error>;
pub(super) type Drawn = Result<(), DrawError>;

/// Writes `name.svg` and `name.png`.
pub(super) fn write(
    dir: &Path,
    name: &str,
    draw: impl FnOnce(&Canvas<'_>) -> Drawn,
) -> Result<(), PlotError> {
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        canvas.fill(&WHITE)?;
        draw(&canvas)?;
        canvas.present()?;
    }
    let png = render(&svg).map_err(PlotError::Render)?;
    let store = |extension: &str, bytes: &[u8]| {
        let path: PathBuf = dir.join(name).with_extension(extension);
        std::fs::write(&path, bytes).map_err(|source| PlotError::Write { path, source })
    };
    std::fs::create_dir_all(dir).map_err(|source| PlotError::Write {
        path: dir.to_owned(),
        source,
    })?;
    store("svg", svg.as_bytes())?;
    store("png", &png)
}

fn render(svg: &str) -> Result<Vec<u8>, String> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(LETTERS.to_vec());
    fonts.set_sans_serif_family(FAMILY);
    let options = usvg::Options {
        fontdb: Arc::new(fonts),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    let mut pixels = Pixmap::new(SIZE.0, SIZE.1).ok_or("a picture without points")?;
    resvg::render(&tree, Transform::identity(), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| error.to_string())
}
