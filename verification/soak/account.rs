//! What the kernel says of a process that does not get on: where each of its threads is.

use std::fs;
use std::path::Path;

/// A thread that is ending: the kernel gives back what it has, and no code of its program runs any more (the kernel's `PF_EXITING`).
const EXITING: u64 = 4;

/// Whether all threads of the process are ending or have ended, so that only the kernel is at work on it.
pub(crate) fn is_ending(pid: i32) -> bool {
    threads(pid).iter().all(|thread| {
        stat(thread).is_none_or(|(state, flags)| matches!(state, 'Z' | 'X') || flags & EXITING != 0)
    })
}

/// The state and the place of each thread of the process.
pub(crate) fn of(pid: i32) -> String {
    let mut text = format!("process {pid}, {}:", if is_ending(pid) { "ending" } else { "at work" });
    for thread in threads(pid) {
        let read = |what: &str| fs::read_to_string(Path::new(&thread).join(what)).unwrap_or_default();
        let (state, flags) = stat(&thread).unwrap_or(('?', 0));
        let ending = if flags & EXITING != 0 { ", ending" } else { "" };
        let [name, place, call, stack] = ["comm", "wchan", "syscall", "stack"].map(read);
        text += &format!("\n  {} {}: {state}{ending}, in {place}, call {}", thread, name.trim(), call.trim());
        for line in stack.lines() {
            text += &format!("\n    {line}");
        }
    }
    text
}

/// The same of all children of this thread.
pub(crate) fn of_children() -> String {
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(of).collect::<Vec<_>>().join("\n")
}

/// The folders of a process's threads.
fn threads(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// A thread's state, and the kernel's flags of it.
fn stat(thread: &str) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("{thread}/stat")).ok()?;
    // The name, which may hold anything, ends with the last parenthesis.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(5)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_at_work_and_a_process_that_has_ended_are_told_apart() {
        let own = std::process::id().cast_signed();
        assert!(!is_ending(own));
        assert!(of(own).contains("at work"), "{}", of(own));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id().cast_signed();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !is_ending(pid) {
            assert!(std::time::Instant::now() < deadline, "{}", of(pid));
            std::thread::yield_now();
        }
        assert!(of(pid).contains(&format!("process {pid}, ending")), "{}", of(pid));
        child.wait().unwrap();
    }
}
