//! Who rings when: a doorbell is set as if its owner slept, and whatever ought to ring clears it.

use std::time::{Duration, Instant};

use super::{map, name};
use crate::buffer::InterruptHandle;
use crate::config::{BufferConfig, WaitStrategy, WriterOptions};
use crate::inlet::Inlet;
use crate::layout::ExtensionWord;
use crate::lifecycle::{create, registry};
use crate::memory::Memory;
use crate::memory::mapping::Mapping;
use crate::os;
use crate::reader::Reader;
use crate::sync::{AtomicBool, AtomicU32, Ordering};
use crate::wait::doorbell::{SHORT, SLEEPING};
use crate::writer::Writer;

const PATIENCE: Duration = Duration::from_secs(30);

fn config() -> BufferConfig {
    BufferConfig::default().payload_size(4096)
}

fn buffer(what: &str) -> (String, Reader, Mapping) {
    let name = name(what);
    let reader = Reader::create(&name, config()).unwrap();
    let mapping = map(&name, &config());
    (name, reader, mapping)
}

fn readers(mapping: &Mapping) -> &AtomicU32 {
    &mapping.control().reader_bell.bell
}

fn writers(mapping: &Mapping) -> &AtomicU32 {
    &mapping.control().writer_bell.bell
}

/// Whether `action` rings for an owner that sleeps.
fn rings(bell: &AtomicU32, action: impl FnOnce()) -> bool {
    bell.store(SLEEPING, Ordering::SeqCst);
    action();
    bell.load(Ordering::SeqCst) & SLEEPING == 0
}

#[test]
fn a_reader_is_rung_for_a_writer_a_frame_an_interrupt_and_an_end() {
    let (name, reader, mapping) = buffer("rung-reader");
    let bell = readers(&mapping);
    let mut writer = None;
    assert!(rings(bell, || writer = Some(Writer::connect(&name).unwrap())), "a writer comes");
    let mut writer = writer.expect("connected");
    for len in [1, 900] {
        assert!(rings(bell, || _ = writer.write_frame(&vec![1; len]).unwrap()), "a frame of {len} bytes");
    }
    let handle = reader.interrupt_handle();
    assert!(rings(bell, || handle.interrupt()), "an interrupt");
    assert!(rings(bell, || drop(writer)), "the writer closes");
    assert!(rings(bell, || drop(Writer::connect(&name).unwrap())), "another one comes");
}

#[test]
fn a_writer_is_rung_for_space_an_interrupt_and_an_end() {
    let (name, mut reader, mapping) = buffer("rung-writer");
    let mut writer = Writer::connect(&name).unwrap();
    (0..3).for_each(|_| _ = writer.write_frame(&[1; 900]).unwrap());
    let bell = writers(&mapping);
    let owned = reader.try_read_frame().unwrap().expect("a frame");
    assert!(rings(bell, || drop(owned)), "a frame is released");
    assert!(rings(bell, || drop(reader.read_frame_ref(Duration::ZERO).unwrap())), "a borrowed one");
    let owned = reader.try_read_frame().unwrap().expect("a frame");
    bell.store(0, Ordering::SeqCst);
    drop(owned);
    assert_eq!(bell.load(Ordering::SeqCst), 0);
    let handle = writer.interrupt_handle();
    assert!(rings(bell, || handle.interrupt()), "an interrupt");
    assert!(rings(bell, || drop(reader)), "the reader closes");
}

#[test]
fn a_writer_that_sleeps_for_space_says_that_it_is_short_of_it() {
    let (name, mut reader, mapping) = buffer("short");
    let options = WriterOptions::default().write_timeout(PATIENCE).wait_strategy(WaitStrategy::Block);
    let mut writer = Writer::connect_with(&name, options).unwrap();
    while writer.try_write_frame(&[1; 900]).unwrap().is_some() {}
    let sleeper = std::thread::spawn(move || writer.write_frame(&[2; 900]).map(|_| writer));
    let mut bell = 0;
    let start = Instant::now();
    while bell & SLEEPING == 0 && start.elapsed() < PATIENCE {
        bell = writers(&mapping).load(Ordering::SeqCst);
    }
    drop(reader.try_read_frame().unwrap());
    sleeper.join().unwrap().unwrap();
    assert_eq!(bell & (SLEEPING | SHORT), SLEEPING | SHORT);
}

#[test]
fn a_reader_sleeps_unless_something_was_committed_or_it_is_interrupted() {
    let name = name("sleeps");
    let mut inlet = Inlet::new(create::reader(&name, &config()).unwrap(), WaitStrategy::Block, false);
    let mut writer = Writer::connect(&name).unwrap();
    inlet.ring.decide(&inlet.lender);
    let sleep = |inlet: &Inlet, limit, news| {
        let start = Instant::now();
        assert!(!inlet.ring.sleep(&inlet.lender, limit, || news), "an extended ring knows no tokens");
        start.elapsed()
    };
    let short = Duration::from_millis(40);
    assert!(sleep(&inlet, short, false) >= short);
    assert!(sleep(&inlet, PATIENCE, true) < PATIENCE / 2, "news of the writer");
    let handle = InterruptHandle::new(inlet.lender.clone());
    handle.interrupt();
    assert!(sleep(&inlet, PATIENCE, false) < PATIENCE / 2, "interrupted");
    handle.clear();
    writer.write_frame(b"frame").unwrap();
    assert!(sleep(&inlet, PATIENCE, false) < PATIENCE / 2, "a frame is there");
    inlet.shut();
}

#[test]
fn what_a_dead_writer_took_on_its_way_in_is_given_back_and_its_successor_woken() {
    let (name, mut reader, mapping) = buffer("taken");
    let oieb = mapping.oieb();
    let (semaphore, _) = os::Semaphore::open(&registry::read_semaphore(&name)).unwrap();
    assert!(reader.try_read_frame().unwrap().is_none());
    oieb.extension.fetch_or(ExtensionWord::ENTERING, Ordering::SeqCst);
    oieb.payload_free_bytes.store(0, Ordering::SeqCst);
    assert!(reader.try_read_frame().unwrap().is_none());
    assert_eq!((oieb.payload_free_bytes.load(Ordering::SeqCst), semaphore.value()), (4096, 1));
}

#[test]
fn a_reader_that_looks_keeps_no_writer_from_connecting() {
    for _ in 0..200 {
        let (name, mut reader, _mapping) = buffer("looks");
        let enough = AtomicBool::new(false);
        let writer = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    assert!(reader.try_read_frame().unwrap().is_none());
                }
            });
            let writer = Writer::connect(&name);
            enough.store(true, Ordering::Relaxed);
            writer
        });
        writer.expect("there is no other writer");
    }
}
