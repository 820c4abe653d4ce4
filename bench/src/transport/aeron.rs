//! Aeron's IPC channel through the crate rusteron: C client, C media driver (a process of its own), exclusive
//! publications, both sides poll.

use std::ffi::CString;
use std::ops::ControlFlow;

use anyhow::{Result, anyhow, ensure};
use rusteron_media_driver::bindings::aeron_threading_mode_t;
use rusteron_media_driver::{
    Aeron, AeronDriver, AeronDriverContext, AeronExclusivePublication, AeronOfferError, AeronSubscription,
    Handlers,
};

use super::{AERON_WHOLE, Channel, Next, PATIENCE, Sink, Source, Spin, until};

/// Fragments to take at a time, where many come.
const BATCH: usize = 64;

fn error(error: impl std::fmt::Debug) -> anyhow::Error {
    anyhow!("Aeron: {error:?}")
}

/// Frames of which many come between two looks of the media driver, which opens the window for the publisher: it must be
/// large, and the driver may sleep. Of larger frames fewer come, so that smaller terms do, which stay in the caches, with a
/// driver that looks more often. (A third processor would spare Aeron this choice.)
fn is_small(channel: &Channel) -> bool {
    channel.size < 512
}

/// The channel's address: the longest pieces where frames are large; a message is an eighth of a term at most.
fn address(channel: &Channel) -> Result<CString> {
    let least = if is_small(channel) { 64 << 20 } else { 4 << 20 };
    let term = (8 * channel.size).next_power_of_two().max(least);
    let mtu = if channel.size > 1376 { AERON_WHOLE + 32 } else { 1408 };
    Ok(CString::new(format!("aeron:ipc?term-length={term}|mtu={mtu}|sparse=false"))?)
}

/// Runs a media driver until this process is ended.
pub fn drive(channel: &Channel) -> Result<()> {
    let context = AeronDriverContext::new().map_err(error)?;
    context.set_dir(&CString::new(channel.aeron_directory())?).map_err(error)?;
    context.set_dir_delete_on_start(true).map_err(error)?;
    // One thread for all its duties: the two processors are taken.
    context.set_threading_mode(aeron_threading_mode_t::AERON_THREADING_MODE_SHARED).map_err(error)?;
    if !is_small(channel) {
        context.set_shared_idle_strategy(c"sleep-ns").map_err(error)?;
        context.set_shared_idle_strategy_init_args(c"20us").map_err(error)?;
    }
    let driver = AeronDriver::new(&context).map_err(error)?;
    driver.start(true).map_err(error)?;
    loop {
        let work = driver.main_do_work().map_err(error)?;
        driver.main_idle_strategy(work);
    }
}

pub struct AeronSink {
    publication: AeronExclusivePublication,
    _client: Aeron,
}

impl Sink for AeronSink {
    fn connect(channel: &Channel) -> Result<AeronSink> {
        let client = Aeron::connect_dir(&channel.aeron_directory()).map_err(error)?;
        let publication = client
            .async_add_exclusive_publication(&address(channel)?, 1000 + channel.way)
            .map_err(error)?
            .poll_blocking(PATIENCE)
            .map_err(error)?;
        until("a subscriber", || Ok(publication.is_connected().then_some(())))?;
        Ok(AeronSink { publication, _client: client })
    }

    #[inline]
    fn send(&mut self, data: &[u8]) -> Result<()> {
        again(|| self.publication.offer(data).map(|_| ()))
    }

    #[inline]
    fn send_in_place(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut claimed = None;
        again(|| self.publication.try_claim_owned(len).map(|claim| claimed = Some(claim)))?;
        if let Some(mut claim) = claimed {
            write(claim.data());
            claim.commit().map_err(error)?;
        }
        Ok(())
    }
}

/// Offers until there is room.
#[inline]
fn again(mut offer: impl FnMut() -> Result<(), AeronOfferError>) -> Result<()> {
    let mut spin = Spin::default();
    loop {
        match offer() {
            Ok(()) => return Ok(()),
            Err(AeronOfferError::BackPressured | AeronOfferError::AdminAction) => spin.turn()?,
            Err(other) => return Err(error(other)),
        }
    }
}

pub struct AeronSource {
    subscription: AeronSubscription,
    _client: Aeron,
}

impl Source for AeronSource {
    fn listen(channel: &Channel) -> Result<AeronSource> {
        let client = Aeron::connect_dir(&channel.aeron_directory()).map_err(error)?;
        let subscription = client
            .async_add_subscription(&address(channel)?, 1000 + channel.way, Handlers::NONE, Handlers::NONE)
            .map_err(error)?
            .poll_blocking(PATIENCE)
            .map_err(error)?;
        Ok(AeronSource { subscription, _client: client })
    }

    fn accept(&mut self) -> Result<()> {
        until("a publication", || Ok(self.subscription.is_connected().then_some(())))
    }

    fn receive<R>(&mut self, target: &mut [u8], look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        // Pieces are put together right here, which saves a copy to Aeron's own assembler.
        let mut pieces = Pieces { target, got: 0 };
        let mut spin = Spin::default();
        while pieces.got < pieces.target.len() {
            let mut failure = Ok(());
            let came = self.subscription.poll_fn(|piece, _| failure = pieces.add(piece), 1).map_err(error)?;
            failure?;
            if came == 0 {
                spin.turn()?;
            }
        }
        Ok(look(pieces.target))
    }

    fn receive_in_place<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let mut look = Some(look);
        let mut result = None;
        let mut spin = Spin::default();
        loop {
            self.subscription
                .poll_fn(|frame, _| result = look.take().map(|look| look(frame)), 1)
                .map_err(error)?;
            if let Some(result) = result {
                return Ok(result);
            }
            spin.turn()?;
        }
    }

    fn receive_each(&mut self, target: &mut [u8], mut look: impl FnMut(&[u8]) -> Next) -> Result<()> {
        let mut pieces = Pieces { target, got: 0 };
        self.each(|piece| {
            pieces.add(piece)?;
            if pieces.got < pieces.target.len() {
                return Ok(ControlFlow::Continue(()));
            }
            pieces.got = 0;
            look(pieces.target)
        })
    }

    fn receive_each_in_place(&mut self, look: impl FnMut(&[u8]) -> Next) -> Result<()> {
        self.each(look)
    }
}

impl AeronSource {
    fn each(&self, mut take: impl FnMut(&[u8]) -> Next) -> Result<()> {
        let mut spin = Spin::default();
        loop {
            let mut next = Ok(ControlFlow::Continue(()));
            let came = self
                .subscription
                .poll_fn(
                    |piece, _| {
                        if matches!(next, Ok(ControlFlow::Continue(()))) {
                            next = take(piece);
                        }
                    },
                    BATCH,
                )
                .map_err(error)?;
            if next?.is_break() {
                return Ok(());
            }
            if came == 0 {
                spin.turn()?;
            } else {
                spin = Spin::default();
            }
        }
    }
}

struct Pieces<'a> {
    target: &'a mut [u8],
    got: usize,
}

impl Pieces<'_> {
    #[inline]
    fn add(&mut self, piece: &[u8]) -> Result<()> {
        let end = self.got + piece.len();
        ensure!(end <= self.target.len(), "a frame of more than {} bytes", self.target.len());
        self.target[self.got..end].copy_from_slice(piece);
        self.got = end;
        Ok(())
    }
}
