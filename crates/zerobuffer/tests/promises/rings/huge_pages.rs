//! Huge pages: a buffer gets them where the kernel gives some, which a file of the test's own finds out.

use super::support;

use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use super::support::{Name, Peer, confine, role, say};
use zerobuffer::{KeptBuffer, NumaNode, Reader, Writer, inspect};

support::peers!(writer, owner_in_a_mount);

/// Bytes of a huge page on x86-64, and on aarch64 with pages of 4 KiB.
const HUGE: usize = 2 << 20;
/// Bytes of the payload of a buffer with huge pages.
const PAYLOAD: usize = 4 * HUGE;

/// Bytes that this process has mapped by huge pages in the mapping at `at`: field `ShmemPmdMapped` of /proc/self/smaps (proc(5)).
fn mapped_at(at: usize) -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut found, mut bytes) = (false, None);
    for line in maps.lines() {
        let first = line.split(' ').next().unwrap();
        if let Some((start, end)) = first.split_once('-') {
            let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).unwrap());
            found = (start..end).contains(&at);
        } else if found && first == "ShmemPmdMapped:" {
            bytes = line.split_whitespace().nth(1).map(|kib| kib.parse::<usize>().unwrap() << 10);
        }
    }
    bytes.expect("the kernel tells of huge pages in shared memory (Linux 4.8)")
}

/// How many bytes of huge pages the kernel gives a file in /dev/shm with room for [`PAYLOAD`] and some more; `asked`: to a process that
/// asks for them in every way there is.
fn given(asked: bool) -> usize {
    let mut options = std::fs::OpenOptions::new();
    let options = options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE);
    let file = options.open("/dev/shm").unwrap();
    let len = PAYLOAD + 8192;
    file.set_len(len as u64).unwrap();
    /// Linux 6.1 (madvise(2)).
    const MADV_COLLAPSE: libc::c_int = 25;
    let (anywhere, access) = (std::ptr::null_mut(), libc::PROT_READ | libc::PROT_WRITE);
    let unused = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: both mappings are new, the second one within the first, which nothing else knows. The bytes touched lie within the second
    // one, and it is not used after its end. The advices change no byte.
    unsafe {
        let place = libc::mmap(anywhere, len + HUGE, libc::PROT_NONE, unused, -1, 0);
        assert_ne!(place, libc::MAP_FAILED);
        let at = place.wrapping_byte_add(place.addr().next_multiple_of(HUGE) - place.addr());
        let base = libc::mmap(at, len, access, libc::MAP_SHARED | libc::MAP_FIXED, file.as_raw_fd(), 0);
        assert_eq!(base, at);
        let advise = |advice| asked && libc::madvise(base, PAYLOAD, advice) == 0;
        advise(libc::MADV_HUGEPAGE);
        let touch = || (0..len).step_by(4096).for_each(|at| base.cast::<u8>().add(at).write_volatile(1));
        touch();
        advise(MADV_COLLAPSE);
        touch();
        let bytes = mapped_at(base.addr());
        libc::munmap(place, len + HUGE);
        bytes
    }
}

fn config() -> zerobuffer::BufferConfig {
    support::config().payload_size(PAYLOAD)
}

/// Writes a frame over more than a huge page, and tells how many bytes it has mapped by huge pages.
fn writer(arguments: &[String]) {
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    let mut frame = writer.acquire_frame(3 * HUGE / 2).unwrap();
    frame.fill(1);
    let at = frame.as_ptr().addr();
    frame.commit().unwrap();
    say(mapped_at(at));
}

/// Makes a buffer with huge pages, and takes a kept one over with them. Both must have what the kernel gives.
fn check(name: &str) {
    for adopted in [false, true] {
        let before = given(true);
        let kept = adopted.then(|| KeptBuffer::create(name, config()).unwrap());
        let mut reader =
            Reader::create(name, config().huge_pages(true).numa_node(NumaNode::OfReader)).unwrap();
        let bytes = usize::try_from(reader.huge_page_bytes().unwrap()).unwrap();
        // What the kernel has may come and go.
        let after = given(true);
        let (least, most) = (before.min(after), before.max(after));
        eprintln!("adopted: {adopted}: {bytes} bytes in huge pages; the kernel gives {least} to {most}");
        assert!(bytes >= least, "adopted: {adopted}: {bytes} bytes in huge pages of {least}");
        assert!(
            most > 0 || bytes == 0,
            "adopted: {adopted}: {bytes} bytes in huge pages, which do not exist"
        );
        let snapshot = inspect::snapshot(name).unwrap();
        assert!(snapshot.memory >= snapshot.file_size, "all memory is there");

        let mut peer = Peer::start(role!(writer), &[name]);
        let frame = reader.read_frame(support::PATIENCE).unwrap().unwrap();
        assert!(frame.len() == 3 * HUGE / 2 && frame.iter().all(|byte| *byte == 1));
        let on_the_other_side: usize = peer.hear().parse().unwrap();
        assert!(on_the_other_side >= least.min(HUGE), "the writer has {on_the_other_side} bytes mapped");
        assert!(peer.wait().success());
        drop((frame, reader, kept));
    }
    let plain = Reader::create(name, config().preallocate(true)).unwrap().huge_page_bytes().unwrap();
    assert!(plain == 0 || given(false) > 0, "{plain} bytes in huge pages that no one has asked for");
}

#[test]
fn a_buffer_with_huge_pages_gets_what_the_kernel_gives_and_tells_how_much() {
    check(&Name::new("huge"));
}

/// In a /dev/shm of its own, mounted with other options.
fn owner_in_a_mount(arguments: &[String]) {
    let [name, outer, options] = arguments else { panic!("name, mount namespace, options") };
    confine::mount_tmpfs("/dev/shm", options, outer);
    check(name);
    assert_eq!(std::fs::read_dir("/dev/shm").unwrap().count(), 0, "left behind");
    say("done");
}

#[test]
fn a_buffer_with_huge_pages_gets_them_however_its_folder_is_mounted() {
    confine::need_root("a /dev/shm of one's own");
    if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        eprintln!("this kernel has no huge pages, and knows no such mount");
        return;
    }
    for huge in ["never", "advise", "within_size", "always"] {
        let name = Name::new("huge-mount");
        let arguments = [&*name, &confine::mount_namespace(), &format!("huge={huge}")];
        let wrapper = confine::unshare(&["--mount"]);
        let mut peer = Peer::start_through(&wrapper, role!(owner_in_a_mount), &arguments, |_| {});
        assert_eq!(peer.hear(), "done", "huge={huge}");
        assert!(peer.wait().success());
    }
}
