//! The test patterns: made by a writer, checked by a reader, known to the command lines of all languages.

use crate::args::Pattern;

/// Two rounds of all bytes: any 256 bytes of a sequential frame are a slice of it.
static ROUNDS: [u8; 512] = {
    let mut rounds = [0; 512];
    let mut i = 0;
    while i < rounds.len() {
        rounds[i] = i as u8;
        i += 1;
    }
    rounds
};

/// SplitMix64 (Steele, Lea, Flood 2014), seeded with the frame's index.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> [u8; 8] {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    }
}

impl Pattern {
    /// Fills in frame `index`, counted from 0.
    pub(crate) fn fill(self, index: u64, frame: &mut [u8]) {
        match self {
            Pattern::Zero => frame.fill(0),
            Pattern::Ones => frame.fill(255),
            Pattern::Sequential => {
                let round = sequential_round(index);
                frame.chunks_mut(256).for_each(|chunk| chunk.copy_from_slice(&round[..chunk.len()]));
            }
            Pattern::Random => {
                let mut random = SplitMix64(index);
                for chunk in frame.chunks_mut(8) {
                    chunk.copy_from_slice(&random.next()[..chunk.len()]);
                }
            }
        }
    }

    /// Where frame `index` first differs from what `fill` makes: position, byte found, byte expected.
    pub(crate) fn mismatch(self, index: u64, frame: &[u8]) -> Option<(usize, u8, u8)> {
        let first = |offset: usize, found: &[u8], expected: &[u8]| {
            let at = found.iter().zip(expected).position(|(a, b)| a != b)?;
            Some((offset + at, found[at], expected[at]))
        };
        match self {
            Pattern::Zero | Pattern::Ones => {
                let expected = if self == Pattern::Zero { 0 } else { 255 };
                let at = frame.iter().position(|byte| *byte != expected)?;
                Some((at, frame[at], expected))
            }
            Pattern::Sequential => {
                let round = sequential_round(index);
                frame.chunks(256).enumerate().find_map(|(i, chunk)| {
                    let expected = &round[..chunk.len()];
                    // A comparison of slices is much faster than a search, and nearly always enough.
                    if chunk == expected { None } else { first(i * 256, chunk, expected) }
                })
            }
            Pattern::Random => {
                let mut random = SplitMix64(index);
                frame.chunks(8).enumerate().find_map(|(i, chunk)| {
                    let expected = &random.next()[..chunk.len()];
                    if chunk == expected { None } else { first(i * 8, chunk, expected) }
                })
            }
        }
    }
}

fn sequential_round(index: u64) -> &'static [u8] {
    &ROUNDS[(index % 256) as usize..][..256]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_what_the_specification_says() {
        let mut frame = [0; 600];
        Pattern::Sequential.fill(1000, &mut frame);
        assert!(frame.iter().enumerate().all(|(i, byte)| *byte == ((1000 + i) % 256) as u8));
        Pattern::Random.fill(0, &mut frame[..11]);
        // The first output of SplitMix64 seeded with 0 is 0xe220a8397b1dcdaf, the second 0x6e789e6aa1b965f4.
        assert_eq!(frame[..8], 0xe220_a839_7b1d_cdaf_u64.to_le_bytes());
        assert_eq!(frame[8..11], 0x6e78_9e6a_a1b9_65f4_u64.to_le_bytes()[..3]);
        Pattern::Ones.fill(3, &mut frame);
        assert_eq!(frame, [255; 600]);
    }

    #[test]
    fn every_wrong_byte_is_found_at_its_place() {
        for pattern in [Pattern::Sequential, Pattern::Random, Pattern::Zero, Pattern::Ones] {
            let mut frame = [0; 777];
            pattern.fill(42, &mut frame);
            assert_eq!(pattern.mismatch(42, &frame), None);
            for at in [0, 7, 8, 255, 256, 776] {
                let expected = frame[at];
                frame[at] ^= 0x10;
                assert_eq!(pattern.mismatch(42, &frame), Some((at, expected ^ 0x10, expected)));
                frame[at] = expected;
            }
        }
    }
}
