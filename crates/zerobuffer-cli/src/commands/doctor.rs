//! `zerobuffer doctor`: what could keep ZeroBuffer from working here, and what to do about it.

mod pages;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use zerobuffer::{BufferConfig, DEFAULT_PAYLOAD_SIZE, Reader, Writer, cleanup, inspect};

use crate::args::DoctorArgs;
use crate::exit;
use crate::output::{Bytes, say, say_json};

const SHM: &str = "/dev/shm";
const LOCKS: &str = "/tmp/zerobuffer";
/// What a reader and a writer of one buffer have open, with room for the rest of a program.
const DESCRIPTORS: u64 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Problem,
}

#[derive(Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

fn ok(check: &'static str, found: impl Into<String>) -> Finding {
    Finding { check, verdict: Verdict::Ok, found: found.into(), advice: None }
}

fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { check, verdict: Verdict::Warning, found: found.into(), advice: Some(advice.into()) }
}

fn problem(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { check, verdict: Verdict::Problem, found: found.into(), advice: Some(advice.into()) }
}

pub(crate) fn run(args: &DoctorArgs) -> u8 {
    let findings = [
        shared_memory(),
        lock_directory(),
        proc(),
        file_size(),
        descriptors(),
        pages::huge_pages(),
        pages::reserved_huge_pages(),
        pages::pages_ahead(),
        pages::numa_nodes(),
        round_trip(),
        buffers(),
        leftovers(),
    ];
    let problems = findings.iter().filter(|finding| finding.verdict == Verdict::Problem).count();
    let warnings = findings.iter().filter(|finding| finding.verdict == Verdict::Warning).count();
    if args.json {
        say_json(&findings);
    } else {
        for Finding { check, verdict, found, advice } in findings {
            let mark = match verdict {
                Verdict::Ok => "ok     ",
                Verdict::Warning => "warning",
                Verdict::Problem => "PROBLEM",
            };
            say(&format_args!("{mark}  {check}: {found}"));
            if let Some(advice) = advice {
                say(&format_args!("         -> {advice}"));
            }
        }
        say(&"");
        say(&match (problems, warnings) {
            (0, 0) => "ZeroBuffer can work here.".to_owned(),
            (0, 1) => "ZeroBuffer can work here; there is one thing to look at.".to_owned(),
            (0, n) => format!("ZeroBuffer can work here; there are {n} things to look at."),
            (1, _) => "There is one problem: see above for what to do.".to_owned(),
            (n, _) => format!("There are {n} problems: see above for what to do."),
        });
    }
    if problems == 0 { exit::OK } else { 1 }
}

fn shared_memory() -> Finding {
    let check = "shared memory";
    let stat = match rustix::fs::statvfs(SHM) {
        Ok(stat) => stat,
        Err(error) => {
            return problem(
                check,
                format!("{SHM}: {error}"),
                "mount a tmpfs there: mount -t tmpfs tmpfs /dev/shm",
            );
        }
    };
    let (total, free) = (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize);
    let found = format!("{SHM}: {} free of {}", Bytes(free), Bytes(total));
    let larger = "make it larger: mount -o remount,size=2G /dev/shm, or run the container with --shm-size=2g; or make \
                  buffers smaller (--buffer-size)";
    let tmpfs = rustix::fs::statfs(SHM).is_ok_and(|stat| stat.f_type == 0x0102_1994);
    if !tmpfs {
        return problem(check, format!("{SHM} is no tmpfs"), "mount one: mount -t tmpfs tmpfs /dev/shm");
    }
    // Linux knows the owner of the mount's mode; who may make files there shows in the round trip.
    match free {
        0..16_777_216 => {
            problem(check, found, format!("nearly nothing is free: zerobuffer clean, or {larger}"))
        }
        _ if free < DEFAULT_PAYLOAD_SIZE as u64 => {
            warning(check, format!("{found}, less than the default buffer of 256 MiB can grow to"), larger)
        }
        _ => ok(check, found),
    }
}

fn lock_directory() -> Finding {
    let check = "lock files";
    let metadata = match fs::symlink_metadata(LOCKS) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return ok(check, format!("{LOCKS} does not exist yet; the first reader makes it"));
        }
        Err(error) => return problem(check, format!("{LOCKS}: {error}"), "make /tmp accessible (mode 1777)"),
        Ok(metadata) => metadata,
    };
    if !metadata.is_dir() {
        let advice = format!("remove it: rm {LOCKS}");
        return problem(check, format!("{LOCKS} is no directory"), advice);
    }
    let mode = metadata.mode() & 0o7777;
    let found = format!("{LOCKS}: mode {mode:04o}, owner {}", metadata.uid());
    if mode == 0o1777 {
        ok(check, found)
    } else {
        let advice = format!("other users cannot work here: as its owner or root, chmod 1777 {LOCKS}");
        warning(check, found, advice)
    }
}

fn proc() -> Finding {
    let check = "/proc";
    match fs::metadata("/proc/self/fd") {
        Ok(_) => ok(check, "mounted"),
        Err(error) => problem(check, format!("/proc/self/fd: {error}"), "mount it: mount -t proc proc /proc"),
    }
}

fn file_size() -> Finding {
    let check = "limit on file size";
    match getrlimit(Resource::Fsize).current {
        Some(limit) if limit < DEFAULT_PAYLOAD_SIZE as u64 + 8192 => warning(
            check,
            format!("{}: buffers cannot be larger", Bytes(limit)),
            "raise it (ulimit -f unlimited), or make buffers smaller (--buffer-size)",
        ),
        Some(limit) => ok(check, Bytes(limit).to_string()),
        None => ok(check, "none"),
    }
}

fn descriptors() -> Finding {
    let check = "limit on open files";
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < DESCRIPTORS => {
            warning(check, format!("{limit}; each buffer takes up to 3"), "raise it: ulimit -n 1024")
        }
        Some(limit) => ok(check, limit.to_string()),
        None => ok(check, "none"),
    }
}

/// A real buffer, created, written, read and removed.
fn round_trip() -> Finding {
    let check = "a frame through a buffer";
    let name = format!("zerobuffer-doctor-{}", std::process::id());
    let attempt = || -> zerobuffer::Result<bool> {
        let mut reader = Reader::create(&name, BufferConfig::default().payload_size(1 << 16))?;
        let mut writer = Writer::connect(&name)?;
        writer.write_frame(b"doctor")?;
        let frame = reader.read_frame(Duration::from_secs(1))?;
        Ok(frame.is_some_and(|frame| *frame == *b"doctor"))
    };
    match attempt() {
        Ok(true) => {
            let left = Path::new(SHM).join(&name);
            if left.symlink_metadata().is_ok() {
                return problem(
                    check,
                    format!("{} was left behind", left.display()),
                    "see docs/TROUBLESHOOTING.md",
                );
            }
            ok(check, "arrived")
        }
        Ok(false) => problem(check, "did not arrive", "see docs/TROUBLESHOOTING.md"),
        Err(error) => {
            problem(check, error.to_string(), format!("see docs/TROUBLESHOOTING.md, {}", error.kind()))
        }
    }
}

fn buffers() -> Finding {
    let check = "buffers";
    let names = match inspect::list() {
        Ok(names) => names,
        Err(error) => return problem(check, error.to_string(), format!("allow reading {SHM}")),
    };
    // Those of the dead are leftovers.
    let live = |view: &inspect::Snapshot| view.reader.presence == inspect::Presence::Alive;
    let snapshots: Vec<_> =
        names.iter().filter_map(|name| inspect::snapshot(name).ok().filter(live)).collect();
    let corrupt: Vec<&str> =
        snapshots.iter().filter(|view| !view.defects.is_empty()).map(|view| view.name.as_str()).collect();
    let critical: Vec<&str> = snapshots
        .iter()
        .filter(|view| view.health() == inspect::Health::Critical && view.defects.is_empty())
        .map(|view| view.name.as_str())
        .collect();
    let count = snapshots.len();
    if !corrupt.is_empty() {
        let advice = "end their reader and writer and start them again; zerobuffer inspect NAME tells more";
        return problem(check, format!("{count}, of which corrupt: {}", corrupt.join(", ")), advice);
    }
    if !critical.is_empty() {
        let advice = "their readers are slower than their writers: read faster, or make the buffers larger";
        return warning(check, format!("{count}, of which nearly full: {}", critical.join(", ")), advice);
    }
    ok(check, if count == 0 { "none".to_owned() } else { format!("{count}, all well") })
}

fn leftovers() -> Finding {
    let check = "leftovers";
    let found = match cleanup::leftovers() {
        Ok(found) => found,
        Err(error) => return problem(check, error.to_string(), format!("allow reading {SHM}")),
    };
    let dead: Vec<_> = found.iter().filter(|leftover| leftover.obstacle().is_none()).collect();
    if dead.is_empty() {
        return ok(check, "none");
    }
    let bytes: u64 = dead.iter().map(|leftover| leftover.bytes()).sum();
    let names: Vec<&str> = dead.iter().map(|leftover| leftover.name()).collect();
    warning(check, format!("{} in {}: {}", Bytes(bytes), names.len(), names.join(", ")), "zerobuffer clean")
}
