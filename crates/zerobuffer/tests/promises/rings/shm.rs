//! A `/dev/shm` that is too small, sparse, read-only, closed or missing: each has its own error, and none ends a process.

use super::support;

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::limits::{BALLAST, KIB, MIB, config, fill_up, in_small_shm, kind, small_shm};
use super::support::forge::{Forge, at};
use super::support::{confine, role, say};
use zerobuffer::{BufferConfig, ErrorKind, Reader, Writer, inspect};

support::peers!(sparse, hollow, docker, giant_metadata, read_only, missing_shm);

/// Connects to a buffer whose reader has reserved nothing, where there is no memory.
fn sparse(arguments: &[String]) {
    let name = small_shm(arguments);
    let (metadata, payload) = (64 * KIB as u64, MIB as u64);
    let mut block = [0_u8; 128];
    let mut set = |at: u64, value: u64| block[at as usize..][..8].copy_from_slice(&value.to_le_bytes());
    set(at::OIEB_SIZE, 128 | 1 << 32);
    set(at::METADATA_SIZE, metadata);
    set(0x10, metadata);
    set(at::PAYLOAD_SIZE, payload);
    set(at::FREE_BYTES, payload);
    set(at::READER_PID, u64::from(std::process::id()));
    let segment = fs::File::create(format!("/dev/shm/{name}")).unwrap();
    (&segment).write_all(&block).unwrap();
    segment.set_len(128 + metadata + payload).unwrap();
    let semaphores: Vec<fs::File> = ["w", "r"]
        .iter()
        .map(|which| fs::File::create(format!("/dev/shm/sem.sem-{which}-{name}")).unwrap())
        .collect();
    semaphores.iter().for_each(|file| file.set_len(32).unwrap());
    fill_up();
    // The semaphores have a length and no memory.
    assert_eq!(kind(Writer::connect(name)), "OutOfMemory");
    fs::remove_file(BALLAST).unwrap();
    semaphores.iter().for_each(|mut file| file.write_all(&[0; 32]).unwrap());
    fill_up();
    let mut writer = Writer::connect(name).unwrap();
    assert_eq!(kind(writer.set_metadata(&[1; 60_000])), "OutOfMemory");
    assert_eq!(kind(writer.write_frame(&[1; 100_000])), "OutOfMemory");
    fs::remove_file(BALLAST).unwrap();
    writer.set_metadata(&[1; 60_000]).unwrap();
    // The writer believes for a while that there is none.
    let start = Instant::now();
    while writer.write_frame(&[1; 100_000]).is_err() {
        assert!(start.elapsed() < support::PATIENCE);
        std::thread::yield_now();
    }
    say("no signal");
}

#[test]
fn failure_10_a_buffer_without_memory_raises_no_signal_in_its_writer() {
    confine::need_root("a /dev/shm of one's own");
    in_small_shm(role!(sparse), "size=1m");
}

/// Connects to a buffer behind whose first page there is a hole, where there is no memory to fill it.
fn hollow(arguments: &[String]) {
    let name = small_shm(arguments);
    let reader = Reader::create(name, config(MIB / 4)).unwrap();
    let segment = fs::OpenOptions::new().write(true).open(format!("/dev/shm/{name}")).unwrap();
    let size = segment.metadata().unwrap().len();
    // SAFETY: fallocate takes no pointers.
    let punched = unsafe {
        libc::fallocate(
            segment.as_raw_fd(),
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            4096,
            size.next_multiple_of(4096).cast_signed() - 4096,
        )
    };
    assert_eq!(punched, 0, "{}", std::io::Error::last_os_error());
    fill_up();
    // A classic ring needs nothing behind the first page until a frame is written.
    if support::is_classic() {
        drop(Writer::connect(name).unwrap());
    } else {
        assert_eq!(kind(Writer::connect(name)), "OutOfMemory");
    }
    // The reader's close looks at what was punched out.
    fs::remove_file(BALLAST).unwrap();
    drop(reader);
    say("no signal");
}

#[test]
fn failure_10_a_hole_in_a_buffer_raises_no_signal_in_a_writer_that_connects() {
    confine::need_root("a /dev/shm of one's own");
    in_small_shm(role!(hollow), "size=1m");
}

/// Writes into a `/dev/shm` that is smaller than the buffer, as a container's of 64 MB is, while its reader does not read.
fn docker(arguments: &[String]) {
    let name = small_shm(arguments);
    let mut reader = Reader::create(name, config(8 * MIB)).unwrap();
    let options = zerobuffer::WriterOptions::default().write_timeout(Duration::from_millis(300));
    let mut writer = Writer::connect_with(name, options).unwrap();
    let mut written = 0;
    let mut write_until_refused = |writer: &mut Writer| {
        let start = Instant::now();
        loop {
            let last = Instant::now();
            match writer.write_frame(&[1; 50_000]) {
                Ok(_) => written += 1,
                Err(error) => {
                    assert!(last.elapsed() < Duration::from_secs(5) && start.elapsed() < support::PATIENCE);
                    return error;
                }
            }
        }
    };
    let error = write_until_refused(&mut writer);
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    assert!(error.to_string().contains("--shm-size"), "no way out told: {error}");
    assert_eq!(writer.acquire_frame(50_000).unwrap_err().kind(), ErrorKind::OutOfMemory);
    // With room for the whole ring, the reader is what the writer waits for.
    let c = |text: &str| std::ffi::CString::new(text).unwrap();
    let (folder, options) = (c("/dev/shm"), c("size=32m"));
    // SAFETY: all are C strings that outlive the call, or null where a remount ignores them.
    let result = unsafe {
        libc::mount(
            std::ptr::null(),
            folder.as_ptr(),
            std::ptr::null(),
            libc::MS_REMOUNT,
            options.as_ptr().cast(),
        )
    };
    assert_eq!(result, 0, "remount: {}", std::io::Error::last_os_error());
    let error = write_until_refused(&mut writer);
    assert_eq!(error.kind(), ErrorKind::BufferFull, "{error}");
    for _ in 0..written {
        assert_eq!(*reader.try_read_frame().unwrap().unwrap(), [1; 50_000]);
    }
    say(format!("{written} frames"));
}

#[test]
fn failure_10_a_shm_smaller_than_the_buffer_is_told_from_a_slow_reader() {
    confine::need_root("a /dev/shm of one's own");
    in_small_shm(role!(docker), "size=1m");
}

/// Reads metadata of a length that no machine has memory for.
fn giant_metadata(arguments: &[String]) {
    let name = small_shm(arguments);
    const HUGE: u64 = 16 << 40;
    let kept = zerobuffer::KeptBuffer::create(name, config(4096).classic(true)).unwrap();
    let forge = Forge::segment(name);
    forge.set(at::METADATA_SIZE, HUGE);
    forge.set(at::METADATA_WRITTEN, HUGE);
    forge.set(128, HUGE - 8);
    let segment = fs::OpenOptions::new().write(true).open(format!("/dev/shm/{name}")).unwrap();
    segment.set_len(128 + HUGE + 4096).unwrap();
    let reader = Reader::create(name, BufferConfig::default()).unwrap();
    assert_eq!(kind(reader.metadata()), "OutOfMemory");
    drop((reader, kept));
    say("refused");
}

#[test]
fn failure_13_metadata_of_a_forged_length_takes_no_memory() {
    confine::need_root("a /dev/shm of one's own");
    in_small_shm(role!(giant_metadata), "size=1m");
}

// ---- a /dev/shm that is missing, or not to be written to ----

fn read_only(arguments: &[String]) {
    let name = small_shm(arguments);
    let error = Reader::create(name, config(4096)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    let message = error.to_string();
    assert!(message.contains("read-only") && !message.contains("wider"), "{message}");
    say("refused");
}

#[test]
fn a_read_only_shm_is_called_one() {
    confine::need_root("a /dev/shm of one's own");
    in_small_shm(role!(read_only), "ro");
}

/// In a `/dev` that has no `shm`.
fn missing_shm(arguments: &[String]) {
    let [name, outer, _] = arguments else { panic!("name, mount namespace, options") };
    confine::mount_tmpfs("/dev", "mode=755", outer);
    for error in [
        Reader::create(name, config(4096)).unwrap_err(),
        Writer::connect(name).unwrap_err(),
        inspect::list().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::System, "{error}");
        assert!(error.to_string().contains("/dev/shm is missing"), "{error}");
    }
    // And one whose rights keep this user out.
    fs::create_dir("/dev/shm").unwrap();
    confine::mount_tmpfs("/dev/shm", "mode=700", outer);
    confine::become_nobody();
    for error in [Reader::create(name, config(4096)).unwrap_err(), Writer::connect(name).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("chmod 1777 /dev/shm"), "no way out told: {error}");
    }
    say("told apart");
}

#[test]
fn a_missing_shm_and_a_closed_one_are_called_so() {
    confine::need_root("a /dev of one's own");
    in_small_shm(role!(missing_shm), "");
}
