//! UNSAFE: files mapped for reading only, whose bytes a forked child does not see.
#![allow(unsafe_code)]

use std::io::{Error, Result};
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use super::files::retry;
use super::fork;
use super::pages::{MADV_POPULATE_READ, page_size};
use super::segment::Segment;

/// A file mapped for reading only. In a forked child it is all zeroes.
pub(crate) struct View(fork::Range);

impl View {
    /// Maps the first `len` bytes of `file`.
    pub(crate) fn map(file: &Segment, len: usize) -> Result<View> {
        let fd = file.0.as_raw_fd();
        let range = fork::Range::enter(len, || {
            // SAFETY: the kernel chooses the address of a new mapping, so no memory in use is affected.
            let base =
                unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
            if base == libc::MAP_FAILED { Err(Error::last_os_error()) } else { Ok(base.cast()) }
        });
        range.map(View)
    }

    /// Where the mapping begins, and its bytes.
    pub(crate) fn range(&self) -> (NonNull<u8>, usize) {
        let (base, len) = self.0.range();
        (NonNull::new(base).unwrap_or(NonNull::dangling()), len)
    }

    /// Makes sure that the bytes from `start` to `end` have memory, so that reading them raises no signal: `Ok(false)` if this
    /// kernel cannot tell, an error if there is none.
    pub(crate) fn populate(&self, start: usize, end: usize) -> Result<bool> {
        let page = page_size();
        let (base, len) = self.range();
        let (start, end) = (start / page * page, end.min(len));
        if start >= end {
            return Ok(true);
        }
        let at = base.as_ptr().wrapping_add(start).cast();
        // SAFETY: the range lies within this mapping. The advice changes no byte.
        match retry(|| unsafe { libc::madvise(at, end - start, MADV_POPULATE_READ) }) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn first_byte(view: &View) -> u8 {
        // SAFETY: a byte of a live mapping.
        unsafe { view.range().0.as_ptr().read_volatile() }
    }

    #[test]
    fn a_forked_child_sees_zeroes_and_the_parent_its_bytes() {
        let segment = Segment::create_unnamed(0o600).unwrap();
        segment.set_len(8192).unwrap();
        segment.write_start(&[7; 8192]).unwrap();
        let views: Vec<View> = (0..3).map(|_| View::map(&segment, 8192).unwrap()).collect();
        drop(View::map(&segment, 4096).unwrap());
        // SAFETY: the child reads bytes and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let seen = views.iter().map(|view| i32::from(first_byte(view))).sum();
            // SAFETY: _exit() runs nothing of this process.
            unsafe { libc::_exit(seen) };
        }
        let mut status = 1;
        // SAFETY: the child is this process's own, and `status` has room for the result.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child saw a byte, or died");
        assert!(views.iter().all(|view| first_byte(view) == 7), "the parent still sees its bytes");
    }

    #[test]
    fn bytes_behind_the_end_of_a_file_are_found_out_before_they_are_touched() {
        let segment = Segment::create_unnamed(0o600).unwrap();
        segment.write_start(&[7; 4096]).unwrap();
        let view = View::map(&segment, 12288).unwrap();
        let within = view.populate(100, 4096).unwrap();
        assert!(view.populate(4096, 4096).unwrap(), "nothing is asked for");
        if within {
            assert!(view.populate(4000, 4097).is_err());
        }
    }
}
