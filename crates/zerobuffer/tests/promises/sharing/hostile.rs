//! References and offers that cannot be true: typed errors for references, refusals for offers.

use super::block::{self, control, sharing_block};
use super::{Chain, LARGE, SECOND, content, requesting, sharing};
use crate::support::Name;
use crate::support::forge::{Forge, at};
use zerobuffer::{ErrorKind, Forwarded, KeptBuffer, Reader, Writer};

/// Where the reference stands that OUT's writer has just committed.
fn reference(segment: &Forge, path: &str) -> u64 {
    let offer = segment.get(sharing_block(segment, block::OFFER));
    let bytes = std::fs::read(path).unwrap();
    let words = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let end = control(segment) as usize - 32;
    let found = (0..end).step_by(16).rev().find(|at| words(*at) == offer && words(at + 16) == LARGE as u64);
    found.expect("a reference") as u64
}

#[test]
fn a_reference_that_cannot_be_true_is_a_corrupt_buffer() {
    const MAX: u64 = u64::MAX;
    let ring = (1 << 20) + (1 << 20) * 3 / 16;
    for (what, word, value) in [
        ("an offer that was not made", 0, 77),
        ("no offer", 0, 0),
        ("a position behind the ring", 1, ring),
        ("a position that overflows", 1, MAX),
        ("a length behind the ring", 2, ring + 4096),
        ("a length that overflows", 2, MAX),
        ("no length", 2, 0),
    ] {
        let mut chain = Chain::new("forged");
        chain.send(LARGE);
        let segment = Forge::segment(&chain.names[1]);
        let at = reference(&segment, &format!("/dev/shm/{}", &*chain.names[1]));
        let before = segment.get(at + 8 * word);
        segment.set(at + 8 * word, value);
        for _ in 0..2 {
            let error = chain.viewer.read_frame(SECOND).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CorruptBuffer, "{what}: {error}");
        }
        // The frame is still there: what was wrong is not left out.
        segment.set(at + 8 * word, before);
        assert_eq!(*chain.read(LARGE), *content(2, LARGE), "{what}");
    }
}

#[test]
fn a_reference_in_a_buffer_that_takes_none_is_a_corrupt_buffer() {
    let mut chain = Chain::new("unwanted");
    chain.send(LARGE);
    let name = Name::new("unwanted-plain");
    let mut reader = Reader::create(&name, sharing().allow_payload_sharing(false)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    writer.write_frame(&[1; 32]).unwrap();
    // The header is the first word of the ring; flag 4 says that the frame is a reference.
    let segment = Forge::segment(&name);
    let header = 128 + 4096;
    segment.set(header, segment.get(header) | 1 << 58);
    let error = reader.read_frame(SECOND).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptBuffer, "{error}");
}

#[test]
fn a_source_that_was_truncated_before_it_is_looked_at_is_a_corrupt_buffer() {
    let mut chain = Chain::new("truncated");
    // Where the viewer has not looked yet.
    for _ in 0..4 {
        assert!(chain.write(200_000));
    }
    let frames: Vec<_> = (0..4).map(|_| chain.input.read_frame(SECOND).unwrap().unwrap()).collect();
    assert_eq!(chain.output.forward_to(&frames[3]).unwrap(), Forwarded::Shared);
    let path = format!("/dev/shm/{}", &*chain.names[0]);
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(512 << 10).unwrap();
    let error = chain.viewer.read_frame(SECOND).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptBuffer, "{error}");
    // Whatever is touched behind the end is SIGBUS.
    std::mem::forget(frames);
    std::mem::forget(chain.input);
    std::mem::forget(chain.camera);
}

/// What an offer says.
struct Offer<'a> {
    name: &'a [u8],
    size: u64,
    inode: Option<u64>,
}

/// Offers something to a reader, and returns whether it accepted.
fn is_accepted(what: &str, source: &Name, offer: Offer<'_>) -> bool {
    use std::os::unix::fs::MetadataExt;
    let name = Name::new("offered");
    let mut viewer = Reader::create(&name, sharing()).unwrap();
    let mut writer = Writer::connect_with(&name, requesting()).unwrap();
    writer.write_frame(b"one").unwrap();
    assert!(viewer.read_frame(SECOND).unwrap().is_some());
    let segment = Forge::segment(&name);
    let info = std::fs::metadata(format!("/dev/shm/{}", &**source)).unwrap();
    segment.set(sharing_block(&segment, block::DEVICE), info.dev());
    segment.set(sharing_block(&segment, block::INODE), offer.inode.unwrap_or(info.ino()));
    segment.set(sharing_block(&segment, block::NAME_SIZE), offer.size);
    segment.write(sharing_block(&segment, block::NAME), offer.name);
    let number = 1 << 32 | 1;
    segment.set(sharing_block(&segment, block::OFFER), number);
    assert!(viewer.try_read_frame().unwrap().is_none());
    let answers = [block::ACCEPTED, block::REFUSED].map(|field| segment.get(sharing_block(&segment, field)));
    assert!(answers == [number, 0] || answers == [0, number], "{what}: {answers:x?}");
    // Frames come all the same.
    writer.write_frame(b"two").unwrap();
    assert_eq!(*viewer.read_frame(SECOND).unwrap().unwrap(), *b"two");
    answers[0] == number
}

#[test]
fn only_a_true_offer_is_accepted() {
    let source = Name::new("source");
    let mut input = Reader::create(&source, sharing()).unwrap();
    let mut camera = Writer::connect(&source).unwrap();
    let of = |name: &'static [u8], size| Offer { name, size, inode: None };
    let is_true = |inode| Offer { name: source.as_bytes(), size: source.len() as u64, inode };
    assert!(is_accepted("the true one", &source, is_true(None)));
    assert!(!is_accepted("another inode", &source, is_true(Some(1))));
    assert!(!is_accepted("a path", &source, of(b"../shm/x", 8)));
    assert!(!is_accepted("no text", &source, of(b"\xff\xfe", 2)));
    assert!(!is_accepted("no name", &source, of(b"", 0)));
    assert!(!is_accepted("a length behind the name", &source, of(b"x", u64::MAX)));
    assert!(!is_accepted("a missing buffer", &source, of(b"zbtest-there-is-none", 20)));
    // A link to it.
    let link = Name::new("source-link");
    std::os::unix::fs::symlink(format!("/dev/shm/{}", &*source), format!("/dev/shm/{}", &*link)).unwrap();
    let linked = Offer { name: link.as_bytes(), size: link.len() as u64, inode: None };
    assert!(!is_accepted("a link", &source, linked));
    // A reader that does not lend.
    let segment = Forge::segment(&source);
    segment.set(sharing_block(&segment, block::ENABLED), 0);
    assert!(!is_accepted("a source that is not lent", &source, is_true(None)));
    segment.set(sharing_block(&segment, block::ENABLED), 1);
    assert!(is_accepted("the true one again", &source, is_true(None)));
    // Files that are no buffers, or others'.
    let plain = Name::new("source-plain");
    let _plain = Reader::create(&plain, sharing().allow_payload_sharing(false)).unwrap();
    let other = Offer { name: plain.as_bytes(), size: plain.len() as u64, inode: None };
    assert!(!is_accepted("a buffer that shares nothing", &plain, other));
    let kept = Name::new("source-kept");
    let _kept = KeptBuffer::create(&kept, sharing()).unwrap();
    let other = Offer { name: kept.as_bytes(), size: kept.len() as u64, inode: None };
    assert!(!is_accepted("a buffer without a reader", &kept, other));
    let alien = Name::new("source-alien");
    std::fs::write(format!("/dev/shm/{}", &*alien), [0xe7; 8192]).unwrap();
    let other = Offer { name: alien.as_bytes(), size: alien.len() as u64, inode: None };
    assert!(!is_accepted("another program's file", &alien, other));
    camera.write_frame(b"last").unwrap();
    assert!(input.read_frame(SECOND).unwrap().is_some());
}

#[test]
fn a_borrowers_role_that_another_process_holds_is_a_refusal() {
    let mut chain = Chain::with("obstructed", sharing(), sharing(), requesting());
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/dev/shm/{}", &*chain.names[1]))
        .unwrap();
    // SAFETY: struct flock is plain integers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_start, lock.l_len) = (libc::F_WRLCK as i16, 0x78, 1);
    // SAFETY: `lock` is valid for the call.
    let locked =
        unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_OFD_SETLK, &raw const lock) };
    assert_eq!(locked, 0);
    for _ in 0..5 {
        assert_eq!(chain.pass(LARGE), Forwarded::Copied);
    }
    let segment = Forge::segment(&chain.names[1]);
    assert_ne!(segment.get(sharing_block(&segment, block::REFUSED)), 0);
}

#[test]
fn a_source_whose_sizes_cannot_be_true_is_refused() {
    let source = Name::new("sizes");
    let mut input = Reader::create(&source, sharing()).unwrap();
    let mut camera = Writer::connect(&source).unwrap();
    let segment = Forge::segment(&source);
    let is_true = || Offer { name: source.as_bytes(), size: source.len() as u64, inode: None };
    const MAX: u64 = u64::MAX;
    for (what, at, value) in [
        ("a payload larger than the file", at::PAYLOAD_SIZE, 1 << 40),
        ("a payload that overflows", at::PAYLOAD_SIZE, MAX),
        ("no payload", at::PAYLOAD_SIZE, 0),
        ("metadata larger than the file", at::METADATA_SIZE, 1 << 40),
        ("metadata that overflow", at::METADATA_SIZE, MAX - 100),
        ("a control block behind the file", at::EXTENSION, segment.get(at::EXTENSION) + (1 << 40)),
        ("a control block at the end of the numbers", at::EXTENSION, MAX),
        ("another protocol", at::VERSION, MAX),
    ] {
        let before = segment.get(at);
        segment.set(at, value);
        assert!(!is_accepted(what, &source, is_true()), "{what}");
        segment.set(at, before);
    }
    assert!(is_accepted("the true one", &source, is_true()));
    camera.write_frame(b"last").unwrap();
    assert!(input.read_frame(SECOND).unwrap().is_some());
}

#[test]
fn sizes_that_change_behind_the_acceptance_change_nothing() {
    let mut chain = Chain::new("resized");
    let segment = Forge::segment(&chain.names[0]);
    let before = [at::PAYLOAD_SIZE, at::METADATA_SIZE].map(|at| (at, segment.get(at)));
    for (at, value) in before {
        segment.set(at, value / 2);
    }
    chain.go_round();
    for (at, _) in before {
        segment.set(at, 1 << 50);
    }
    chain.go_round();
    // The lender closes by its own sizes, too.
    before.iter().for_each(|(at, value)| segment.set(*at, *value));
}

#[test]
fn a_writer_that_offers_without_end_has_four_sources_accepted() {
    use std::os::unix::fs::MetadataExt;
    let (source, output) = (Name::new("endless-in"), Name::new("endless-out"));
    let _input = Reader::create(&source, sharing()).unwrap();
    let mut viewer = Reader::create(&output, sharing()).unwrap();
    let mut writer = Writer::connect_with(&output, requesting()).unwrap();
    writer.write_frame(b"one").unwrap();
    assert!(viewer.read_frame(SECOND).unwrap().is_some());
    let segment = Forge::segment(&output);
    let info = std::fs::metadata(format!("/dev/shm/{}", &*source)).unwrap();
    segment.set(sharing_block(&segment, block::DEVICE), info.dev());
    segment.set(sharing_block(&segment, block::INODE), info.ino());
    segment.set(sharing_block(&segment, block::NAME_SIZE), source.len() as u64);
    segment.write(sharing_block(&segment, block::NAME), source.as_bytes());
    for count in 1..=50 {
        segment.set(sharing_block(&segment, block::OFFER), 1 << 32 | count);
        assert!(viewer.try_read_frame().unwrap().is_none());
        let accepted = segment.get(sharing_block(&segment, block::ACCEPTED));
        assert_eq!(accepted, 1 << 32 | count.min(4));
    }
    writer.write_frame(b"two").unwrap();
    assert_eq!(*viewer.read_frame(SECOND).unwrap().unwrap(), *b"two");
}
