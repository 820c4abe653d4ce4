//! Real data: the toolchain's own files, half a gigabyte of them, from one process to another. SHA-256 in equals SHA-256
//! out, at frame sizes that divide nothing and rings that wrap thousands of times.

use super::support;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::support::{Name, Peer, role, say};
use sha2::{Digest, Sha256};
use zerobuffer::{Reader, Writer, WriterOptions};

const ENOUGH: u64 = 500_000_000;

support::peers!(sender);

/// Regular files in sorted order, as one stream of `len` bytes.
struct Stream {
    files: std::vec::IntoIter<PathBuf>,
    file: Option<File>,
    left: u64,
}

/// The regular files below `directory`, in sorted order, and their sizes; links are not followed.
fn files_below(directory: &Path, found: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => files_below(&path, found),
            Ok(metadata) if metadata.is_file() && File::open(&path).is_ok() => {
                found.push((path, metadata.len()))
            }
            _ => {}
        }
    }
}

impl Stream {
    /// The toolchain's files until there are enough of them, then the system's.
    fn open() -> Stream {
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        let output = Command::new(rustc).args(["--print", "sysroot"]).output().expect("rustc runs");
        let sysroot = String::from_utf8(output.stdout).expect("a path");
        let mut found = Vec::new();
        for root in [sysroot.trim(), "/usr/lib", "/usr/bin", "/usr/share"] {
            if found.iter().map(|(_, len)| len).sum::<u64>() < ENOUGH {
                files_below(root.as_ref(), &mut found);
            }
        }
        let mut left = 0;
        let mut files = Vec::new();
        for (path, len) in found {
            if left >= ENOUGH {
                break;
            }
            left += len;
            files.push(path);
        }
        assert!(left >= ENOUGH, "only {left} bytes below {sysroot} and /usr: install a whole Rust toolchain");
        Stream { files: files.into_iter(), file: None, left }
    }
}

impl Read for Stream {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(file) = &mut self.file {
                let read = file.read(target)?;
                if read > 0 {
                    self.left -= read as u64;
                    return Ok(read);
                }
            }
            match self.files.next() {
                Some(path) => self.file = Some(File::open(path)?),
                None => {
                    assert_eq!(self.left, 0, "a file has changed");
                    return Ok(0);
                }
            }
        }
    }
}

/// Reads until `target` is full or the stream ends. Returns the number of bytes.
fn read_full(stream: &mut Stream, target: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < target.len() {
        match stream.read(&mut target[filled..]).expect("a readable file") {
            0 => break,
            read => filled += read,
        }
    }
    filled
}

/// Streams the data in frames of one size, read straight from the files into the buffer.
fn sender(arguments: &[String]) {
    let [name, frame_size] = arguments else { panic!("name, frame size") };
    let frame_size: usize = frame_size.parse().unwrap();
    let options =
        WriterOptions::default().connect_timeout(support::PATIENCE).write_timeout(support::PATIENCE);
    let mut writer = Writer::connect_with(name, options).unwrap();
    let mut stream = Stream::open();
    loop {
        let mut frame = writer.acquire_frame(frame_size).unwrap();
        match read_full(&mut stream, &mut frame) {
            0 => break,
            len => frame.commit_len(len).unwrap(),
        };
    }
    say(format!("{} {}", writer.frames_written(), writer.bytes_written()));
}

fn hex(hash: &Sha256) -> String {
    hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn half_a_gigabyte_of_real_data_arrives_as_it_was_sent() {
    let mut hash = Sha256::new();
    let mut stream = Stream::open();
    let total = stream.left;
    let mut chunk = vec![0; 1 << 20];
    let start = Instant::now();
    loop {
        match stream.read(&mut chunk).unwrap() {
            0 => break,
            read => hash.update(&chunk[..read]),
        }
    }
    let sent = hex(&hash);
    eprintln!("{total} bytes, SHA-256 {sent}, hashed in {:?}", start.elapsed());

    const MIB: usize = 1 << 20;
    const DEFAULT: usize = zerobuffer::DEFAULT_PAYLOAD_SIZE;
    // Frame size, ring, frames held by the reader.
    let mut rounds = vec![
        (1_009, MIB, 3),
        (65_521, MIB, 0),
        (65_536, 8 * MIB, 5),
        (3_110_417, 8 * MIB, 1),
        (3_110_417, DEFAULT, 2),
    ];
    if support::full() {
        for frame_size in [251, 4_099, 65_537, 1_048_573, 4 * MIB, 16_777_213] {
            for ring in [MIB, 8 * MIB, 64 * MIB + 64, DEFAULT] {
                if frame_size + 16 <= ring {
                    let held = (ring / (frame_size + 16) / 4).min(7);
                    rounds.push((frame_size, ring, held));
                }
            }
        }
    }
    for (frame_size, ring, held) in rounds {
        let name = Name::new("real");
        let mut reader = Reader::create(&name, support::config().payload_size(ring)).unwrap();
        let start = Instant::now();
        let mut sender = Peer::start(role!(sender), &[&name, &frame_size.to_string()]);
        let mut hash = Sha256::new();
        let mut frames = std::collections::VecDeque::new();
        let mut count = 0;
        let mut last_len = frame_size;
        for frame in reader.frames() {
            let frame = frame.unwrap();
            count += 1;
            assert_eq!((frame.sequence(), last_len), (count, frame_size), "only the last frame is shorter");
            last_len = frame.len();
            frames.push_back(frame);
            // Hashed late: a frame that is held must keep its bytes.
            if frames.len() > held {
                hash.update(frames.pop_front().expect("pushed").as_ref());
            }
        }
        frames.iter().for_each(|frame| hash.update(frame.as_ref()));
        let took = start.elapsed();
        assert_eq!(hex(&hash), sent, "frames of {frame_size} through a ring of {ring}");
        assert_eq!(reader.bytes_read(), total);
        sender.expect(&format!("{count} {total}"));
        assert!(sender.wait().success());
        drop(frames);
        drop(reader);
        name.assert_nothing_left();
        eprintln!(
            "{count} frames of {frame_size} through a ring of {ring}, {held} held: {:.0} MB/s with the hashing",
            total as f64 / took.max(Duration::from_nanos(1)).as_secs_f64() / 1e6
        );
    }
}
