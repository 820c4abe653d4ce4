//! UNSAFE: FIFOs, whose descriptors event loops poll.
#![allow(unsafe_code)]

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::files::{Folder, check, info_of_fd, own, retry};
use super::fork;
use super::lock::{LockFile, ofd_is_held};
use crate::os::{FifoId, FifoState, FileInfo, Found, finding};

/// The prefix of a FIFO's file, before its number in 16 hexadecimal digits. No buffer's name begins like this.
pub(crate) const FIFO_FILE_PREFIX: &str = "sem.zbf-";

/// Byte of a FIFO that its owner locks for as long as it lives.
const OWNER_BYTE: i64 = 0;

/// The name of a FIFO's file in the folder of shared memory.
pub(crate) fn fifo_file(number: u64) -> String {
    format!("{FIFO_FILE_PREFIX}{number:016x}")
}

/// A number that other users cannot guess, other than 0.
fn random() -> Result<u64> {
    let mut number = 0_u64;
    while number == 0 {
        // SAFETY: `number` has room for as many bytes as are asked for.
        let got = unsafe { libc::getrandom((&raw mut number).cast(), size_of::<u64>(), 0) };
        if got != size_of::<u64>() as isize {
            return Err(Error::last_os_error());
        }
    }
    Ok(number)
}

/// Opens a FIFO for both directions. So an end neither sees its peers come and go, nor fails where there is none, nor
/// raises SIGPIPE.
fn open(folder: &Folder, number: u64) -> Result<(OwnedFd, FileInfo)> {
    use std::os::fd::AsFd;
    let fd = folder.open(&fifo_file(number), libc::O_RDWR, 0)?;
    let info = info_of_fd(fd.as_fd())?;
    if info.is_fifo { Ok((fd, info)) } else { Err(finding(Found::Alien, "it is no FIFO")) }
}

/// The owner's end of a FIFO, or of a pipe: readable while there is a byte in it.
pub(crate) struct Fifo {
    /// What is polled. For a FIFO it holds the owner's lock, and is written to.
    read: LockFile,
    /// The other end of a pipe.
    write: Option<LockFile>,
    id: Option<FifoId>,
}

impl Fifo {
    /// Makes a FIFO of the owner of `segment`, with exactly `mode`.
    pub(crate) fn create(segment: &FileInfo, mode: u32) -> Result<Fifo> {
        let folder = Folder::shared_memory();
        let number = random()?;
        folder.make_fifo(&fifo_file(number))?;
        Fifo::open_new(&folder, number, segment, mode).inspect_err(|_| {
            let _ = folder.unlink(&fifo_file(number));
        })
    }

    fn open_new(folder: &Folder, number: u64, segment: &FileInfo, mode: u32) -> Result<Fifo> {
        let mut inode = 0;
        let read = LockFile::open_with(|| {
            let (fd, info) = open(folder, number)?;
            inode = info.id.inode;
            if (info.owner, info.group) != (segment.owner, segment.group) {
                // A process without the right to give files away keeps it. A peer that may not open it wakes its owner in
                // another way.
                // SAFETY: fchown takes no pointers, and the descriptor is open.
                unsafe { libc::fchown(fd.as_raw_fd(), segment.owner, segment.group) };
            }
            // mkfifo obeys the umask.
            // SAFETY: fchmod takes no pointers, and the descriptor is open.
            check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) })?;
            Ok(fd)
        })?;
        read.try_lock_role(OWNER_BYTE)?;
        Ok(Fifo { read, write: None, id: Some(FifoId { number, inode }) })
    }

    /// Makes a pipe, which only this process can write to.
    pub(crate) fn pipe() -> Result<Fifo> {
        let mut write = None;
        let read = LockFile::open_with(|| {
            let mut ends = [-1; 2];
            // SAFETY: `ends` has room for both descriptors.
            check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) })?;
            let [read, other] = ends.map(own);
            write = Some(other?);
            read
        })?;
        let write = write.map(|write| LockFile::open_with(|| Ok(write))).transpose()?;
        Ok(Fifo { read, write, id: None })
    }

    /// The descriptor to poll; -1 in a forked child.
    pub(crate) fn fd(&self) -> RawFd {
        self.read.fd()
    }

    /// Which FIFO it is; `None` for a pipe.
    pub(crate) fn id(&self) -> Option<FifoId> {
        self.id
    }

    /// Makes the descriptor readable.
    pub(crate) fn ring(&self) {
        write_byte(self.write.as_ref().unwrap_or(&self.read).fd());
    }

    /// Takes all bytes out. Returns whether there were any.
    pub(crate) fn drain(&self) -> bool {
        let mut bytes = [0_u8; 512];
        let mut any = false;
        loop {
            // SAFETY: `bytes` has room for as many as are asked for.
            let read = unsafe { libc::read(self.fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
            any |= read > 0;
            if read < bytes.len() as isize {
                return any;
            }
        }
    }

    /// Whether the descriptor is readable.
    pub(crate) fn is_ready(&self) -> bool {
        let mut count: libc::c_int = 0;
        // SAFETY: `count` has room for the result.
        let result = unsafe { libc::ioctl(self.fd(), libc::FIONREAD, &raw mut count) };
        result == 0 && count > 0
    }

    /// Removes the FIFO's name, if that still leads to it.
    pub(crate) fn remove(&self) -> Result<()> {
        match self.id {
            Some(id) if self.fd() >= 0 => remove_name(id),
            _ => Ok(()),
        }
    }

    /// Looks at a FIFO. `None`: it is not there, or another file is in its place.
    pub(crate) fn look(id: FifoId) -> Result<Option<FifoState>> {
        let folder = Folder::shared_memory();
        let Some(info) = folder.info(&fifo_file(id.number))?.filter(|info| is_same(info, id)) else {
            return Ok(None);
        };
        // A user without the right to open it cannot tell, and takes it for one in use.
        let in_use = match open(&folder, id.number) {
            Ok((fd, now)) => !is_same(&now, id) || ofd_is_held(fd.as_raw_fd(), OWNER_BYTE)?,
            Err(_) => true,
        };
        Ok(Some(FifoState { info, in_use }))
    }

    /// Removes the FIFO of a process that is gone. Returns whether it did.
    pub(crate) fn remove_orphan(id: FifoId) -> Result<bool> {
        let orphan = Fifo::look(id)?.is_some_and(|state| !state.in_use);
        if orphan {
            remove_name(id)?;
        }
        Ok(orphan)
    }
}

fn is_same(info: &FileInfo, id: FifoId) -> bool {
    info.is_fifo && info.id.inode == id.inode
}

/// Removes the name of a FIFO, if it leads to the one of that inode. No other user can exchange it meanwhile: the folder is
/// sticky.
fn remove_name(id: FifoId) -> Result<()> {
    let folder = Folder::shared_memory();
    match folder.info(&fifo_file(id.number))? {
        Some(info) if is_same(&info, id) => folder.unlink(&fifo_file(id.number)),
        _ => Ok(()),
    }
}

/// The publisher's end of a FIFO.
pub(crate) struct FifoEnd {
    fd: fork::Slot,
    id: FifoId,
}

impl FifoEnd {
    /// Opens a FIFO to write to it. Fails if it is not the one of that inode.
    pub(crate) fn open(id: FifoId) -> Result<FifoEnd> {
        let fd = fork::Slot::enter(|| match open(&Folder::shared_memory(), id.number)? {
            (fd, info) if is_same(&info, id) => Ok(fd),
            _ => Err(finding(Found::Alien, "another file is in the FIFO's place")),
        })?;
        Ok(FifoEnd { fd, id })
    }

    /// Which FIFO it is.
    pub(crate) fn id(&self) -> FifoId {
        self.id
    }

    /// Makes the owner's descriptor readable. Returns whether it did.
    pub(crate) fn ring(&self) -> bool {
        write_byte(self.fd.fd())
    }
}

/// Writes a byte. A full FIFO is readable, too.
fn write_byte(fd: RawFd) -> bool {
    // SAFETY: the byte outlives the call. A descriptor of -1 fails with EBADF.
    match retry(|| unsafe { libc::write(fd, [1_u8].as_ptr().cast(), 1) as libc::c_int }) {
        Ok(_) => true,
        Err(error) => error.raw_os_error() == Some(libc::EAGAIN),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn segment() -> FileInfo {
        super::super::Segment::create_unnamed(0o600).unwrap().info().unwrap()
    }

    #[test]
    fn a_fifo_is_ready_from_a_ring_until_it_is_drained() {
        for fifo in [Fifo::create(&segment(), 0o600).unwrap(), Fifo::pipe().unwrap()] {
            assert!(!fifo.is_ready() && !fifo.drain());
            (0..600).for_each(|_| fifo.ring());
            assert!(fifo.is_ready() && fifo.drain());
            assert!(!fifo.is_ready() && !fifo.drain());
            fifo.remove().unwrap();
        }
    }

    #[test]
    fn a_fifo_that_is_full_counts_as_rung() {
        let fifo = Fifo::create(&segment(), 0o600).unwrap();
        let end = FifoEnd::open(fifo.id().unwrap()).unwrap();
        assert!((0..100_000).all(|_| end.ring()));
        fifo.drain();
        assert!(!fifo.is_ready());
        fifo.remove().unwrap();
    }

    #[test]
    fn only_the_fifo_of_that_inode_is_opened_looked_at_or_removed() {
        let fifo = Fifo::create(&segment(), 0o640).unwrap();
        let id = fifo.id().unwrap();
        let other = FifoId { inode: id.inode + 1, ..id };
        assert!(FifoEnd::open(other).is_err() && Fifo::look(other).unwrap().is_none());
        assert!(!Fifo::remove_orphan(other).unwrap());
        let state = Fifo::look(id).unwrap().expect("it is there");
        assert!(state.in_use && state.info.mode == 0o640, "{state:?}");
        assert!(!Fifo::remove_orphan(id).unwrap(), "its owner lives");
        let end = FifoEnd::open(id).unwrap();
        drop(fifo);
        assert!(!Fifo::look(id).unwrap().expect("it stays").in_use, "also while a peer has it open");
        assert!(Fifo::remove_orphan(id).unwrap() && Fifo::look(id).unwrap().is_none());
        assert!(end.ring(), "neither an error nor a signal");
    }

    #[test]
    fn a_link_a_file_or_a_folder_in_a_fifos_place_is_not_opened() {
        let fifo = Fifo::create(&segment(), 0o600).unwrap();
        let id = fifo.id().unwrap();
        let path = Folder::shared_memory().path_of(&fifo_file(id.number));
        std::fs::remove_file(&path).unwrap();
        assert!(FifoEnd::open(id).is_err(), "it is gone");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(FifoEnd::open(id).is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "file").unwrap();
        assert!(FifoEnd::open(id).is_err() && Fifo::look(id).unwrap().is_none());
        fifo.remove().unwrap();
        assert!(path.exists(), "it is another program's");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(FifoEnd::open(id).is_err());
        std::fs::remove_dir(&path).unwrap();
    }
}
