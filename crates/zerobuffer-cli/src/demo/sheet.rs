//! The contact sheet: sixteen of the frames that arrived, as one PNG.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use super::font;
use super::picture::Thumbnail;

const COLUMNS: usize = 4;
const ROWS: usize = 4;
const GAP: usize = 16;
/// Font pixels are this many pixels wide and high.
const SCALE: usize = 2;
const CAPTION: usize = 12 * SCALE;
const TITLE: usize = 40;
const CELL: (usize, usize) = (Thumbnail::WIDTH + GAP, Thumbnail::HEIGHT + CAPTION + GAP);
const WIDTH: usize = COLUMNS * CELL.0 + GAP;
const HEIGHT: usize = TITLE + ROWS * CELL.1 + GAP;

const PAPER: [u8; 3] = [24, 26, 32];
const INK: [u8; 3] = [226, 228, 234];
const DIM: [u8; 3] = [150, 156, 170];
const ALARM: [u8; 3] = [255, 80, 60];

/// Collects thumbnails of frames spread evenly over the stream.
pub(crate) struct Sheet {
    every: f64,
    kept: Vec<(Thumbnail, String, bool)>,
}

impl Sheet {
    /// For a stream of about so many frames.
    pub(crate) fn new(frames: f64) -> Sheet {
        Sheet { every: (frames / (COLUMNS * ROWS) as f64).max(1.0), kept: Vec::new() }
    }

    /// Keeps the frame, if it is its turn.
    pub(crate) fn look(&mut self, index: u64, frame: &[u8], latency: u64, right: bool) {
        if self.kept.len() < COLUMNS * ROWS && index as f64 >= self.kept.len() as f64 * self.every {
            let verdict = if right { "verified" } else { "WRONG" };
            let caption = format!("frame {index}   latency {:.0} us   {verdict}", latency as f64 / 1e3);
            self.kept.push((Thumbnail::of(frame), caption, right));
        }
    }

    pub(crate) fn save(self, path: &Path) -> io::Result<()> {
        let mut canvas = Canvas(vec![PAPER; WIDTH * HEIGHT]);
        canvas.write(
            GAP,
            14,
            "ZeroBuffer: 1920x1080 YUV420 at 60 fps, as it arrived in the other process",
            INK,
        );
        for (i, (thumbnail, caption, right)) in self.kept.iter().enumerate() {
            let (x, y) = (GAP + i % COLUMNS * CELL.0, TITLE + i / COLUMNS * CELL.1);
            canvas.paste(x, y, thumbnail);
            let ink = if *right { DIM } else { ALARM };
            canvas.write(x, y + Thumbnail::HEIGHT + 5, caption, ink);
        }
        canvas.save(path)
    }
}

struct Canvas(Vec<[u8; 3]>);

impl Canvas {
    fn paste(&mut self, x: usize, y: usize, thumbnail: &Thumbnail) {
        for (row, pixels) in thumbnail.0.chunks(Thumbnail::WIDTH).enumerate() {
            self.0[(y + row) * WIDTH + x..][..pixels.len()].copy_from_slice(pixels);
        }
    }

    fn write(&mut self, x: usize, y: usize, text: &str, ink: [u8; 3]) {
        for (i, glyph) in text.chars().enumerate() {
            let left = x + i * 6 * SCALE;
            for (row, column) in
                (0..7 * SCALE).flat_map(|row| (0..5 * SCALE).map(move |column| (row, column)))
            {
                if font::pixel(glyph, column / SCALE, row / SCALE) {
                    self.0[(y + row) * WIDTH + left + column] = ink;
                }
            }
        }
    }

    fn save(&self, path: &Path) -> io::Result<()> {
        let file = BufWriter::new(File::create(path)?);
        let mut encoder = png::Encoder::new(file, WIDTH as u32, HEIGHT as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(self.0.as_flattened())?;
        writer.finish()?;
        Ok(())
    }
}
