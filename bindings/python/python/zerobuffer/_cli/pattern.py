"""The test patterns: made by a writer, checked by a reader, known to the command lines of all languages."""

from typing import Optional, Tuple

try:
    import numpy
except ImportError:
    numpy = None  # type: ignore[assignment]

_MASK = (1 << 64) - 1
_ROUND = bytes(range(256))


def _random(index: int, size: int) -> bytes:
    """SplitMix64 (Steele, Lea, Flood 2014), seeded with the frame's index, as little-endian words."""
    words, state = [], index
    for _ in range((size + 7) // 8):
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        words.append((z ^ (z >> 31)).to_bytes(8, "little"))
    return b"".join(words)[:size]


def _random_numpy(index: int, size: int) -> bytes:
    """All words at once."""
    word = numpy.uint64
    z = numpy.arange(1, (size + 7) // 8 + 1, dtype=word) * word(0x9E3779B97F4A7C15) + word(index)
    z = (z ^ (z >> word(30))) * word(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> word(27))) * word(0x94D049BB133111EB)
    return bytes((z ^ (z >> word(31))).astype("<u8").tobytes()[:size])


class Pattern:
    """One of the patterns; keeps what can be used again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._same = b""

    def frame(self, index: int, size: int) -> memoryview:
        """What frame `index`, counted from 0, holds."""
        if self.name == "random":
            return memoryview((_random if numpy is None else _random_numpy)(index & _MASK, size))
        if len(self._same) < size + 256:
            self._same = {"sequential": _ROUND, "zero": bytes(256), "ones": b"\xff" * 256}[self.name] * (size // 256 + 2)
        start = index % 256
        return memoryview(self._same)[start : start + size]

    def mismatch(self, index: int, frame: memoryview) -> Optional[Tuple[int, int, int]]:
        """Where frame `index` first differs: position, byte found, byte expected."""
        expected = self.frame(index, len(frame))
        if frame == expected:
            return None
        return next((at, a, b) for at, (a, b) in enumerate(zip(frame, expected)) if a != b)
