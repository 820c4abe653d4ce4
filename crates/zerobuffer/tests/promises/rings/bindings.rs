//! Features for language bindings: handles that cross threads, and memory that outlives its handle.

use super::support;

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::support::Name;
use zerobuffer::{Frame, InterruptHandle, MemoryGuard, Reader, Writer};

/// How often the file of this number is mapped in this process.
fn mappings(inode: u64) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.split_whitespace().nth(4) == Some(&inode.to_string())).count()
}

#[test]
fn handles_that_bindings_share_are_send_and_sync() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Frame>();
    shared::<InterruptHandle>();
    shared::<MemoryGuard>();
}

#[test]
fn memory_stays_mapped_for_a_view_that_outlives_its_writer() {
    let name = Name::new("guard");
    let mut reader = Reader::create(&name, support::config().payload_size(4096)).unwrap();
    let inode = std::fs::metadata(&name.paths()[0]).unwrap().ino();
    let mut writer = Writer::connect(&name).unwrap();
    writer.acquire_frame_buffer(100).unwrap();
    let view = writer.acquired().unwrap().as_mut_ptr();
    let guard = writer.memory_guard();
    writer.commit_frame(None).unwrap();
    drop(writer);
    assert_eq!(mappings(inode), 2, "the reader's and the writer's");
    // SAFETY: the guard keeps the memory mapped, and the frame has not been read, so no other code reads its bytes.
    unsafe { view.write(9) };
    let frame = reader.read_frame(Duration::from_secs(1)).unwrap().unwrap();
    assert_eq!(frame[0], 9);
    drop(guard);
    assert_eq!(mappings(inode), 1);
    drop(reader);
    assert_eq!((mappings(inode), frame.len()), (1, 100), "a frame keeps the reader's memory");
    drop(frame);
    assert_eq!(mappings(inode), 0);
}
