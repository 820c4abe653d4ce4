//! `zerobuffer list`, `inspect`, `clean`, `doctor`, `completions` and `man`: on live, dead, foreign and corrupt buffers.

mod common;

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use common::{Done, Name, command, run, start_reader, wait_until};
use serde_json::Value;
use zerobuffer::{BufferConfig, KeptBuffer, Reader, Writer, WriterOptions};

fn small() -> BufferConfig {
    BufferConfig::default().payload_size(1 << 16)
}

fn leave_dead(name: &Name) {
    start_reader(name, &[]).kill();
    assert_eq!(name.leftovers().len(), 4, "a killed reader leaves its files");
}

/// A live buffer whose numbers cannot be true.
fn corrupt(name: &Name) -> Reader {
    let reader = Reader::create(name, small()).unwrap();
    let segment = std::fs::OpenOptions::new().write(true).open(&name.paths()[0]).unwrap();
    // payload_free_bytes and payload_write_pos, by docs/PROTOCOL.md.
    segment.write_all_at(&u64::MAX.to_le_bytes(), 0x28).unwrap();
    segment.write_all_at(&u64::MAX.to_le_bytes(), 0x30).unwrap();
    reader
}

/// Shared memory that is not ZeroBuffer's.
fn foreign(name: &Name) -> PathBuf {
    let [segment, ..] = name.paths();
    std::fs::write(&segment, vec![b'x'; 10_000]).unwrap();
    segment
}

#[track_caller]
fn entry(done: &Done, name: &Name) -> Option<Value> {
    done.json().as_array().expect("an array").iter().find(|entry| entry["name"] == **name).cloned()
}

#[test]
fn list_shows_live_and_dead_buffers_and_what_is_wrong_with_them() {
    let [live, dead, sick, alien, kept] =
        &["live", "dead", "sick", "alien", "kept"].map(|what| Name::new(&format!("list-{what}")));
    let _reader = Reader::create(live, small()).unwrap();
    let mut writer = Writer::connect(live).unwrap();
    writer.write_frame(&[0; 30_000]).unwrap();
    leave_dead(dead);
    let _sick = corrupt(sick);
    foreign(alien);
    let _kept = KeptBuffer::create(kept, small()).unwrap();

    let done = run(&["list", "--json"]).expect(0);
    let view = entry(&done, live).unwrap();
    assert_eq!((&view["health"], &view["ring"]), (&"healthy".into(), &"extended".into()));
    // The data of large frames is aligned to 64 bytes.
    assert_eq!((&view["payload_size"], &view["payload_used"]), (&65536.into(), &30_064.into()));
    assert_eq!((&view["reader"]["state"], &view["writer"]["state"]), (&"alive".into(), &"alive".into()));
    assert_eq!(view["reader"]["pid"], std::process::id());
    assert!(view["age_seconds"].as_f64().unwrap() < 60.0 && view["memory"].as_u64().unwrap() > 30_000);
    assert_eq!(entry(&done, dead).unwrap()["reader"]["state"], "dead");
    assert_eq!(entry(&done, sick).unwrap()["health"], "corrupt");
    assert_eq!(entry(&done, alien), None);
    assert_eq!(entry(&done, kept).unwrap()["kept"], true);

    let text = run(&["list"]).expect(0).text();
    let line = |name: &Name| {
        let mut lines = text.lines().skip_while(|line| !line.starts_with(&**name));
        // A long name has a line of its own, and the rest is below it.
        let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        if first == &**name { format!("{first}{second} ") } else { format!("{first} ") }
    };
    assert!(text.starts_with("NAME"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(line(live).contains("45.9%") && line(live).contains(" 64K "), "{text}");
    assert_eq!(line(live).matches(&format!(" {} ", std::process::id())).count(), 2, "{text}");
    assert!(line(dead).contains("dead ") && line(sick).contains("CORRUPT") && line(kept).contains("kept "));
    assert!(line(alien).trim().is_empty());
}

#[test]
fn inspect_shows_every_field_and_says_how_the_buffer_is() {
    for (ring, used, share) in [("classic", 60_016_u64, "91.6"), ("extended", 60_064, "91.7")] {
        inspect_shows_every_field_of(ring, used, share);
    }
}

fn inspect_shows_every_field_of(ring: &str, used: u64, share: &str) {
    let name = Name::new("inspect-live");
    let config = small().metadata_size(128).classic(ring == "classic");
    let _reader = Reader::create(&name, config).unwrap();
    let file_size = std::fs::metadata(&name.paths()[0]).unwrap().len();
    let mut writer = Writer::connect(&name).unwrap();
    writer.set_metadata(b"hello").unwrap();
    writer.write_frame(&[0; 60_000]).unwrap();
    let view = run(&["inspect", &name, "--json"]).expect(0).json();
    for (field, value) in [
        ("name", Value::from(&*name)),
        ("health", "degraded".into()),
        ("version", "1.0.0".into()),
        ("ring", ring.into()),
        ("payload_size", 65536.into()),
        ("payload_used", used.into()),
        ("payload_free", (65536 - used).into()),
        ("write_position", used.into()),
        ("read_position", 0.into()),
        ("written_count", 1.into()),
        ("read_count", 0.into()),
        ("metadata_size", 128.into()),
        ("metadata_written", 13.into()),
        ("metadata_free", 115.into()),
        ("kept", false.into()),
        ("file_size", file_size.into()),
        ("mode", "0600".into()),
        ("defects", Vec::<String>::new().into()),
    ] {
        assert_eq!(view[field], value, "{field}");
    }
    assert!(view["utilisation"].as_f64().is_some_and(|share| (share - used as f64 / 65_536.0).abs() < 1e-9));
    assert!(view["owner"].is_u64() && view["memory"].is_u64() && view["age_seconds"].is_f64());
    for role in ["reader", "writer"] {
        assert_eq!(view[role]["state"], "alive");
        assert_eq!(view[role]["pid"], std::process::id());
        assert_eq!(view[role]["ours"], true);
    }
    let text = run(&["inspect", &name]).expect(0).text();
    let in_use = format!("{used} of 65536 bytes in use ({share} %)");
    for part in ["degraded", ring, &in_use, "13 of 128 bytes written", "mode 0600"] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    drop(writer);
    assert_eq!(run(&["inspect", &name, "--json"]).expect(0).json()["writer"]["state"], "closed");
}

#[test]
fn inspect_tells_dead_corrupt_foreign_and_missing_apart() {
    let [dead, sick, alien, missing] =
        ["dead", "sick", "alien", "missing"].map(|what| Name::new(&format!("inspect-{what}")));
    leave_dead(&dead);
    assert!(run(&["inspect", &dead]).expect(0).text().contains("dead ("));
    let _sick = corrupt(&sick);
    let done = run(&["inspect", &sick, "--json"]).expect(2);
    assert_eq!(done.json()["health"], "corrupt");
    assert_eq!(done.json()["defects"].as_array().unwrap().len(), 2);
    assert!(run(&["inspect", &sick]).expect(2).text().contains("DEFECT"));
    let [head, tail] = ["head", "tail"].map(|what| Name::new(&format!("inspect-{what}")));
    for (name, line) in [(&head, 0), (&tail, 128)] {
        let _reader = Reader::create(name, small()).unwrap();
        let mut writer = Writer::connect(name).unwrap();
        writer.write_frame(b"one").unwrap();
        let segment = std::fs::OpenOptions::new().write(true).open(&name.paths()[0]).unwrap();
        // In the control block, the last 512 bytes.
        let control = segment.metadata().unwrap().len() - 512;
        segment.write_all_at(&u64::MAX.to_le_bytes(), control + line).unwrap();
        let view = run(&["inspect", name, "--json"]).expect(2).json();
        assert_eq!((&view["ring"], &view["health"]), (&"extended".into(), &"corrupt".into()));
    }
    foreign(&alien);
    run(&["inspect", &alien]).expect(1);
    run(&["inspect", &missing]).expect_error(1, "zerobuffer list shows what there is");
    for (name, code, kind) in
        [(&*alien, 1, "IncompatibleProtocol"), (&*missing, 1, "BufferNotFound"), ("a/b", 3, "InvalidName")]
    {
        let view = run(&["inspect", name, "--json"]).expect(code).json();
        assert_eq!((&view["name"], &view["error"]), (&name.into(), &kind.into()));
        assert!(view["message"].as_str().is_some_and(|message| message.contains(name)), "{view}");
    }
}

#[test]
fn clean_removes_the_dead_and_says_so() {
    let name = Name::new("clean");
    leave_dead(&name);
    let done = run(&["clean", &name, "--dry-run"]).expect(0);
    assert!(done.text().starts_with("would remove zbtest-clean") && done.text().contains("/dev/shm/"));
    let done = run(&["clean", &name, "--dry-run", "--json"]).expect(0);
    let entry = entry(&done, &name).unwrap();
    assert_eq!((&entry["removed"], &entry["why"]), (&false.into(), &"dry run".into()));
    assert_eq!(entry["files"].as_array().unwrap().len(), 4);
    assert_eq!(name.leftovers().len(), 4, "a dry run removes nothing");
    let done = run(&["clean", &name, "--json", "-v"]).expect(0);
    assert_eq!(done.json()[0]["removed"], true);
    assert!(done.json()[0].get("why").is_none());
    name.assert_nothing_left();
    leave_dead(&name);
    assert!(run(&["clean", &name]).expect(0).text().starts_with("removed zbtest-clean"));
    name.assert_nothing_left();
    assert_eq!(run(&["clean", &name]).expect(0).text(), "nothing to clean\n");
}

#[test]
fn clean_leaves_the_living_the_foreign_and_the_corrupt_living_alone() {
    let [live, sick, alien, half] =
        ["live", "sick", "alien", "half"].map(|what| Name::new(&format!("clean-{what}")));
    let _reader = Reader::create(&live, small()).unwrap();
    let _sick = corrupt(&sick);
    let alien_path = foreign(&alien);
    // A dead reader's buffer in which a writer still is.
    let reader = start_reader(&half, &["--timeout-ms", "-1"]);
    let writer = Writer::connect(&half).unwrap();
    reader.kill();
    // Everything at once, without touching what other tests are about.
    let all = run(&["clean", "--dry-run", "--json"]).expect(0);
    for name in [&live, &sick, &alien] {
        assert_eq!(entry(&all, name), None);
    }
    let done = run(&["clean", &live, &sick, &alien, &half, "--json"]).expect(0);
    let left = entry(&done, &half).unwrap();
    assert_eq!(left["removed"], false);
    assert!(left["why"].as_str().unwrap().contains("its writer lives"), "{left}");
    assert_eq!(done.json().as_array().unwrap().len(), 1);
    assert!(run(&["clean", &half]).expect(0).text().starts_with("left zbtest-clean-half"));
    assert!(alien_path.exists());
    assert_eq!((live.leftovers().len(), sick.leftovers().len(), half.leftovers().len()), (4, 4, 4));
    drop(writer);
    half.assert_nothing_left();
}

#[test]
fn clean_removes_the_corrupt_dead() {
    let name = Name::new("clean-corrupt");
    leave_dead(&name);
    std::fs::write(&name.paths()[0], [0xe7; 9000]).unwrap();
    run(&["clean", &name]).expect(0);
    name.assert_nothing_left();
}

/// Runs the command as a user who owns nothing.
#[track_caller]
fn run_as_nobody(arguments: &[&str]) -> Done {
    // SAFETY: plain system call.
    let root = unsafe { libc::geteuid() } == 0;
    assert!(root, "this test needs root, to become another user");
    let copy = common::TempFile::new(&format!("zerobuffer-for-all-{}", arguments[0]));
    // By a process of its own: a file that a child, forked at the wrong moment, has open for writing cannot be run.
    let copied = Command::new("cp").args([env!("CARGO_BIN_EXE_zerobuffer"), copy.text()]).status().unwrap();
    assert!(copied.success());
    let mut other = Command::new(copy.path());
    std::os::unix::process::CommandExt::uid(&mut other, 65534);
    other.args(arguments).current_dir("/");
    common::Running::start(other).finish()
}

#[test]
fn clean_says_whose_files_it_may_not_remove() {
    let name = Name::new("clean-other");
    leave_dead(&name);
    let done = run_as_nobody(&["clean", &name, "--json"]).expect(0);
    let left = entry(&done, &name).unwrap();
    assert_eq!(left["removed"], false);
    assert!(left["why"].as_str().unwrap().contains("another user"), "{left}");
    assert_eq!(name.leftovers().len(), 4);
}

#[test]
fn list_names_the_buffers_that_may_not_be_looked_at() {
    let name = Name::new("list-other");
    let _reader = Reader::create(&name, BufferConfig::default().payload_size(4096)).unwrap();
    let text = run_as_nobody(&["list"]).expect(0).text();
    assert!(text.lines().any(|line| line.starts_with(&*name) && line.contains("another user's")), "{text}");
    run_as_nobody(&["inspect", &name]).expect(1);
    let view = entry(&run_as_nobody(&["list", "--json"]).expect(0), &name).unwrap();
    assert_eq!(view["error"], "PermissionDenied");
}

#[test]
fn doctor_finds_leftovers_and_corrupt_buffers_and_says_what_to_do() {
    let checks = |done: &Done| {
        let findings = done.json();
        move |check: &str| {
            let all = findings.as_array().expect("an array").clone();
            all.into_iter().find(|finding| finding["check"] == check).expect("a finding")
        }
    };
    let dead = Name::new("doctor-dead");
    leave_dead(&dead);
    let done = run(&["doctor", "--json"]);
    assert!(matches!(done.code(), 0 | 1));
    let found = checks(&done);
    for check in ["shared memory", "lock files", "/proc", "limit on file size", "limit on open files"] {
        assert!(matches!(found(check)["verdict"].as_str(), Some("ok" | "warning")), "{}", found(check));
    }
    assert_eq!(found("a frame through a buffer")["verdict"], "ok");
    let leftovers = found("leftovers");
    assert_eq!(
        (&leftovers["verdict"], &leftovers["advice"]),
        (&"warning".into(), &"zerobuffer clean".into())
    );
    assert!(leftovers["found"].as_str().unwrap().contains(&*dead));

    let sick = Name::new("doctor-sick");
    let _sick = corrupt(&sick);
    let done = run(&["doctor", "--json"]).expect(1);
    let buffers = checks(&done)("buffers");
    assert_eq!(buffers["verdict"], "problem");
    assert!(buffers["found"].as_str().unwrap().contains(&*sick));
    let text = run(&["doctor"]).expect(1).text();
    assert!(text.contains("PROBLEM  buffers") && text.contains("-> zerobuffer clean"), "{text}");
}

#[test]
fn doctor_notices_limits_that_are_too_low() {
    let limited = |limit: &str| {
        let mut shell = Command::new("sh");
        let binary = env!("CARGO_BIN_EXE_zerobuffer");
        shell.args(["-c", &format!("ulimit {limit} && exec {binary} doctor --json")]);
        let done = common::Running::start(shell).finish();
        done.json().as_array().unwrap().clone()
    };
    let verdict = |findings: &[Value], check: &str| {
        let finding = findings.iter().find(|finding| finding["check"] == check).unwrap();
        finding["verdict"].as_str().unwrap().to_owned()
    };
    let findings = limited("-n 32");
    assert_eq!(verdict(&findings, "limit on open files"), "warning");
    // Too small for the 64 KiB that the doctor tries: units of 512 bytes or 1 KiB, depending on the shell.
    let findings = limited("-f 20");
    assert_eq!(verdict(&findings, "limit on file size"), "warning");
    assert_eq!(verdict(&findings, "a frame through a buffer"), "problem");
}

#[test]
fn doctor_notices_a_small_or_full_shared_memory() {
    // In a mount namespace of its own, with another /dev/shm.
    let in_namespace = |mount: &str| {
        let mut unshare = Command::new("unshare");
        let binary = env!("CARGO_BIN_EXE_zerobuffer");
        unshare.args(["--mount", "sh", "-c", &format!("{mount} && exec {binary} doctor --json")]);
        let done = common::Running::start(unshare).finish();
        assert!(!done.stdout.is_empty(), "this test needs root (unshare --mount): {}", done.stderr);
        let findings = done.json().as_array().unwrap().clone();
        let verdict = |check: &str| {
            let finding = findings.iter().find(|finding| finding["check"] == check).unwrap();
            finding["verdict"].as_str().unwrap().to_owned()
        };
        (done.code(), verdict("shared memory"), verdict("a frame through a buffer"))
    };
    let tmpfs = "mount -t tmpfs -o size=64m tmpfs /dev/shm";
    assert_eq!(in_namespace(tmpfs), (0, "warning".into(), "ok".into()));
    let full = format!("{tmpfs} && dd if=/dev/zero of=/dev/shm/full bs=1M status=none 2>/dev/null; true");
    assert_eq!(in_namespace(&full), (1, "problem".into(), "problem".into()));
    let plain = "mkdir -p /tmp/zbtest-plain && mount --bind /tmp/zbtest-plain /dev/shm && rmdir /tmp/zbtest-plain \
                 2>/dev/null; true";
    let (code, verdict, _) = in_namespace(plain);
    let _ = std::fs::remove_dir("/tmp/zbtest-plain");
    assert_eq!((code, verdict.as_str()), (1, "problem"));
}

#[test]
fn inspect_shows_who_shares_and_who_polls() {
    let names = ["in", "out"].map(|end| Name::new(&format!("inspect-shared-{end}")));
    let config = || small().payload_size(1 << 20).allow_payload_sharing(true);
    let mut viewer = Reader::create(&names[1], config()).unwrap();
    let mut input = Reader::create(&names[0], config()).unwrap();
    let mut camera = Writer::connect(&names[0]).unwrap();
    let options = WriterOptions::default().request_payload_sharing(true);
    let mut output = Writer::connect_with(&names[1], options).unwrap();
    let text = run(&["inspect", &names[1]]).expect(0).text();
    assert!(text.contains("allowed; 0 lent, no borrower") && !text.contains("descriptor"), "{text}");
    for _ in 0..2 {
        camera.write_frame(&[1; 100_000]).unwrap();
        output.forward(input.read_frame(common::PATIENCE).unwrap().unwrap()).unwrap();
        assert!(viewer.try_read_frame().unwrap().is_some());
    }
    input.descriptor().unwrap();
    let me = std::process::id();
    let text = run(&["inspect", &names[1]]).expect(0).text();
    let line =
        format!("allowed; frames of `{}` offered by process {me}, accepted; 1 lent, a borrower", &*names[0]);
    assert!(text.contains(&line), "{text}");
    let view = run(&["inspect", &names[1], "--json"]).expect(0).json();
    let sharing = &view["sharing"];
    assert_eq!((&sharing["enabled"], &sharing["borrower"]), (&true.into(), &true.into()));
    assert_eq!((&sharing["share_count"], &sharing["owner_pid"]), (&1.into(), &me.into()));
    assert_eq!(
        (&sharing["offer"]["name"], &sharing["offer"]["answer"]),
        (&(*names[0]).into(), &"accepted".into())
    );
    assert_eq!((&view["reader_fifo"], &view["writer_fifo"]), (&Value::Null, &Value::Null));
    let view = run(&["inspect", &names[0], "--json"]).expect(0).json();
    let fifo = view["reader_fifo"].as_str().expect("a path");
    assert!(fifo.starts_with("/dev/shm/sem.zbf-"), "{fifo}");
    let text = run(&["inspect", &names[0]]).expect(0).text();
    assert!(text.contains(&format!("reader's: {fifo}")), "{text}");
    let name = Name::new("inspect-unshared");
    let _reader = Reader::create(&name, small()).unwrap();
    assert_eq!(run(&["inspect", &name, "--json"]).expect(0).json()["sharing"], Value::Null);
}

#[test]
fn completions_and_man_pages_know_every_command_and_option() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]).expect(0).text();
        for word in ["create-output", "metadata-file", "dry-run", "inspect"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let page = run(&["man", "writer"]).expect(0).text();
    assert!(page.contains(".TH zerobuffer-writer 1") && page.contains("metadata\\-file"), "{page}");
    assert!(run(&["man"]).expect(0).text().contains(".TH zerobuffer 1"));
    let dir = std::env::temp_dir().join(format!("zbtest-man-{}", std::process::id()));
    run(&["man", "--dir", dir.to_str().unwrap()]).expect(0);
    let pages: Vec<_> = std::fs::read_dir(&dir).unwrap().flatten().map(|entry| entry.file_name()).collect();
    std::fs::remove_dir_all(&dir).unwrap();
    for command in ["zerobuffer", "zerobuffer-relay", "zerobuffer-demo", "zerobuffer-doctor"] {
        assert!(pages.iter().any(|page| *page == *format!("{command}.1")), "{pages:?}");
    }
    assert!(!pages.iter().any(|page| page.to_string_lossy().contains("demo-peer")), "{pages:?}");
}

#[test]
fn every_requested_option_stands_in_the_help() {
    for (command, options) in [
        (
            "writer",
            &[
                "-n, --frames",
                "-s, --size",
                "-m, --metadata",
                "--metadata-file",
                "--pattern",
                "--delay-ms",
                "--batch-size",
                "--timeout-ms",
                "--input",
                "--json-output",
                "-v, --verbose",
                "-h, --help",
            ][..],
        ),
        (
            "reader",
            &[
                "-n, --frames",
                "-s, --size",
                "--timeout-ms",
                "--verify",
                "--checksum",
                "--batch-size",
                "--buffer-size",
                "--metadata-size",
                "--output",
                "--keep",
                "--latest",
                "--json-output",
                "-v, --verbose",
                "-h, --help",
            ],
        ),
        (
            "relay",
            &[
                "-n, --frames",
                "--create-output",
                "--buffer-size",
                "--timeout-ms",
                "--transform",
                "--xor-key",
                "--log-interval",
                "--json-output",
                "-v, --verbose",
                "-h, --help",
            ],
        ),
    ] {
        let help = run(&[command, "--help"]).expect(0).text();
        for option in options {
            assert!(help.contains(option), "{command} {option}:\n{help}");
        }
        for default in ["5000", "Exit codes: 0"] {
            assert!(help.contains(default), "{command}: {default}");
        }
    }
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let mut list = command(&["man"]);
    let (unread, pipe) = rustix::pipe::pipe().unwrap();
    drop(unread);
    list.stdout(pipe);
    let mut child = list.spawn().unwrap();
    drop(list);
    let mut status = None;
    wait_until("the end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
}
