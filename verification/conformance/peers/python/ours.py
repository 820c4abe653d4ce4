"""The Python peer of the conformance suite, over the package in bindings/python."""

import inspect as introspection
import os
import signal
import threading
import time

import zerobuffer
from common import StepFailed, Unsupported, become_user, content, data_of, described, serve, stream

try:
    from zerobuffer import duplex
except ImportError:
    duplex = None


INVERTED = bytes(byte ^ 0xFF for byte in range(256))


def kind_of(error):
    """The kind that an exception's class stands for: BufferFullError is BufferFull, but SequenceError is SequenceError."""
    name = type(error).__name__
    return name if name == "SequenceError" else name.removesuffix("Error")


def timeout(step, key="timeout_ms"):
    milliseconds = step.get(key, 5000)
    return None if milliseconds < 0 else milliseconds


def config(step):
    settings = {"classic": step.get("classic", False), "allow_payload_sharing": step.get("sharing", False)}
    for setting, key in (("payload_size", "payload"), ("metadata_size", "metadata"), ("mode", "mode")):
        if key in step:
            settings[setting] = step[key]
    return zerobuffer.BufferConfig(**settings)


class Events:
    """What handlers and callbacks have done."""

    def __init__(self):
        self.changed = threading.Condition()
        self.started = self.ended = self.failed = 0
        self.init = b""

    def count(self, name):
        with self.changed:
            setattr(self, name, getattr(self, name) + 1)
            self.changed.notify_all()

    def describe(self, metadata):
        with self.changed:
            self.init = bytes(metadata)
            self.changed.notify_all()

    def obey(self, frame):
        """The handler's part that both kinds have: orders."""
        order = bytes(frame.data[:16]) if len(frame) < 16 else b""
        self.count("started")
        if order == b"!wait":
            # Until it is cancelled. A handler is not told; it has to ask.
            until = time.monotonic() + 20
            cancelled = getattr(frame, "is_cancelled", False)
            while not (cancelled() if callable(cancelled) else cancelled) and time.monotonic() < until:
                time.sleep(0.001)
                cancelled = getattr(frame, "is_cancelled", False)
        self.count("ended")
        if order == b"!fail":
            raise ValueError("as ordered")
        if order == b"!die":
            os.kill(os.getpid(), signal.SIGKILL)
        return order


class Peer:
    def __init__(self):
        self.reader = self.writer = self.client = self.server = None
        self.held = []
        self.events = Events()

    def do_reset(self, step):
        for frame in self.held:
            frame.release()
        for end in (self.client, self.writer, self.reader):
            if end is not None:
                end.close()
        if self.server is not None:
            self.server.stop()
        self.__init__()

    # ---- as reader ----

    def do_create(self, step):
        self.reader = zerobuffer.Reader(step["name"], config(step))

    def next(self, step):
        """A frame, or nothing in vain."""
        return self.no_end(self.reader.read_frame(timeout(step)))

    @staticmethod
    def no_end(frame):
        """The end of the stream is an error in answers, as in Rust."""
        if frame.end_of_stream:
            raise StepFailed("WriterClosed", "the end of the stream")
        return frame if frame.is_valid else None

    def do_latest(self, step):
        frame = self.no_end(self.reader.read_latest_frame(timeout(step)))
        if frame is None:
            return {"none": True}
        with frame:
            return {**described(frame.data, frame.sequence), "skipped": self.reader.frames_skipped}

    def do_read(self, step):
        frame = self.next(step)
        if frame is None:
            return {"none": True}
        with frame:
            return {**described(frame.data, frame.sequence), "shared": frame.is_shared}

    def do_hold(self, step):
        frame = self.next(step)
        if frame is None:
            return {"none": True}
        self.held.append(frame)
        return {**described(frame.data, frame.sequence), "shared": frame.is_shared}

    def do_check(self, step):
        frame = self.held[step.get("which", 0)]
        return described(frame.data, frame.sequence)

    def do_release(self, step):
        self.held[step.get("which", 0)].release()

    def do_receive(self, step):
        for number, (seed, size) in enumerate(stream(step), step.get("sequence", 1)):
            frame = self.next(step)
            if frame is None:
                raise StepFailed("WrongFrame", f"frame {number} did not come")
            with frame:
                if frame.sequence != number or bytes(frame.data) != content(seed, size):
                    raise StepFailed("WrongFrame", f"frame {number}: got {frame.sequence} with {frame.size} bytes")

    def do_drain(self, step):
        while (frame := self.next(step)) is not None:
            frame.release()
        return {"none": True}

    def do_metadata(self, step):
        data = self.reader.get_metadata()
        return {"none": True} if data is None else described(data)

    # ---- as writer ----

    def do_connect(self, step):
        options = {"request_payload_sharing": step.get("sharing", False)}
        if "connect_timeout_ms" in step:
            options["connect_timeout_ms"] = timeout(step, "connect_timeout_ms")
        self.writer = zerobuffer.Writer(step["name"], **options)

    def do_write(self, step):
        self.writer.write_frame(data_of(step))
        return {"written": True}

    def do_try_write(self, step):
        return {"written": self.writer.try_write_frame(data_of(step)) is not None}

    def do_acquire(self, step):
        data = data_of(step)
        self.writer.acquire_frame_buffer(len(data))[:] = data

    def do_commit(self, step):
        self.writer.commit_frame(step.get("len"))

    def do_discard(self, step):
        self.writer.discard_frame()

    def do_send(self, step):
        for seed, size in stream(step):
            data = content(seed, size)
            if seed % 2 == 0:
                self.writer.write_frame(data)
            else:
                with self.writer.frame(size) as view:
                    view[:] = data

    def do_set_metadata(self, step):
        self.writer.set_metadata(data_of(step))

    def do_write_timeout(self, step):
        self.writer.write_timeout_ms = timeout(step, "ms")

    # ---- both ----

    def do_relay(self, step):
        for number in range(step.get("count", 1)):
            frame = self.next(step)
            if frame is None:
                raise StepFailed("WrongFrame", f"frame {number} did not come")
            with frame:
                self.writer.write_frame(frame.data)

    def do_forward(self, step):
        count, shared = step.get("count", 1), 0
        for number in range(count):
            frame = self.next(step)
            if frame is None:
                raise StepFailed("WrongFrame", f"frame {number} did not come")
            if step.get("invert"):
                view = memoryview(frame.make_mut())
                view[:] = bytes(view).translate(INVERTED)
            shared += self.writer.forward(frame)
        return {"shared": shared, "copied": count - shared}

    def do_connected(self, step):
        if self.reader is None:
            return {"connected": self.writer.is_reader_connected()}
        if "timeout_ms" in step:
            return {"connected": self.reader.is_writer_connected(timeout(step))}
        return {"connected": self.reader.is_writer_connected()}

    def do_counters(self, step):
        if self.reader is not None:
            return {"frames": self.reader.frames_read, "bytes": self.reader.bytes_read}
        return {"frames": self.writer.frames_written, "bytes": self.writer.bytes_written}

    def do_interrupt(self, step):
        end = self.writer if step.get("of") == "writer" else self.reader
        if end is not None:
            end.interrupt()

    def do_inspect(self, step):
        shown = zerobuffer.inspect.snapshot(step["name"])
        return {
            "payload_size": shown.payload_size,
            "metadata_size": shown.metadata_size,
            "reader": shown.reader.presence.value.capitalize(),
            "writer": shown.writer.presence.value.capitalize(),
            "health": shown.health.value.capitalize(),
        }

    def do_defaults(self, step):
        with zerobuffer.Reader(step["name"]), zerobuffer.Writer(step["name"]) as writer:
            shown = zerobuffer.inspect.snapshot(step["name"])
            default = introspection.signature(zerobuffer.Writer).parameters.get("write_timeout_ms")
            if default is not None and default.default != writer.write_timeout_ms:
                raise StepFailed("WrongDefault", f"the signature says {default.default}")
            return {
                "payload_size": shown.payload_size,
                "metadata_size": shown.metadata_size,
                "mode": shown.mode,
                "write_timeout_ms": int(writer.write_timeout_ms),
            }

    def do_close(self, step):
        of = step.get("of", "both")
        if of != "reader" and self.writer is not None:
            self.writer.close()
            self.writer = None
        if of != "writer" and self.reader is not None:
            self.reader.close()
            self.reader = None

    def do_become_user(self, step):
        become_user(step)

    # ---- duplex ----

    def factory(self):
        if duplex is None:
            raise Unsupported("this build of the package has no duplex channels")
        return duplex.DuplexChannelFactory.get_instance()

    def do_serve(self, step):
        factory, events = self.factory(), self.events
        mode = duplex.ProcessingMode.THREAD_POOL if step.get("pool") else duplex.ProcessingMode.SINGLE_THREAD
        if step.get("mutable"):

            def change(frame):
                events.obey(frame)
                frame.data[:] = bytes(byte ^ 0xFF for byte in frame.data)

            self.server = factory.create_mutable_server(step["channel"], config(step))
            self.server.start(change, mode)
            return

        def answer(frame):
            order = events.obey(frame)
            return b"" if order == b"!empty" else bytes(frame.data)[::-1]

        self.server = factory.create_immutable_server(step["channel"], config(step))
        self.server.on_error(lambda error: events.count("failed"))
        self.server.on_init(events.describe)
        if "threads" in step:
            self.server.set_pool_size(step["threads"])
        if not step.get("in_place"):
            self.server.start(answer, mode)
            return

        def fill(frame, response):
            view = response.acquire(len(frame))
            order = events.obey(frame)
            view[:] = bytes(frame.data)[::-1]
            if order != b"!forget":
                response.commit(0 if order == b"!empty" else None)

        self.server.start_in_place(fill, mode)

    def do_stop(self, step):
        self.server.stop()

    def do_running(self, step):
        return {"running": self.server.is_running}

    def do_handled(self, step):
        events = self.events

        def reached():
            return (
                all(getattr(events, name) >= step.get(name, 0) for name in ("started", "ended", "failed"))
                and (not step.get("init") or events.init)
            )

        with events.changed:
            if not events.changed.wait_for(reached, timeout(step) / 1000):
                raise StepFailed("TooFew", f"{events.started} started, {events.ended} ended, {events.failed} failed")
            return described(events.init)

    def do_dial(self, step):
        options = {"response_config": config(step)}
        if "connect_timeout_ms" in step:
            options["connect_timeout_ms"] = timeout(step, "connect_timeout_ms")
        self.client = self.factory().create_client(step["channel"], **options)

    def do_call(self, step):
        with self.client.call(data_of(step), timeout(step)) as frame:
            return described(frame.data, frame.sequence)

    def do_request(self, step):
        data = data_of(step)
        if not step.get("in_place"):
            return {"sequence": self.client.send_request(data)}
        sequence, view = self.client.acquire_request_buffer(len(data))
        view[:] = data
        self.client.commit_request()
        return {"sequence": sequence}

    def do_response(self, step):
        if "to" in step:
            frame = self.client.receive_response_to(step["to"], timeout(step))
        else:
            frame = self.client.receive_response(timeout(step))
        if not frame.is_valid:
            return {"none": True}
        with frame:
            return described(frame.data, frame.sequence)

    def do_cancel(self, step):
        return {"cancelled": self.client.cancel_request(step["sequence"])}

    def do_describe(self, step):
        self.client.set_metadata(data_of(step))

    def do_server_connected(self, step):
        return {"connected": self.client.is_server_connected}

    def do_hang_up(self, step):
        self.client.close()
        self.client = None


serve(Peer(), kind_of)
