"""What Python adds to a frame: nanoseconds for read_frame + as_numpy + release of a frame that is there already.

    $ZEROBUFFER_BENCH_PYTHON ours_python_overhead.py
"""

import os
import statistics
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
            times.append((time.perf_counter_ns() - start) / FRAMES)
    times.sort()
    print(f"read_frame + as_numpy + release: median {statistics.median(times):.0f} ns, {times[0]:.0f} to {times[-1]:.0f}")


if __name__ == "__main__":
    main()
