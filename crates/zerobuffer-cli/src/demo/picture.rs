//! The demo's moving picture: 1080p YUV 4:2:0, made and checked at the speed of memory.
//!
//! A frame is a row-wise patchwork of bytes rendered once: a background that scrolls, a ball that bounces, a counter.
//! Writer and reader walk the same patchwork, one copying it, the other comparing, so that every byte is checked.

use std::f64::consts::TAU;

use super::font;

pub(crate) const WIDTH: usize = 1920;
pub(crate) const HEIGHT: usize = 1080;
/// Luma in full, both chroma planes at half the width and height.
pub(crate) const FRAME_SIZE: usize = WIDTH * HEIGHT * 3 / 2;

/// Pixels that the background moves per frame; even, so that luma and chroma move together.
const SCROLL: usize = 6;
const BALL: usize = 240;
const DIGITS: usize = 6;
/// Font pixels are this many picture pixels wide and high; even.
const DIGIT_SCALE: usize = 16;
const DIGIT_WIDTH: usize = 6 * DIGIT_SCALE;
const DIGIT_HEIGHT: usize = 9 * DIGIT_SCALE;
const COUNTER_AT: (usize, usize) = (64, 64);
/// The ball stays below the counter: patches never overlap.
const BALL_TOP: usize = 240;

/// One colour plane of something.
struct Plane {
    width: usize,
    bytes: Vec<u8>,
}

impl Plane {
    fn row(&self, y: usize) -> &[u8] {
        &self.bytes[y * self.width..][..self.width]
    }
}

/// Something rendered in Y, U and V.
type Planes = [Plane; 3];

type Rgb = [f64; 3];

fn yuv([r, g, b]: Rgb) -> [u8; 3] {
    // BT.601, full range, as JPEG has it.
    [
        (0.299 * r + 0.587 * g + 0.114 * b) * 255.0,
        (-0.168_736 * r - 0.331_264 * g + 0.5 * b) * 255.0 + 128.0,
        (0.5 * r - 0.418_688 * g - 0.081_312 * b) * 255.0 + 128.0,
    ]
    .map(|value| value.round().clamp(0.0, 255.0) as u8)
}

fn rgb(y: f64, u: f64, v: f64) -> [u8; 3] {
    let (u, v) = (u - 128.0, v - 128.0);
    [y + 1.402 * v, y - 0.344_136 * u - 0.714_136 * v, y + 1.772 * u]
        .map(|value| value.round().clamp(0.0, 255.0) as u8)
}

/// Renders `width` x `height` pixels (both even) of `colour`.
fn render(width: usize, height: usize, colour: impl Fn(usize, usize) -> Rgb) -> Planes {
    let mut y_plane = Vec::with_capacity(width * height);
    let mut u_plane = Vec::with_capacity(width * height / 4);
    let mut v_plane = Vec::with_capacity(width * height / 4);
    for y in 0..height {
        for x in 0..width {
            let [luma, u, v] = yuv(colour(x, y));
            y_plane.push(luma);
            if y % 2 == 0 && x % 2 == 0 {
                u_plane.push(u);
                v_plane.push(v);
            }
        }
    }
    [
        Plane { width, bytes: y_plane },
        Plane { width: width / 2, bytes: u_plane },
        Plane { width: width / 2, bytes: v_plane },
    ]
}

/// Two rounds of the background side by side, so that any scroll position is one slice of a row.
fn background() -> Planes {
    // The waves depend on x and on y through a few sines, which are tabulated; all have a whole number of periods in
    // WIDTH, so the picture joins up with itself.
    let wave = |turns: f64, phase: f64, n: usize, length: f64| -> Vec<f64> {
        (0..n).map(|i| (TAU * (turns * i as f64 / length + phase)).sin()).collect()
    };
    let width = WIDTH as f64;
    let (x1, x2) = (wave(2.0, 0.0, WIDTH, width), wave(3.0, 0.3, WIDTH, width));
    let (y1, y2) = (wave(1.5, 0.1, HEIGHT, width), wave(4.0, 0.6, HEIGHT, width));
    let palette: Vec<Rgb> = (0..1024)
        .map(|i| {
            let t = f64::from(i) / 1024.0;
            [(0.50, 0.00), (0.38, 0.18), (0.58, 0.42)]
                .map(|(level, phase)| level + 0.34 * (TAU * (t + phase)).cos())
        })
        .collect();
    let single = render(WIDTH, HEIGHT, |x, y| {
        let value = x1[x] + y1[y] + x2[x] * y2[y] + (x1[x] * 2.0 + y2[y]).sin();
        palette[((value * 0.09 + 0.5).rem_euclid(1.0) * 1024.0) as usize % 1024]
    });
    single.map(|plane| {
        let bytes = plane.bytes.chunks(plane.width).flat_map(|row| [row, row]).flatten().copied().collect();
        Plane { width: plane.width * 2, bytes }
    })
}

fn ball() -> Planes {
    let radius = BALL as f64 / 2.0;
    render(BALL, BALL, |x, y| {
        let (dx, dy) = ((x as f64 + 0.5 - radius) / radius, (y as f64 + 0.5 - radius) / radius);
        let height = (1.0 - dx * dx - dy * dy).max(0.0).sqrt();
        let light = (0.5 * height - 0.55 * dx - 0.65 * dy).max(0.0);
        let shine = light.powi(24) * 0.9;
        let body = 0.18 + 0.75 * light;
        [(1.0 * body + shine).min(1.0), (0.62 * body + shine).min(1.0), (0.12 * body + shine).min(1.0)]
    })
}

fn digit(value: u8) -> Planes {
    render(DIGIT_WIDTH, DIGIT_HEIGHT, |x, y| {
        let (column, row) = (x / DIGIT_SCALE, y / DIGIT_SCALE);
        // A margin of half a font pixel on the left, and one above and below.
        let lit =
            (1..8).contains(&row) && column < 5 && font::pixel(char::from(b'0' + value), column, row - 1);
        if lit { [1.0, 1.0, 1.0] } else { [0.05, 0.06, 0.12] }
    })
}

/// All that the frames are put together from.
pub(crate) struct Picture {
    background: Planes,
    ball: Planes,
    /// Half the ball's width, in steps of two pixels, for each two rows.
    chord: Vec<usize>,
    digits: Vec<Planes>,
}

impl Picture {
    pub(crate) fn new() -> Picture {
        let radius = BALL as f64 / 2.0;
        let chord = (0..BALL / 2)
            .map(|pair| {
                let dy = pair as f64 * 2.0 + 1.0 - radius;
                ((radius * radius - dy * dy).sqrt() / 2.0) as usize
            })
            .collect();
        Picture { background: background(), ball: ball(), chord, digits: (0..10).map(digit).collect() }
    }

    /// Walks through frame `index` from its first byte to its last: `visit` gets each run's offset and bytes.
    fn walk(&self, index: u64, mut visit: impl FnMut(usize, &[u8])) {
        let scroll = (index % WIDTH as u64) as usize * SCROLL % WIDTH;
        let ball_x = bounce(index * 10, WIDTH - BALL);
        let ball_y = BALL_TOP + bounce(index * 6, HEIGHT - BALL - BALL_TOP);
        let mut offset = 0;
        for (plane, half) in [(0, 1), (1, 2), (2, 2)] {
            let width = WIDTH / half;
            for y in 0..HEIGHT / half {
                let row = &self.background[plane].row(y)[scroll / half..][..width];
                let mut x = 0;
                let mut patch = |x: &mut usize, at: usize, bytes: &[u8]| {
                    visit(offset + *x, &row[*x..at]);
                    visit(offset + at, bytes);
                    *x = at + bytes.len();
                };
                // Full-size coordinates of this row's first pixel row.
                let full = y * half;
                if (COUNTER_AT.1..COUNTER_AT.1 + DIGIT_HEIGHT).contains(&full) {
                    let mut power = 10_u64.pow(DIGITS as u32);
                    for place in 0..DIGITS {
                        let value = (index % power / (power / 10)) as usize;
                        power /= 10;
                        let bytes = self.digits[value][plane].row((full - COUNTER_AT.1) / half);
                        patch(&mut x, (COUNTER_AT.0 + place * DIGIT_WIDTH) / half, bytes);
                    }
                }
                if (ball_y..ball_y + BALL).contains(&full) {
                    let inside = full - ball_y;
                    let chord = self.chord[inside / 2] * 2 / half;
                    let middle = BALL / 2 / half;
                    let bytes = &self.ball[plane].row(inside / half)[middle - chord..middle + chord];
                    patch(&mut x, ball_x / half + middle - chord, bytes);
                }
                visit(offset + x, &row[x..]);
                offset += width;
            }
        }
    }

    /// Draws frame `index`, all but its stamp.
    pub(crate) fn draw(&self, index: u64, frame: &mut [u8]) {
        self.walk(index, |offset, run| frame[offset..][..run.len()].copy_from_slice(run));
    }

    /// Whether every byte of `frame`, but for its stamp, is that of frame `index`.
    pub(crate) fn matches(&self, index: u64, frame: &[u8]) -> bool {
        let mut right = frame.len() == FRAME_SIZE;
        self.walk(index, |offset, run| {
            // The first run is the one with the stamp.
            let skip = Stamp::SIZE.saturating_sub(offset).min(run.len());
            right = right && frame[offset + skip..][..run.len() - skip] == run[skip..];
        });
        right
    }
}

/// A few pictures drawn beforehand, for a stream in which drawing must not cost more than the transport: one copy to
/// send a frame, one comparison to check it.
pub(crate) struct Loop(Vec<Vec<u8>>);

impl Loop {
    /// Two: a longer loop would not stay in the caches, and would measure the memory's speed instead.
    const LEN: u64 = 2;

    pub(crate) fn new(picture: &Picture) -> Loop {
        let draw = |index: u64| {
            let mut frame = vec![0; FRAME_SIZE];
            // Far enough apart to differ everywhere.
            picture.draw(index * 60, &mut frame);
            frame
        };
        Loop((0..Self::LEN).map(draw).collect())
    }

    fn at(&self, index: u64) -> &[u8] {
        &self.0[(index % Self::LEN) as usize]
    }

    pub(crate) fn draw(&self, index: u64, frame: &mut [u8]) {
        frame.copy_from_slice(self.at(index));
    }

    pub(crate) fn matches(&self, index: u64, frame: &[u8]) -> bool {
        frame.len() == FRAME_SIZE && frame[Stamp::SIZE..] == self.at(index)[Stamp::SIZE..]
    }
}

/// An even position that goes from 0 to `room` and back.
fn bounce(travelled: u64, room: usize) -> usize {
    let at = (travelled % (2 * room as u64)) as usize;
    (if at < room { at } else { 2 * room - at }) & !1
}

/// The first bytes of a frame: which one it is, and when it was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) index: u64,
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub(crate) time: u64,
}

impl Stamp {
    pub(crate) const SIZE: usize = 32;
    const MAGIC: [u8; 8] = *b"zb-demo\n";

    fn seal(self) -> u64 {
        (self.index ^ self.time.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn write(self, frame: &mut [u8]) {
        frame[..8].copy_from_slice(&Stamp::MAGIC);
        frame[8..16].copy_from_slice(&self.index.to_le_bytes());
        frame[16..24].copy_from_slice(&self.time.to_le_bytes());
        frame[24..32].copy_from_slice(&self.seal().to_le_bytes());
    }

    pub(crate) fn read(frame: &[u8]) -> Option<Stamp> {
        let word = |at: usize| Some(u64::from_le_bytes(frame.get(at..at + 8)?.try_into().ok()?));
        let stamp = Stamp { index: word(8)?, time: word(16)? };
        (frame[..8] == Stamp::MAGIC && word(24)? == stamp.seal()).then_some(stamp)
    }
}

/// A frame at a quarter of its width and height, in RGB.
pub(crate) struct Thumbnail(pub(crate) Vec<[u8; 3]>);

impl Thumbnail {
    pub(crate) const WIDTH: usize = WIDTH / 4;
    pub(crate) const HEIGHT: usize = HEIGHT / 4;

    pub(crate) fn of(frame: &[u8]) -> Thumbnail {
        let (luma, chroma) = frame.split_at(WIDTH * HEIGHT);
        let (u, v) = chroma.split_at(WIDTH * HEIGHT / 4);
        let mean = |plane: &[u8], width: usize, x: usize, y: usize, n: usize| {
            let rows = (0..n).flat_map(|row| &plane[(y * n + row) * width + x * n..][..n]);
            rows.map(|byte| u32::from(*byte)).sum::<u32>() as f64 / (n * n) as f64
        };
        let pixels = (0..Self::WIDTH * Self::HEIGHT).map(|i| {
            let (x, y) = (i % Self::WIDTH, i / Self::WIDTH);
            rgb(mean(luma, WIDTH, x, y, 4), mean(u, WIDTH / 2, x, y, 2), mean(v, WIDTH / 2, x, y, 2))
        });
        Thumbnail(pixels.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_drawn_completely_and_every_wrong_byte_is_seen() {
        let picture = Picture::new();
        for index in [0, 7, 123_456] {
            let mut covered = 0;
            picture.walk(index, |offset, run| {
                assert_eq!(offset, covered, "runs follow each other");
                covered += run.len();
            });
            assert_eq!(covered, FRAME_SIZE);
            let mut frame = vec![0; FRAME_SIZE];
            picture.draw(index, &mut frame);
            Stamp { index, time: 5 }.write(&mut frame);
            assert!(picture.matches(index, &frame));
            assert!(!picture.matches(index + 1, &frame));
            for at in [Stamp::SIZE, 100_000, WIDTH * HEIGHT, FRAME_SIZE - 1] {
                frame[at] ^= 1;
                assert!(!picture.matches(index, &frame), "byte {at}");
                frame[at] ^= 1;
            }
        }
    }

    #[test]
    fn stamps_survive_the_round_trip_and_damage_is_seen() {
        let mut frame = [0; Stamp::SIZE];
        let stamp = Stamp { index: 77, time: 123_456_789 };
        stamp.write(&mut frame);
        assert_eq!(Stamp::read(&frame), Some(stamp));
        for at in 0..Stamp::SIZE {
            frame[at] ^= 4;
            assert_eq!(Stamp::read(&frame), None, "byte {at}");
            frame[at] ^= 4;
        }
        assert_eq!(Stamp::read(&frame[..20]), None);
    }
}
