//! The atomics that protocol code uses, in one place, so that a model checker can stand in for them.

pub(crate) use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
