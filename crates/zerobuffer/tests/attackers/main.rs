//! What other users of the machine can do to a buffer, and what they cannot (SECURITY.md).
//!
//! Each stage is a process in a mount namespace of its own, with a private `/dev/shm` and `/tmp`. There it plays the
//! victim, as root or as an ordinary user, and forks the attackers, who are another ordinary user.

mod adoption;
mod foreign;
mod forged;
mod lock_folder;
mod locks;
mod private_tmp;
mod stage;
#[path = "../support/mod.rs"]
mod support;

use support::say;
use zerobuffer::{KeptBuffer, Reader, Writer};

use crate::stage::config;

#[test]
fn peer_main() {
    support::run_peer(&[
        ("forged-kept", forged::forged_kept),
        ("wide-kept", forged::wide_kept),
        ("forged-semaphores", forged::forged_semaphores),
        ("lock-dir-link", lock_folder::lock_dir_link),
        ("lock-dir-race", lock_folder::lock_dir_race),
        ("lock-dir-modes", lock_folder::lock_dir_modes),
        ("foreign-files", foreign::foreign_files),
        ("foreign-semaphores", foreign::foreign_semaphores),
        ("shared-locks", locks::shared_locks),
        ("failed-adoption", adoption::failed_adoption),
        ("held-lock", adoption::held_lock),
        ("private-tmp", private_tmp::private_tmp),
        ("cleaning-neighbour", private_tmp::cleaning_neighbour),
        ("writer", writer),
        ("reader", reader),
        ("keeper", keeper),
    ]);
}

// ---- peers that tests kill ----

fn writer(arguments: &[String]) {
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    writer.write_frame(b"frame").unwrap();
    say("connected");
    support::hear();
}

fn reader(arguments: &[String]) {
    let mode = u32::from_str_radix(&arguments[1], 8).unwrap();
    let _reader = Reader::create(&arguments[0], config().mode(mode)).unwrap();
    say("created");
    support::hear();
}

fn keeper(arguments: &[String]) {
    let _kept = KeptBuffer::create(&arguments[0], config()).unwrap();
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    writer.write_frame(b"kept frame").unwrap();
    say("kept");
    support::hear();
}
