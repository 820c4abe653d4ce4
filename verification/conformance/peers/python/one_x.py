"""The peer of the package `zerobuffer-ipc` 1.x, through its public API and nothing else: a black box to us."""

import ctypes
import logging
import os
import time
from datetime import timedelta

import zerobuffer
from common import StepFailed, Unsupported, become_user, content, data_of, described, serve, stream
from zerobuffer.duplex import DuplexChannelFactory

KINDS = {
    "InvalidFrameSizeException": "InvalidFrameSize",
    "MetadataAlreadyWrittenException": "MetadataAlreadyWritten",
    "ReaderAlreadyConnectedException": "ReaderAlreadyConnected",
    "WriterAlreadyConnectedException": "WriterAlreadyConnected",
    "BufferFullException": "BufferFull",
    "FrameTooLargeException": "FrameTooLarge",
    "ReaderDeadException": "ReaderDead",
    "WriterDeadException": "WriterDead",
    "SequenceError": "SequenceError",
    # Whatever has no class of its own.
    "ZeroBufferException": "Unspecific",
    "ValueError": "Unspecific",
    "RuntimeError": "Unspecific",
}


def kind_of(error):
    return KINDS.get(type(error).__name__, type(error).__name__)


def seconds(step, key="timeout_ms"):
    milliseconds = step.get(key, 5000)
    return 3600.0 if milliseconds < 0 else milliseconds / 1000


def owns_buffer(path):
    """Whether this process is the reader of the buffer (docs/PROTOCOL.md, reader_pid)."""
    try:
        with open(path, "rb") as segment:
            return int.from_bytes(segment.read(0x60)[0x58:], "little") == os.getpid()
    except OSError:
        return False


class Peer:
    def __init__(self):
        self.reader = self.writer = self.client = self.server = None
        self.held = []

    def do_reset(self, step):
        for frame in self.held:
            if frame is not None:
                frame.dispose()
        for end in (self.client, self.writer, self.reader):
            if end is not None:
                end.close()
        if self.server is not None:
            self.server.stop()
        self.__init__()

    # ---- as reader ----

    def do_create(self, step):
        if "mode" in step:
            raise Unsupported("1.x cannot set a mode")
        config = zerobuffer.BufferConfig(
            metadata_size=step.get("metadata", 4096), payload_size=step.get("payload", 256 << 20)
        )
        self.reader = zerobuffer.Reader(step["name"], config)

    def do_read(self, step):
        frame = self.reader.read_frame(timeout=seconds(step))
        if frame is None:
            return {"none": True}
        answer = described(bytes(frame.data), frame.sequence)
        frame.dispose()
        return answer

    def do_hold(self, step):
        frame = self.reader.read_frame(timeout=seconds(step))
        if frame is None:
            return {"none": True}
        self.held.append(frame)
        return described(bytes(frame.data), frame.sequence)

    def do_check(self, step):
        frame = self.held[step.get("which", 0)]
        return described(bytes(frame.data), frame.sequence)

    def do_release(self, step):
        which = step.get("which", 0)
        self.reader.release_frame(self.held[which])
        self.held[which] = None

    def do_receive(self, step):
        for number, (seed, size) in enumerate(stream(step), step.get("sequence", 1)):
            frame = self.reader.read_frame(timeout=seconds(step))
            if frame is None:
                raise StepFailed("WrongFrame", f"frame {number} did not come")
            if frame.sequence != number or bytes(frame.data) != content(seed, size):
                raise StepFailed("WrongFrame", f"frame {number}: got {frame.sequence} with {frame.size} bytes")
            frame.dispose()

    def do_drain(self, step):
        while (frame := self.reader.read_frame(timeout=seconds(step))) is not None:
            frame.dispose()
        return {"none": True}

    def do_metadata(self, step):
        data = self.reader.get_metadata()
        return {"none": True} if data is None else described(bytes(data))

    # ---- as writer ----

    def do_connect(self, step):
        if "connect_timeout_ms" in step:
            raise Unsupported("1.x does not wait for a reader")
        self.writer = zerobuffer.Writer(step["name"])

    def do_write(self, step):
        self.writer.write_frame(data_of(step))
        return {"written": True}

    def do_acquire(self, step):
        data = data_of(step)
        self.writer.get_frame_buffer(len(data))[:] = data

    def do_commit(self, step):
        if "len" in step:
            raise Unsupported("1.x commits all that was acquired")
        self.writer.commit_frame()

    def do_send(self, step):
        for seed, size in stream(step):
            data = content(seed, size)
            if seed % 2 == 0:
                self.writer.write_frame(data)
            else:
                self.writer.get_frame_buffer(size)[:] = data
                self.writer.commit_frame()

    def do_set_metadata(self, step):
        self.writer.set_metadata(data_of(step))

    def do_write_timeout(self, step):
        self.writer.write_timeout = timedelta(seconds=seconds(step, "ms"))

    # ---- both ----

    def do_relay(self, step):
        for number in range(step.get("count", 1)):
            frame = self.reader.read_frame(timeout=seconds(step))
            if frame is None:
                raise StepFailed("WrongFrame", f"frame {number} did not come")
            self.writer.write_frame(bytes(frame.data))
            frame.dispose()

    def do_connected(self, step):
        if "timeout_ms" in step:
            raise Unsupported("1.x does not wait for a writer by this call")
        there = self.reader.is_writer_connected() if self.reader else self.writer.is_reader_connected()
        return {"connected": there}

    def do_counters(self, step):
        if self.reader:
            return {"frames": self.reader.frames_read, "bytes": self.reader.bytes_read}
        return {"frames": self.writer.frames_written, "bytes": self.writer.bytes_written}

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

    def do_serve(self, step):
        if step.get("mutable") or step.get("pool") or step.get("in_place"):
            raise Unsupported("1.x serves immutable requests on one thread")
        config = zerobuffer.BufferConfig(metadata_size=4096, payload_size=step.get("payload", 1 << 20))

        def handle(frame, writer):
            data = bytes(frame.data)
            if data == b"!wait":
                time.sleep(0.5)
            writer.write_frame(data[::-1])

        self.server = DuplexChannelFactory().create_immutable_server(step["channel"], config)
        self.server.start(handle)
        # It returns before its thread has created the buffer, or says that it cannot.
        until = time.monotonic() + 2
        while not owns_buffer(f"/dev/shm/{step['channel']}_request") and time.monotonic() < until:
            time.sleep(0.001)

    def do_stop(self, step):
        self.server.stop()

    def do_dial(self, step):
        if "connect_timeout_ms" in step:
            raise Unsupported("1.x does not wait for a server")
        self.client = DuplexChannelFactory().create_client(step["channel"])

    def do_request(self, step):
        if step.get("in_place"):
            raise Unsupported("the 1.x step for requests in place is not driven")
        return {"sequence": self.client.send_request(data_of(step))}

    def do_response(self, step):
        if "to" in step:
            raise Unsupported("1.x receives the next response only")
        response = self.client.receive_response(int(seconds(step) * 1000))
        if not response.is_valid:
            return {"none": True}
        answer = described(response.to_bytes(), response.sequence)
        self.client.release_response(response)
        return answer

    def do_call(self, step):
        self.do_request(step)
        return self.do_response(step)

    def do_server_connected(self, step):
        return {"connected": self.client.is_server_connected}

    def do_hang_up(self, step):
        self.client.close()
        self.client = None


# Without it the package loses updates of words that both sides change; `cargo xtask conformance` installs it.
ctypes.CDLL("libatomic.so.1")
logging.disable(logging.CRITICAL)
serve(Peer(), kind_of)
