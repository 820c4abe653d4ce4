//! The C ABI of ZeroBuffer: the whole public API of the core crate for C, and for the languages whose bindings rest on it.
//!
//! One file for each C type; `include/zerobuffer/zerobuffer_c.h` is made from them by cbindgen and committed. docs/C.md
//! is the page for users.
//!
//! # Rules for callers
//!
//! They are what the SAFETY comments of this crate refer to, and stand at the top of the header too:
//!
//! * A handle comes from a function of this library, and is not used after the function that frees it was called.
//! * Any pointer may be NULL where the documentation says so; elsewhere NULL is answered by `ZB_ERROR_INVALID_ARGUMENT`.
//!   A pointer that is not NULL is valid for what its type and the documentation say, for as long as the call lasts.
//! * A name is a string that ends with a zero byte. `data` and `size` tell of `size` readable bytes that nobody changes
//!   during the call.
//! * Callbacks do not unwind (no C++ exception, no longjmp leaves them); they and their user data may be used from
//!   any thread.

// Every function here is called from C, with the same rules: they stand above, once.
#![allow(clippy::missing_safety_doc)]
#![allow(non_camel_case_types)]
// What is `pub` here is for C, not for Rust: there is nothing to reach it from.
#![allow(unreachable_pub)]

mod arguments;
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
mod lending;
mod log;
mod panic;
mod peer;
mod reader;
mod server;
mod version;
mod writer;
