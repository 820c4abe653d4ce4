"""What a frame of 64 bytes costs in Python that is there already: microseconds for read_frame + as_numpy + release."""

import json
import os
import time

from zerobuffer import BufferConfig, Reader, Writer

FRAMES = 2000


def main():
    name = f"zbbench-{os.getpid()}-overhead"
    with Reader(name, BufferConfig(1024, 1 << 20)) as reader, Writer(name) as writer:
        times = []
        for _ in range(200):
            for _ in range(FRAMES):
                writer.write_frame(b"\x5a" * 64)
            start = time.perf_counter_ns()
            for _ in range(FRAMES):
                frame = reader.read_frame()
                frame.as_numpy()
                frame.release()
            times.append((time.perf_counter_ns() - start) / FRAMES / 1e3)
    times.sort()
    # Each of them is the mean of a batch.
    print(json.dumps({"frames": len(times) * FRAMES, "p50_us": times[len(times) // 2], "p99_us": times[-3], "max_us": times[-1]}))


if __name__ == "__main__":
    main()
