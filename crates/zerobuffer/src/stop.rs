//! Stop points: named places before each store to shared memory and each system call of the protocol.
//!
//! With the feature `stop-points` a test can halt or kill the process at any of them, through two variables of the
//! environment: `ZEROBUFFER_STOP=<action>:<n>:<name>` with action `kill` (SIGKILL) or `halt` (SIGSTOP) acts when the
//! point is passed for the n-th time (from 1); `ZEROBUFFER_STOP_TRACE=<file>` appends the name of each point passed.
//! Without the feature the macro expands to nothing.

#[cfg(feature = "stop-points")]
macro_rules! stop_point {
    ($name:literal) => {
        $crate::stop::pass($name)
    };
}
#[cfg(not(feature = "stop-points"))]
macro_rules! stop_point {
    ($name:literal) => {};
}
pub(crate) use stop_point;

#[cfg(feature = "stop-points")]
mod driver {
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Plan {
        target: Option<(String, u64, bool)>,
        passed: AtomicU64,
        trace: Option<File>,
    }

    static PLAN: OnceLock<Plan> = OnceLock::new();

    fn plan() -> Plan {
        let target = std::env::var("ZEROBUFFER_STOP").ok().map(|text| {
            let mut parts = text.splitn(3, ':');
            let kill = match parts.next() {
                Some("kill") => true,
                Some("halt") => false,
                other => panic!("ZEROBUFFER_STOP: unknown action {other:?}"),
            };
            let nth = parts.next().and_then(|n| n.parse().ok()).expect("ZEROBUFFER_STOP: a count");
            (parts.next().expect("ZEROBUFFER_STOP: a name").to_owned(), nth, kill)
        });
        let trace = std::env::var_os("ZEROBUFFER_STOP_TRACE")
            .map(|path| OpenOptions::new().append(true).create(true).open(path).expect("trace file"));
        Plan { target, passed: AtomicU64::new(0), trace }
    }

    /// Acts if the environment asks for it at this point.
    pub(crate) fn pass(name: &str) {
        let plan = PLAN.get_or_init(plan);
        if let Some(trace) = &plan.trace {
            let mut trace: &File = trace;
            trace.write_all(format!("{name}\n").as_bytes()).expect("trace");
        }
        let Some((target, nth, kill)) = &plan.target else { return };
        // Relaxed: a count of its own, ordering nothing.
        if name == target && plan.passed.fetch_add(1, Ordering::Relaxed) + 1 == *nth {
            crate::os::stop_self(*kill);
        }
    }
}
#[cfg(feature = "stop-points")]
pub(crate) use driver::pass;
