//! Buffers and semaphores that another user has made.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use zerobuffer::{ErrorKind, KeptBuffer, Reader, Writer, inspect};

use super::stage::{Child, VICTIM, config, paths, prepare, stage, stay, write_file};
use crate::support::{Name, Peer, confine, role, say};

crate::support::peers!(forged_kept, wide_kept, forged_semaphores);

#[test]
fn a_buffer_that_another_user_keeps_is_not_taken_over() {
    stage(role!(forged_kept));
}

fn forged_kept(arguments: &[String]) {
    let name = prepare(arguments);
    let mut attacker = Child::start(confine::NOBODY, |ready| {
        let _kept = KeptBuffer::create(name, config().mode(0o666)).unwrap();
        ready();
        stay();
    });
    for user in [0, VICTIM] {
        Child::run(user, || {
            for mode in [0o600, 0o666] {
                let error = Reader::create(name, config().mode(mode)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "user {user}: {error}");
                let message = error.to_string();
                assert!(message.contains("65534") && message.contains("another name"), "{message}");
            }
        });
    }
    assert!(inspect::snapshot(name).unwrap().kept, "the attacker's buffer is as it was");
    // Root's own buffers may be taken over by anyone whom their mode lets in.
    attacker.kill();
    say("refused");
}

#[test]
fn a_buffer_that_is_kept_with_a_wider_mode_than_asked_for_is_not_taken_over() {
    let name = Name::new("wide-kept");
    let mut peer = Peer::start(role!(wide_kept), &[&name]);
    peer.expect("done");
    assert!(peer.wait().success());
    name.assert_nothing_left();
}

fn wide_kept(arguments: &[String]) {
    let name = arguments[0].as_str();
    let kept = KeptBuffer::create(name, config().mode(0o660)).unwrap();
    let error = Reader::create(name, config()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    assert!(error.to_string().contains("0o660"), "no way out told: {error}");
    // Its own mode, or one that lets more users in, is what the caller agreed to.
    let reader = Reader::create(name, config().mode(0o666)).unwrap();
    assert_eq!(fs::metadata(&paths(name)[0]).unwrap().permissions().mode() & 0o777, 0o660);
    drop((reader, kept));
    say("done");
}

#[test]
fn semaphores_of_a_stranger_are_not_used() {
    stage(role!(forged_semaphores));
}

fn forged_semaphores(arguments: &[String]) {
    let name = prepare(arguments);
    let reader = Reader::create(name, config().mode(0o666)).unwrap();
    for which in [1, 2] {
        let path = &paths(name)[which];
        let genuine = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        Child::run(confine::NOBODY, || write_file(path, &genuine, 0o666));
        for user in [0, VICTIM] {
            Child::run(user, || {
                let error = Writer::connect(name).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
                assert!(error.to_string().contains("65534"), "{error}");
            });
        }
        fs::remove_file(path).unwrap();
        write_file(path, &genuine, 0o666);
        drop(Writer::connect(name).unwrap());
    }
    // The buffer of a keeper, with semaphores of a stranger.
    drop(reader);
    paths(name)[1..3].iter().for_each(|path| drop(fs::remove_file(path)));
    let kept = KeptBuffer::create(name, config()).unwrap();
    let path = &paths(name)[1];
    let genuine = fs::read(path).unwrap();
    fs::remove_file(path).unwrap();
    Child::run(confine::NOBODY, || write_file(path, &genuine, 0o666));
    assert_eq!(Reader::create(name, config()).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert!(inspect::snapshot(name).unwrap().kept);
    drop(kept);
    say("refused");
}
