//! Real data through real processes: what comes out is what went in, bit for bit.

mod common;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::{Name, TempFile, command, full, start, wait_until};
use sha2::{Digest, Sha256};

/// Bytes of the file that goes through the relays.
const LARGE: u64 = 500_000_000;

/// A number of bytes of the Rust toolchain's own files, one after the other: code, tables and text of all kinds.
fn real_file(name: &str, bytes: u64) -> (TempFile, [u8; 32]) {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
    let sysroot = rustc.args(["--print", "sysroot"]).output().expect("rustc tells its folder").stdout;
    let sysroot = PathBuf::from(String::from_utf8(sysroot).expect("UTF-8").trim());
    let mut folders = Vec::new();
    let file = TempFile::new(name);
    let mut out = File::create(file.path()).expect("a temporary file");
    let mut hash = Sha256::new();
    let mut left = bytes;
    while left > 0 {
        // A small toolchain is gone through more than once.
        let folder = folders.pop().unwrap_or_else(|| sysroot.clone());
        for entry in std::fs::read_dir(folder).expect("readable").flatten() {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let mut data = Vec::new();
                File::open(entry.path()).and_then(|f| f.take(left).read_to_end(&mut data)).expect("readable");
                hash.update(&data);
                out.write_all(&data).expect("room for the temporary file");
                left -= data.len() as u64;
            }
        }
    }
    (file, hash.finalize().into())
}

/// The hash and the length of all that `source` gives.
fn digest(mut source: impl Read) -> ([u8; 32], u64) {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        match source.read(&mut buffer).expect("readable") {
            0 => return (hash.finalize().into(), total),
            n => {
                hash.update(&buffer[..n]);
                total += n as u64;
            }
        }
    }
}

/// writer -> relay -> relay -> reader, with transforms that cancel each other out.
fn through_two_relays(input: &Path, size: &str, ring: &str, transform: &[&str]) -> ([u8; 32], u64) {
    let names @ [first, second, third] = &[Name::new("real-a"), Name::new("real-b"), Name::new("real-c")];
    let patience = ["--timeout-ms", "30000"];
    let reader = [&["reader", &**third, "--output", "-", "--buffer-size", ring], &patience[..]].concat();
    let mut reader =
        command(&reader).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a reader");
    let relay = |input: &Name, output: &Name| {
        let fixed = ["relay", &**input, &**output, "--buffer-size", ring, "--log-interval", "0"];
        start(&[&fixed[..], transform, &patience].concat())
    };
    let relays = [relay(second, third), relay(first, second)];
    let path = input.to_str().expect("UTF-8");
    let writer = start(&[&["writer", &**first, "--input", path, "-s", size], &patience[..]].concat());
    let result = digest(reader.stdout.take().expect("piped"));
    writer.finish().expect(0);
    for relay in relays {
        relay.finish().expect(0);
    }
    assert!(reader.wait().expect("wait").success());
    names.iter().for_each(|name| name.assert_nothing_left());
    result
}

#[test]
fn half_a_gigabyte_survives_two_relays_at_a_prime_frame_size() {
    let (file, expected) = real_file("large", LARGE);
    let sizes: &[(&str, &str, &[&str])] = if full() {
        &[
            ("104729", "4M", &["--transform", "xor", "--xor-key", "90"]),
            ("1009", "64K", &["--transform", "reverse"]),
            ("65537", "1M", &[]),
            ("3110417", "256M", &["--transform", "reverse"]),
        ]
    } else {
        &[("104729", "4M", &["--transform", "xor", "--xor-key", "90"])]
    };
    for (size, ring, transform) in sizes {
        let start = Instant::now();
        let (found, bytes) = through_two_relays(file.path(), size, ring, transform);
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(bytes, LARGE);
        assert_eq!(found, expected, "frames of {size} bytes, {transform:?}");
        eprintln!("frames of {size} bytes: {:.0} MB/s through four processes", LARGE as f64 / 1e6 / seconds);
    }
}

fn ffmpeg(arguments: &[&str]) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-y"]).args(arguments);
    command
}

#[track_caller]
fn run_ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let output = ffmpeg(arguments).output().expect("this test needs ffmpeg: apt-get install ffmpeg");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn wait(mut child: Child) {
    assert!(child.wait().expect("wait").success());
}

/// A video is made, encoded, decoded into the pipe, fetched out of it, encoded without loss and decoded again: every
/// picture must be the one that came out of the first decoder. In `cargo xtask test --full`, as it needs ffmpeg.
#[test]
fn a_real_video_goes_through_and_is_played_back_bit_exact() {
    if !full() {
        eprintln!("only in cargo xtask test --full");
        return;
    }
    let (width, height) = (1280, 720);
    let size = (width * height * 3 / 2).to_string();
    let (video, played) = (TempFile::new("video.mkv"), TempFile::new("played.mkv"));
    let source = format!("testsrc2=size={width}x{height}:rate=30:duration=8");
    run_ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        &source,
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "mpeg4",
        "-q:v",
        "4",
        video.text(),
    ]);

    let name = Name::new("real-video");
    let mut reader = command(&["reader", &name, "-s", &size, "--output", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a reader");
    wait_until("the buffer", || name.paths()[0].exists());
    let geometry = format!("{width}x{height}");
    let player = ffmpeg(&[
        "-f",
        "rawvideo",
        "-pix_fmt",
        "yuv420p",
        "-s",
        &geometry,
        "-r",
        "30",
        "-i",
        "pipe:0",
        "-c:v",
        "ffv1",
        played.text(),
    ])
    .stdin(reader.stdout.take().expect("piped"))
    .spawn()
    .expect("a player");
    let mut decoder = ffmpeg(&["-i", video.text(), "-f", "rawvideo", "-pix_fmt", "yuv420p", "pipe:1"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a decoder");
    let writer = command(&["writer", &name, "--input", "-", "-s", &size])
        .stdin(decoder.stdout.take().expect("piped"))
        .stdout(io::stderr())
        .spawn()
        .expect("a writer");
    for child in [decoder, writer, reader, player] {
        wait(child);
    }

    let pictures = |file: &TempFile| {
        let text = run_ffmpeg(&["-i", file.text(), "-pix_fmt", "yuv420p", "-f", "framehash", "-"]);
        let text = String::from_utf8(text).expect("text");
        // The last field of each line is the picture's hash; time bases differ between containers.
        let hashes = text.lines().filter(|line| !line.starts_with('#'));
        hashes.map(|line| line.rsplit(',').next().unwrap_or_default().trim().to_owned()).collect::<Vec<_>>()
    };
    let (sent, arrived) = (pictures(&video), pictures(&played));
    assert_eq!(sent.len(), 240);
    assert_eq!(sent, arrived);
    name.assert_nothing_left();
}
