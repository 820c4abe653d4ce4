//! Which end a reader is told when several writers came and went while it did not look.

use super::support;

use std::time::Duration;

use super::support::forge::{Forge, at};
use super::support::{Name, PATIENCE, Peer, role, say};
use zerobuffer::{ErrorKind, Reader, Writer};

support::peers!(mortal);

/// Writes frames, then waits to be killed.
fn mortal(arguments: &[String]) {
    let [name, frames, id] = arguments else { panic!("name, frames, id") };
    let mut writer = Writer::connect(name).unwrap();
    for _ in 0..frames.parse::<u32>().unwrap() {
        writer.write_frame(id.as_bytes()).unwrap();
    }
    say("written");
    support::hear();
}

/// A writer that came and went: how many frames it wrote, and whether it died.
#[derive(Debug, Clone, Copy)]
struct Gone {
    frames: u32,
    died: bool,
}

const fn closed(frames: u32) -> Gone {
    Gone { frames, died: false }
}

const fn killed(frames: u32) -> Gone {
    Gone { frames, died: true }
}

/// What a reader is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// A frame of the writer with this index.
    Frame(usize),
    Closed,
    Died,
}

/// Lets one writer after the other come and go.
fn live_and_go(name: &str, writers: &[Gone]) {
    for (index, gone) in writers.iter().enumerate() {
        let id = index.to_string();
        if gone.died {
            let mut peer = Peer::start(role!(mortal), &[name, &gone.frames.to_string(), &id]);
            peer.expect("written");
            peer.kill();
        } else {
            let mut writer = Writer::connect(name).unwrap();
            for _ in 0..gone.frames {
                writer.write_frame(id.as_bytes()).unwrap();
            }
        }
    }
}

/// All that the reader is told.
fn read_all(reader: &mut Reader) -> Vec<Told> {
    let mut told = Vec::new();
    loop {
        told.push(match reader.try_read_frame() {
            Ok(Some(frame)) => Told::Frame(std::str::from_utf8(&frame).unwrap().parse().unwrap()),
            Ok(None) => return told,
            Err(error) => match error.kind() {
                ErrorKind::WriterClosed => Told::Closed,
                ErrorKind::WriterDead => Told::Died,
                _ => panic!("{error}"),
            },
        });
    }
}

/// What the reader of an extended ring is told: every stream ends as its writer did. The deaths of writers that wrote nothing
/// are told as one, together with the death before them, if there is one; their closes are not told if anything else is.
fn expected(writers: &[Gone]) -> Vec<Told> {
    let mut told = Vec::new();
    // Whether the stream that was told last has an end, and whether it died; whether a writer without frames died since.
    let (mut author, mut death) = (None, false);
    let end = |told: &mut Vec<Told>, author: Option<Gone>, death: bool| match author {
        Some(Gone { died: true, .. }) => told.push(Told::Died),
        Some(_) if death => told.extend([Told::Closed, Told::Died]),
        Some(_) => told.push(Told::Closed),
        None if death => told.push(Told::Died),
        None => {}
    };
    for (index, gone) in writers.iter().enumerate() {
        if gone.frames == 0 {
            death |= gone.died;
            continue;
        }
        end(&mut told, author, death);
        (author, death) = (Some(*gone), false);
        told.extend((0..gone.frames).map(|_| Told::Frame(index)));
    }
    end(&mut told, author, death);
    if author.is_none() && !death && !writers.is_empty() {
        told.push(Told::Closed);
    }
    told
}

fn check(writers: &[Gone], told: &[Told]) {
    if !support::is_classic() {
        assert_eq!(told, expected(writers), "{writers:?}");
        return;
    }
    // A classic frame does not say whose it is. Each stream has one end. The last one is the last writer's; of the others none that
    // died is told as closed.
    let frames = |told: &[Told]| -> Vec<Told> {
        told.iter().copied().filter(|told| matches!(told, Told::Frame(_))).collect()
    };
    assert_eq!(frames(told), frames(&expected(writers)), "{writers:?}: {told:?}");
    let streams: Vec<usize> = (0..writers.len()).filter(|index| writers[*index].frames > 0).collect();
    for (place, index) in streams.iter().enumerate() {
        let last = told.iter().rposition(|told| *told == Told::Frame(*index)).expect("a frame");
        let ends: Vec<Told> =
            told[last + 1..].iter().copied().take_while(|told| !matches!(told, Told::Frame(_))).collect();
        assert_eq!(ends.len(), 1, "{writers:?}: {told:?}");
        let end = if writers[*index].died { Told::Died } else { Told::Closed };
        if place + 1 < streams.len() {
            assert!(
                end == Told::Closed || ends == [end],
                "the death of {index} of {writers:?} is told as a close: {told:?}"
            );
        } else if index + 1 == writers.len() && place > 0 {
            assert_eq!(ends, [end], "{writers:?}: {told:?}");
        }
    }
    let deaths = writers.iter().any(|gone| gone.died);
    assert_eq!(told.contains(&Told::Died), deaths, "{writers:?}: {told:?}");
}

/// Runs of writers: each way in which three can come and go, and some longer ones.
fn runs() -> Vec<Vec<Gone>> {
    let each = [closed(0), closed(2), killed(0), killed(2)];
    let long = [
        vec![closed(1), killed(1), closed(1), closed(1), killed(1), closed(1), closed(1)],
        vec![killed(1), closed(0), closed(0), killed(0), closed(1), killed(1), closed(0), closed(1)],
        vec![closed(3), closed(0), killed(0), killed(0), closed(0), closed(0), closed(1)],
    ];
    // One death among so many that the reader of a classic ring cannot tell whose it was.
    let few = [
        vec![closed(1), killed(1), closed(1), closed(1)],
        vec![closed(1), closed(1), killed(1), closed(1), closed(1)],
    ];
    let mut runs = if support::is_classic() { few.to_vec() } else { [&long[..], &few].concat() };
    for first in each {
        for second in each {
            runs.extend(each.map(|third| vec![first, second, third]));
        }
    }
    runs
}

#[test]
fn each_stream_ends_as_its_writer_did() {
    for writers in runs() {
        let name = Name::new("ends");
        let mut reader = Reader::create(&name, support::config().payload_size(4096)).unwrap();
        live_and_go(&name, &writers);
        check(&writers, &read_all(&mut reader));
        drop(reader);
        name.assert_nothing_left();
    }
}

#[test]
fn ends_are_told_at_once_to_a_reader_that_waits() {
    let name = Name::new("ends-wait");
    let mut reader = Reader::create(&name, support::config().payload_size(4096)).unwrap();
    live_and_go(&name, &[closed(1), killed(1), closed(1)]);
    let mut told = Vec::new();
    for _ in 0..6 {
        told.push(
            reader.read_frame(PATIENCE).map(|frame| frame.expect("a frame").len()).map_err(|e| e.kind()),
        );
    }
    let (closed, died) = (Err(ErrorKind::WriterClosed), Err(ErrorKind::WriterDead));
    // A reader of a classic ring that is two writers behind cannot know which of them died.
    let first = if support::is_classic() { died } else { closed };
    assert_eq!(told, [Ok(1), first, Ok(1), died, Ok(1), closed]);
    assert!(reader.read_frame(Duration::from_millis(1)).unwrap().is_none());
    drop(reader);
    name.assert_nothing_left();
}

/// 2^24 writers ago the count of writers was as it is now.
#[test]
fn ends_are_told_across_the_wrap_of_the_count_of_writers() {
    const LAST: u64 = (1 << 24) - 1;
    const CLOSED: u64 = 1 << 62;
    for before in [LAST - 1, LAST] {
        for writers in runs() {
            let name = Name::new("ends-wrap");
            let mut reader = Reader::create(&name, support::config().payload_size(4096)).unwrap();
            Forge::segment(&name).set(at::WRITER_WORD, CLOSED | before << 32);
            // The writer of that word is the first one whose end is told.
            assert_eq!(read_all(&mut reader), [Told::Closed]);
            live_and_go(&name, &writers);
            let count = Forge::segment(&name).get(at::WRITER_WORD) >> 32 & LAST;
            assert!((1..10).contains(&count), "the count of writers is {count}");
            check(&writers, &read_all(&mut reader));
        }
    }
}
