//! Calls as futures, polled by hand.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel as queue};
use std::task::{Context, Poll, Wake, Waker};

use super::{PATIENCE, answer, channel};
use crate::duplex::client::inbox::Wants;
use crate::duplex::client::state::{ClientState, wake_all};
use crate::duplex::due;
use crate::duplex::port::Tag;
use crate::duplex::sync::lock;
use crate::error::ErrorKind;

struct Bell(Sender<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

/// A waker, and what tells that it was called.
fn waker() -> (Waker, Receiver<()>) {
    let (bell, woken) = queue();
    (Arc::new(Bell(bell)).into(), woken)
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

#[test]
fn a_call_that_is_done_is_counted_no_more() {
    let (client, mut requests, mut responses) = channel("counted");
    let (waker, woken) = waker();
    let pending = || lock(&client.state.inbox).tasks.pending;
    let mut call = client.call_async(b"x", PATIENCE);
    assert!(poll(&mut call, &waker).is_pending());
    assert_eq!(pending(), 1);
    answer(&mut requests, &mut responses, b"y");
    woken.recv_timeout(PATIENCE).unwrap();
    let Poll::Ready(response) = poll(&mut call, &waker) else { panic!("woken without a response") };
    assert_eq!((&*response.unwrap(), pending()), (&b"y"[..], 0));
    let mut given_up = client.call_async(b"z", PATIENCE);
    assert!(poll(&mut given_up, &waker).is_pending());
    drop(given_up);
    assert_eq!(pending(), 0);
}

#[test]
fn a_task_is_woken_while_the_thread_that_reads_waits_on() {
    let (client, mut requests, mut responses) = channel("woken");
    let (waker, woken) = waker();
    let first = client.send_request(b"1").unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| client.receive_response_to(first, PATIENCE));
        while lock(&client.state.inbox).leader != Some(Wants::One(first)) {
            std::thread::yield_now();
        }
        let mut call = client.call_async(b"2", PATIENCE);
        assert!(poll(&mut call, &waker).is_pending());
        let waiting = requests.read_frame(PATIENCE).unwrap().expect("the thread's request");
        answer(&mut requests, &mut responses, b"two");
        let told = woken.recv_timeout(PATIENCE / 3);
        let tag = Tag { sequence: Some(first), flags: 0, deadline: waiting.deadline() };
        responses.write_tagged(b"one", tag, due::coarse_now()).unwrap();
        assert_eq!(*thread.join().unwrap().unwrap().expect("in time"), *b"one");
        told.expect("the task was not woken before the thread had its response");
        assert!(poll(&mut call, &waker).is_ready());
    });
}

/// Bytes of a request whose channel ends just before it is sent.
struct Ends(Arc<ClientState>);

impl AsRef<[u8]> for Ends {
    fn as_ref(&self) -> &[u8] {
        wake_all(self.0.end(ErrorKind::ReaderDead, "gone meanwhile"));
        b"x"
    }
}

#[test]
fn a_call_that_finds_no_space_while_the_channel_ends_is_told_so_at_once() {
    let (client, _requests, _responses) = channel("ends");
    let state = &client.state;
    // Another thread has the writer.
    let (writer, _) = state.take_writer(state.due(PATIENCE)).unwrap();
    let mut call = client.call_async(Ends(Arc::clone(state)), PATIENCE);
    let Poll::Ready(result) = poll(&mut call, Waker::noop()) else { panic!("nothing would wake it") };
    assert_eq!(result.unwrap_err().kind(), ErrorKind::ReaderDead);
    state.put_writer_back(writer);
}
