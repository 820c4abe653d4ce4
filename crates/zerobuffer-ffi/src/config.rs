//! What is decided before a buffer is created or connected to.

use std::ptr::NonNull;

use zerobuffer::duplex::ClientOptions;
use zerobuffer::{BufferConfig, NumaNode, WaitStrategy, WriterOptions};

use crate::arguments::{handle_mut, passed, timeout};
use crate::error::{Failure, ZB_OK, zb_status};
use crate::panic::{guarded, guarded_or};

/// How a reader waits for frames and a writer for space.
pub type zb_wait_strategy = i32;
/// Spin for a moment if the last waits were short, else sleep. The default.
pub const ZB_WAIT_ADAPTIVE: zb_wait_strategy = 0;
/// Sleep at once: the least processor time, but each wait costs a wake-up by the kernel.
pub const ZB_WAIT_BLOCK: zb_wait_strategy = 1;
/// Never sleep: the least latency, at the cost of a whole core.
pub const ZB_WAIT_SPIN: zb_wait_strategy = 2;

/// The NUMA node that the thread runs on which creates the reader.
pub const ZB_NUMA_NODE_OF_READER: i32 = -1;

/// Sizes and rights of a buffer, decided by the reader that creates it.
pub struct zb_config {
    pub(crate) config: BufferConfig,
}

/// How a writer connects and waits.
pub struct zb_writer_options {
    pub(crate) options: WriterOptions,
    pub(crate) write_timeout_ms: i64,
}

/// How a duplex client connects and waits, and the response buffer that it creates.
pub struct zb_client_options {
    pub(crate) options: ClientOptions,
}

pub(crate) const DEFAULT_TIMEOUT_MS: i64 = zerobuffer::DEFAULT_TIMEOUT.as_millis() as i64;

fn strategy(number: zb_wait_strategy) -> Result<WaitStrategy, Failure> {
    match number {
        ZB_WAIT_ADAPTIVE => Ok(WaitStrategy::Adaptive),
        ZB_WAIT_BLOCK => Ok(WaitStrategy::Block),
        ZB_WAIT_SPIN => Ok(WaitStrategy::Spin),
        other => Err(Failure::argument(format!("there is no wait strategy {other}"))),
    }
}

fn numa_node(number: i32) -> Result<NumaNode, Failure> {
    match u32::try_from(number) {
        Ok(number) => Ok(NumaNode::Number(number)),
        Err(_) if number == ZB_NUMA_NODE_OF_READER => Ok(NumaNode::OfReader),
        Err(_) => Err(Failure::argument(format!("there is no NUMA node {number}"))),
    }
}

/// Puts an object on the heap, for C to hold.
pub(crate) fn give<T>(object: T) -> *mut T {
    Box::into_raw(Box::new(object))
}

/// Takes an object back that [`give`] gave.
///
/// # Safety
///
/// The pointer is NULL or came from [`give`], and is not used any more.
pub(crate) unsafe fn take<T>(pointer: *mut T) {
    if let Some(pointer) = NonNull::new(pointer) {
        // SAFETY: The caller promises a pointer that give() made by Box::into_raw and that is not used any more.
        let object = unsafe { Box::from_raw(pointer.as_ptr()) };
        // What the object holds may close files, or wait for threads.
        let _uncancelled = zerobuffer::uncancelled();
        guarded_or((), || drop(object));
    }
}

/// Changes an object by a builder's step.
///
/// # Safety
///
/// Those of [`handle_mut`].
unsafe fn set<T>(object: *mut T, change: impl FnOnce(&mut T) -> Result<(), Failure>) -> zb_status {
    guarded!(std::ptr::null_mut(), {
        // SAFETY: This function's caller promises of the pointer what handle_mut() asks for.
        change(unsafe { handle_mut(object, "config or options") }?)?;
        Ok(ZB_OK)
    })
}

/// A config with all defaults: 4096 bytes of metadata, 256 MiB of payload, mode 0600. Free it with `zb_config_free`.
#[unsafe(no_mangle)]
pub extern "C" fn zb_config_new() -> *mut zb_config {
    give(zb_config { config: BufferConfig::default() })
}

/// Bytes of the metadata block, rounded up to a multiple of 64. 8 of them hold the length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_config_set_metadata_size(config: *mut zb_config, bytes: usize) -> zb_status {
    passed!(set_config(config, |old| Ok(old.metadata_size(bytes))))
}

/// Bytes of the ring, rounded up to a multiple of 64. A frame needs its size plus 16.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_config_set_payload_size(config: *mut zb_config, bytes: usize) -> zb_status {
    passed!(set_config(config, |old| Ok(old.payload_size(bytes))))
}

/// Permission bits of the buffer's files, set exactly, whatever the umask is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_config_set_mode(config: *mut zb_config, mode: u32) -> zb_status {
    passed!(set_config(config, |old| Ok(old.mode(mode))))
}

/// Whether to reserve and touch all memory at creation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_config_set_preallocate(config: *mut zb_config, preallocate: bool) -> zb_status {
    passed!(set_config(config, |old| Ok(old.preallocate(preallocate))))
}

/// Whether to reserve and touch all memory at creation, in huge pages as far as the kernel has some.
/// `zb_reader_get_huge_page_bytes` tells what the buffer got.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_config_set_huge_pages(config: *mut zb_config, huge_pages: bool) -> zb_status {
    passed!(set_config(config, |old| Ok(old.huge_pages(huge_pages))))
}

/// The NUMA node whose memory the buffer shall use, as far as there is room, or `ZB_NUMA_NODE_OF_READER`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_config_set_numa_node(config: *mut zb_config, node: i32) -> zb_status {
    passed!(set_config(config, |old| Ok(old.numa_node(numa_node(node)?))))
}

/// Whether to keep the ring classic (the layout that 1.x peers know), whichever writer connects.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_config_set_classic(config: *mut zb_config, classic: bool) -> zb_status {
    passed!(set_config(config, |old| Ok(old.classic(classic))))
}

/// Whether the reader's frames may be lent to other readers, and it takes frames that are lent to it (`zb_writer_forward`). Who may
/// read the buffer that they are forwarded to may look at all of this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_config_set_allow_payload_sharing(
    config: *mut zb_config,
    allow: bool,
) -> zb_status {
    passed!(set_config(config, |old| Ok(old.allow_payload_sharing(allow))))
}

/// How the reader waits for frames.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_config_set_wait_strategy(
    config: *mut zb_config,
    wait: zb_wait_strategy,
) -> zb_status {
    passed!(set_config(config, |old| Ok(old.wait_strategy(strategy(wait)?))))
}

/// # Safety
///
/// Those of [`handle_mut`].
unsafe fn set_config(
    config: *mut zb_config,
    step: impl FnOnce(BufferConfig) -> Result<BufferConfig, Failure>,
) -> zb_status {
    // SAFETY: This function's caller promises of the pointer what set() asks for.
    unsafe {
        set(config, |config| {
            config.config = step(config.config.clone())?;
            Ok(())
        })
    }
}

/// Frees a config. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_config_free(config: *mut zb_config) {
    passed!(take(config));
}

/// A config, the default for NULL.
///
/// # Safety
///
/// The pointer is NULL or a live handle.
pub(crate) unsafe fn config_or_default(config: *const zb_config) -> BufferConfig {
    // SAFETY: The caller promises a pointer that is NULL or live.
    unsafe { config.as_ref() }.map(|config| config.config.clone()).unwrap_or_default()
}

/// Options with all defaults: writes wait for 5 s, connecting does not wait. Free them with `zb_writer_options_free`.
#[unsafe(no_mangle)]
pub extern "C" fn zb_writer_options_new() -> *mut zb_writer_options {
    give(zb_writer_options { options: WriterOptions::default(), write_timeout_ms: DEFAULT_TIMEOUT_MS })
}

/// How long a write waits for space, in milliseconds: 0 polls once, a negative number waits without limit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_options_set_write_timeout(
    options: *mut zb_writer_options,
    timeout_ms: i64,
) -> zb_status {
    passed!(set(options, |object| {
        object.options = object.options.clone().write_timeout(timeout(timeout_ms));
        object.write_timeout_ms = timeout_ms;
        Ok(())
    }))
}

/// How long connecting waits for a reader to create the buffer, in milliseconds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_options_set_connect_timeout(
    options: *mut zb_writer_options,
    timeout_ms: i64,
) -> zb_status {
    passed!(set(options, |object| {
        object.options = object.options.clone().connect_timeout(timeout(timeout_ms));
        Ok(())
    }))
}

/// Whether `zb_writer_forward` lends frames rather than copying them, where both readers allow it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_options_set_request_payload_sharing(
    options: *mut zb_writer_options,
    request: bool,
) -> zb_status {
    passed!(set(options, |object| {
        object.options = object.options.clone().request_payload_sharing(request);
        Ok(())
    }))
}

/// How the writer waits for space.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_options_set_wait_strategy(
    options: *mut zb_writer_options,
    wait: zb_wait_strategy,
) -> zb_status {
    passed!(set(options, |object| {
        object.options = object.options.clone().wait_strategy(strategy(wait)?);
        Ok(())
    }))
}

/// Frees options. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_options_free(options: *mut zb_writer_options) {
    passed!(take(options));
}

/// Options with all defaults: sending waits for 5 s, connecting does not wait, the response buffer is a default one. Free
/// them with `zb_client_options_free`.
#[unsafe(no_mangle)]
pub extern "C" fn zb_client_options_new() -> *mut zb_client_options {
    give(zb_client_options { options: ClientOptions::default() })
}

/// How long connecting waits for a server, in milliseconds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_options_set_connect_timeout(
    options: *mut zb_client_options,
    timeout_ms: i64,
) -> zb_status {
    passed!(set(options, |object| {
        object.options = object.options.clone().connect_timeout(timeout(timeout_ms));
        Ok(())
    }))
}

/// How long sending a request waits for space, and for other threads that send, in milliseconds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_options_set_request_timeout(
    options: *mut zb_client_options,
    timeout_ms: i64,
) -> zb_status {
    passed!(set(options, |object| {
        object.options = object.options.clone().request_timeout(timeout(timeout_ms));
        Ok(())
    }))
}

/// Sizes and mode of the response buffer; NULL for the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_options_set_response_config(
    options: *mut zb_client_options,
    config: *const zb_config,
) -> zb_status {
    passed!(set(options, |object| {
        object.options = object.options.clone().response_config(config_or_default(config));
        Ok(())
    }))
}

/// Frees options. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_options_free(options: *mut zb_client_options) {
    passed!(take(options));
}
