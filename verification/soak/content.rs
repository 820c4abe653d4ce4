//! Frames that can be verified: each carries the number of its writer (the salt) and its own number, or
//! differs from every other frame.

/// A small generator of pseudo-random numbers (SplitMix64: Steele, Lea, Flood 2014), so that runs can be repeated.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `low..high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    /// True with a probability of one in `of`.
    pub(crate) fn one_in(&mut self, of: u64) -> bool {
        self.next().is_multiple_of(of)
    }
}

/// Bytes in front of a frame that name its writer: all of a first frame has them, so that the reader knows whose frames follow.
pub(crate) const SALT: usize = 8;

fn seed(salt: u64, sequence: u64) -> u64 {
    salt.wrapping_mul(0xd134_2543_de82_ef95) ^ sequence
}

/// Writes the content of frame `sequence` of writer `salt`.
pub(crate) fn fill(salt: u64, sequence: u64, bytes: &mut [u8]) {
    let rest = if sequence == 1 {
        let (head, rest) = bytes.split_at_mut(SALT);
        head.copy_from_slice(&salt.to_le_bytes());
        rest
    } else {
        bytes
    };
    let mut random = Random(seed(salt, sequence));
    for chunk in rest.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
    }
}

/// Whether `bytes` equals the output of `fill`.
pub(crate) fn is_filled(salt: u64, sequence: u64, bytes: &[u8]) -> bool {
    let rest = if sequence == 1 {
        let Some((head, rest)) = bytes.split_first_chunk::<SALT>() else { return false };
        if *head != salt.to_le_bytes() {
            return false;
        }
        rest
    } else {
        bytes
    };
    let mut random = Random(seed(salt, sequence));
    rest.chunks(8).all(|chunk| *chunk == random.next().to_le_bytes()[..chunk.len()])
}
