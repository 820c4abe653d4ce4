/**
 * @file Read-only snapshots and health, for tools. A snapshot never changes a buffer.
 */
#ifndef ZEROBUFFER_INSPECT_H
#define ZEROBUFFER_INSPECT_H

#include <zerobuffer/exceptions.h>
#include <zerobuffer/version.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace zerobuffer::inspect {

/** How full a buffer is. */
enum class Health : zb_health {
    /** Less than 80 % of the payload is in use. */
    healthy = ZB_HEALTHY,
    /** 80 % or more, less than 95 %. */
    degraded = ZB_DEGRADED,
    /** 95 % or more. */
    critical = ZB_CRITICAL,
};

/** Which kind of ring a buffer has. */
enum class RingKind : zb_ring_kind {
    /** The layout that 1.x peers know. */
    classic = ZB_RING_CLASSIC,
    /** The layout between two native peers. */
    extended = ZB_RING_EXTENDED,
    /** Not decided yet: a native writer decides when it connects, a 1.x writer when it commits its first frame. */
    undecided = ZB_RING_UNDECIDED,
};

/** The state of a peer. */
enum class Presence : zb_presence {
    /** No process has the role. */
    absent = ZB_PEER_ABSENT,
    /** A live process has the role. */
    alive = ZB_PEER_ALIVE,
    /** The process that had the role died. */
    dead = ZB_PEER_DEAD,
    /** The process that had the role closed its handle. */
    closed = ZB_PEER_CLOSED,
};

/** One side of a buffer. */
struct Peer {
    /** Whether a process has the role, and whether it lives. */
    Presence presence;
    /** The process, in its own pid namespace; 0 if none. */
    std::uint64_t pid;
    /** Whether the peer is a native one, whose state is certain. The state of a 1.x peer is judged by its pid. */
    bool ours;
};

/** A buffer at one moment. The numbers come from shared memory and are not checked against each other. */
struct Snapshot {
    /** The buffer's name. */
    std::string name;
    /** Protocol version: major, minor, patch. */
    std::array<std::uint8_t, 3> version;
    /** Which kind of ring it has. */
    RingKind ring;
    /** How full it is. */
    Health health;
    /** Share of the payload that is in use, 0 to 1. */
    double utilisation;
    /** Bytes of the metadata block. */
    std::uint64_t metadata_size;
    /** Bytes of metadata written, with the 8-byte prefix; 0 = none yet. */
    std::uint64_t metadata_written;
    /** Bytes free in the metadata block. */
    std::uint64_t metadata_free;
    /** Bytes of payload. */
    std::uint64_t payload_size;
    /** Bytes of the payload that are free. */
    std::uint64_t payload_free;
    /** Ring position of the next write. */
    std::uint64_t write_position;
    /** Ring position of the next read. */
    std::uint64_t read_position;
    /** Frames written, and in a classic ring wrap markers. */
    std::uint64_t written_count;
    /** Frames read, and in a classic ring wrap markers. */
    std::uint64_t read_count;
    /** The reading side. */
    Peer reader;
    /** The writing side. */
    Peer writer;
    /** Whether the buffer is kept for a reader that comes later. */
    bool kept;
    /** Bytes of the whole file. */
    std::uint64_t file_size;
    /** Bytes of memory that it occupies now. */
    std::uint64_t memory;
    /** Owner's user id. */
    std::uint32_t owner;
    /** Permission bits. */
    std::uint32_t mode;
    /** Time since the file was created, resized or given memory. */
    std::optional<std::chrono::nanoseconds> age;
    /** Values that cannot be true; empty if there are none. */
    std::vector<std::string> defects;
};

/**
 * Takes a snapshot of a buffer.
 *
 * @throws buffer_not_found_exception, permission_denied_exception, invalid_name_exception, incompatible_protocol_exception
 */
[[nodiscard]] inline Snapshot snapshot(const std::string& name) {
    detail::check_abi();
    zb_snapshot* raw = nullptr;
    detail::call(zb_inspect_snapshot_n, name.data(), name.size(), &raw);
    const detail::Owned<zb_snapshot, zb_snapshot_free> owner(raw);
    const auto peer = [](const zb_peer& side) {
        return Peer{static_cast<Presence>(side.presence), side.pid, side.ours};
    };
    Snapshot shown{
        .name = raw->name,
        .version = {raw->version[0], raw->version[1], raw->version[2]},
        .ring = static_cast<RingKind>(raw->ring),
        .health = static_cast<Health>(raw->health),
        .utilisation = raw->utilisation,
        .metadata_size = raw->metadata_size,
        .metadata_written = raw->metadata_written,
        .metadata_free = raw->metadata_free,
        .payload_size = raw->payload_size,
        .payload_free = raw->payload_free,
        .write_position = raw->write_position,
        .read_position = raw->read_position,
        .written_count = raw->written_count,
        .read_count = raw->read_count,
        .reader = peer(raw->reader),
        .writer = peer(raw->writer),
        .kept = raw->kept,
        .file_size = raw->file_size,
        .memory = raw->memory,
        .owner = raw->owner,
        .mode = raw->mode,
        .age = std::nullopt,
        .defects = {},
    };
    if (raw->age_ns >= 0) shown.age = std::chrono::nanoseconds(raw->age_ns);
    shown.defects.assign(raw->defects, raw->defects + raw->defect_count);
    return shown;
}

/** Names of all buffers on this machine, live or not, in alphabetical order. */
[[nodiscard]] inline std::vector<std::string> list() {
    detail::check_abi();
    zb_names* raw = nullptr;
    detail::call(zb_inspect_list, &raw);
    const detail::Owned<zb_names, zb_names_free> owner(raw);
    return {raw->names, raw->names + raw->count};
}

}  // namespace zerobuffer::inspect

#endif
