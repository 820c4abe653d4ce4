//! UNSAFE: how a mapping's pages are made: at once, as huge pages, on a NUMA node.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io::{Error, Result};
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use super::files::retry;
use super::segment::Segment;

/// Bytes of a huge page, on x86-64 and on aarch64 with pages of 4 KiB.
const HUGE: usize = 2 << 20;

/// Linux 5.14 (madvise(2)).
pub(super) const MADV_POPULATE_READ: libc::c_int = 22;
const MADV_POPULATE_WRITE: libc::c_int = 23;

/// Maps `len` bytes of `file` shared, readable and writable. A mapping that can have huge pages starts where one can.
pub(crate) fn map_shared(file: &Segment, len: usize, populate: bool) -> Result<NonNull<u8>> {
    let flags = libc::MAP_SHARED | if populate { libc::MAP_POPULATE } else { 0 };
    let place = if len < HUGE { None } else { Some(Place::reserve(len)?) };
    let (at, fixed) = place.as_ref().map_or((std::ptr::null_mut(), 0), |place| (place.at, libc::MAP_FIXED));
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, at an address of the kernel's choice, or over one that this function has just made for it and that
    // nothing else knows.
    let base = unsafe { libc::mmap(at, len, access, flags | fixed, file.0.as_raw_fd(), 0) };
    let failed = (base == libc::MAP_FAILED).then(Error::last_os_error);
    // Before Linux 6.12 a call that failed may have unmapped what it was to replace. So the middle of the place, which another thread
    // may have by now, is left alone.
    if let Some(place) = place {
        place.give_back_all_but(len);
    }
    if let Some(error) = failed {
        return Err(error);
    }
    NonNull::new(base.cast()).ok_or_else(|| Error::from_raw_os_error(libc::EINVAL))
}

/// Bytes of a page.
pub(super) fn page_size() -> usize {
    // SAFETY: sysconf takes no pointers.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Address space for a mapping that starts at a multiple of [`HUGE`].
struct Place {
    start: *mut c_void,
    len: usize,
    at: *mut c_void,
}

impl Place {
    fn reserve(len: usize) -> Result<Place> {
        let len = len.checked_add(HUGE).ok_or_else(|| Error::from_raw_os_error(libc::ENOMEM))?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the kernel chooses the address of a new mapping, so no memory in use is affected.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        let at = start.wrapping_byte_add(start.addr().next_multiple_of(HUGE) - start.addr());
        Ok(Place { start, len, at })
    }

    /// Gives back what lies before and behind the `len` bytes from `at` on.
    fn give_back_all_but(self, len: usize) {
        let before = self.at.addr() - self.start.addr();
        let used = before + len.next_multiple_of(page_size());
        for (from, bytes) in [(0, before), (used, self.len - used)] {
            if bytes > 0 {
                // SAFETY: reserve() mapped `self.len` bytes for this place alone. Both ranges lie within them, and neither
                // touches the pages from `at` on that were to be mapped.
                unsafe { libc::munmap(self.start.wrapping_byte_add(from), bytes) };
            }
        }
    }
}

/// Makes the pages of `len` bytes at `base` and maps them, as if each were read: those of a shared file can be written from then
/// on, too, and those that another process has made are mapped sixteen at a time. A kernel that cannot do it (before 5.14), or has
/// no memory, leaves them to be mapped when they are touched.
///
/// # Safety
///
/// The bytes lie in one live mapping made by `map_shared`.
pub(crate) unsafe fn populate(base: NonNull<u8>, len: usize) {
    let before = base.as_ptr().addr() % page_size();
    let page = base.as_ptr().wrapping_sub(before).cast();
    // SAFETY: the bytes lie in one live mapping, by the caller's promise. A mapping starts at a page, so what lies before `base` in
    // its page belongs to it, too. The advice changes no byte.
    let _ = retry(|| unsafe { libc::madvise(page, len + before, MADV_POPULATE_READ) });
}

/// How many of the bytes of the mapping at `base` this process has mapped by huge pages now.
pub(crate) fn huge_bytes(base: NonNull<u8>) -> Result<u64> {
    let maps = std::fs::read_to_string("/proc/self/smaps")?;
    let start = format!("{:x}-", base.as_ptr().addr());
    let mut lines = maps.lines().skip_while(|line| !line.starts_with(&start)).skip(1);
    let kib = lines.find_map(|line| {
        line.strip_prefix("ShmemPmdMapped:")?.trim().strip_suffix("kB")?.trim().parse().ok()
    });
    Ok(kib.unwrap_or(0_u64) << 10)
}

impl Segment {
    /// Makes the memory of the first `len` bytes in huge pages, as far as the kernel has some to give; the rest may have none yet.
    pub(crate) fn make_huge(&self, len: usize) -> Result<()> {
        /// Linux 6.1 (madvise(2)).
        const MADV_COLLAPSE: libc::c_int = 25;
        let whole = len / HUGE * HUGE;
        let mapping = Temporary::map(self, len)?;
        let advise = |advice| {
            // SAFETY: the range lies in the mapping just made. None of the three advices changes a byte.
            retry(|| unsafe { libc::madvise(mapping.base.as_ptr().cast(), whole, advice) }).map(drop)
        };
        if whole == 0 {
            return Ok(());
        }
        // Where the file system gives huge pages, it makes them here; a kernel without them refuses.
        advise(libc::MADV_HUGEPAGE)?;
        advise(MADV_POPULATE_WRITE)?;
        // Puts small pages together, and finds nothing to do where there are none: the file system need not give any.
        advise(MADV_COLLAPSE)
    }

    /// Has the memory of the first `len` bytes made on a NUMA node, that of this thread if `None`, whichever process touches it
    /// first; elsewhere only when that node is full.
    pub(crate) fn prefer_node(&self, len: usize, node: Option<u32>) -> Result<()> {
        const BITS: usize = libc::c_ulong::BITS as usize;
        let node = node.map_or_else(own_node, Ok)? as usize;
        let mut mask: [libc::c_ulong; 16] = [0; 16];
        *mask.get_mut(node / BITS).ok_or_else(|| Error::from_raw_os_error(libc::EINVAL))? =
            1 << (node % BITS);
        let mapping = Temporary::map(self, len)?;
        // The kernel reads one bit less than it is told. The policy of a shared file stays with the file.
        let most = mask.len() * BITS + 1;
        let base = mapping.base.as_ptr();
        // SAFETY: the range is the mapping just made, and the kernel reads the mask within its bits.
        let set = unsafe {
            libc::syscall(libc::SYS_mbind, base, len, libc::MPOL_PREFERRED, mask.as_ptr(), most, 0)
        };
        match set {
            0 => Ok(()),
            _ => match Error::last_os_error() {
                // A kernel without NUMA has one node.
                error if error.raw_os_error() == Some(libc::ENOSYS) && node == 0 => Ok(()),
                error => Err(error),
            },
        }
    }
}

/// The NUMA node that this thread runs on.
fn own_node() -> Result<u32> {
    let mut node: libc::c_uint = 0;
    let nowhere = std::ptr::null_mut::<libc::c_uint>();
    // SAFETY: `node` has room for the result; the kernel stores nothing where it gets null.
    match unsafe { libc::syscall(libc::SYS_getcpu, nowhere, &raw mut node, nowhere) } {
        0 => Ok(node),
        _ => Err(Error::last_os_error()),
    }
}

/// A mapping that does not outlive a function.
struct Temporary {
    base: NonNull<u8>,
    len: usize,
}

impl Temporary {
    fn map(file: &Segment, len: usize) -> Result<Temporary> {
        Ok(Temporary { base: map_shared(file, len, false)?, len })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made; what its owner borrowed from it is gone.
        unsafe { super::segment::unmap(self.base, self.len) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn segment(len: u64) -> Segment {
        let segment = Segment::create_unnamed(0o600).unwrap();
        segment.set_len(len).unwrap();
        segment
    }

    #[test]
    fn a_mapping_that_can_have_huge_pages_starts_where_one_can() {
        for len in [4096, HUGE - 1, HUGE, 3 * HUGE + 5000] {
            let segment = segment(len as u64);
            let base = map_shared(&segment, len, false).unwrap();
            assert!(len < HUGE || base.as_ptr().addr().is_multiple_of(HUGE));
            // SAFETY: the first and the last byte of a live mapping, which ends here.
            unsafe {
                base.as_ptr().write_volatile(1);
                base.as_ptr().add(len - 1).write_volatile(1);
                super::super::segment::unmap(base, len);
            }
        }
    }

    #[test]
    fn a_file_gets_huge_pages_where_the_kernel_can_and_their_number_is_told() {
        let len = 2 * HUGE + 4096;
        let segment = segment(len as u64);
        let made = segment.make_huge(len);
        segment.reserve(0, len as u64).unwrap();
        let mapping = Temporary { base: map_shared(&segment, len, true).unwrap(), len };
        let bytes = huge_bytes(mapping.base).unwrap();
        match made {
            Ok(()) => assert!([2, 3].contains(&(bytes / HUGE as u64)), "{bytes}"),
            Err(error) => assert_eq!(bytes, 0, "{error}"),
        }
    }

    /// The policy and the node of a segment's first page, as the kernel tells them to another mapping.
    fn policy(segment: &Segment) -> Result<(i32, u64)> {
        let mapping = Temporary::map(segment, 4096)?;
        let (mut policy, mut nodes) = (0_i32, [0_u64; 16]);
        const MPOL_F_ADDR: libc::c_ulong = 2;
        // SAFETY: both results have the room that the kernel is told of, and the address is mapped.
        let got = unsafe {
            let (bits, at) = (8 * size_of_val(&nodes), mapping.base.as_ptr());
            libc::syscall(libc::SYS_get_mempolicy, &raw mut policy, nodes.as_mut_ptr(), bits, at, MPOL_F_ADDR)
        };
        if got == 0 { Ok((policy, nodes[0])) } else { Err(Error::last_os_error()) }
    }

    #[test]
    fn memory_is_made_on_the_node_asked_for_whoever_touches_it() {
        let segment = segment(8192);
        let Ok(before) = policy(&segment) else { return };
        assert_eq!(before.0, libc::MPOL_DEFAULT);
        segment.prefer_node(8192, None).unwrap();
        assert_eq!(policy(&segment).unwrap(), (libc::MPOL_PREFERRED, 1 << own_node().unwrap()));
        segment.prefer_node(8192, Some(0)).unwrap();
        assert_eq!(policy(&segment).unwrap(), (libc::MPOL_PREFERRED, 1));
        for missing in [1000, 5000, u32::MAX] {
            let refused = segment.prefer_node(8192, Some(missing)).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EINVAL), "{missing}");
        }
    }
}
