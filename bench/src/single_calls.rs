//! What C# adds to single calls: a frame of 64 bytes, one thread, against the same calls in Rust. `peers/csharp/SingleCalls.cs` is the same in C#.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use zerobuffer::{BufferConfig, Reader, Writer};

use crate::compare::Plan;
use crate::record::Record;
use crate::role::FILLING;
use crate::run::Runner;
use crate::stats::median;
use crate::transport::{CSHARP_PEER, Program};

const FRAMES: usize = 2000;
const BATCHES: usize = 200;
const SIZE: usize = 64;
const WAIT: Duration = Duration::from_secs(5);

/// Nanoseconds by the name of a row; of `_bytes` bytes, of `_collections` collections.
pub type Figures = BTreeMap<String, f64>;

/// One aim: a row of the C# peer, and what it may be.
struct Must {
    row: &'static str,
    words: &'static str,
    /// The row of Rust that it may exceed by `bound`; without one, `bound` is all that it may be.
    over: Option<&'static str>,
    bound: f64,
}

const MUSTS: &[Must] = &[
    Must { row: "write", words: "WriteFrame(span) over write_frame", over: Some("write"), bound: 20.0 },
    Must {
        row: "acquire_commit",
        words: "AcquireFrameBuffer + CommitFrame over acquire_frame + commit",
        over: Some("acquire_commit"),
        bound: 35.0,
    },
    Must {
        row: "read_dispose",
        words: "read + Dispose over read_frame + drop",
        over: Some("read_drop"),
        bound: 15.0,
    },
    Must { row: "read", words: "read, never disposed, over read_frame_ref", over: Some("read"), bound: 25.0 },
    Must { row: "read_token", words: "read with a CancellationToken", over: None, bound: 60.0 },
    Must { row: "read_async", words: "async read, a frame there", over: None, bound: 50.0 },
    Must { row: "read_async_waits", words: "async read that had to wait", over: None, bound: 20_000.0 },
    Must {
        row: "forgotten_64_kib",
        words: "a million frames of 64 KiB, none disposed",
        over: None,
        bound: 500.0,
    },
    Must {
        row: "forgotten_3_1_mb",
        words: "a million frames of 3.1 MB, none disposed",
        over: None,
        bound: 500.0,
    },
];

/// Measures Rust's rows; each figure is the median of batches.
pub fn measure() -> Result<Figures> {
    let name = format!("zbbench-{}-single", std::process::id());
    let mut reader = Reader::create(&name, BufferConfig::default().payload_size(1 << 20))?;
    let mut writer = Writer::connect(&name)?;
    let data = [FILLING; SIZE];
    let write = |writer: &mut Writer| -> Result<()> {
        for _ in 0..FRAMES {
            writer.write_frame(&data)?;
        }
        Ok(())
    };
    let acquire = |writer: &mut Writer| -> Result<()> {
        for _ in 0..FRAMES {
            let mut frame = writer.acquire_frame(SIZE)?;
            frame.copy_from_slice(&data);
            frame.commit()?;
        }
        Ok(())
    };
    let read = |reader: &mut Reader| -> Result<()> {
        for _ in 0..FRAMES {
            let frame = reader.read_frame_ref(WAIT)?.context("no frame came")?;
            ensure!(frame.len() == SIZE, "a frame of {} bytes", frame.len());
        }
        Ok(())
    };
    let read_drop = |reader: &mut Reader| -> Result<()> {
        for _ in 0..FRAMES {
            let frame = reader.read_frame(WAIT)?.context("no frame came")?;
            ensure!(frame.len() == SIZE, "a frame of {} bytes", frame.len());
        }
        Ok(())
    };
    let timed = |work: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
        let start = Instant::now();
        work()?;
        Ok(start.elapsed().as_nanos() as f64 / FRAMES as f64)
    };
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for _ in 0..BATCHES {
        times.entry("write").or_default().push(timed(&mut || write(&mut writer))?);
        times.entry("read").or_default().push(timed(&mut || read(&mut reader))?);
        times.entry("acquire_commit").or_default().push(timed(&mut || acquire(&mut writer))?);
        times.entry("read_drop").or_default().push(timed(&mut || read_drop(&mut reader))?);
    }
    Ok(times.into_iter().filter_map(|(row, mut times)| Some((row.to_owned(), median(&mut times)?))).collect())
}

/// Measures Rust and C# in turns, shows the medians of the runs and judges them.
pub fn compare(plan: &Plan<'_>, runner: &Runner, record: &mut Record) -> Result<()> {
    let mut runs: [Vec<Figures>; 2] = Default::default();
    for run in 0..plan.runs {
        for (figures, (who, program)) in
            runs.iter_mut().zip([("rust", Program::Own), ("csharp", Program::Named(CSHARP_PEER))])
        {
            let player = runner.start(who, program, &["single-calls"])?;
            let found: Figures =
                runner.wait(vec![player])?.into_iter().next().context("no process reported")?;
            record.line(
                &json!({ "scenario": { "kind": "single-calls" }, "who": who, "run": run, "figures": found }),
            )?;
            figures.push(found);
        }
    }
    println!("\nWhat single calls cost in C#, 64 B, in ns (Rust, C#; bytes allocated a frame)");
    let [rust, csharp] = runs;
    let of = |figures: &[Figures], row: &str| {
        median(&mut figures.iter().filter_map(|run| run.get(row).copied()).collect::<Vec<_>>())
    };
    for must in MUSTS {
        let head = must.words;
        let Some(own) = of(&csharp, must.row) else {
            println!("  {head:62} not measured");
            continue;
        };
        let rust = must.over.and_then(|row| of(&rust, row));
        let bytes = of(&csharp, &format!("{}_bytes", must.row));
        let collections = of(&csharp, &format!("{}_collections", must.row)).unwrap_or_default();
        let good = own - rust.unwrap_or_default() <= must.bound
            // What the runtime allocates once is nothing beside a million frames.
            && bytes.unwrap_or_default() < 0.005
            && collections == 0.0;
        let shown = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.1}"));
        println!(
            "  {head:62} {:7} {:>8} {own:8.1}, {} bytes, {collections} collections (must: {:+.0})",
            if good { "reached" } else { "MISSED" },
            shown(rust),
            bytes.map_or("-".to_owned(), |bytes| format!("{bytes:.2}")),
            must.bound,
        );
    }
    Ok(())
}
