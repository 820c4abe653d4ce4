//! What other users of the machine can do to a buffer, and what they cannot (SECURITY.md).
//!
//! Each stage is a process in a mount namespace of its own, with a private `/dev/shm` and `/tmp`. There it plays the
//! victim, as root or as an ordinary user, and forks the attackers, who are another ordinary user.

mod adoption;
mod foreign;
mod forged;
mod lock_folder;
mod locks;
mod peers;
mod private_tmp;
mod stage;
