//! Where frames are copied, silently, and counted.

use super::{Chain, LARGE, SECOND, content, requesting, sharing};
use crate::support::{Name, config};
use zerobuffer::{BufferConfig, Forwarded, Reader, SharedWriter, Writer, WriterOptions};

fn assert_copies(what: &str, input: BufferConfig, output: BufferConfig, options: WriterOptions) {
    let mut chain = Chain::with(what, input, output, options);
    for _ in 0..30 {
        assert_eq!(chain.pass(LARGE), Forwarded::Copied, "{what}");
    }
    let stats = chain.output.stats();
    assert_eq!((stats.frames_shared, stats.frames_copied), (0, 30), "{what}");
    assert_eq!(chain.viewer.stats().frames_shared, 0, "{what}");
}

#[test]
fn frames_are_copied_unless_both_readers_and_the_writer_agree() {
    let plain = || config().payload_size(1 << 20);
    assert_copies("no-lender", plain(), sharing(), requesting());
    assert_copies("no-borrower", sharing(), plain(), requesting());
    assert_copies("no-request", sharing(), sharing(), WriterOptions::default());
}

#[test]
fn frames_of_classic_rings_and_into_them_are_copied() {
    assert_copies("classic-in", sharing().classic(true), sharing(), requesting());
    assert_copies("classic-out", sharing(), sharing().classic(true), requesting());
}

#[test]
fn what_was_borrowed_is_not_lent_on() {
    let mut chain = Chain::new("hop");
    let name = Name::new("hop-second");
    let mut last = Reader::create(&name, sharing()).unwrap();
    let mut second = Writer::connect_with(&name, requesting()).unwrap();
    for index in 2..20 {
        assert_eq!(chain.send(LARGE), Forwarded::Shared);
        let frame = chain.read(LARGE);
        assert_eq!(second.forward(frame).unwrap(), Forwarded::Copied);
        assert_eq!(chain.input.payload_share_count(), 0, "the second relay is done with it");
        let seen = last.read_frame(SECOND).unwrap().unwrap();
        assert!(!seen.is_shared());
        assert_eq!(*seen, *content(index, LARGE));
    }
    assert_eq!(second.stats().frames_copied, 18);
}

#[test]
fn frames_of_a_reader_that_has_closed_are_copied() {
    let mut chain = Chain::new("closed-source");
    assert!(chain.write(LARGE));
    let frame = chain.input.read_frame(SECOND).unwrap().unwrap();
    let Chain { input, mut output, mut viewer, .. } = chain;
    drop(input);
    assert_eq!(output.forward(frame).unwrap(), Forwarded::Copied);
    assert_eq!(*viewer.read_frame(SECOND).unwrap().unwrap(), *content(2, LARGE));
}

#[test]
fn frames_of_a_reader_that_has_closed_are_copied_even_where_its_buffer_can_be_opened() {
    let mut chain = Chain::with("closed-named", sharing(), sharing(), requesting());
    assert!(chain.write(LARGE));
    let frame = chain.input.read_frame(SECOND).unwrap().unwrap();
    let path = format!("/dev/shm/{}", &*chain.names[0]);
    let Chain { input, mut output, mut viewer, names: _names, .. } = chain;
    std::fs::hard_link(&path, format!("{path}-aside")).unwrap();
    drop(input);
    std::fs::rename(format!("{path}-aside"), &path).unwrap();
    for _ in 0..3 {
        assert_eq!(output.forward_to(&frame).unwrap(), Forwarded::Copied);
        assert_eq!(*viewer.read_frame(SECOND).unwrap().unwrap(), *content(0, LARGE));
    }
}

#[test]
fn a_shared_writer_copies_for_a_viewer_that_does_not_share() {
    let names = ["in", "out"].map(|end| Name::new(&format!("shared-plain-{end}")));
    let mut input = Reader::create(&names[0], sharing()).unwrap();
    let mut camera = Writer::connect(&names[0]).unwrap();
    let mut output = SharedWriter::create(&names[1], &input).unwrap();
    let mut viewer = Reader::create(&names[1], config()).unwrap();
    assert!(!viewer.payload_sharing_enabled() && !output.payload_sharing_enabled());
    for index in 0..20 {
        camera.write_frame(&content(index, LARGE)).unwrap();
        let frame = input.read_frame(SECOND).unwrap().unwrap();
        assert_eq!(output.forward(frame).unwrap(), Forwarded::Copied);
        assert_eq!(*viewer.read_frame(SECOND).unwrap().unwrap(), *content(index, LARGE));
    }
}

#[test]
fn a_frame_is_not_lent_within_its_own_buffer() {
    let name = Name::new("own-buffer");
    let mut reader = Reader::create(&name, sharing()).unwrap();
    let mut writer = Writer::connect_with(&name, requesting()).unwrap();
    writer.write_frame(&content(0, LARGE)).unwrap();
    for _ in 0..40 {
        let frame = reader.read_frame(SECOND).unwrap().unwrap();
        assert_eq!(writer.forward(frame).unwrap(), Forwarded::Copied);
    }
    assert_eq!(*reader.read_frame(SECOND).unwrap().unwrap(), *content(0, LARGE));
}
