//! The folder of lock files, made by another user.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use zerobuffer::{ErrorKind, Reader, cleanup};

use super::stage::{Child, LOCK_DIR, VICTIM, config, prepare, stage, write_file};
use crate::support::{confine, role, say};

crate::support::peers!(lock_dir_link, lock_dir_race, lock_dir_modes);

/// A folder of root's, and the names of what is in it.
const PRECIOUS: &str = "/tmp/root-only";

fn precious() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(PRECIOUS)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn make_precious() {
    fs::create_dir(PRECIOUS).unwrap();
    fs::set_permissions(PRECIOUS, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(format!("{PRECIOUS}/Cargo.lock"), "precious").unwrap();
    fs::write(format!("{PRECIOUS}/index.lock"), "").unwrap();
}

#[test]
fn a_link_in_the_place_of_the_lock_folder_leads_nowhere() {
    stage(role!(lock_dir_link));
}

fn lock_dir_link(arguments: &[String]) {
    let name = prepare(arguments);
    make_precious();
    let before = precious();
    Child::run(confine::NOBODY, || symlink(PRECIOUS, LOCK_DIR).unwrap());
    let error = Reader::create(name, config()).unwrap_err();
    assert!(error.to_string().contains(LOCK_DIR) && error.to_string().contains("remove"), "{error}");
    // What the link leads to is neither listed nor changed.
    let error = cleanup::leftovers().unwrap_err();
    assert!(error.to_string().contains(LOCK_DIR), "{error}");
    assert_eq!(precious(), before);
    say("not followed");
}

#[test]
fn a_lock_folder_that_is_exchanged_with_a_link_leads_nowhere() {
    stage(role!(lock_dir_race));
}

fn lock_dir_race(arguments: &[String]) {
    let name = prepare(arguments);
    make_precious();
    let before = precious();
    // The attacker was first, and made a folder that only root and its owner would use.
    Child::run(confine::NOBODY, || {
        fs::create_dir(LOCK_DIR).unwrap();
        fs::set_permissions(LOCK_DIR, fs::Permissions::from_mode(0o1777)).unwrap();
        symlink(PRECIOUS, "/tmp/link").unwrap();
        for lock in ["Cargo.lock", "index.lock"] {
            write_file(&Path::new(LOCK_DIR).join(lock), b"", 0o666);
        }
    });
    let flipper = Child::start(confine::NOBODY, |ready| {
        let [folder, link] = [LOCK_DIR, "/tmp/link"].map(|path| std::ffi::CString::new(path).unwrap());
        ready();
        loop {
            // SAFETY: both are C strings that outlive the call.
            let exchanged = unsafe {
                libc::renameat2(
                    libc::AT_FDCWD,
                    folder.as_ptr(),
                    libc::AT_FDCWD,
                    link.as_ptr(),
                    libc::RENAME_EXCHANGE,
                )
            };
            assert_eq!(exchanged, 0);
        }
    });
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < Duration::from_secs(2) {
        for leftover in cleanup::leftovers().unwrap_or_default() {
            let _ = leftover.remove();
        }
        drop(Reader::create(&format!("{name}-{rounds}"), config()));
        assert_eq!(precious(), before, "after {rounds} rounds");
        rounds += 1;
    }
    drop(flipper);
    assert_eq!(precious(), before);
    say(format!("nothing touched in {rounds} rounds"));
}

#[test]
fn a_lock_folder_is_used_only_where_others_cannot_change_its_files() {
    stage(role!(lock_dir_modes));
}

fn lock_dir_modes(arguments: &[String]) {
    let name = prepare(arguments);
    for (mode, usable) in [(0o777, false), (0o755, false), (0o700, false), (0o1777, true)] {
        Child::run(confine::NOBODY, || {
            fs::create_dir(LOCK_DIR).unwrap();
            fs::set_permissions(LOCK_DIR, fs::Permissions::from_mode(mode)).unwrap();
        });
        for user in [0, VICTIM] {
            Child::run(user, || match Reader::create(name, config()) {
                Ok(_) => assert!(usable || user == 0 && mode != 0o777, "{mode:o} {user}"),
                Err(error) => {
                    // Root may enter any folder, and uses one in which only its owner can change files.
                    assert!(!usable && (user != 0 || mode == 0o777), "{mode:o} {user}: {error}");
                    let exchange = error.to_string().contains("could exchange the files in it");
                    assert_eq!(exchange, mode == 0o777, "{mode:o}: {error}");
                    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{mode:o}: {error}");
                    assert!(
                        error.to_string().contains("chmod 1777 /tmp/zerobuffer"),
                        "no way out told: {error}"
                    );
                }
            });
        }
        if mode == 0o777 {
            // Any user could exchange the files of such a folder.
            assert_eq!(Reader::create(name, config()).unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
        // Its owner's next buffer mends the folder.
        Child::run(confine::NOBODY, || drop(Reader::create(name, config()).unwrap()));
        assert_eq!(fs::metadata(LOCK_DIR).unwrap().permissions().mode() & 0o7777, 0o1777, "after {mode:o}");
        fs::remove_dir(LOCK_DIR).unwrap();
    }
    say("used and refused");
}
