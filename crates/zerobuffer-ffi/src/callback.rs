//! User functions, with their user data.

use std::ffi::c_void;

/// Destroys user data. Called exactly once, on any thread.
pub type zb_destroy = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// The user data of a callback, destroyed when the last user of the callback is gone.
pub(crate) struct UserData {
    pointer: *mut c_void,
    destroy: zb_destroy,
    /// The process that took it over.
    process: u32,
}

// SAFETY: The rules for callers (crate documentation) let user data be used from any thread.
unsafe impl Send for UserData {}
// SAFETY: The rules for callers let several threads use user data at once.
unsafe impl Sync for UserData {}

impl UserData {
    /// Takes the data over: `destroy` is called when it is dropped, whatever happens.
    pub(crate) fn new(pointer: *mut c_void, destroy: zb_destroy) -> UserData {
        UserData { pointer, destroy, process: std::process::id() }
    }

    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    pub(crate) fn get(&self) -> *mut c_void {
        self.pointer
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: The caller promises that the function fits the data. It is called once, here, when the last user of the
            // data is gone.
            unsafe { destroy(self.pointer) };
        }
    }
}
