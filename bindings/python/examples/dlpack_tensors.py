"""Frames as tensors without a copy, by DLPack: PyTorch's if it is installed, else NumPy's.

    python dlpack_tensors.py
"""

import multiprocessing
import os
import warnings

import numpy as np

import zerobuffer

try:
    import torch
except ImportError:
    torch = None


def source(name, frames):
    with zerobuffer.Writer(name, connect_timeout_ms=20_000) as writer:
        for number in range(frames):
            writer.write_frame(np.full((3, 4, 5), number, dtype=np.float32))


def tensor(frame):
    """The frame's bytes as a tensor of 32-bit floats; it lies in shared memory, and must not be written to."""
    if torch is None:
        return np.from_dlpack(frame).view(np.float32).reshape(3, 4, 5)
    with warnings.catch_warnings():
        # PyTorch knows no read-only tensors, and says so.
        warnings.simplefilter("ignore")
        return torch.from_dlpack(frame.as_numpy()).view(torch.float32).reshape(3, 4, 5)


def main():
    name = os.environ.get("BUFFER_NAME", f"tensors-{os.getpid()}")
    with zerobuffer.Reader(name, zerobuffer.BufferConfig(payload_size=1 << 20)) as reader:
        process = multiprocessing.get_context("spawn").Process(target=source, args=(name, 5))
        process.start()
        for frame in reader:
            values = tensor(frame)
            print(f"{type(values).__module__.split('.')[0]} {tuple(values.shape)}: mean {float(values.mean()):.1f}")
            # The tensor keeps the memory; the frame goes back to the writer when both are gone.
            del values, frame
        process.join()


if __name__ == "__main__":
    main()
