//! Payload sharing: frames that are forwarded without a copy.

mod basics;
mod block;
mod chains;
mod fallback;
mod hostile;
mod inspect;
mod others;
mod tee;
mod tee_limits;
mod waits;

use std::time::Duration;

use crate::support::{self, Name, fill, is_filled};
use zerobuffer::{BufferConfig, Forwarded, Frame, Reader, Writer, WriterOptions};

const SECOND: Duration = Duration::from_secs(1);
const MIB: usize = 1 << 20;

/// Bytes of a frame that is large enough to be lent.
const LARGE: usize = 100_000;

fn sharing() -> BufferConfig {
    support::config().allow_payload_sharing(true).payload_size(MIB)
}

fn requesting() -> WriterOptions {
    WriterOptions::default().request_payload_sharing(true).connect_timeout(10 * SECOND)
}

fn content(index: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(index, &mut bytes);
    bytes
}

/// A camera, a relay and a viewer in one process.
struct Chain {
    names: [Name; 2],
    camera: Writer,
    input: Reader,
    output: Writer,
    viewer: Reader,
    written: u64,
    seen: u64,
}

impl Chain {
    /// A chain whose relay lends.
    fn new(what: &str) -> Chain {
        let mut chain = Chain::with(what, sharing(), sharing(), requesting());
        // The viewer learns of the source with the relay's first frame.
        assert_eq!(chain.pass(LARGE), Forwarded::Copied);
        assert_eq!(chain.pass(LARGE), Forwarded::Shared);
        chain
    }

    fn with(what: &str, input: BufferConfig, output: BufferConfig, options: WriterOptions) -> Chain {
        let names = ["in", "out"].map(|end| Name::new(&format!("{what}-{end}")));
        let viewer = Reader::create(&names[1], output).unwrap();
        let input = Reader::create(&names[0], input).unwrap();
        let mut camera = Writer::connect(&names[0]).unwrap();
        camera.set_write_timeout(Duration::ZERO);
        let output = Writer::connect_with(&names[1], options).unwrap();
        Chain { names, camera, input, output, viewer, written: 0, seen: 0 }
    }

    /// Writes the next frame into the source.
    fn write(&mut self, len: usize) -> bool {
        let is_written = self.camera.try_write_frame(&content(self.written, len)).unwrap().is_some();
        self.written += u64::from(is_written);
        is_written
    }

    /// Writes and forwards the next frame.
    fn send(&mut self, len: usize) -> Forwarded {
        assert!(self.write(len), "no space");
        let frame = self.input.read_frame(SECOND).unwrap().expect("a frame");
        self.output.forward(frame).unwrap()
    }

    /// The viewer reads the next frame.
    fn read(&mut self, len: usize) -> Frame {
        let frame = self.viewer.read_frame(SECOND).unwrap().expect("a frame");
        assert_eq!(frame.len(), len);
        assert!(is_filled(self.seen, &frame), "frame {} has other bytes", self.seen);
        self.seen += 1;
        frame
    }

    /// Passes one frame through the chain, and says how.
    fn pass(&mut self, len: usize) -> Forwarded {
        let forwarded = self.send(len);
        let frame = self.read(len);
        assert_eq!(frame.is_shared(), forwarded == Forwarded::Shared);
        forwarded
    }

    /// Passes frames through the chain until the source has gone round several times: all space comes back.
    fn go_round(&mut self) {
        for _ in 0..60 {
            self.pass(LARGE);
        }
        assert_eq!(self.input.payload_share_count(), 0);
    }
}
