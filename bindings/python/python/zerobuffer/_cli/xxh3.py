"""XXH3-64 with the default secret and seed 0, for checksums; by the package `xxhash` where it is installed.

Written after the algorithm's specification (xxHash by Yann Collet). Slow: some MB/s.
"""

import importlib
import struct
from typing import Any, List, Sequence, Union

try:
    _package: Any = importlib.import_module("xxhash")
except ImportError:
    _package = None

Bytes = Union[bytes, bytearray, memoryview]

_M32 = (1 << 32) - 1
_M64 = (1 << 64) - 1
_P32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
_P64 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
_MX1, _MX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25
_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_STRIPE = 64
_STRIPES = 16
_BLOCK = _STRIPE * _STRIPES
_WORDS = struct.Struct("<8Q")
# The secret's eight words for each stripe of a block.
_KEYS = [_WORDS.unpack_from(_SECRET, 8 * stripe) for stripe in range(_STRIPES)]
_SCRAMBLE = _WORDS.unpack_from(_SECRET, 128)
_LAST = _WORDS.unpack_from(_SECRET, 121)
_START = (_P32[2], _P64[0], _P64[1], _P64[2], _P64[3], _P32[1], _P64[4], _P32[0])


def _u32(data: Bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _u64(data: Bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _swap(value: int) -> int:
    return int.from_bytes(value.to_bytes(8, "little"), "big")


def _fold(a: int, b: int) -> int:
    product = a * b
    return (product & _M64) ^ (product >> 64)


def _avalanche(h: int) -> int:
    h ^= h >> 37
    h = (h * _MX1) & _M64
    return h ^ (h >> 32)


def _xxh64_avalanche(h: int) -> int:
    h ^= h >> 33
    h = (h * _P64[1]) & _M64
    h ^= h >> 29
    h = (h * _P64[2]) & _M64
    return h ^ (h >> 32)


def _mix16(data: Bytes, at: int, key: int) -> int:
    return _fold(_u64(data, at) ^ _u64(_SECRET, key), _u64(data, at + 8) ^ _u64(_SECRET, key + 8))


def _short(data: Bytes) -> int:
    """Up to 240 bytes."""
    n = len(data)
    if n == 0:
        return _xxh64_avalanche(_u64(_SECRET, 56) ^ _u64(_SECRET, 64))
    if n <= 3:
        mixed = (data[0] << 16) | (data[n >> 1] << 24) | data[n - 1] | (n << 8)
        return _xxh64_avalanche(mixed ^ _u32(_SECRET, 0) ^ _u32(_SECRET, 4))
    if n <= 8:
        h = (_u32(data, n - 4) + (_u32(data, 0) << 32)) ^ _u64(_SECRET, 8) ^ _u64(_SECRET, 16)
        h ^= (((h << 49) | (h >> 15)) ^ ((h << 24) | (h >> 40))) & _M64
        h = (h * _MX2) & _M64
        h ^= (h >> 35) + n
        h = (h * _MX2) & _M64
        return h ^ (h >> 28)
    if n <= 16:
        low = _u64(data, 0) ^ _u64(_SECRET, 24) ^ _u64(_SECRET, 32)
        high = _u64(data, n - 8) ^ _u64(_SECRET, 40) ^ _u64(_SECRET, 48)
        return _avalanche((n + _swap(low) + high + _fold(low, high)) & _M64)
    h = n * _P64[0]
    if n <= 128:
        for i in reversed(range((n - 1) // 32 + 1)):
            h += _mix16(data, 16 * i, 32 * i) + _mix16(data, n - 16 * (i + 1), 32 * i + 16)
        return _avalanche(h & _M64)
    h = _avalanche(sum((_mix16(data, 16 * i, 16 * i) for i in range(8)), h) & _M64)
    h += sum(_mix16(data, 16 * i, 16 * (i - 8) + 3) for i in range(8, n // 16)) + _mix16(data, n - 16, 119)
    return _avalanche(h & _M64)


def _accumulate(sums: List[int], words: Sequence[int], key: Sequence[int]) -> None:
    for i in range(8):
        mixed = words[i] ^ key[i]
        sums[i ^ 1] += words[i]
        sums[i] = (sums[i] + (mixed & _M32) * (mixed >> 32)) & _M64
    for i in range(8):
        sums[i] &= _M64


class _Pure:
    """Bytes piece by piece."""

    def __init__(self) -> None:
        self._sums = list(_START)
        self._stripes = 0
        self._size = 0
        # The last 64 bytes that went into the sums, and all that did not yet: at least one byte, for the end.
        self._before = b""
        self._rest = b""

    def update(self, data: Bytes) -> None:
        self._size += len(data)
        rest = self._rest + bytes(data)
        at = 0
        if self._size > 240:
            while len(rest) - at > _STRIPE:
                _accumulate(self._sums, _WORDS.unpack_from(rest, at), _KEYS[self._stripes])
                at += _STRIPE
                self._stripes += 1
                if self._stripes == _STRIPES:
                    self._stripes = 0
                    for i, key in enumerate(_SCRAMBLE):
                        self._sums[i] = ((self._sums[i] ^ (self._sums[i] >> 47) ^ key) * _P32[0]) & _M64
        if at:
            self._before = rest[at - _STRIPE : at]
        self._rest = rest[at:]

    def intdigest(self) -> int:
        if self._size <= 240:
            return _short(self._rest)
        sums = list(self._sums)
        last = (self._before + self._rest)[-_STRIPE:]
        _accumulate(sums, _WORDS.unpack(last), _LAST)
        h = self._size * _P64[0]
        for i in range(4):
            key = 11 + 16 * i
            h += _fold(sums[2 * i] ^ _u64(_SECRET, key), sums[2 * i + 1] ^ _u64(_SECRET, key + 8))
        return _avalanche(h & _M64)


def pure_digest(data: Bytes) -> int:
    """Of these bytes, without the package."""
    state = _Pure()
    state.update(data)
    return state.intdigest()


def digest(data: Bytes) -> int:
    """Of these bytes."""
    return pure_digest(data) if _package is None else int(_package.xxh3_64_intdigest(data))


Xxh3: Any = _Pure if _package is None else _package.xxh3_64
