//! Opens files that users name. Waits for a FIFO whose other end is not open yet; Ctrl-C ends the wait.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::exit::Failure;
use crate::output::inform;
use crate::stop::{Stop, Woken};

/// Pause between two attempts to open a FIFO that has no reader.
const LOOK: Duration = Duration::from_millis(20);

/// Opens a file, or standard input (-), for reading. Never waits: a FIFO without a writer is open at once, and is ready to be
/// read when its writer is there.
pub(crate) fn input(path: &Path) -> io::Result<File> {
    let file = if path == Path::new("-") {
        File::from(io::stdin().as_fd().try_clone_to_owned()?)
    } else {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?
    };
    if file.metadata()?.is_dir() {
        return Err(Errno::ISDIR.into());
    }
    Ok(file)
}

/// Opens a file, or standard output (-), for writing; waits for the reader of a FIFO. A failure carries
/// `code` if the system lacks a resource.
pub(crate) fn output(option: &str, path: &Path, code: u8, stop: &Stop) -> Result<File, Failure> {
    let failed = |error: &io::Error| Failure::of_file(&format!("{option} {}", path.display()), error, code);
    if path == Path::new("-") {
        return io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(|error| failed(&error));
    }
    let mut waits = false;
    loop {
        // With O_NONBLOCK, opening a FIFO without a reader fails with ENXIO instead of waiting.
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let opened =
            OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path);
        match opened {
            Ok(file) => {
                let blocking = rustix::fs::fcntl_getfl(&file)
                    .and_then(|flags| rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK));
                return blocking.map(|()| file).map_err(|error| failed(&error.into()));
            }
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) && is_fifo(path) => {
                if !std::mem::replace(&mut waits, true) {
                    inform(&format_args!("waiting for a reader of the FIFO {}", path.display()));
                }
                if !stop.sleep(LOOK) {
                    return Err(Failure::Interrupted);
                }
            }
            Err(error) => return Err(failed(&error)),
        }
    }
}

/// Reads what [`input`] has opened, to its end but no more than `most` bytes.
pub(crate) fn read_all(file: &File, most: u64, stop: &Stop) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        let left = most.saturating_sub(bytes.len() as u64).min(piece.len() as u64) as usize;
        match stop.wait_readable(file.as_fd(), Duration::from_secs(1)) {
            Woken::Stopped => return Ok(bytes),
            Woken::TimeOut => continue,
            Woken::Ready => {}
        }
        match (&*file).read(&mut piece[..left]) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_fifo(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo())
}
