"""Looks at buffers from outside. Looking never changes a buffer, and works with read permission alone."""

import dataclasses
import enum
from typing import List, Optional, Tuple

from ._native import list_buffers as _list_buffers
from ._native import snapshot as _snapshot

__all__ = ["Health", "Peer", "Presence", "RingKind", "Snapshot", "list", "snapshot"]


class Health(enum.Enum):
    """How full a buffer is."""

    #: Less than 80 % of the payload is in use.
    HEALTHY = "healthy"
    #: 80 % or more, less than 95 %.
    DEGRADED = "degraded"
    #: 95 % or more.
    CRITICAL = "critical"


class RingKind(enum.Enum):
    """Which kind of ring a buffer has."""

    #: Protocol 1 as 1.x peers speak it.
    CLASSIC = "classic"
    #: Between two native peers.
    EXTENDED = "extended"
    #: The first writer to commit a frame will decide.
    UNDECIDED = "undecided"


class Presence(enum.Enum):
    """What can be known of a peer."""

    #: The role is free.
    ABSENT = "absent"
    #: Its owner lives.
    ALIVE = "alive"
    #: Its owner has died.
    DEAD = "dead"
    #: The process that had the role closed its handle.
    CLOSED = "closed"


@dataclasses.dataclass(frozen=True)
class Peer:
    """One side of a buffer."""

    #: Whether there is one.
    presence: Presence
    #: The process, in its own pid namespace; 0 if none.
    pid: int
    #: Whether it is a native peer, so that its presence is certain.
    ours: bool


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A buffer at one moment. Its numbers may be a few frames apart under load; in a corrupt buffer they may be anything."""

    #: The buffer's name.
    name: str
    #: Protocol version: major, minor, patch.
    version: Tuple[int, int, int]
    #: Which kind of ring it has.
    ring: RingKind
    #: Bytes of the metadata block.
    metadata_size: int
    #: Bytes of metadata written, with the 8-byte prefix; 0 = none yet.
    metadata_written: int
    #: Bytes free in the metadata block.
    metadata_free: int
    #: Bytes of payload that the buffer was made for.
    payload_size: int
    #: Bytes of these that are free.
    payload_free: int
    #: Ring position of the next write.
    write_position: int
    #: Ring position of the next read.
    read_position: int
    #: Frames written, and in a classic ring wrap markers.
    written_count: int
    #: Frames read, and in a classic ring wrap markers.
    read_count: int
    #: The reading side.
    reader: Peer
    #: The reading side only keeps the buffer for a reader that comes later.
    kept: bool
    #: The writing side.
    writer: Peer
    #: Bytes of the whole file.
    file_size: int
    #: Bytes of memory that it occupies now.
    memory: int
    #: Owner's user id.
    owner: int
    #: Permission bits.
    mode: int
    #: Seconds since the file last changed: created, resized or given memory.
    age: Optional[float]
    #: Share of the payload that is in use, 0 to 1.
    utilisation: float
    #: How full the buffer is.
    health: Health
    #: What is wrong with the numbers, if they cannot be true.
    defects: List[str]


def snapshot(name: str) -> Snapshot:
    """Takes a snapshot of the buffer `name`.

    Raises:
        BufferNotFoundError: if there is none.
        PermissionDeniedError, InvalidNameError: if it cannot be read.
        IncompatibleProtocolError: if the file of that name is no buffer of protocol 1.
    """
    fields = _snapshot(name)
    for side in ("reader", "writer"):
        peer = fields[side]
        fields[side] = Peer(Presence(peer["presence"]), peer["pid"], peer["ours"])
    fields["ring"] = RingKind(fields["ring"])
    fields["health"] = Health(fields["health"])
    return Snapshot(**fields)


def list() -> List[str]:
    """Names of all buffers on this machine, live or not, in alphabetical order.

    Raises:
        PermissionDeniedError, SystemError: if `/dev/shm` cannot be read.
    """
    return _list_buffers()
