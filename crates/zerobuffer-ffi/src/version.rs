//! The version of the ABI.

use std::ffi::{CStr, c_char};

/// Major version of the ABI, which is also the number in the SONAME: raised when an existing item is removed
/// or changed.
pub const ZB_ABI_VERSION_MAJOR: u32 = 1;
/// Minor version of the ABI: raised when an item is added.
pub const ZB_ABI_VERSION_MINOR: u32 = 5;

/// The ABI version of the loaded library: major * 65536 + minor.
///
/// A program can use a library whose major version is that of its header, and whose minor version is not less.
#[unsafe(no_mangle)]
pub extern "C" fn zb_abi_version() -> u32 {
    ZB_ABI_VERSION_MAJOR << 16 | ZB_ABI_VERSION_MINOR
}

/// The version of the library as text, such as "2.0.0". Never freed.
#[unsafe(no_mangle)]
pub extern "C" fn zb_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(text) => text,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}
