//! What the library promises, file by file; real processes play the peers.
//!
//! Files in `rings/` are built twice, over extended rings and over classic ones. A new file goes there if its promise holds
//! for both kinds, and beside this one otherwise.

mod attackers;
#[path = "../peers/chain.rs"]
mod chain;
mod corrupt;
mod descriptors;
#[path = "../peers/driver.rs"]
mod driver;
mod duplex;
mod duplex_async;
mod entry;
mod extended_counters;
mod extended_sleeps;
#[path = "../peers/fan.rs"]
mod fan;
mod hostile;
mod isolation;
mod peers;
mod peers_failures;
mod peers_waiting;
mod raw_peers;
mod sharing;
#[path = "../support/mod.rs"]
mod support;
mod thousand;
mod watcher;

#[path = "rings/mod.rs"]
mod extended;

#[path = "rings/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "the same promises hold for the other kind of ring")]
mod classic;
