//! Code for tests: stop points, the model checker's runs, the fuzzers' targets.

#[cfg(any(fuzzing, all(test, not(loom))))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(all(test, loom))]
mod loom;
#[cfg(all(test, loom))]
mod loom_descriptor;
pub(crate) mod stop;
