//! What the fuzzer drives (fuzz/): calls of the C ABI one after the other, chosen by the fuzzer's bytes, with handles that are
//! NULL, open, closed or of other buffers. Built for `--cfg fuzzing` and for tests.
//!
//! Whatever is called: a status and an error object that agree, no internal error, frames that hold what was written for as
//! long as they are held, and nothing left behind. Readers, writers and tees of streams; duplex calls with NULL handles here, with live
//! ones in [`duplex_calls`].

mod duplex;
mod put_off;
mod questions;
mod share;
mod tee;

use std::ffi::{CStr, CString, c_char};
use std::ptr::null_mut;

use crate::config::*;
use crate::error::*;
use crate::frame::*;
use crate::inspect::*;
use crate::interrupt::*;
use crate::kept::*;
use crate::reader::*;
use crate::tee::*;
use crate::writer::*;

pub use duplex::duplex_calls;
use questions::{ask, without_a_handle};

/// Numbers of calls that there are.
const CALLS: u8 = 48;

/// Names that a buffer can have.
const GOOD: usize = 4;

/// Frames held at once.
const HELD: usize = 12;

/// Calls as the bytes say, three for each.
pub fn calls(input: &[u8]) {
    let mut world = World::new();
    for step in input.chunks_exact(3) {
        world.step([step[0], step[1], step[2]]);
    }
}

/// All that is there. A handle that was freed is NULL.
struct World {
    /// [`GOOD`] ones, and two that are none.
    names: [CString; GOOD + 2],
    readers: [*mut zb_reader; 2],
    writers: [*mut zb_writer; 2],
    /// What each writer has acquired.
    acquired: [Option<(*mut u8, usize)>; 2],
    kept: *mut zb_kept_buffer,
    tee: *mut zb_tee,
    held: Vec<zb_frame>,
    /// What each reader has lent, and the loan has not ended.
    lent: [Option<zb_frame_ref>; 2],
    interrupts: Vec<*mut zb_interrupt>,
    guards: Vec<*mut zb_memory_guard>,
}

fn empty_frame() -> zb_frame {
    zb_frame { data: std::ptr::null(), size: 0, sequence: 0, state: 0, owner: [0; 12] }
}

/// Each byte of a frame tells of its size, so that no frame can be taken for a part of another one.
fn bytes_of(size: usize) -> Vec<u8> {
    vec![size as u8; size]
}

impl World {
    fn new() -> World {
        let name = |end: &str| {
            CString::new(format!("zbtest-fuzz-{}-{end}", std::process::id())).expect("no zero byte")
        };
        World {
            names: [name("a"), name("b"), name("c"), name("d"), c"no/name".into(), c"".into()],
            readers: [null_mut(); 2],
            writers: [null_mut(); 2],
            acquired: [None; 2],
            kept: null_mut(),
            tee: null_mut(),
            held: Vec::new(),
            lent: [None, None],
            interrupts: Vec::new(),
            guards: Vec::new(),
        }
    }

    /// One call. `how` chooses handles and leaves things out, `number` is a size or the like.
    fn step(&mut self, [what, how, number]: [u8; 3]) {
        let what = what % CALLS;
        let (r, w) = (usize::from(how & 1), usize::from(how >> 1 & 1));
        let (reader, writer) = (self.readers[r], self.writers[w]);
        let odd = how & 4 != 0;
        let size = usize::from(number) * (1 + usize::from(how >> 6) * 3);
        self.lent.iter().flatten().for_each(check_ref);
        let mut error = null_mut();
        let place = if how & 8 == 0 { &raw mut error } else { null_mut() };
        let name: *const c_char = match how >> 4 & 7 {
            7 => std::ptr::null(),
            other => self.names[usize::from(other) % if odd { GOOD + 2 } else { GOOD }].as_ptr(),
        };
        // SAFETY: by the rules for callers, which `World` keeps: handles are live or NULL, places are on this stack, and
        // bytes and sizes belong together, but for NULL and sizes that no memory has, which are to be refused.
        let status = unsafe {
            match what {
                0 if reader.is_null() => {
                    let config = config(how, number);
                    let status = zb_reader_create(name, config, &raw mut self.readers[r], place);
                    zb_config_free(config);
                    assert_eq!(status == ZB_OK, !self.readers[r].is_null());
                    status
                }
                1 if writer.is_null() => {
                    let options = writer_options(number, odd);
                    let status = zb_writer_connect(name, options, &raw mut self.writers[w], place);
                    zb_writer_options_free(options);
                    status
                }
                2 | 3 => {
                    let data = bytes_of(size);
                    let (at, size) = match how >> 4 & 3 {
                        3 if odd => (std::ptr::null(), size),
                        2 if odd => (data.as_ptr(), usize::MAX),
                        _ => (data.as_ptr(), size),
                    };
                    match what {
                        2 => zb_writer_write_frame(writer, at, size, null_mut(), place),
                        _ => zb_writer_try_write_frame(writer, at, size, null_mut(), place),
                    }
                }
                4 => {
                    let data = [bytes_of(size), bytes_of(size / 2), bytes_of(usize::from(how))];
                    let frames =
                        data.each_ref().map(|data| zb_bytes { data: data.as_ptr(), size: data.len() });
                    let mut written = 9;
                    let count = usize::from(number & 3);
                    let status =
                        zb_writer_write_frames(writer, frames.as_ptr(), count, &raw mut written, place);
                    assert!(written <= count && (status < ZB_OK || written == count));
                    status
                }
                5 => {
                    let mut data = null_mut();
                    let status = match odd {
                        true => zb_writer_acquire_frame_buffer(writer, size, &raw mut data, place),
                        false => zb_writer_try_acquire_frame_buffer(writer, size, &raw mut data, place),
                    };
                    if status == ZB_OK {
                        self.acquired[w] = Some((data, size));
                    }
                    assert_eq!(status == ZB_OK, !data.is_null());
                    status
                }
                6 => self.commit(w, if odd { ZB_WHOLE_FRAME } else { size }, place),
                7 => {
                    self.acquired[w] = None;
                    zb_writer_discard_frame(writer, place)
                }
                8 | 9 => {
                    self.lent[r] = None;
                    let mut frame = empty_frame();
                    let status = match odd {
                        true => zb_reader_read_frame(reader, 0, &raw mut frame, place),
                        false => zb_reader_try_read_frame(reader, &raw mut frame, place),
                    };
                    assert_eq!(status == ZB_OK, !frame.data.is_null());
                    self.hold(frame);
                    status
                }
                10 => {
                    self.lent[r] = None;
                    let mut frames = [empty_frame(), empty_frame(), empty_frame()];
                    let (max, mut count) = (usize::from(number & 3), 9);
                    let status =
                        zb_reader_read_frames(reader, frames.as_mut_ptr(), max, 0, &raw mut count, place);
                    assert!(count <= max || status == ZB_ERROR_INVALID_ARGUMENT);
                    frames.into_iter().for_each(|frame| self.hold(frame));
                    status
                }
                11 if !self.held.is_empty() => {
                    let frame = self.held.swap_remove(usize::from(number) % self.held.len());
                    release(frame);
                    ZB_OK
                }
                12 => zb_writer_set_metadata(writer, bytes_of(size).as_ptr(), size, place),
                13 => {
                    let (mut target, mut needed) = (vec![0; size], 0);
                    zb_reader_get_metadata(reader, target.as_mut_ptr(), size, &raw mut needed, place)
                }
                14 => zb_reader_close(reader, place),
                15 => {
                    self.acquired[w] = None;
                    zb_writer_close(writer, place)
                }
                16 => {
                    self.lent[r] = None;
                    zb_reader_free(std::mem::replace(&mut self.readers[r], null_mut()));
                    ZB_OK
                }
                17 => {
                    self.acquired[w] = None;
                    zb_writer_free(std::mem::replace(&mut self.writers[w], null_mut()));
                    ZB_OK
                }
                18 => self.interrupt(reader, writer, number, place),
                19 => {
                    let mut snapshot = null_mut();
                    let status = zb_inspect_snapshot(name, &raw mut snapshot, place);
                    if let Some(snapshot) = snapshot.as_ref() {
                        assert!(snapshot.defect_count == 0 && snapshot.payload_free <= snapshot.payload_size);
                    }
                    zb_snapshot_free(snapshot);
                    status
                }
                20 => self.keep(name, how, number, place),
                21 => {
                    let mut guard = null_mut();
                    let status = zb_writer_memory_guard(writer, &raw mut guard, place);
                    self.guards.push(guard);
                    if self.guards.len() > 3 {
                        zb_memory_guard_free(self.guards.remove(0));
                    }
                    status
                }
                22 => {
                    if number & 7 == 1 {
                        // Waiting for a writer ends the loan.
                        self.lent[r] = None;
                    }
                    ask(reader, writer, number, place)
                }
                23 => without_a_handle(number, place),
                28 => {
                    let data = bytes_of(size);
                    zb_writer_write_frame_within(writer, data.as_ptr(), size, 0, null_mut(), place)
                }
                29 => {
                    let mut data = null_mut();
                    let status = zb_writer_acquire_frame_buffer_within(writer, size, 0, &raw mut data, place);
                    if status == ZB_OK {
                        self.acquired[w] = Some((data, size));
                    }
                    assert_eq!(status == ZB_OK, !data.is_null());
                    status
                }
                30 if reader.is_null() => {
                    // A byte of any kind at the end, of which a zero is to be refused.
                    let mut name = self.names[0].as_bytes().to_vec();
                    name.push(number);
                    let (config, out) = (config(how, number), &raw mut self.readers[r]);
                    let status = zb_reader_create_n(name.as_ptr().cast(), name.len(), config, out, place);
                    zb_config_free(config);
                    assert!(status != ZB_OK || number != 0);
                    zb_reader_free(std::mem::replace(&mut self.readers[r], null_mut()));
                    status
                }
                24..=27 => self.lend(what, r, number, place),
                31..=36 => self.share(what, [r, w], name, number, place),
                37..=47 => self.pass_on(what, [r, w], name, number, place),
                _ => ZB_OK,
            }
        };
        judge(status, error, !place.is_null());
    }

    /// Frames that a reader lends, gives back and keeps.
    ///
    /// # Safety
    ///
    /// `place` is NULL or a place for an error.
    unsafe fn lend(&mut self, what: u8, r: usize, number: u8, place: *mut *mut zb_error) -> zb_status {
        let reader = self.readers[r];
        // SAFETY: As this function's caller promises; the reader is live or NULL.
        unsafe {
            match what {
                24 => {
                    self.lent[r] = None;
                    let mut frame = zb_frame_ref { data: std::ptr::null(), size: 0, sequence: 0 };
                    let status = zb_reader_read_frame_ref(reader, 0, &raw mut frame, place);
                    assert_eq!(status == ZB_OK, !frame.data.is_null());
                    self.lent[r] = (status == ZB_OK).then_some(frame);
                    status
                }
                25 => {
                    self.lent[r] = None;
                    zb_reader_release_frame_ref(reader, place)
                }
                26 => {
                    // Half of them late, or of a frame that never was.
                    let sequence =
                        self.lent[r].as_ref().map_or(1, |frame| frame.sequence) + u64::from(number & 1);
                    if number & 1 == 0 {
                        self.lent[r] = None;
                    }
                    zb_reader_release_frame_ref_of(reader, sequence, place)
                }
                _ => {
                    let (mut frame, lent) = (empty_frame(), self.lent[r].take());
                    let status = zb_reader_keep_frame_ref(reader, &raw mut frame, place);
                    assert!(status == ZB_OK || lent.is_none());
                    assert!(
                        lent.is_none_or(|lent| lent.data == frame.data && lent.sequence == frame.sequence)
                    );
                    self.hold(frame);
                    status
                }
            }
        }
    }

    /// # Safety
    ///
    /// `place` is NULL or a place for an error.
    unsafe fn commit(&mut self, w: usize, size: usize, place: *mut *mut zb_error) -> zb_status {
        if let Some((data, acquired)) = self.acquired[w] {
            let size = if size == ZB_WHOLE_FRAME { acquired } else { size.min(acquired) };
            // SAFETY: acquired and neither committed nor discarded, by a writer that is open.
            unsafe { data.write_bytes(size as u8, size) };
        }
        // SAFETY: as for this function; the writer is live or NULL.
        let status = unsafe { zb_writer_commit_frame(self.writers[w], size, null_mut(), place) };
        if status == ZB_OK {
            assert!(self.acquired[w].take().is_some(), "committed a frame that was not acquired");
        }
        status
    }

    fn hold(&mut self, frame: zb_frame) {
        if frame.data.is_null() {
            return;
        }
        check(&frame);
        self.held.push(frame);
        if self.held.len() > HELD {
            release(self.held.remove(0));
        }
    }

    /// # Safety
    ///
    /// The handles are live or NULL, `place` is NULL or a place for an error.
    unsafe fn interrupt(
        &mut self,
        reader: *const zb_reader,
        writer: *const zb_writer,
        number: u8,
        place: *mut *mut zb_error,
    ) -> zb_status {
        // SAFETY: as for this function.
        unsafe {
            match number & 7 {
                0 => zb_reader_interrupt(reader),
                1 => zb_writer_interrupt(writer),
                5 => zb_reader_clear_interrupt(reader),
                6 => zb_writer_clear_interrupt(writer),
                2 => self.interrupts.push(zb_reader_interrupt_handle(reader)),
                3 => self.interrupts.push(zb_writer_interrupt_handle(writer)),
                4 if !self.interrupts.is_empty() => zb_interrupt_free(self.interrupts.remove(0)),
                _ => return zb_interrupt_fire(self.interrupts.last().copied().unwrap_or(null_mut()), place),
            }
        }
        ZB_OK
    }

    /// # Safety
    ///
    /// `name` is NULL or a string, `place` is NULL or a place for an error.
    unsafe fn keep(
        &mut self,
        name: *const c_char,
        how: u8,
        number: u8,
        place: *mut *mut zb_error,
    ) -> zb_status {
        let mut adopted = false;
        // SAFETY: as for this function; the kept buffer is live or NULL.
        unsafe {
            match number & 3 {
                0 if self.kept.is_null() => {
                    let config = config(how, number | 64);
                    let status = zb_kept_buffer_create(name, config, &raw mut self.kept, place);
                    zb_config_free(config);
                    status
                }
                1 => zb_kept_buffer_is_adopted(self.kept, &raw mut adopted, place),
                2 => zb_kept_buffer_close(self.kept, &raw mut adopted, place),
                _ => {
                    zb_kept_buffer_free(std::mem::replace(&mut self.kept, null_mut()));
                    ZB_OK
                }
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // SAFETY: each handle is live or NULL, and not used afterwards.
        unsafe {
            self.writers.iter().for_each(|writer| zb_writer_free(*writer));
            zb_tee_free(self.tee);
            self.readers.iter().for_each(|reader| zb_reader_free(*reader));
            zb_kept_buffer_free(self.kept);
            self.interrupts.iter().for_each(|interrupt| zb_interrupt_free(*interrupt));
            self.guards.iter().for_each(|guard| zb_memory_guard_free(*guard));
        }
        // Frames outlive their reader.
        self.held.drain(..).for_each(release);
        for name in &self.names[..GOOD] {
            let name = name.to_str().expect("ours");
            for name in [name, &format!("{name}_tee")] {
                assert!(!std::path::Path::new("/dev/shm").join(name).exists(), "`{name}` is left behind");
            }
        }
    }
}

/// A config, or NULL for all defaults where `how` says so: 256 MiB, of which nothing is touched.
fn config(how: u8, number: u8) -> *mut zb_config {
    if how & 0x84 == 0x84 {
        return null_mut();
    }
    let config = zb_config_new();
    // SAFETY: the config is live. What it does not take, it refuses.
    unsafe {
        zb_config_set_payload_size(config, usize::from(number) * 16);
        zb_config_set_metadata_size(config, usize::from(number & 7) * 16);
        zb_config_set_classic(config, how & 4 != 0);
        zb_config_set_preallocate(config, number & 8 != 0);
        zb_config_set_huge_pages(config, number & 16 != 0);
        zb_config_set_numa_node(config, i32::from(number & 3) - 2);
        zb_config_set_wait_strategy(config, i32::from(number & 3));
        zb_config_set_allow_payload_sharing(config, number & 16 != 0);
        zb_config_set_mode(config, if number == 255 { 0o7777 } else { 0o600 });
    }
    config
}

/// Options of a writer that does not wait: no other process makes room or a buffer.
fn writer_options(number: u8, sharing: bool) -> *mut zb_writer_options {
    let options = zb_writer_options_new();
    // SAFETY: the options are live.
    unsafe {
        assert_eq!(zb_writer_options_set_write_timeout(options, 0), ZB_OK);
        zb_writer_options_set_wait_strategy(options, i32::from(number));
        zb_writer_options_set_request_payload_sharing(options, sharing);
    }
    options
}

/// What was written, whole.
fn check_ref(frame: &zb_frame_ref) {
    // SAFETY: The frame is lent: its bytes are there and are not written.
    let bytes = unsafe { std::slice::from_raw_parts(frame.data, frame.size) };
    assert!(bytes.iter().all(|byte| *byte == frame.size as u8), "loan {} is torn", frame.sequence);
}

/// What was written, whole.
fn check(frame: &zb_frame) {
    // SAFETY: the frame is held, so its bytes are mapped and the writer does not change them.
    let bytes = unsafe { std::slice::from_raw_parts(frame.data, frame.size) };
    assert!(!bytes.is_empty() && frame.sequence > 0);
    assert!(bytes.iter().all(|byte| *byte == frame.size as u8), "frame {} is torn", frame.sequence);
}

fn release(mut frame: zb_frame) {
    check(&frame);
    // SAFETY: the frame came from a read, and this is the only copy of it. A second release finds nothing.
    unsafe {
        assert!(zb_frame_mutable_data(&raw mut frame).is_null());
        assert!(!zb_frame_is_cancelled(&raw const frame) && zb_frame_time_left_ns(&raw const frame) == -1);
        zb_frame_release(&raw mut frame);
        zb_frame_release(&raw mut frame);
    }
    assert!(frame.data.is_null() && frame.size == 0);
}

/// Status and error agree, and the error has words.
fn judge(status: zb_status, error: *mut zb_error, wanted: bool) {
    assert_ne!(status, ZB_ERROR_INTERNAL);
    assert_eq!(!error.is_null(), wanted && status < ZB_OK, "status {status}");
    // SAFETY: the error is live or NULL, and freed once; its words are read before.
    unsafe {
        if !error.is_null() {
            assert_eq!(zb_error_code(error), status);
            assert!(!CStr::from_ptr(zb_error_message(error)).is_empty());
        }
        zb_error_free(error);
    }
}

/// The fuzzer's seeds, and bytes at random: what a build without a fuzzer can do.
#[cfg(test)]
fn replay(target: &str, longest: usize, inputs: usize, run: fn(&[u8])) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds");
    let mut seeds = 0;
    for seed in std::fs::read_dir(std::path::Path::new(folder).join(target)).unwrap() {
        run(&std::fs::read(seed.unwrap().path()).unwrap());
        seeds += 1;
    }
    assert!(seeds >= 3);
    let mut state = 1_u64;
    for _ in 0..inputs {
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            // Numbers of Knuth's MMIX; their high bits are the good ones.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(longest)
        .collect();
        run(&bytes);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_order_of_calls_breaks_the_c_abi() {
        super::replay("c_calls", 600, 300, super::calls);
    }
}
