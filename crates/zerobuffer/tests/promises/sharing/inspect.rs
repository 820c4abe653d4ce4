//! What tools see of sharing, in life and after deaths; and that a clean-up removes what is left.

use super::{Chain, LARGE, SECOND, content, requesting, sharing};
use crate::chain::{self, Members, Who};
use crate::support::{self, Name, Peer, hear, role, say};
use zerobuffer::inspect::{Answer, Presence, Sharing, snapshot};
use zerobuffer::{Forwarded, Reader, SharedWriter, Writer};

support::peers!(polled);

/// What the sharing block of a buffer shows.
#[track_caller]
fn shown(name: &Name) -> Sharing {
    snapshot(name).unwrap().sharing.expect("a sharing block")
}

#[track_caller]
fn answer(name: &Name) -> Answer {
    shown(name).offer.expect("an offer").answer
}

#[test]
fn offers_borrowers_and_loans_are_shown() {
    let me = u64::from(std::process::id());
    let mut chain = Chain::with("shown", sharing(), sharing(), requesting());
    let output = chain.names[1].suffixed("");
    let before = shown(&output);
    assert_eq!((before.enabled, &before.offer, before.borrower), (true, &None, false));
    assert_eq!((before.share_count, before.owner_pid, before.fifo), (0, 0, None));
    assert_eq!(chain.send(LARGE), Forwarded::Copied);
    let offered = shown(&output);
    let offer = offered.offer.expect("an offer");
    assert_eq!((&*offer.name, offer.answer), (&*chain.names[0], Answer::Pending));
    assert_eq!((offered.owner_pid, offered.borrower), (me, false));
    drop(chain.read(LARGE));
    assert_eq!((answer(&output), shown(&output).borrower), (Answer::Accepted, true));
    for lent in 1..4 {
        assert_eq!(chain.send(LARGE), Forwarded::Shared);
        assert_eq!(shown(&output).share_count, lent);
    }
    let held = [(); 3].map(|()| chain.read(LARGE));
    assert_eq!(shown(&output).share_count, 3);
    drop(held);
    chain.input.payload_share_count();
    assert_eq!(shown(&output).share_count, 0);
    // The source lends, and takes nothing itself.
    let source = shown(&chain.names[0]);
    assert_eq!((source.enabled, source.offer, source.borrower), (true, None, false));
    // The borrower's lock outlives the reader while a frame is held.
    chain.send(LARGE);
    let frame = chain.read(LARGE);
    let Chain { viewer, names, .. } = chain;
    let segment = std::fs::File::open(format!("/dev/shm/{}", &*names[1])).unwrap();
    drop(viewer);
    assert!(snapshot(&output).is_err() && is_held(&segment));
    drop(frame);
    assert!(!is_held(&segment));
}

/// Whether a process holds the borrower's lock of a buffer that has no name any more.
fn is_held(segment: &std::fs::File) -> bool {
    // SAFETY: struct flock is plain integers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_start, lock.l_len) = (libc::F_RDLCK as i16, 0x78, 1);
    let fd = std::os::fd::AsRawFd::as_raw_fd(segment);
    // SAFETY: `lock` is valid for the call.
    assert_eq!(unsafe { libc::fcntl(fd, libc::F_OFD_GETLK, &raw mut lock) }, 0);
    lock.l_type != libc::F_UNLCK as i16
}

#[test]
fn a_refusal_is_shown() {
    let mut chain = Chain::with("refused", sharing(), sharing(), requesting());
    assert_eq!(chain.send(LARGE), Forwarded::Copied);
    // The name leads nowhere by the time the viewer looks.
    let [source, output] = &chain.names;
    std::fs::remove_file(&source.paths()[0]).unwrap();
    let output = output.suffixed("");
    drop(chain.read(LARGE));
    assert_eq!((answer(&output), shown(&output).borrower), (Answer::Refused, false));
    assert_eq!(chain.pass(LARGE), Forwarded::Copied);
}

#[test]
fn a_buffer_that_was_not_made_for_sharing_shows_none() {
    let name = Name::new("no-block");
    let _reader = Reader::create(&name, support::config()).unwrap();
    assert_eq!(snapshot(&name).unwrap().sharing, None);
    let kept = Name::new("kept-block");
    let input = Reader::create(&name.suffixed("-in"), sharing()).unwrap();
    let _output = SharedWriter::create(&kept, &input).unwrap();
    assert_eq!(answer(&kept), Answer::Pending);
}

#[test]
fn what_is_shown_after_a_kill_is_true_of_the_living() {
    for (killed, borrower) in [(Who::Relay, true), (Who::Viewer, false)] {
        let mut chain = chain::Chain::start("shown-kill", false, |_, _| {});
        chain.write(1);
        chain.expect(Who::Relay, "forward 1", "0 1");
        chain.expect(Who::Viewer, "read 1", "0");
        chain.write(2);
        chain.expect(Who::Relay, "forward 2", "2 0");
        chain.expect(Who::Viewer, "read 2", "1s 2s");
        let relay = u64::from(chain.peer(Who::Relay).pid());
        let names = chain.names.each_ref().map(|name| name.suffixed(""));
        assert!(shown(&names[1]).borrower);
        chain.peer(killed).kill();
        let after = shown(&names[1]);
        assert_eq!((after.borrower, after.owner_pid, after.share_count), (borrower, relay, 2), "{killed:?}");
        let dead = [Presence::Alive, Presence::Dead];
        let seen = snapshot(&names[1]).unwrap();
        assert_eq!(seen.reader.presence, dead[usize::from(killed == Who::Viewer)]);
        assert_eq!(seen.writer.presence, dead[usize::from(killed == Who::Relay)]);
        if killed == Who::Relay {
            // The source goes with its camera, while the viewer looks at its bytes.
            chain.peer(Who::Camera).kill();
            let left = zerobuffer::cleanup::leftovers().unwrap();
            let source = left.iter().find(|left| left.name() == &*names[0]).expect("a dead buffer");
            assert_eq!((source.obstacle(), source.remove().unwrap()), (None, true));
            names[0].assert_nothing_left();
            assert!(!left.iter().any(|left| left.name() == &*names[1]), "its reader lives");
            chain.expect(Who::Viewer, "check", "same 3");
        }
        chain.end();
    }
}

/// A relay that polls descriptors of its two buffers. Arguments: IN, OUT.
fn polled(arguments: &[String]) {
    let mut reader = Reader::create(&arguments[0], sharing()).unwrap();
    let mut camera = Writer::connect(&arguments[0]).unwrap();
    let mut output = Writer::connect_with(&arguments[1], requesting()).unwrap();
    reader.descriptor().unwrap();
    output.descriptor().unwrap();
    for index in 0..2 {
        camera.write_frame(&content(index, LARGE)).unwrap();
        let frame = reader.read_frame(SECOND).unwrap().unwrap();
        say(matches!(output.forward(frame).unwrap(), Forwarded::Shared));
        hear();
    }
    // What the descriptors are armed for: frames, space, and what comes back.
    assert!(reader.try_read_frame().unwrap().is_none());
    say("polling");
    hear();
}

#[test]
fn the_fifos_of_descriptors_are_shown_and_go_with_a_clean_up() {
    let [input, output] = ["in", "out"].map(|end| Name::new(&format!("polled-{end}")));
    let mut viewer = Reader::create(&output, sharing()).unwrap();
    let mut relay = Peer::start(role!(polled), &[&input, &output]);
    relay.expect("false");
    drop(viewer.read_frame(SECOND).unwrap().unwrap());
    relay.tell("on");
    relay.expect("true");
    let frame = viewer.read_frame(SECOND).unwrap().unwrap();
    relay.tell("on");
    relay.expect("polling");
    let [source, target] = [&input, &output].map(|name| snapshot(name).unwrap());
    let fifos = [source.reader_fifo.clone().expect("named"), target.writer_fifo.clone().expect("named")];
    assert_eq!((&source.writer_fifo, &target.reader_fifo), (&None, &None));
    assert!(fifos.iter().all(|fifo| fifo.exists()));
    relay.kill();
    // The clean-up of a dead buffer takes its FIFOs along; one of a dead writer goes as an orphan, once it has some age.
    let start = std::time::Instant::now();
    while [&fifos[0], &fifos[1], &input.paths()[0]].iter().any(|path| path.exists()) {
        assert!(start.elapsed() < support::PATIENCE, "{fifos:?} are left");
        for left in zerobuffer::cleanup::leftovers().unwrap() {
            let is_mine = left.name() == &*input || left.files().iter().any(|file| fifos.contains(file));
            if is_mine && left.obstacle().is_none() {
                left.remove().unwrap();
            }
        }
    }
    let after = snapshot(&output).unwrap();
    assert_eq!((after.writer_fifo, after.sharing.expect("a block").fifo), (None, None), "they are gone");
    assert_eq!(*frame, *content(1, LARGE));
    input.assert_nothing_left();
}
