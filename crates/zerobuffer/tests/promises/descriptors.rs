//! Programs that have closed their standard streams, like daemons: their output must not land in a buffer.

use std::os::fd::AsRawFd;

use crate::support::{self, Name, Peer, role};
use zerobuffer::{BufferConfig, KeptBuffer, Reader, Writer, cleanup, inspect};

support::peers!(streamless);

/// Closes standard streams, then plays both sides of buffers. Its exit code is all that it can say.
fn streamless(arguments: &[String]) {
    let [name, closed] = arguments else { panic!("name, digits of the descriptors") };
    let closed: Vec<i32> = closed.chars().map(|digit| digit.to_digit(10).unwrap().cast_signed()).collect();
    // SAFETY: plain system calls; the standard streams of this process are used no more.
    closed.iter().for_each(|fd| assert_eq!(unsafe { libc::close(*fd) }, 0));
    let check = |step: i32| {
        for fd in &closed {
            // SAFETY: plain system call.
            if unsafe { libc::fcntl(*fd, libc::F_GETFD) } != -1 {
                // SAFETY: ends this process, whose panics could not be seen.
                unsafe { libc::_exit(step) };
            }
        }
    };
    let config = || BufferConfig::default().payload_size(1 << 16);
    let kept = KeptBuffer::create(name, config()).unwrap();
    check(10);
    let mut reader = Reader::create(name, config()).unwrap();
    check(11);
    let mut writer = Writer::connect(name).unwrap();
    check(12);
    let watch = writer.interrupt_handle();
    writer.set_metadata(b"metadata").unwrap();
    writer.write_frame(b"frame").unwrap();
    assert_eq!(&*reader.try_read_frame().unwrap().unwrap(), b"frame");
    assert!(reader.is_writer_connected() && inspect::snapshot(name).is_ok());
    cleanup::leftovers().unwrap();
    inspect::list().unwrap();
    check(13);
    let defects = inspect::snapshot(name).unwrap().defects;
    assert!(defects.is_empty());
    // A file that the program itself opens gets the number, as ever.
    let own = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(Some(&own.as_raw_fd()), closed.iter().min());
    drop((watch, own, writer, reader, kept));
    check(14);
}

#[test]
fn no_descriptor_of_a_buffer_is_a_standard_stream() {
    for closed in ["0", "1", "2", "12", "02", "012"] {
        let name = Name::new("streamless");
        let mut peer = Peer::start(role!(streamless), &[&name, closed]);
        let status = peer.wait();
        assert!(status.success(), "without {closed}: {status}");
        name.assert_nothing_left();
    }
}
