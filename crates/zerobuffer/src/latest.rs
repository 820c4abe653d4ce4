//! The newest frame: how a reader gets to it past those before.

use std::time::Duration;

use crate::error::Result;
use crate::inlet::Inlet;
use crate::wait::Deadline;

impl Inlet {
    /// The newest frame of a writer, waiting up to `timeout` for one.
    pub(crate) fn latest(&mut self, timeout: Duration) -> Result<bool> {
        let deadline = Deadline::after(timeout);
        let mut left = timeout;
        loop {
            if !self.take_fast() && !self.next(left)? {
                return Ok(false);
            }
            if self.pass_to_newest()? {
                return Ok(true);
            }
            // All of them are cancelled.
            match deadline.left(Duration::MAX) {
                Some(time) => left = time,
                None => return Ok(false),
            }
        }
    }

    /// Goes on from the frame that was taken last to the newest one. Returns whether there is one that is not cancelled.
    fn pass_to_newest(&mut self) -> Result<bool> {
        let first = self.last.len() as u64;
        self.reference_again();
        let passed = self.ring.pass_to_newest(&self.lender, &mut self.reserver, &mut self.last);
        self.frames_skipped += passed.frames;
        // The first frame has been counted as read.
        self.bytes_read -= first;
        if passed.found {
            self.resolve_newest()?;
            self.bytes_read += self.last.len() as u64;
        } else {
            self.frames_read -= 1;
        }
        Ok(passed.found)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::BufferConfig;
    use crate::reader::Reader;
    use crate::writer::Writer;

    /// A reader with a backlog of one frame for each letter, of which those with a small letter are cancelled.
    fn backlog(letters: &str) -> (Reader, Writer) {
        let name = format!("unit-latest-{letters}-{}", std::process::id());
        let reader = Reader::create(&name, BufferConfig::default().payload_size(4096)).unwrap();
        let mut writer = Writer::connect(&name).unwrap();
        write(&mut writer, letters);
        (reader, writer)
    }

    fn write(writer: &mut Writer, letters: &str) {
        for letter in letters.bytes() {
            writer.write_frame(&[letter]).unwrap();
            if letter.is_ascii_lowercase() {
                let place = writer.last_place().expect("an extended ring");
                assert!(writer.cancel(place));
            }
        }
    }

    fn next(reader: &mut Reader) -> Option<char> {
        reader.read_latest_frame(Duration::ZERO).unwrap().map(|frame| char::from(frame[0]))
    }

    #[test]
    fn cancelled_frames_are_neither_the_newest_nor_counted() {
        for (letters, newest, skipped) in [
            ("ABC", Some('C'), 2),
            ("ABc", Some('B'), 1),
            ("aBc", Some('B'), 0),
            ("Abc", Some('A'), 0),
            ("abC", Some('C'), 0),
            ("AbCd", Some('C'), 1),
            ("abc", None, 0),
        ] {
            let (mut reader, mut writer) = backlog(letters);
            assert_eq!((next(&mut reader), reader.frames_skipped()), (newest, skipped), "{letters}");
            assert_eq!(reader.frames_read(), u64::from(newest.is_some()), "{letters}");
            assert_eq!(next(&mut reader), None, "{letters}: what is cancelled is never the newest");
            let free = |reader: &Reader| crate::inspect::snapshot(reader.name()).unwrap().payload_free;
            assert_eq!(free(&reader), 4096, "{letters}: everything was given back");
            write(&mut writer, "XY");
            assert_eq!((next(&mut reader), reader.frames_skipped()), (Some('Y'), skipped + 1), "{letters}");
            assert_eq!(free(&reader), 4096, "{letters}: everything was given back");
        }
    }

    #[test]
    fn the_end_of_a_writer_whose_last_frames_were_cancelled_is_told() {
        for letters in ["abc", "Abc"] {
            let (mut reader, writer) = backlog(letters);
            let name = reader.name().to_owned();
            writer.close().unwrap();
            let mut next_writer = Writer::connect(&name).unwrap();
            write(&mut next_writer, "Z");
            let mut found = Vec::new();
            while found.last() != Some(&"Z".to_owned()) {
                match reader.read_latest_frame(Duration::ZERO) {
                    Ok(Some(frame)) => found.push(char::from(frame[0]).to_string()),
                    Ok(None) => {}
                    Err(error) => found.push(error.kind().to_string()),
                }
            }
            let expected: &[&str] =
                if letters == "abc" { &["WriterClosed", "Z"] } else { &["A", "WriterClosed", "Z"] };
            assert_eq!(found, expected);
        }
    }
}
