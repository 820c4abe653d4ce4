//! Placeholder until the peers' tests land.
