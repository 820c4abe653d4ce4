//! iceoryx2: publish-subscribe of byte slices, without loss (no overflow, the publisher waits for room).

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use iceoryx2::config::Config;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::port::update_connections::UpdateConnections;
use iceoryx2::prelude::*;
use iceoryx2::sample::Sample;
use iceoryx2::service::port_factory::{event, publish_subscribe};

use super::{Channel, PATIENCE, Sink, Source, Spin, until};

pub type Service = ipc::Service;

/// Frames that fit between publisher and subscriber. Many small ones spare both sides the wait for each other; few large
/// ones stay in the caches.
fn queue(size: usize) -> usize {
    (QUEUE_BYTES / size).clamp(2, 1024)
}

const QUEUE_BYTES: usize = 1 << 20;

pub fn error(error: impl std::fmt::Debug) -> anyhow::Error {
    anyhow!("iceoryx2: {error:?}")
}

/// All files of the run lie where the driver finds them again.
pub fn node(channel: &Channel) -> Result<Node<Service>> {
    set_log_level(LogLevel::Error);
    let mut config = Config::default();
    config.global.prefix = FileName::new(format!("{}_", channel.run).as_bytes()).map_err(error)?;
    let root = channel.path.with_extension("iox2");
    config.global.set_root_path(&Path::new(root.as_os_str().as_encoded_bytes()).map_err(error)?);
    NodeBuilder::new()
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .config(&config)
        .create::<Service>()
        .map_err(error)
}

fn data(
    node: &Node<Service>,
    channel: &Channel,
) -> Result<publish_subscribe::PortFactory<Service, [u8], ()>> {
    node.service_builder(&channel.name.as_str().try_into().map_err(error)?)
        .publish_subscribe::<[u8]>()
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(queue(channel.size))
        .subscriber_max_borrowed_samples(1)
        .history_size(0)
        .max_publishers(1)
        .max_subscribers(1)
        .open_or_create()
        .map_err(error)
}

fn events(node: &Node<Service>, channel: &Channel) -> Result<event::PortFactory<Service>> {
    node.service_builder(&channel.name.as_str().try_into().map_err(error)?)
        .event()
        .max_listeners(1)
        .max_notifiers(1)
        .open_or_create()
        .map_err(error)
}

/// `EVENTS`: a notification follows each frame.
pub struct Iceoryx2Sink<const EVENTS: bool> {
    publisher: Publisher<Service, [u8], ()>,
    notifier: Option<Notifier<Service>>,
    _node: Node<Service>,
}

impl<const EVENTS: bool> Sink for Iceoryx2Sink<EVENTS> {
    fn connect(channel: &Channel) -> Result<Self> {
        let node = node(channel)?;
        let service = data(&node, channel)?;
        let publisher = service
            .publisher_builder()
            .initial_max_slice_len(channel.size)
            .max_loaned_samples(1)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .map_err(error)?;
        until("a subscriber", || Ok((service.dynamic_config().number_of_subscribers() > 0).then_some(())))?;
        publisher.update_connections().map_err(error)?;
        // Until the subscriber has taken up its end of the connection, a publisher that finds the queue full throws its
        // frames away, whatever its strategy.
        until("the subscriber's word", || Ok(channel.path.exists().then_some(())))?;
        let notifier = if EVENTS {
            let events = events(&node, channel)?;
            until("a listener", || Ok((events.dynamic_config().number_of_listeners() > 0).then_some(())))?;
            Some(events.notifier_builder().create().map_err(error)?)
        } else {
            None
        };
        Ok(Iceoryx2Sink { publisher, notifier, _node: node })
    }

    #[inline]
    fn send(&mut self, data: &[u8]) -> Result<()> {
        let sample = self.publisher.loan_slice_uninit(data.len()).map_err(error)?;
        // The number of receivers that it gives is no proof: the receiver may already be gone with the last frame.
        sample.write_from_slice(data).send().map_err(error)?;
        self.notify()
    }

    #[inline]
    fn send_in_place(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> Result<()> {
        let sample = self.publisher.loan_slice_uninit(len).map_err(error)?;
        // SAFETY: the memory is mapped, and any byte is a valid u8; the old content does not matter.
        let mut sample = unsafe { sample.assume_init() };
        write(sample.payload_mut());
        sample.send().map_err(error)?;
        self.notify()
    }
}

impl<const EVENTS: bool> Iceoryx2Sink<EVENTS> {
    #[inline]
    fn notify(&self) -> Result<()> {
        match &self.notifier {
            Some(notifier) => notifier.notify().map(|_| ()).map_err(error),
            None => Ok(()),
        }
    }
}

pub struct Iceoryx2Source<const EVENTS: bool> {
    subscriber: Subscriber<Service, [u8], ()>,
    listener: Option<Listener<Service>>,
    service: publish_subscribe::PortFactory<Service, [u8], ()>,
    ready: PathBuf,
    _node: Node<Service>,
}

impl<const EVENTS: bool> Source for Iceoryx2Source<EVENTS> {
    fn listen(channel: &Channel) -> Result<Self> {
        let node = node(channel)?;
        let service = data(&node, channel)?;
        let subscriber = service.subscriber_builder().create().map_err(error)?;
        let listener = EVENTS
            .then(|| events(&node, channel)?.listener_builder().create().map_err(error))
            .transpose()
            .context("a listener")?;
        Ok(Iceoryx2Source { subscriber, listener, service, ready: channel.path.clone(), _node: node })
    }

    fn accept(&mut self) -> Result<()> {
        let publishers = || self.service.dynamic_config().number_of_publishers();
        until("a publisher", || Ok((publishers() > 0).then_some(())))?;
        self.subscriber.update_connections().map_err(error)?;
        std::fs::write(&self.ready, [])?;
        Ok(())
    }

    #[inline]
    fn receive<R>(&mut self, target: &mut [u8], look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let sample = self.next()?;
        ensure!(sample.payload().len() == target.len(), "a frame of {} bytes", sample.payload().len());
        target.copy_from_slice(sample.payload());
        drop(sample);
        Ok(look(target))
    }

    #[inline]
    fn receive_in_place<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        Ok(look(self.next()?.payload()))
    }
}

impl<const EVENTS: bool> Iceoryx2Source<EVENTS> {
    #[inline]
    fn next(&self) -> Result<Sample<Service, [u8], ()>> {
        let mut spin = Spin::default();
        let mut since = None;
        loop {
            if let Some(sample) = self.subscriber.receive().map_err(error)? {
                return Ok(sample);
            }
            match &self.listener {
                // May return early without an event, because an earlier wait has taken it.
                Some(listener) => {
                    listener.timed_wait(|_| (), PATIENCE).map_err(error)?;
                    ensure!(since.get_or_insert_with(Instant::now).elapsed() < PATIENCE, "no frame came");
                }
                None => spin.turn()?,
            }
        }
    }
}
