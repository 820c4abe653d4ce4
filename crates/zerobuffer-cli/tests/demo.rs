//! `zerobuffer demo`: it works, says what it found, and leaves nothing, however it ends.

mod common;

use std::path::PathBuf;

use common::{Running, TempFile, run, start, wait_until};

/// Files of the buffers of the demo with this pid.
fn files_of(pid: u32) -> Vec<PathBuf> {
    let name = format!("zerobuffer-demo-{pid}");
    ["/dev/shm", "/tmp/zerobuffer"]
        .iter()
        .flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten())
        .filter(|entry| entry.file_name().to_string_lossy().contains(&name))
        .map(|entry| entry.path())
        .collect()
}

/// The number that stands before `what`, where it first comes.
#[track_caller]
fn number_before(text: &str, what: &str) -> u64 {
    let (before, _) = text.split_once(what).expect("it is told");
    let digits = before.rsplit(' ').next().unwrap_or_default().replace(',', "");
    digits.parse().expect("a number")
}

/// Processes started by the one with this pid.
fn children_of(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    tasks.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie has nothing any more.
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn the_quick_demo_verifies_everything_and_draws_a_sheet() {
    let sheet = TempFile::new("demo.png");
    let demo = start(&["demo", "--quick", "--output", sheet.text()]);
    let pid = demo.pid();
    let text = demo.finish().expect(0).text();
    for part in [
        "1. 60 frames per second",
        "2. Flat out",
        "GB/s",
        "p50",
        "p99",
        "3. The writer is killed",
        "the reader knew after",
        "none missing, none torn",
        "left behind in /dev/shm and /tmp/zerobuffer: nothing",
        "5. A pipeline",
        "verified: all frames of both viewers, every byte",
        "Everything arrived, every byte right.",
        sheet.text(),
    ] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    // How many frames there are is the machine's to decide, but not that the viewer's are shared, and the slow one's dropped.
    assert!(number_before(&text, " of them shared") > number_before(&text, " copied"), "{text}");
    assert!(number_before(&text, " dropped") > number_before(&text, " frames copied"), "{text}");
    let long = text.lines().find(|line| line.len() > 80 && !line.contains(sheet.text()));
    assert_eq!(long, None);
    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(sheet.path()).unwrap()));
    let mut image = decoder.read_info().unwrap();
    let mut pixels = vec![0; image.output_buffer_size().unwrap()];
    image.next_frame(&mut pixels).unwrap();
    assert_eq!((image.info().width, image.info().height), (2000, 1296));
    // Many colours: a picture, not an empty page.
    let colours: std::collections::HashSet<&[u8]> = pixels.chunks(3).collect();
    assert!(colours.len() > 1000, "{} colours", colours.len());
    assert_eq!(files_of(pid), Vec::<PathBuf>::new());
}

fn running_demo(sheet: &TempFile) -> (Running, Vec<u32>) {
    let demo = start(&["demo", "--seconds", "60", "--output", sheet.text()]);
    wait_until("both processes", || children_of(demo.pid()).len() == 2);
    wait_until("the buffer", || files_of(demo.pid()).len() == 4);
    let children = children_of(demo.pid());
    (demo, children)
}

#[test]
fn ctrl_c_ends_the_demo_and_leaves_nothing() {
    let sheet = TempFile::new("demo-int.png");
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let (demo, children) = running_demo(&sheet);
        let pid = demo.pid();
        demo.signal(signal);
        assert!(demo.finish_with_open_stdin().expect(130).text().contains("nothing is left behind"));
        assert_eq!(files_of(pid), Vec::<PathBuf>::new());
        assert!(!children.iter().any(|child| is_alive(*child)));
    }
}

#[test]
fn a_killed_demo_takes_its_processes_along() {
    let sheet = TempFile::new("demo-kill.png");
    let (demo, children) = running_demo(&sheet);
    let pid = demo.pid();
    demo.kill();
    wait_until("the processes end", || !children.iter().any(|child| is_alive(*child)));
    wait_until("nothing is left", || files_of(pid).is_empty());
}

#[test]
fn a_killed_process_of_the_demo_is_reported_and_nothing_is_left() {
    let sheet = TempFile::new("demo-reader.png");
    let (demo, children) = running_demo(&sheet);
    let pid = demo.pid();
    // The reader is started first.
    // SAFETY: plain system call, on a process that the demo, started by this test, has started.
    unsafe { libc::kill(children[0].cast_signed(), libc::SIGKILL) };
    demo.finish_with_open_stdin().expect_error(1, "a process of the demo");
    assert_eq!(files_of(pid), Vec::<PathBuf>::new());
}

#[test]
fn a_sheet_that_cannot_be_saved_is_said() {
    run(&["demo", "--output", "/nonexistent/sheet.png"]).expect_error(3, "not a file in an existing folder");
    run(&["demo", "--output", "/tmp"]).expect_error(3, "not a file in an existing folder");
    run(&["demo", "--quick", "--output", "/dev/full"]).expect_error(1, "cannot save /dev/full");
}
