//! UNSAFE (`PyThreadState_New`): the interpreter's states of the core's threads.
//!
//! A thread that Python did not start gets a state when it calls Python: `PyGILState_Ensure` makes one before it takes the
//! GIL, and the release deletes it. Meanwhile it holds a lock of CPython, and a child that another thread forks just then
//! waits for that lock without end (`PyOS_AfterFork_Child` of CPython up to 3.11 takes it before it renews it). So a thread of
//! the core makes its state in a [`Section`], and keeps it until the thread ends.
#![allow(unsafe_code)]

use pyo3::ffi;

use crate::end;
use crate::fork::Section;

/// The state of one thread; NULL if the thread has one that is not ours to delete.
struct ThreadState(*mut ffi::PyThreadState);

thread_local! {
    static STATE: ThreadState = ThreadState::of_this_thread();
}

impl ThreadState {
    fn of_this_thread() -> ThreadState {
        // SAFETY: asks for a thread-local variable of the interpreter, which end.rs keeps from ending meanwhile.
        if !unsafe { ffi::PyGILState_GetThisThreadState() }.is_null() {
            return ThreadState(std::ptr::null_mut());
        }
        let _section = Section::enter();
        // SAFETY: may be called without the GIL. The interpreter is the only one that this package runs in (interpreter.rs), and
        // end.rs keeps it from ending meanwhile. The new state becomes this thread's, as the thread has none.
        ThreadState(unsafe { ffi::PyThreadState_New(ffi::PyInterpreterState_Main()) })
    }
}

impl Drop for ThreadState {
    fn drop(&mut self) {
        if self.0.is_null() {
            return;
        }
        // At the interpreter's end it is CPython that deletes what is left.
        end::unless_ending(|| {
            // SAFETY: PyThreadState_New made the state for this thread, which is ending and does not hold the GIL: nothing of
            // Python's is on its stack. The GIL is held from the first of these calls to the last, which gives it up.
            unsafe {
                ffi::PyEval_RestoreThread(self.0);
                ffi::PyThreadState_Clear(self.0);
                ffi::PyThreadState_DeleteCurrent();
            }
        });
    }
}

/// Makes the state of this thread, unless it has one. The caller has announced that it calls Python ([`end`]).
#[inline]
pub(crate) fn ensure() {
    // A thread that is past its thread-local variables goes without.
    let _ = STATE.try_with(|_| ());
}
