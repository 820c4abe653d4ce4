//! The demo's pipeline: a camera, a filter that works in place, and two viewers, one of them slow.
//!
//! The filter's process passes the pictures on by a tee. The viewer's buffer is lent the camera's pictures as the filter left them;
//! the slow viewer's is a drop output, for which no process waits.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zerobuffer::{BufferConfig, ErrorKind, Reader, Tee, Writer, WriterOptions};

use super::peers::{Note, PATIENCE, PROGRESS, RING_FRAMES, Role, monotonic_ns, note, quantile};
use super::picture::{FRAME_SIZE, Picture, Stamp};
use super::process::Peer;
use super::progress::Progress;
use super::{Demo, LOOK, Phase, Time, failed, grouped};
use crate::exit::Failure;
use crate::output::say;
use crate::stop::Stop;

/// How long the slow viewer looks at a picture.
pub(super) const LONG_LOOK: Duration = Duration::from_millis(200);
/// Room for frames in a viewer's buffer.
const VIEWER_FRAMES: usize = 4;

/// The buffers of the pipeline of the demo `name`.
pub(super) fn camera(name: &str) -> String {
    format!("{name}-camera")
}

pub(super) fn viewer(name: &str) -> String {
    format!("{name}-viewer")
}

pub(super) fn slow(name: &str) -> String {
    format!("{name}-slow")
}

/// What became of the camera's frames in the filter's process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Passed {
    shared: u64,
    copied: u64,
    slow_copied: u64,
    slow_dropped: u64,
}

/// What a viewer saw.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Seen {
    frames: u64,
    wrong: u64,
    /// Median, in nanoseconds, from the camera's commit.
    p50: u64,
}

type Said<T> = Result<T, String>;

fn said<T>(result: zerobuffer::Result<T>) -> Said<T> {
    result.map_err(|error| error.to_string())
}

fn config(frames: usize) -> BufferConfig {
    BufferConfig::default().payload_size((FRAME_SIZE + 64) * frames).allow_payload_sharing(true)
}

/// The filter: the negative of a picture.
fn invert(frame: &mut [u8]) {
    for byte in &mut frame[Stamp::SIZE..] {
        *byte = !*byte;
    }
}

/// The process of the filter and the tee.
pub(super) fn pass_on(name: &str, stop: &Stop) -> Said<()> {
    let reader = said(Reader::create(&camera(name), config(RING_FRAMES)))?;
    stop.watch(reader.interrupt_handle());
    let mut tee = Tee::new(reader);
    let connect = |buffer: &str| {
        let options = WriterOptions::default().connect_timeout(PATIENCE).write_timeout(PATIENCE);
        let writer = said(Writer::connect_with(buffer, options.request_payload_sharing(true)))?;
        stop.watch(writer.interrupt_handle());
        Said::Ok(writer)
    };
    tee.add_block_output(connect(&viewer(name))?);
    tee.add_drop_output(connect(&slow(name))?, Tee::DROP_FRAMES);
    note(&Note::Ready);
    loop {
        let passed = match tee.read_frame(PATIENCE) {
            Ok(Some(mut frame)) => {
                invert(frame.make_mut().ok_or("the filter may not change the frame")?);
                tee.forward(frame)
            }
            Ok(None) => return Err("no frame came".to_owned()),
            Err(error) => Err(error),
        };
        match passed {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WriterClosed => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
    let [viewer, slow] = tee.outputs() else { return Err("the tee has two outputs".to_owned()) };
    note(&Note::Passed(Passed {
        shared: viewer.frames_shared(),
        copied: viewer.frames_copied(),
        slow_copied: slow.frames_copied(),
        slow_dropped: slow.frames_dropped(),
    }));
    said(tee.into_reader().close())
}

/// The process of a viewer. It looks at each picture for `look`, and compares the picture afterwards.
pub(super) fn view(buffer: &str, look: Option<Duration>, stop: &Stop) -> Said<()> {
    let picture = Picture::new();
    let mut expected = vec![0; FRAME_SIZE];
    let mut reader = said(Reader::create(buffer, config(VIEWER_FRAMES)))?;
    stop.watch(reader.interrupt_handle());
    note(&Note::Ready);
    let mut seen = Seen { frames: 0, wrong: 0, p50: 0 };
    let mut latencies = Vec::new();
    let mut next = 0;
    let mut told = Instant::now();
    loop {
        let frame = match reader.read_frame(PATIENCE) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err("no frame came to a viewer".to_owned()),
            Err(error) if error.kind() == ErrorKind::WriterClosed => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let arrived = monotonic_ns();
        if !look.is_none_or(|look| stop.sleep(look)) {
            return Ok(());
        }
        // The slow viewer misses some, but gets none twice.
        let stamp = Stamp::read(&frame).filter(|stamp| match look {
            None => stamp.index == next,
            Some(_) => stamp.index >= next,
        });
        let index = stamp.map_or(next, |stamp| stamp.index);
        picture.draw(index, &mut expected);
        invert(&mut expected);
        let right = frame.len() == FRAME_SIZE && frame[Stamp::SIZE..] == expected[Stamp::SIZE..];
        seen.wrong += u64::from(stamp.is_none() || !right);
        seen.frames += 1;
        latencies.extend(stamp.map(|stamp| arrived.saturating_sub(stamp.time)));
        next = index + 1;
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            note(&Note::Progress { frames: seen.frames });
        }
    }
    said(reader.close())?;
    latencies.sort_unstable();
    seen.p50 = quantile(&latencies, 0.50);
    note(&Note::Seen(seen));
    Ok(())
}

impl Demo {
    pub(super) fn pipeline(&self, phase: &Phase) -> Result<(), Failure> {
        let start = |role: Role| {
            let mut peer = self.start(role, phase)?;
            match peer.hear(&self.stop)? {
                Note::Ready => Ok(peer),
                _ => Err(failed("a process of the pipeline was not ready")),
            }
        };
        let mut viewer = start(Role::Viewer)?;
        let mut slow = start(Role::SlowViewer)?;
        let mut tee = start(Role::Tee)?;
        let mut camera = self.start(Role::Camera, phase)?;
        let seen = self.watch_viewer(phase, &mut viewer, [&mut slow, &mut tee, &mut camera])?;
        let (Note::Sent { frames, waits }, Note::Passed(passed), Note::Seen(slow_seen)) =
            (self.end(&mut camera)?, self.end(&mut tee)?, self.end(&mut slow)?)
        else {
            return Err(failed("a process of the pipeline said something else at its end"));
        };
        for peer in [&mut camera, &mut tee, &mut viewer, &mut slow] {
            peer.wait(&self.stop)?;
        }
        check(frames, &passed, &seen, &slow_seen)?;

        let [shown, shared, copied] = [seen.frames, passed.shared, passed.copied].map(grouped);
        say(&format_args!("   viewer: {shown} frames, {shared} of them shared, {copied} copied"));
        say(&format_args!("   latency from the camera's commit, through the filter: p50 {}", Time(seen.p50)));
        let [copied, dropped] = [passed.slow_copied, passed.slow_dropped].map(grouped);
        let look = LONG_LOOK.as_millis();
        say(&format_args!(
            "   slow viewer ({look} ms for a frame): {copied} frames copied, {dropped} dropped"
        ));
        if waits == 0 {
            say(&"   the slow viewer never kept the camera waiting");
        } else {
            say(&format_args!("   the camera waited {} times, for a machine that is busy", grouped(waits)));
        }
        say(&"   verified: all frames of both viewers, every byte");
        Ok(())
    }

    /// Shows progress until the viewer has ended.
    fn watch_viewer(
        &self,
        phase: &Phase,
        viewer: &mut Peer,
        mut others: [&mut Peer; 3],
    ) -> Result<Seen, Failure> {
        let start = Instant::now();
        let mut progress = Progress::new(phase.seconds);
        loop {
            match viewer.poll(&self.stop, LOOK)? {
                Some(Note::Progress { frames }) => progress.show(frames, start.elapsed()),
                Some(Note::Seen(seen)) => return Ok(seen),
                _ => {}
            }
            for peer in &mut others {
                while let Ok(note) = peer.notes.try_recv() {
                    match note {
                        Note::Failed { message } => return Err(failed(&message)),
                        Note::Progress { .. } => {}
                        note => peer.last = Some(note),
                    }
                }
            }
        }
    }

    /// What a process says at its end.
    fn end(&self, peer: &mut Peer) -> Result<Note, Failure> {
        loop {
            match peer.last.take().map_or_else(|| peer.hear(&self.stop), Ok)? {
                Note::Progress { .. } => {}
                note => return Ok(note),
            }
        }
    }
}

/// Judges what the processes of the pipeline said.
fn check(sent: u64, passed: &Passed, seen: &Seen, slow: &Seen) -> Result<(), Failure> {
    let wrong = seen.wrong + slow.wrong;
    if wrong > 0 {
        return Err(failed(&format!("{} frames were not what the filter had made", grouped(wrong))));
    }
    if seen.frames != sent || passed.shared + passed.copied != sent {
        let [seen, sent] = [seen.frames, sent].map(grouped);
        return Err(failed(&format!("the viewer saw {seen} of {sent} frames")));
    }
    if slow.frames != passed.slow_copied || passed.slow_copied + passed.slow_dropped != sent {
        return Err(failed("the frames of the slow viewer and those it did not get are not all"));
    }
    if passed.slow_dropped == 0 {
        return Err(failed("the slow viewer got every frame, so it kept the camera waiting"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(frames: u64, wrong: u64) -> Seen {
        Seen { frames, wrong, p50: 1 }
    }

    fn passed(shared: u64, copied: u64, slow_copied: u64, slow_dropped: u64) -> Passed {
        Passed { shared, copied, slow_copied, slow_dropped }
    }

    #[test]
    fn a_pipeline_that_lost_changed_or_held_up_frames_is_a_failure() {
        let judge = |passed: Passed, fast: Seen, slow: Seen| {
            check(10, &passed, &fast, &slow).map_err(|failure| failure.to_string())
        };
        judge(passed(9, 1, 3, 7), seen(10, 0), seen(3, 0)).unwrap();
        for (passed, fast, slow, message) in [
            (passed(9, 1, 3, 7), seen(10, 1), seen(3, 0), "1 frames were not what the filter had made"),
            (passed(9, 1, 3, 7), seen(10, 0), seen(3, 2), "2 frames were not what the filter had made"),
            (passed(9, 1, 3, 7), seen(9, 0), seen(3, 0), "the viewer saw 9 of 10 frames"),
            (passed(8, 1, 3, 7), seen(10, 0), seen(3, 0), "the viewer saw 10 of 10 frames"),
            (passed(9, 1, 3, 7), seen(10, 0), seen(2, 0), "not all"),
            (passed(9, 1, 3, 6), seen(10, 0), seen(3, 0), "not all"),
            (passed(9, 1, 10, 0), seen(10, 0), seen(10, 0), "kept the camera waiting"),
        ] {
            let told = judge(passed, fast, slow).unwrap_err();
            assert!(told.contains(message), "{told}");
        }
    }
}
