"""Plays both sides of ../src/duplex over the duplex channels of the zerobuffer-ipc package (ZeroBuffer 1.x)."""

import json
import os
import resource
import sys
import threading
import time

from zerobuffer import BufferConfig
from zerobuffer.duplex import DuplexChannelFactory

from zerobuffer_1x import PATIENCE, END, content, cpu_seconds, mark, marks

CHECKED = 20


def serve(job):
    done = threading.Event()

    def handle(frame, writer):
        data = frame.data
        last = marks(data) == (END, END)
        writer.write_frame(data)
        if last:
            done.set()

    server = DuplexChannelFactory().create_immutable_server(job["forth"]["run"], BufferConfig(4096, payload(job)))
    server.start(handle)
    open(job["forth"]["path"], "w").close()
    if not done.wait(job["seconds"] + job["warm_up"] + PATIENCE):
        raise SystemExit("no last request came")
    # Its client is to get the last response.
    time.sleep(0.05)
    server.stop()
    return {}


def payload(job):
    return max(1 << 20, 16 * job["size"])


def connect(job):
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists(job["forth"]["path"]):
        if time.monotonic() > deadline:
            raise SystemExit("no server came")
        time.sleep(0.005)
    time.sleep(0.05)
    return DuplexChannelFactory().create_client(job["forth"]["run"])


def receive(client, target):
    response = client.receive_response(int(PATIENCE * 1000))
    if not response.is_valid:
        raise SystemExit("no response came")
    target[:] = response.data
    client.release_response(response)


def call(job):
    size, client = job["size"], connect(job)
    data, response = bytearray(b"\x5a" * size), memoryview(bytearray(size))
    start = time.monotonic()
    warm_at = start + job["warm_up"]
    end = warm_at + job["seconds"]
    callers, samples = {}, []

    def send(number, count):
        sent = time.monotonic()
        if (count == CHECKED) if job["verify"] else (sent >= end):
            return False
        index = count << 8 | number
        if job["verify"]:
            data[:] = content(index, size)
        else:
            mark(data, index)
        callers[index] = sent
        # The number is in the marks, unless every byte is made up.
        client.send_request(data)
        return True

    expected = [index for index in range(job["callers"])]
    for number in range(job["callers"]):
        send(number, 0)
    while expected:
        receive(client, response)
        # Responses come in the order of the requests.
        index = expected.pop(0)
        sent = callers.pop(index)
        good = response == content(index, size) if job["verify"] else marks(response) == (index, index)
        if not good:
            raise SystemExit(f"the response to request {index} is another one")
        back = time.monotonic()
        if sent >= warm_at and back <= end:
            samples.append((back - sent) * 1e6)
        number, count = index & 0xFF, (index >> 8) + 1
        if send(number, count):
            expected.append(count << 8 | number)
    mark(data, END)
    client.send_request(data)
    receive(client, response)
    client.close()
    samples.sort()
    at = lambda q: samples[min(int(len(samples) * q), len(samples) - 1)] if samples else 0.0
    return {"frames": len(samples), "wall_rate": len(samples) / job["seconds"], "p50_us": at(0.5), "p90_us": at(0.9),
            "p99_us": at(0.99), "p999_us": at(0.999), "max_us": at(1.0)}


def main():
    job = json.loads(sys.argv[2])
    if job["cpu"] is not None:
        os.sched_setaffinity(0, {job["cpu"]})
    wall, cpu = time.monotonic(), cpu_seconds()
    outcome = serve(job) if job["serves"] else call(job)
    outcome["cpu_percent"] = (cpu_seconds() - cpu) / (time.monotonic() - wall) * 100
    outcome["resident_kib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(outcome), flush=True)


main()
