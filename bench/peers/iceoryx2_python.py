"""iceoryx2's Python package: publish-subscribe of byte slices without loss, with the settings of ../src/transport/iceoryx2.rs.

The receiver polls; between two looks at nothing it gives the processor away, as a loop in Python would only heat it.
"""

import ctypes
import os
import time

import iceoryx2 as iox2

from python_roles import PATIENCE, play, until

QUEUE_BYTES = 1 << 20


def service(channel):
    iox2.set_log_level(iox2.LogLevel.Error)
    config = iox2.config.default()
    # All files of the run lie where the driver finds them again.
    config.global_cfg.prefix = iox2.FileName.new(channel["run"] + "_")
    config.global_cfg.root_path = iox2.Path.new(channel["path"] + ".iox2")
    builder = iox2.NodeBuilder.new().signal_handling_mode(iox2.SignalHandlingMode.Disabled).config(config)
    node = builder.create(iox2.ServiceType.Ipc)
    return node, (
        node.service_builder(iox2.ServiceName.new(channel["name"]))
        .publish_subscribe(iox2.Slice[ctypes.c_uint8])
        .enable_safe_overflow(False)
        .subscriber_max_buffer_size(min(max(QUEUE_BYTES // channel["size"], 2), 1024))
        .subscriber_max_borrowed_samples(1)
        .history_size(0)
        .max_publishers(1)
        .max_subscribers(1)
        .open_or_create()
    )


class Sink:
    def __init__(self, channel):
        until(lambda: os.path.exists(channel["path"]))
        self.channel = channel
        self.node, self.service = service(channel)
        builder = self.service.publisher_builder().initial_max_slice_len(channel["size"]).max_loaned_samples(1)
        # Waits for room.
        self.publisher = builder.backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered).create()

    def send(self, data):
        sample = self.publisher.loan_slice_uninit(len(data))
        # Its memory views have a format that Python's cannot assign to.
        ctypes.memmove(sample.payload_ptr, (ctypes.c_char * len(data)).from_buffer(data), len(data))
        sample.assume_init().send()

    def acquire(self, size):
        self.sample = self.publisher.loan_slice_uninit(size)
        return memoryview((ctypes.c_char * size).from_address(self.sample.payload_ptr)).cast("B")

    def commit(self):
        self.sample.assume_init().send()

    def finish(self):
        # What it has not yet received goes with the sender.
        until(lambda: not os.path.exists(self.channel["path"]), "the receiver's end")


class Source:
    def __init__(self, channel):
        self.channel = channel
        self.size = channel["size"]
        self.node, self.service = service(channel)
        self.subscriber = self.service.subscriber_builder().create()
        open(channel["path"], "w").close()

    def next(self):
        sample = self.subscriber.receive()
        if sample is None:
            end = time.monotonic() + PATIENCE
            while sample is None:
                if time.monotonic() > end:
                    raise SystemExit("no frame")
                time.sleep(0)
                sample = self.subscriber.receive()
        return sample

    def receive(self, target):
        sample = self.next()
        ctypes.memmove((ctypes.c_char * len(target)).from_buffer(target), sample.payload_ptr, len(target))
        sample.delete()

    def take(self):
        self.sample = self.next()
        return memoryview((ctypes.c_char * self.size).from_address(self.sample.payload_ptr)).cast("B")

    def give_back(self):
        self.sample.delete()

    def close(self):
        os.unlink(self.channel["path"])


if __name__ == "__main__":
    play(Sink, Source)
