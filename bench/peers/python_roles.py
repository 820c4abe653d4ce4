"""Plays the roles of ../src/role.rs for the transports that are Python packages.

A transport's program gives two classes: a sink has `send(data)`, and `finish()` that waits until everything has arrived; a
source has `receive(target)`, which copies the next frame, and `close()`. For frames in place a sink has `acquire(size)`,
which gives the bytes to write, and `commit()`; a source has `take()`, which gives the next frame's bytes, and `give_back()`.
"""

import json
import os
import resource
import statistics
import sys
import time

END = (1 << 64) - 1
PATIENCE = 20.0
WINDOW = 0.002
MASK = (1 << 64) - 1


def mark(data, index):
    data[:8] = data[-8:] = index.to_bytes(8, "little")


def content(index, size):
    """SplitMix64, seeded with the frame's index."""
    words, state = [], index
    for _ in range((size + 7) // 8):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        words.append((z ^ (z >> 31)).to_bytes(8, "little"))
    return b"".join(words)[:size]


def until(ready, what="the other side"):
    """Asks every few milliseconds until `ready` gives something."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = ready()
        if found:
            return found
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come")
        time.sleep(0.002)


class Meter:
    """As `Meter` of ../src/stats.rs: looks at the clock with every `stride`th frame."""

    def __init__(self, job):
        self.stride = 32 if job["size"] <= 4096 else 1
        self.rates, self.frames, self.window_frames = [], 0, 0
        self.warm_at, self.start = time.monotonic() + job["warm_up"], None

    def look(self):
        at = time.monotonic()
        if self.start is None:
            if at >= self.warm_at:
                self.start = self.last = self.window_start = at
            return
        self.frames += self.stride
        self.window_frames += self.stride
        self.last = at
        if at - self.window_start >= WINDOW:
            self.rates.append(self.window_frames / (at - self.window_start))
            self.window_start, self.window_frames = at, 0

    def finish(self):
        wall_rate = self.frames / (self.last - self.start) if self.start and self.last > self.start else 0.0
        active_rate = statistics.median(self.rates) if self.rates else wall_rate
        return {"frames": self.frames, "wall_rate": wall_rate, "active_rate": active_rate}


def produce(job, sink_of, _source_of):
    size, sink = job["size"], sink_of(job["forth"])
    if job["mode"] == "marked":
        return produce_in_place(job, sink)
    send, data = sink.send, bytearray(b"\x5a" * size)
    if job["mode"] == "verify":
        for index in range(job["count"]):
            send(bytearray(content(index, size)))
    else:
        now, index = time.monotonic, 0
        end = now() + job["seconds"] + job["warm_up"]
        while now() < end:
            data[:8] = data[-8:] = index.to_bytes(8, "little")
            send(data)
            index += 1
    mark(data, END)
    send(data)
    sink.finish()
    return {}


def consume(job, _sink_of, source_of):
    size, source = job["size"], source_of(job["forth"])
    if job["mode"] == "marked":
        return consume_in_place(job, source)
    receive, data = source.receive, bytearray(size)
    view, meter = memoryview(data), Meter(job)
    verify, end, index, look, stride = job["mode"] == "verify", END.to_bytes(8, "little"), 0, meter.look, meter.stride
    while True:
        receive(view)
        first = data[:8]
        if first == end and data[-8:] == end:
            break
        wanted = index.to_bytes(8, "little")
        if not (data == content(index, size) if verify else first == wanted and data[-8:] == wanted):
            raise SystemExit(f"frame {index} is not what was sent")
        index += 1
        if index % stride == 0:
            look()
    source.close()
    if verify and index != job["count"]:
        raise SystemExit(f"{index} of {job['count']} frames came")
    return meter.finish()


def produce_in_place(job, sink):
    size, acquire, commit, now = job["size"], sink.acquire, sink.commit, time.monotonic
    index, end = 0, now() + job["seconds"] + job["warm_up"]
    while now() < end:
        view = acquire(size)
        view[:8] = view[-8:] = index.to_bytes(8, "little")
        commit()
        index += 1
    view = acquire(size)
    mark(view, END)
    # No view may outlive the memory.
    view = None
    commit()
    sink.finish()
    return {}


def consume_in_place(job, source):
    take, give_back, meter = source.take, source.give_back, Meter(job)
    end, index, look, stride = END.to_bytes(8, "little"), 0, meter.look, meter.stride
    while True:
        view = take()
        wanted = index.to_bytes(8, "little")
        if view[:8] != wanted or view[-8:] != wanted:
            if view[:8] != end or view[-8:] != end:
                raise SystemExit(f"frame {index} is not what was sent")
            break
        view = None
        give_back()
        index += 1
        if index % stride == 0:
            look()
    view = None
    give_back()
    source.close()
    return meter.finish()


def ping(job, sink_of, source_of):
    size, source = job["size"], source_of(job["back"])
    sink = sink_of(job["forth"])
    data, answer = bytearray(b"\x5a" * size), bytearray(size)
    view = memoryview(answer)
    # One trip before the time starts.
    sink.send(data)
    source.receive(view)
    start = time.monotonic()
    warm_at = start + job["warm_up"]
    end, samples, index = warm_at + job["seconds"], [], 0
    while True:
        if job["pace"]:
            time.sleep(max(0.0, start + index / job["pace"] - time.monotonic()))
        mark(data, index)
        sent = time.perf_counter_ns()
        now = time.monotonic()
        if now >= end:
            break
        sink.send(data)
        source.receive(view)
        back = time.perf_counter_ns()
        if answer != data:
            raise SystemExit(f"the answer to frame {index} is another one")
        if now >= warm_at:
            samples.append((back - sent) / 1e3)
        index += 1
    mark(data, END)
    sink.send(data)
    sink.finish()
    source.close()
    samples.sort()

    def at(share):
        return samples[min(int(len(samples) * share), len(samples) - 1)]

    names = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "p999_us": 0.999, "max_us": 1.0}
    return {"frames": len(samples), **{name: at(share) for name, share in names.items()}}


def echo(job, sink_of, source_of):
    source = source_of(job["forth"])
    sink = sink_of(job["back"])
    data = bytearray(job["size"])
    view, end = memoryview(data), END.to_bytes(8, "little")
    while True:
        source.receive(view)
        if data[:8] == end:
            source.close()
            sink.finish()
            return {}
        sink.send(data)


def play(sink_of, source_of):
    """Plays what the command line asks for."""
    job = json.loads(sys.argv[2])
    if job["cpu"] is not None:
        os.sched_setaffinity(0, {job["cpu"]})
    wall, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    roles = {"produce": produce, "consume": consume, "ping": ping, "echo": echo}
    outcome = roles[job["role"]](job, sink_of, source_of)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    outcome["cpu_percent"] = cpu / (time.monotonic() - wall) * 100
    outcome["resident_kib"] = after.ru_maxrss
    print(json.dumps(outcome), flush=True)
