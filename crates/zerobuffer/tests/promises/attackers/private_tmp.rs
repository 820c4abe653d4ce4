//! Two folders of lock files, one `/dev/shm`.

use std::fs;
use std::os::unix::fs::MetadataExt;

use zerobuffer::{ErrorKind, Reader, Writer};

use super::stage::{clean_all, config, paths, prepare, stage};
use crate::support::{PATIENCE, Peer, confine, role, say};

crate::support::peers!(private_tmp, cleaning_neighbour);

#[test]
fn peers_with_another_tmp_do_not_take_each_others_files_away() {
    stage(role!(private_tmp));
}

fn private_tmp(arguments: &[String]) {
    let name = prepare(arguments);
    let rounds = if crate::support::full() { 20_000 } else { 2_000 };
    let outer = confine::mount_namespace();
    let wrapper = confine::unshare(&["--mount"]);
    let arguments = [name, outer.as_str(), &rounds.to_string()];
    let mut peers =
        [(); 2].map(|()| Peer::start_through(&wrapper, role!(cleaning_neighbour), &arguments, |_| {}));
    peers.iter_mut().for_each(|peer| peer.expect("here"));
    peers.iter_mut().for_each(|peer| peer.tell("go"));
    let said: Vec<String> = peers.iter_mut().map(Peer::hear).collect();
    assert!(peers.iter_mut().all(|peer| peer.wait().success()), "{said:?}");
    say(said.join("; "));
}

/// Creates, uses and removes a buffer whose name a neighbour with another `/tmp` uses, too.
fn cleaning_neighbour(arguments: &[String]) {
    let [name, outer, rounds] = arguments else { panic!("name, mount namespace, rounds") };
    confine::mount_tmpfs("/tmp", "mode=1777", outer);
    say("here");
    crate::support::hear();
    let mut created = 0;
    for round in 0..rounds.parse::<u32>().unwrap() {
        match Reader::create(name, config()) {
            Ok(mut reader) => {
                let ids = || {
                    paths(name)[..3]
                        .iter()
                        .map(|path| fs::metadata(path).map(|found| found.ino()).ok())
                        .collect()
                };
                let before: Vec<Option<u64>> = ids();
                assert!(before.iter().all(Option::is_some), "round {round}: {before:?}");
                let mut writer = Writer::connect(name).unwrap();
                writer.write_frame(b"mine").unwrap();
                assert_eq!(&*reader.read_frame(PATIENCE).unwrap().unwrap(), b"mine");
                let after: Vec<Option<u64>> = ids();
                assert_eq!(before, after, "round {round}: files of a live buffer were replaced");
                created += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ReaderAlreadyConnected, "round {round}: {error}")
            }
        }
        if round % 7 == 0 {
            clean_all();
        }
    }
    say(format!("created {created} times"));
}
