//! Other users, limits and 1.x peers: frames are shared where the rights suffice, and else copied, silently, and counted.

use super::{LARGE, SECOND, content, requesting, sharing};
use crate::chain::{Chain, MEMORY, MODE, Members, SIZE, USER, Who};
use crate::driver::{Content, Old, hex};
use crate::support::{Name, confine};
use zerobuffer::{Forwarded, Reader, Writer};

/// Passes four frames on, the last one to a relay that waits in an event loop; returns what each of the others was.
fn pass(mut chain: Chain) -> String {
    let mut kinds = String::new();
    for number in 0..4 {
        assert_eq!(chain.write(1), 1);
        let kind = chain.get(Who::Relay, "forward 1");
        let seen = chain.get(Who::Viewer, "read 1");
        match kind.as_str() {
            "1 0" => assert_eq!(seen, format!("{number}s")),
            _ => assert_eq!((kind.as_str(), seen), ("0 1", number.to_string())),
        }
        kinds.push_str(if kind == "1 0" { "s" } else { "c" });
    }
    // What is held comes back to a relay that waits for it.
    chain.pump();
    chain.peer(Who::Relay).tell("poll");
    chain.peer(Who::Camera).tell("push");
    chain.expect(Who::Viewer, "check", "same 4");
    chain.expect(Who::Viewer, "release 9", "0");
    assert_eq!(chain.hear_from(Who::Camera).as_deref(), Some("written"));
    assert_eq!(chain.hear_from(Who::Relay).as_deref(), Some("a frame"));
    chain.written += 1;
    chain.assert_all_is_back();
    chain.end();
    kinds
}

/// A chain of which `other` is another user's; `modes` are those of IN and OUT.
fn between_users(other: Who, modes: [&str; 2]) -> String {
    confine::need_root("another user");
    pass(Chain::start("users", false, |who, command| {
        if who == other {
            command.env(USER, "other");
        }
        command.env(MODE, modes[usize::from(who == Who::Viewer)]);
    }))
}

#[test]
fn a_viewer_of_another_user_that_may_not_read_the_source_gets_copies() {
    assert_eq!(between_users(Who::Viewer, ["600", "666"]), "cccc");
}

#[test]
fn a_viewer_of_another_user_that_may_only_read_the_source_shares_it() {
    assert_eq!(between_users(Who::Viewer, ["644", "666"]), "csss");
}

#[test]
fn a_relay_of_another_user_lends_what_its_viewer_may_read() {
    assert_eq!(between_users(Who::Relay, ["600", "666"]), "csss");
}

#[test]
fn a_viewer_that_may_not_map_the_source_gets_copies() {
    let chain = Chain::start("no-room", false, |who, command| match who {
        // Less than the source has.
        Who::Viewer => _ = command.env(MEMORY, "16"),
        _ => _ = command.env(SIZE, "64"),
    });
    let mut chain = chain;
    for number in 0..4 {
        assert_eq!(chain.write(1), 1);
        chain.expect(Who::Relay, "forward 1", "0 1");
        chain.expect(Who::Viewer, "read 1", &number.to_string());
    }
    chain.expect(Who::Viewer, "check", "same 4");
    chain.end();
}

#[test]
fn a_1x_reader_gets_copies() {
    let names = ["old-viewer-in", "old-viewer-out"].map(Name::new);
    let mut viewer = Old::reader(&names[1], 1 << 20);
    let mut input = Reader::create(&names[0], sharing()).unwrap();
    let mut camera = Writer::connect(&names[0]).unwrap();
    let mut output = Writer::connect_with(&names[1], requesting()).unwrap();
    assert!(!output.payload_sharing_enabled());
    for number in 0..6 {
        let bytes = content(number, LARGE);
        camera.write_frame(&bytes).unwrap();
        let frame = input.read_frame(SECOND).unwrap().unwrap();
        assert_eq!(output.forward(frame).unwrap(), Forwarded::Copied);
        assert_eq!(viewer.ok("read 10"), format!("{} {}", number + 1, hex(&bytes)));
    }
    assert_eq!((output.stats().frames_shared, output.stats().frames_copied), (0, 6));
    viewer.ok("close");
}

#[test]
fn frames_of_a_1x_writer_are_copied() {
    let names = ["old-camera-in", "old-camera-out"].map(Name::new);
    let mut viewer = Reader::create(&names[1], sharing()).unwrap();
    let mut input = Reader::create(&names[0], sharing()).unwrap();
    let mut camera = Old::writer(&names[0]);
    let mut output = Writer::connect_with(&names[1], requesting()).unwrap();
    let stream = Content { seed: 7, low: 60_000, high: 100_000 };
    for number in 0..6 {
        camera.ok(&format!("send {} both", stream.arguments(number, 1)));
        let frame = input.read_frame(SECOND).unwrap().unwrap();
        assert_eq!(output.forward(frame).unwrap(), Forwarded::Copied);
        let frame = viewer.read_frame(SECOND).unwrap().unwrap();
        assert!(!frame.is_shared() && *frame == *stream.frame(number));
    }
    assert_eq!((output.stats().frames_shared, output.stats().frames_copied), (0, 6));
    assert_eq!(viewer.stats().frames_shared, 0);
    camera.ok("close");
}
