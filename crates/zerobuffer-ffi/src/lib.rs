//! The C ABI of ZeroBuffer: the whole public API of the core crate for C, and for the languages whose
//! bindings are built on it.
//!
//! There is one file for each C type. cbindgen makes `include/zerobuffer/zerobuffer_c.h` from them, and the
//! header is committed. docs/C.md is the guide for users.
//!
//! # Rules for callers
//!
//! The SAFETY comments of this crate refer to these rules, which the top of the header repeats:
//!
//! * A handle comes from a function of this library, and is not used after the function that frees it was called.
//! * Any pointer may be NULL where the documentation says so; elsewhere NULL causes
//!   `ZB_ERROR_INVALID_ARGUMENT`. A pointer that is not NULL is valid for what its type and the documentation
//!   say, for as long as the call lasts.
//! * A name is a string that ends with a zero byte. `data` and `size` describe `size` readable bytes that
//!   stay unchanged during the call.
//! * Callbacks do not unwind (no C++ exception, no longjmp leaves them); they and their user data may be used from
//!   any thread.

// C calls every function here, by the rules above, so the functions do not repeat them.
#![allow(clippy::missing_safety_doc)]
#![allow(non_camel_case_types)]
// Items are `pub` for C, not for Rust, which cannot reach them.
#![allow(unreachable_pub)]

mod arguments;
mod call;
mod callback;
mod client;
mod config;
mod deferred;
mod error;
mod exclusive;
mod frame;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod inspect;
mod interrupt;
mod kept;
mod latest;
mod lending;
mod log;
mod notify;
mod panic;
mod peer;
mod reader;
mod response;
mod server;
mod sharing;
mod stats;
mod take;
mod tee;
mod version;
mod writer;
