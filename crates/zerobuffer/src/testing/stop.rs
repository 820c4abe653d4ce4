//! Stop points: named places before each store to shared memory and each system call of the protocol.
//!
//! With the feature `stop-points` a test can halt or kill the process at any of them, through two variables of the
//! environment: `ZEROBUFFER_STOP=<action>:<n>:<name>` with action `kill` (SIGKILL) or `halt` (SIGSTOP) acts when the
//! point is passed for the n-th time (from 1), several of them with commas between; `ZEROBUFFER_STOP_TRACE=<file>`
//! appends the name of each point passed.
//! Without the feature the macro expands to nothing.

#[cfg(feature = "stop-points")]
macro_rules! stop_point {
    ($name:literal) => {
        $crate::testing::stop::pass($name)
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
        targets: Vec<Target>,
        trace: Option<File>,
    }

    struct Target {
        name: String,
        nth: u64,
        kill: bool,
        passed: AtomicU64,
    }

    fn target(text: &str) -> Target {
        let mut parts = text.splitn(3, ':');
        let kill = match parts.next() {
            Some("kill") => true,
            Some("halt") => false,
            other => panic!("ZEROBUFFER_STOP: unknown action {other:?}"),
        };
        let nth = parts.next().and_then(|n| n.parse().ok()).expect("ZEROBUFFER_STOP: a count");
        let name = parts.next().expect("ZEROBUFFER_STOP: a name").to_owned();
        Target { name, nth, kill, passed: AtomicU64::new(0) }
    }

    static PLAN: OnceLock<Plan> = OnceLock::new();

    fn plan() -> Plan {
        let targets =
            std::env::var("ZEROBUFFER_STOP").map_or(vec![], |text| text.split(',').map(target).collect());
        let trace = std::env::var_os("ZEROBUFFER_STOP_TRACE")
            .map(|path| OpenOptions::new().append(true).create(true).open(path).expect("trace file"));
        Plan { targets, trace }
    }

    /// Acts if the environment asks for it at this point.
    pub(crate) fn pass(name: &str) {
        let plan = PLAN.get_or_init(plan);
        if let Some(trace) = &plan.trace {
            let mut trace: &File = trace;
            trace.write_all(format!("{name}\n").as_bytes()).expect("trace");
        }
        for target in plan.targets.iter().filter(|target| target.name == name) {
            // Relaxed: the count orders nothing else.
            if target.passed.fetch_add(1, Ordering::Relaxed) + 1 == target.nth {
                crate::os::stop_self(target.kill);
            }
        }
    }
}
#[cfg(feature = "stop-points")]
pub(crate) use driver::pass;
