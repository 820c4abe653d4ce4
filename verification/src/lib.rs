//! The code that the runner and the Rust peer of the conformance suite share: the content of frames
//! (verification/conformance/README.md, "Content").

use std::sync::OnceLock;

/// Bytes of the block that all content is cut from.
const BLOCK: usize = 65521;

/// A prime that spreads neighbouring seeds over the block.
const STRIDE: u64 = 7919;

/// SplitMix64 (Steele, Lea, Flood 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn block() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut state = 1;
        let words = (0..BLOCK.div_ceil(8)).map(|_| split_mix(&mut state));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.truncate(BLOCK);
        bytes
    })
}

/// The `size` bytes that `seed` stands for: the block from `seed * 7919 % 65521` on, again and again.
pub fn content(seed: u64, size: usize) -> Vec<u8> {
    let start = (seed.wrapping_mul(STRIDE) % BLOCK as u64) as usize;
    let mut bytes = Vec::with_capacity(size);
    let mut from = start;
    while bytes.len() < size {
        let take = (BLOCK - from).min(size - bytes.len());
        bytes.extend_from_slice(&block()[from..from + take]);
        from = 0;
    }
    bytes
}

/// The size of frame `seed` of a stream whose sizes lie in `low..=high`.
pub fn size_of(seed: u64, low: usize, high: usize) -> usize {
    let mut state = seed;
    low + (split_mix(&mut state) % (high - low + 1) as u64) as usize
}

/// The CRC-32 (IEEE) of `bytes`, as answers carry it.
pub fn sum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_what_every_language_makes_of_it() {
        // The same figures stand in verification/conformance/README.md, for the author of a peer.
        assert_eq!(sum(&content(1, 100)), 0xef7d_a3da);
        assert_eq!(sum(&content(12, 200_000)), 0x1afa_9d1a);
        assert_eq!((size_of(5, 1, 1000), size_of(6, 1, 1000)), (619, 593));
    }
}
