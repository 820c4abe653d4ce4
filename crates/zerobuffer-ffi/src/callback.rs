//! Functions of the user's, with the data that they want to be called with.

use std::ffi::c_void;

/// Ends the life of user data. Called exactly once, on any thread.
pub type zb_destroy = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// What a callback is called with; destroyed when the last user of the callback is gone.
pub(crate) struct UserData {
    pointer: *mut c_void,
    destroy: zb_destroy,
}

// SAFETY: by the rules for callers (crate documentation), user data may be used from any thread.
unsafe impl Send for UserData {}
// SAFETY: the same.
unsafe impl Sync for UserData {}

impl UserData {
    /// Takes the data over: `destroy` is called when it is dropped, whatever happens.
    pub(crate) fn new(pointer: *mut c_void, destroy: zb_destroy) -> UserData {
        UserData { pointer, destroy }
    }

    pub(crate) fn get(&self) -> *mut c_void {
        self.pointer
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: by the rules for callers the function fits the data, which nobody uses any more.
            unsafe { destroy(self.pointer) };
        }
    }
}
