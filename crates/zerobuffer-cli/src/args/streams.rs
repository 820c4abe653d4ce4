//! The options of `writer`, `reader` and `relay`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ReportArgs;
use super::values::{nonzero_count, nonzero_size, permissions, size, timeout};

/// Write frames into a buffer that a reader has created, or will create soon.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all frames written, 1 cannot connect, 2 write error, 3 bad arguments, \
    5 results not printed, 130 ended by Ctrl-C or SIGTERM."
)]
pub(crate) struct WriterArgs {
    /// Name of the buffer.
    pub(crate) name: String,

    /// Frames to write; 0 for no limit. [default: 1000; with --input, no limit]
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) frames: Option<u64>,

    /// Bytes per frame. With --input, the last frame may be shorter. K, M and G (1024-based) are understood.
    #[arg(short, long, value_name = "BYTES", default_value = "1024", value_parser = nonzero_size)]
    pub(crate) size: usize,

    /// Metadata to set before the first frame.
    #[arg(short, long, value_name = "TEXT", conflicts_with = "metadata_file")]
    pub(crate) metadata: Option<String>,

    /// File with the metadata to set before the first frame.
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// The content of the frames.
    #[arg(long, value_enum, default_value_t = Pattern::Sequential, conflicts_with = "input")]
    pub(crate) pattern: Pattern,

    /// Real data instead of a pattern: a file (or - for standard input), cut into frames.
    #[arg(long, value_name = "FILE|-")]
    pub(crate) input: Option<PathBuf>,

    /// Pause after each batch, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(crate) delay_ms: u64,

    /// Frames between two pauses.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) batch_size: u64,

    /// How long to wait for the reader, and then for space for each frame; 0 does not wait, -1 waits without limit.
    #[arg(long, value_name = "MS", default_value_t = 5000, allow_negative_numbers = true, value_parser = timeout())]
    pub(crate) timeout_ms: i64,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Create a buffer, read frames from it, and remove it at the end.
///
/// Ends with 0 after --frames frames, or without --frames when the writer closes. It is a read error (2) if
/// the writer dies, or closes before --frames frames have come.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 ok, 1 cannot create the buffer, 2 read error or time-out, 3 bad arguments, \
    4 verification failed, 5 results not printed, 130 ended by Ctrl-C or SIGTERM."
)]
pub(crate) struct ReaderArgs {
    /// Name of the buffer.
    pub(crate) name: String,

    /// Frames to read; 0 for no limit.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) frames: u64,

    /// Bytes expected per frame; 0 accepts any. Checked only if this option or --verify is given. [default: 1024]
    #[arg(short, long, value_name = "BYTES", value_parser = size)]
    pub(crate) size: Option<usize>,

    /// How long to wait for each frame, the first included; 0 does not wait, -1 waits without limit.
    #[arg(long, value_name = "MS", default_value_t = 5000, allow_negative_numbers = true, value_parser = timeout())]
    pub(crate) timeout_ms: i64,

    /// Compare every byte with the writer's pattern of this name.
    #[arg(long, value_enum, default_value_t = Verify::None)]
    pub(crate) verify: Verify,

    /// Print XXH3-64 checksums of each frame and of the whole stream.
    #[arg(long)]
    pub(crate) checksum: bool,

    /// Frames held before they are released together.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) batch_size: u64,

    #[command(flatten)]
    pub(crate) ring: RingArgs,

    /// Write the frames' bytes to a file, or to standard output (-); the summary then goes to standard error.
    #[arg(long, value_name = "FILE|-")]
    pub(crate) output: Option<PathBuf>,

    /// Read the newest frame each time, and pass over those that came before it. The summary counts them.
    #[arg(long)]
    pub(crate) latest: bool,

    /// When a writer closes or dies, wait for the next one without limit.
    #[arg(long)]
    pub(crate) keep: bool,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Pass frames on from one buffer to another.
///
/// Creates IN as its reader and connects to OUT as its writer. Ends with 0 after --frames frames, or when the writer of IN
/// closes.
///
/// If the stream is incomplete, because the writer of IN died or another failure ended the relay, the reader
/// of OUT is told that its writer died.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 ok, 1 input error (creating, reading, time-out), 2 output error (connecting, \
    writing), 3 relay error (metadata, or frames that no reader fetched from a created output), 4 bad arguments, \
    5 results not printed, 130 ended by Ctrl-C or SIGTERM."
)]
pub(crate) struct RelayArgs {
    /// Name of the buffer to read from; the relay creates it.
    #[arg(value_name = "IN")]
    pub(crate) input: String,

    /// Name of the buffer to write to.
    #[arg(value_name = "OUT")]
    pub(crate) output: String,

    /// Frames to relay; 0 for no limit.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) frames: u64,

    /// Create OUT as well and hold frames in it until a reader takes it over. At the end the relay waits for that
    /// reader up to the time-out, and reports the frames lost if none comes.
    #[arg(long)]
    pub(crate) create_output: bool,

    #[command(flatten)]
    pub(crate) ring: RingArgs,

    /// How long to wait for each frame, for the reader of OUT, and for space; 0 does not wait, -1 waits without limit.
    #[arg(long, value_name = "MS", default_value_t = 5000, allow_negative_numbers = true, value_parser = timeout())]
    pub(crate) timeout_ms: i64,

    /// Copy every frame. Otherwise frames of 32 KiB and more are shared where the reader of OUT allows it: it looks at
    /// them in IN, and the relay holds them there until it has released them.
    #[arg(long)]
    pub(crate) copy: bool,

    /// What to do to the bytes of each frame.
    #[arg(long, value_enum, default_value_t = Transform::None)]
    pub(crate) transform: Transform,

    /// Key of the transform xor, applied to every byte.
    #[arg(long, value_name = "BYTE", default_value_t = 255)]
    pub(crate) xor_key: u8,

    /// Frames between two progress lines; 0 for none.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub(crate) log_interval: u64,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Pass the frames of one buffer on to several others.
///
/// Creates IN as its reader and connects to each output as its writer. An output whose reader dies or closes is left out from then
/// on. Ends with 0 after --frames frames, or when the writer of IN closes.
///
/// If the stream is incomplete, because the writer of IN died or another failure ended the tee, the readers of its outputs are told
/// that their writer died.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 ok, 1 input error (creating, reading, time-out), 2 output error (connecting, \
    writing, or the reader of an OUT left early), 3 bad arguments, 5 results not printed, 130 ended by Ctrl-C or SIGTERM."
)]
pub(crate) struct TeeArgs {
    /// Name of the buffer to read from; the tee creates it.
    #[arg(value_name = "IN")]
    pub(crate) input: String,

    /// Names of buffers that get every frame. While one of them is full, the tee waits, and so does the writer of IN in the end.
    #[arg(value_name = "OUT")]
    pub(crate) outputs: Vec<String>,

    /// A buffer that never keeps the tee waiting: what comes while it has enough frames is dropped, and counted. May be given
    /// several times.
    #[arg(long, value_name = "OUT")]
    pub(crate) drop: Vec<String>,

    /// Frames that such a buffer has at most that its reader has not released.
    #[arg(long, value_name = "COUNT", default_value = "2", value_parser = nonzero_count)]
    pub(crate) drop_frames: usize,

    /// Frames to pass on; 0 for no limit.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) frames: u64,

    /// Copy every frame. Otherwise frames of 32 KiB and more are shared where the reader of an output allows it.
    #[arg(long)]
    pub(crate) copy: bool,

    #[command(flatten)]
    pub(crate) ring: RingArgs,

    /// How long to wait for each frame, for the reader of each output, and for space; 0 does not wait, -1 waits without limit.
    #[arg(long, value_name = "MS", default_value_t = 5000, allow_negative_numbers = true, value_parser = timeout())]
    pub(crate) timeout_ms: i64,

    /// Frames between two progress lines; 0 for none.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub(crate) log_interval: u64,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Options for the memory of a buffer that a command creates.
#[derive(Debug, Args)]
pub(crate) struct BufferArgs {
    /// Bytes of each ring to create; K, M and G (1024-based) are understood. [default: 256M]
    #[arg(long, value_name = "BYTES", value_parser = nonzero_size)]
    pub(crate) buffer_size: Option<usize>,

    /// Reserve all memory of the buffer at the start.
    #[arg(long)]
    pub(crate) preallocate: bool,
}

/// Options for a buffer that a command creates for frames.
#[derive(Debug, Args)]
pub(crate) struct RingArgs {
    #[command(flatten)]
    pub(crate) buffer: BufferArgs,

    /// Bytes of the metadata block to create, of which 8 hold its length. [default: 4096]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) metadata_size: Option<usize>,

    /// Permissions of the buffer, as 0660 for a group. [default: 0600]
    #[arg(long, value_name = "OCTAL", value_parser = permissions)]
    pub(crate) mode: Option<u32>,

    /// Make all memory of the buffer at the start, in huge pages as far as the kernel has some.
    #[arg(long)]
    pub(crate) huge_pages: bool,

    /// NUMA node whose memory the buffer shall use, as far as there is room; -1 = where the reader runs.
    #[arg(long, value_name = "NODE", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1..1024))]
    pub(crate) numa_node: Option<i32>,

    /// Keep the ring classic, so that 1.x writers can use it. Otherwise a writer of this version makes it an
    /// extended one, which is faster, but which later 1.x writers cannot use.
    #[arg(long)]
    pub(crate) classic: bool,
}

/// The content of a writer's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pattern {
    /// Byte i of frame f (both from 0) is (f + i) mod 256.
    Sequential,
    /// SplitMix64 seeded with the frame's index, as little-endian words.
    Random,
    /// All bytes 0.
    Zero,
    /// All bytes 255.
    Ones,
}

/// What a reader compares frames with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verify {
    None,
    Sequential,
    Random,
    Zero,
    Ones,
}

impl Verify {
    pub(crate) fn pattern(self) -> Option<Pattern> {
        match self {
            Verify::None => None,
            Verify::Sequential => Some(Pattern::Sequential),
            Verify::Random => Some(Pattern::Random),
            Verify::Zero => Some(Pattern::Zero),
            Verify::Ones => Some(Pattern::Ones),
        }
    }
}

/// What a relay does to the bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transform {
    /// Leave them as they are.
    None,
    /// The last byte first.
    Reverse,
    /// Exclusive or with --xor-key.
    Xor,
}

impl Transform {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transform::None => "none",
            Transform::Reverse => "reverse",
            Transform::Xor => "xor",
        }
    }
}
