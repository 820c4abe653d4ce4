"""What the Python peers of the conformance suite share: steps in, answers out, and the content of frames."""

import json
import os
import queue
import signal
import sys
import threading
import zlib

MASK = (1 << 64) - 1
BLOCK = 65521
STRIDE = 7919


class Unsupported(Exception):
    """This library has no such operation."""


class StepFailed(Exception):
    """A step found something wrong: a kind for the answer, and words."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


def split_mix(state):
    """SplitMix64 (Steele, Lea, Flood 2014): the next number of a generator that began at `state`."""
    z = (state + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def make_block():
    words = range((BLOCK + 7) // 8)
    numbers = (split_mix((1 + i * 0x9E3779B97F4A7C15) & MASK) for i in words)
    return b"".join(number.to_bytes(8, "little") for number in numbers)[:BLOCK]


BYTES = make_block()


def content(seed, size):
    """The `size` bytes that `seed` stands for."""
    start = ((seed * STRIDE) & MASK) % BLOCK
    turned = BYTES[start:] + BYTES[:start]
    return (turned * (size // BLOCK + 1))[:size]


def size_of(seed, low, high):
    """The size of frame `seed` of a stream."""
    return low + split_mix(seed) % (high - low + 1)


def stream(step):
    """Seed and size of each frame of a stream."""
    first = step.get("seed", 1)
    for seed in range(first, first + step.get("count", 1)):
        yield seed, size_of(seed, step.get("low", 1), step.get("high", 1))


def data_of(step):
    """The bytes that a step is about."""
    if "text" in step:
        return step["text"].encode()
    return content(step.get("seed", 1), step.get("size", 0))


def described(data, sequence=0):
    return {"size": len(data), "sum": zlib.crc32(data), "sequence": sequence}


def serve(peer, kind_of):
    """Plays the steps of stdin with the methods of `peer`; `kind_of` names the kind of an exception."""
    lock = threading.Lock()
    steps = queue.SimpleQueue()

    def say(identity, answer):
        with lock:
            sys.stdout.write(json.dumps({"id": identity, **answer}) + "\n")
            sys.stdout.flush()

    def play(step):
        identity, verb = step.pop("id"), step.pop("do")
        method = getattr(peer, "do_" + verb, None)
        try:
            if method is None:
                raise Unsupported(f"no step `{verb}`")
            say(identity, {"ok": method(step) or {}})
        except Unsupported as error:
            say(identity, {"error": "Unsupported", "message": str(error)})
        except StepFailed as error:
            say(identity, {"error": error.kind, "message": str(error)})
        except Exception as error:
            say(identity, {"error": kind_of(error), "message": f"{type(error).__name__}: {error}"})

    def work():
        while (step := steps.get()) is not None:
            play(step)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    for line in sys.stdin:
        step = json.loads(line)
        # These must work while the worker is blocked in another step.
        if step["do"] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif step["do"] == "interrupt":
            play(step)
        else:
            steps.put(step)
    os._exit(0)


def become_user(step):
    """Gives up root's rights, for good."""
    try:
        os.setgid(step["uid"])
        os.setuid(step["uid"])
    except PermissionError as error:
        raise Unsupported("only root can become somebody else") from error
