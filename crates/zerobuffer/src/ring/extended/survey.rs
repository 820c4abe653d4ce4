//! What an onlooker can say of an extended ring by its words alone, true or not.

use super::leaps::Leap;
use crate::layout::{ControlCopy, Cursor};

/// Bytes of a ring of `size` bytes that are in use, headers and padding included; or what is wrong with the words.
pub(crate) fn used(words: &ControlCopy, size: u64) -> Result<u64, String> {
    let ControlCopy { head, tail, lap_end, .. } = *words;
    for (what, position) in [("head", head.position()), ("tail", tail.position()), ("lap_end", lap_end)] {
        if position > size || !position.is_multiple_of(Cursor::UNIT) {
            return Err(format!("{what} is at {position} of {size} bytes"));
        }
    }
    if head.lap() == tail.lap() {
        return between(words, tail, head.position(), size);
    }
    if !tail.is_lap_before(head) {
        return Err(format!("head is in lap {}, tail in lap {}", head.lap(), tail.lap()));
    }
    Ok(between(words, tail, lap_end, size)? + between(words, head.at(0), head.position(), size)?)
}

/// Bytes from `from` to `end` of the same lap, without what the writer leapt over.
fn between(words: &ControlCopy, from: Cursor, end: u64, size: u64) -> Result<u64, String> {
    let start = from.position();
    if start > end {
        return Err(format!("lap {} ends at {end}, before {start}", from.lap()));
    }
    let leap = Leap::copied(words, from).filter(|leap| leap.is_made(end) && start <= leap.from.position());
    let Some(Leap { from, to }) = leap else { return Ok(end - start) };
    if from.position() > to || to > size {
        return Err(format!("a leap from {} to {to} of {size} bytes", from.position()));
    }
    Ok(end - start - (to - from.position()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_leap_is_not_in_use() {
        let mut words = ControlCopy {
            fifos: [(0, 0); 2],
            head: Cursor::new(3, 640),
            lap_end: 480,
            leaps: [(Cursor(0), 0), (Cursor::new(3, 160), 480)],
            written_count: 0,
            tail: Cursor::new(2, 320),
            read_count: 0,
        };
        assert_eq!(used(&words, 1024), Ok((480 - 320) + 160 + (640 - 480)));
        words.tail = Cursor::new(3, 32);
        assert_eq!(used(&words, 1024), Ok((160 - 32) + (640 - 480)));
        words.tail = Cursor::new(3, 160);
        assert_eq!(used(&words, 1024), Ok(640 - 480));
        words.tail = Cursor::new(3, 480);
        assert_eq!(used(&words, 1024), Ok(640 - 480));
        // Not committed.
        (words.tail, words.head) = (Cursor::new(3, 32), Cursor::new(3, 160));
        assert_eq!(used(&words, 1024), Ok(128));
    }

    #[test]
    fn a_position_may_be_the_end_of_the_ring_and_none_behind_it() {
        let words = ControlCopy {
            fifos: [(0, 0); 2],
            head: Cursor::new(1, 32),
            lap_end: 1024,
            leaps: [(Cursor(0), 0); 2],
            written_count: 0,
            tail: Cursor::new(0, 1008),
            read_count: 0,
        };
        assert_eq!(used(&words, 1024), Ok(16 + 32));
        assert_eq!(used(&ControlCopy { tail: Cursor::new(0, 1024), ..words }, 1024), Ok(32));
        assert_eq!(used(&ControlCopy { tail: Cursor::new(1, 32), ..words }, 1024), Ok(0));
        for wrong in [
            ControlCopy { lap_end: 1040, ..words },
            ControlCopy { head: Cursor::new(1, 1040), ..words },
            ControlCopy { tail: Cursor::new(0, 1040), ..words },
            ControlCopy { lap_end: 1000, ..words },
            ControlCopy { tail: Cursor::new(3, 0), ..words },
            ControlCopy { tail: Cursor::new(1, 48), ..words },
        ] {
            assert!(used(&wrong, 1024).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic_or_exceed_the_ring(
            words in prop::array::uniform9(prop_oneof![any::<u64>(), 0_u64..9, (0_u64..3, 0_u64..70).prop_map(|(lap, unit)| {
                Cursor::new(lap, unit * Cursor::UNIT).0
            })]),
            size in 0_u64..1100,
        ) {
            let [head, lap_end, from, from1, to, to1, tail, written_count, read_count] = words;
            let leaps = [(Cursor(from), to), (Cursor(from1), to1)];
            let words =
                ControlCopy { head: Cursor(head), lap_end, leaps, written_count, tail: Cursor(tail), read_count, fifos: [(0, 0); 2] };
            if let Ok(used) = used(&words, size) {
                prop_assert!(used <= 2 * size);
            }
        }
    }
}
