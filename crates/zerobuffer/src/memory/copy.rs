//! UNSAFE: copies to and from shared memory, and requests for cache lines.
#![allow(unsafe_code)]

/// Copies `data` to `target`; frames of 16 to 128 bytes without a call, which takes 0.63 to 0.93 of the frames a second that
/// these chunks do (32 to 128 bytes between two processes, medians of nine pairs). Loads of 8 bytes in assembly, which keep a
/// wide load from waiting for a number just stored at one end, gain nothing more.
///
/// # Safety
///
/// `target` is valid for `data.len()` bytes, which no one else reads or writes meanwhile, and `data` lies elsewhere.
#[inline]
pub(super) unsafe fn copy(data: &[u8], target: *mut u8) {
    const CHUNK: usize = 16;
    let (len, source) = (data.len(), data.as_ptr());
    if !(CHUNK..=8 * CHUNK).contains(&len) {
        // SAFETY: by the caller's promise.
        unsafe { core::ptr::copy_nonoverlapping(source, target, len) };
        return;
    }
    let chunk = |at: usize| {
        // SAFETY: at + CHUNK <= len at each call, so both sides are within what the caller promised.
        unsafe {
            let bytes = source.add(at).cast::<[u8; CHUNK]>().read_unaligned();
            target.add(at).cast::<[u8; CHUNK]>().write_unaligned(bytes);
        }
    };
    // From both ends; the chunks meet in the middle, or overlap there.
    chunk(0);
    chunk(len - CHUNK);
    if len > 2 * CHUNK {
        chunk(CHUNK);
        chunk(len - 2 * CHUNK);
    }
    if len > 4 * CHUNK {
        chunk(2 * CHUNK);
        chunk(3 * CHUNK);
        chunk(len - 3 * CHUNK);
        chunk(len - 4 * CHUNK);
    }
}

/// Copies `data`, which another core has written, to `target`. Frames of 1 to 2 KiB by the processor's own copy, where it
/// is quick to start: it asks for all lines at once, so that 1.3 to 1.7 times as many frames a second go through where lines come
/// slowly. (Those of 256 and 512 bytes took a fifth to a half longer where lines come fast.)
///
/// # Safety
///
/// As for [`copy`].
#[inline]
pub(super) unsafe fn copy_out(data: &[u8], target: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    if (1024..=2048).contains(&data.len()) && starts_quickly() {
        // SAFETY: by the caller's promise. The direction flag is clear, as everywhere outside such a copy.
        unsafe {
            core::arch::asm!(
                "rep movsb",
                inout("rcx") data.len() => _,
                inout("rsi") data.as_ptr() => _,
                inout("rdi") target => _,
                options(nostack, preserves_flags)
            );
        }
        return;
    }
    // SAFETY: by the caller's promise.
    unsafe { copy(data, target) };
}

/// Whether the processor has FSRM, "fast short rep mov": bit 4 of edx of CPUID leaf 7 (Intel's manual, volume 2A, CPUID).
#[cfg(target_arch = "x86_64")]
#[inline]
fn starts_quickly() -> bool {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    static ANSWER: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    #[allow(unused_unsafe, reason = "later compilers call these functions safe")]
    *ANSWER.get_or_init(|| {
        // SAFETY: every processor of this architecture has the instruction; leaf 7 is asked for only where it exists.
        unsafe { __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & 1 << 4 != 0 }
    })
}

/// Asks for the cache line at `at`; any address will do.
#[inline]
pub(super) fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: it reads nothing that the program sees, and faults on no address.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch is a hint, and faults on no address.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// Asks for the cache line at `at`, to be written.
#[inline]
pub(super) fn prefetch_to_write(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that faults on no address; processors that do not know it take it for a no-operation.
    unsafe {
        core::arch::asm!("prefetchw [{at}]", at = in(reg) at, options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch is a hint, and faults on no address.
    unsafe {
        core::arch::asm!("prfm pstl1keep, [{at}]", at = in(reg) at, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    #[test]
    fn copies_of_every_length_are_exact_and_stay_within() {
        let source: Vec<u8> = (0..2400_u32).map(|i| (i * 7 + 1) as u8).collect();
        for len in (0..300).chain(2040..2060) {
            for from in [0, 1, 8] {
                let data = &source[from..from + len];
                for out in [false, true] {
                    let mut target = vec![0_u8; len + 32];
                    let at = &mut target[16..];
                    // SAFETY: `target` has 16 bytes more on either side.
                    unsafe {
                        if out {
                            super::copy_out(data, at.as_mut_ptr())
                        } else {
                            super::copy(data, at.as_mut_ptr())
                        }
                    };
                    assert_eq!(target[16..16 + len], *data, "{len} bytes");
                    let outside = target[..16].iter().chain(&target[16 + len..]);
                    assert!(outside.into_iter().all(|byte| *byte == 0), "{len} bytes");
                }
            }
        }
    }
}
