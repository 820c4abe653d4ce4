//! What the machine offers a buffer's memory: huge pages, ways to make pages ahead, NUMA nodes.

use std::fs;
use std::time::Instant;

use zerobuffer::{BufferConfig, Reader};

use super::{Finding, SHM, ok};
use crate::output::Bytes;

const HUGE: &str = "/sys/kernel/mm/transparent_hugepage";

fn advised(finding: Finding, advice: &str) -> Finding {
    Finding { advice: Some(advice.to_owned()), ..finding }
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// What `--huge-pages` gets here: tried with a buffer, as the kernel's settings do not tell.
pub(super) fn huge_pages() -> Finding {
    const SIZE: usize = 4 << 20;
    let name = format!("zerobuffer-doctor-huge-{}", std::process::id());
    let config = BufferConfig::default().payload_size(SIZE).huge_pages(true);
    let start = Instant::now();
    let got = Reader::create(&name, config).and_then(|reader| reader.huge_page_bytes());
    let took = start.elapsed();
    let mount = read("/proc/self/mounts").map_or("never".to_owned(), |mounts| mount_option(&mounts));
    let shmem = read(&format!("{HUGE}/shmem_enabled"));
    judge_huge_pages(
        got.map_err(|error| error.to_string()),
        took.as_secs_f64() * 1e3,
        &mount,
        shmem.as_deref(),
    )
}

fn judge_huge_pages(
    got: Result<u64, String>,
    milliseconds: f64,
    mount: &str,
    shmem: Option<&str>,
) -> Finding {
    let check = "huge pages";
    let shmem = shmem.and_then(chosen).unwrap_or("not told");
    let settings = format!("{SHM} has huge={mount}, shmem_enabled is {shmem}");
    let bytes = match got {
        Ok(bytes) => bytes,
        Err(error) => return ok(check, format!("not tried: {error}; {settings}")),
    };
    let found = format!("--huge-pages gets {} in {milliseconds:.1} ms; {settings}", Bytes(bytes));
    if shmem == "deny" {
        return advised(
            ok(check, found),
            "no buffer gets any: echo never > /sys/kernel/mm/transparent_hugepage/shmem_enabled",
        );
    }
    let finding = ok(check, found);
    match mount {
        // The kernel put small pages together, which takes many times as long as to make huge ones.
        "never" if bytes > 0 => advised(
            finding,
            "buffers with --huge-pages are made faster with: mount -o remount,huge=advise /dev/shm",
        ),
        "never" => advised(finding, "the kernel makes some with: mount -o remount,huge=advise /dev/shm"),
        _ => finding,
    }
}

/// The word in brackets of a setting as `always [advise] never`.
fn chosen(setting: &str) -> Option<&str> {
    Some(setting.split_once('[')?.1.split_once(']')?.0)
}

/// The option `huge=` of the mount of /dev/shm in a list of mounts.
fn mount_option(mounts: &str) -> String {
    // Of several mounts of a place, the last one counts.
    let mount = mounts.lines().rfind(|line| line.split(' ').nth(1) == Some(SHM));
    let options = mount.and_then(|mount| mount.split(' ').nth(3)).unwrap_or_default();
    options.split(',').find_map(|option| option.strip_prefix("huge=")).unwrap_or("never").to_owned()
}

/// The pool of hugetlbfs, which buffers cannot use.
pub(super) fn reserved_huge_pages() -> Finding {
    let check = "reserved huge pages";
    let number = |line: &str| read("/proc/meminfo")?.lines().find_map(|found| value(found, line));
    match number("HugePages_Total") {
        None => ok(check, "the kernel has no hugetlbfs"),
        Some(0) => ok(check, "none"),
        Some(all) => advised(
            ok(check, format!("{all}, {} of them free", number("HugePages_Free").unwrap_or_default())),
            "buffers lie in /dev/shm, so they cannot use these: reserve only what other programs need",
        ),
    }
}

fn value(line: &str, name: &str) -> Option<u64> {
    line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok()
}

/// What the kernel can do about pages before they are touched.
pub(super) fn pages_ahead() -> Finding {
    let check = "pages made ahead";
    let Some(release) = read("/proc/sys/kernel/osrelease") else {
        return ok(check, "the kernel does not tell its version");
    };
    let Some(version) = version(&release) else { return ok(check, format!("Linux {release}")) };
    let can = |least| if version >= least { "yes" } else { "no" };
    let found = format!(
        "Linux {release}: mapped before they are touched (5.14): {}, put together to huge ones (6.1): {}",
        can((5, 14)),
        can((6, 1))
    );
    match version < (5, 14) {
        true => advised(
            ok(check, found),
            "large frames cost a page fault for each 4 KiB of fresh memory: use a newer kernel",
        ),
        false => ok(check, found),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|other: char| !other.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

pub(super) fn numa_nodes() -> Finding {
    let check = "NUMA nodes";
    match read("/sys/devices/system/node/online") {
        None => ok(check, "the kernel tells of none"),
        Some(nodes) if nodes.contains(['-', ',']) => advised(
            ok(check, nodes),
            "keep reader and writer on one node, or say where their buffer lies: --numa-node N (-1 = where the reader runs)",
        ),
        Some(nodes) => ok(check, nodes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_of_shared_memory_tells_its_huge_pages() {
        let plain = "proc /proc proc rw 0 0\ntmpfs /dev/shm tmpfs rw,size=4k 0 0\n";
        assert_eq!(mount_option(plain), "never");
        assert_eq!(
            mount_option(&format!("{plain}tmpfs /dev/shm tmpfs rw,huge=advise,size=4k 0 0\n")),
            "advise"
        );
        assert_eq!(mount_option("tmpfs /dev/shm2 tmpfs huge=always 0 0"), "never");
    }

    #[test]
    fn advice_is_given_where_huge_pages_could_be_had_for_less() {
        let judged = |got, mount, shmem| judge_huge_pages(Ok(got), 1.0, mount, Some(shmem));
        let usual = judged(4 << 20, "never", "always within_size [advise] never deny force");
        assert!(
            usual.found.contains("4.0 MiB in 1.0 ms") && usual.found.contains("shmem_enabled is advise"),
            "{}",
            usual.found
        );
        assert!(usual.advice.unwrap().contains("faster"));
        assert!(judged(0, "never", "[never]").advice.unwrap().contains("makes some"));
        assert!(judged(0, "always", "[deny]").advice.unwrap().contains("echo never"));
        assert!(judged(4 << 20, "advise", "[never]").advice.is_none());
        let failed = judge_huge_pages(Err("no space".to_owned()), 1.0, "never", None);
        assert!(failed.found.contains("not tried: no space") && failed.found.contains("not told"));
    }

    #[test]
    fn versions_and_numbers_are_read() {
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("5.4"), Some((5, 4)));
        assert_eq!(version("six"), None);
        assert_eq!(value("HugePages_Total:      12", "HugePages_Total"), Some(12));
        assert_eq!(value("HugePages_Total:      12", "HugePages"), None);
    }
}
