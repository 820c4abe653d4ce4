"""Plays the roles of ../src/role.rs over the public API of the zerobuffer-ipc package (ZeroBuffer 1.x)."""

import json
import os
import resource
import statistics
import sys
import time

from zerobuffer import BufferConfig, Reader, Writer

END = (1 << 64) - 1
PATIENCE = 20.0
MASK = (1 << 64) - 1


def mark(data, index):
    data[:8] = data[-8:] = index.to_bytes(8, "little")


def marks(data):
    return int.from_bytes(data[:8], "little"), int.from_bytes(data[-8:], "little")


def content(index, size):
    words, state = [], index
    for _ in range((size + 7) // 8):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        words.append((z ^ (z >> 31)).to_bytes(8, "little"))
    return b"".join(words)[:size]


def listen(channel):
    return Reader(channel["name"], BufferConfig(4096, channel["payload"]))


def connect(channel):
    # A 1.x writer that comes before its semaphores fails, and leaves its pid where the next attempt trips over it; and
    # a 1.x reader makes them last.
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists("/dev/shm/sem.sem-r-" + channel["name"]):
        if time.monotonic() > deadline:
            raise SystemExit("no reader came")
        time.sleep(0.005)
    time.sleep(0.05)
    return Writer(channel["name"])


def receive(reader, target):
    frame = reader.read_frame(timeout=PATIENCE)
    if frame is None or frame.size != len(target):
        raise SystemExit(f"frame {frame and frame.size} instead of one of {len(target)} bytes")
    target[:] = frame.data
    reader.release_frame(frame)


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def produce(job):
    size, writer = job["size"], connect(job["forth"])
    data = bytearray(b"\x5a" * size)
    if job["mode"] == "verify":
        for index in range(job["count"]):
            writer.write_frame(content(index, size))
    else:
        end, index = time.monotonic() + job["seconds"] + job["warm_up"], 0
        while time.monotonic() < end:
            mark(data, index)
            writer.write_frame(data)
            index += 1
    mark(data, END)
    writer.write_frame(data)
    return {}


def consume(job):
    size, reader = job["size"], listen(job["forth"])
    data = bytearray(size)
    view = memoryview(data)
    index, rates, frames, window_frames = 0, [], 0, 0
    warm_at, start = time.monotonic() + job["warm_up"], None
    while True:
        receive(reader, view)
        found = marks(data)
        if found == (END, END):
            break
        good = data == content(index, size) if job["mode"] == "verify" else found == (index, index)
        if not good:
            raise SystemExit(f"frame {index} is not what was sent")
        index += 1
        now = time.monotonic()
        if start is None:
            if now >= warm_at:
                start = last = window_start = now
            continue
        frames, window_frames, last = frames + 1, window_frames + 1, now
        if now - window_start >= 0.002:
            rates.append(window_frames / (now - window_start))
            window_start, window_frames = now, 0
    if job["mode"] == "verify":
        if index != job["count"]:
            raise SystemExit(f"{index} of {job['count']} frames came")
        return {}
    reader.close()
    wall_rate = frames / (last - start) if start and last > start else 0.0
    return {"frames": frames, "wall_rate": wall_rate, "active_rate": statistics.median(rates) if rates else wall_rate}


def ping(job):
    size, reader = job["size"], listen(job["back"])
    writer = connect(job["forth"])
    data, answer = bytearray(b"\x5a" * size), memoryview(bytearray(size))
    # One trip before the time starts.
    writer.write_frame(data)
    receive(reader, answer)
    start = time.monotonic()
    warm_at = start + job["warm_up"]
    end, samples, index = warm_at + job["seconds"], [], 0
    while True:
        if job["pace"]:
            time.sleep(max(0.0, start + index / job["pace"] - time.monotonic()))
        mark(data, index)
        sent = time.monotonic()
        if sent >= end:
            break
        writer.write_frame(data)
        receive(reader, answer)
        back = time.monotonic()
        if answer != data:
            raise SystemExit(f"the answer to frame {index} is another one")
        if sent >= warm_at:
            samples.append((back - sent) * 1e6)
        index += 1
    mark(data, END)
    writer.write_frame(data)
    samples.sort()
    at = lambda q: samples[min(int(len(samples) * q), len(samples) - 1)]
    return {"frames": len(samples), "p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99), "p999_us": at(0.999),
            "max_us": at(1.0)}


def echo(job):
    reader = listen(job["forth"])
    writer = connect(job["back"])
    data = memoryview(bytearray(job["size"]))
    while True:
        receive(reader, data)
        if marks(data)[0] == END:
            return {}
        writer.write_frame(data)


def main():
    job = json.loads(sys.argv[2])
    if job["cpu"] is not None:
        os.sched_setaffinity(0, {job["cpu"]})
    wall, cpu = time.monotonic(), cpu_seconds()
    outcome = {"produce": produce, "consume": consume, "ping": ping, "echo": echo}[job["role"]](job)
    outcome["cpu_percent"] = (cpu_seconds() - cpu) / (time.monotonic() - wall) * 100
    outcome["resident_kib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
