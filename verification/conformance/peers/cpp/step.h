// A step as it came, the answer to it, and the content of frames (verification/conformance/README.md).
#pragma once

#include <nlohmann/json.hpp>
#include <zerobuffer/zerobuffer.h>

#include <array>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using Json = nlohmann::json;
using Buffer = std::vector<std::uint8_t>;

/** A kind of error for the answer that is none of the library's. */
struct StepError : std::runtime_error {
    StepError(std::string kind, const std::string& message) : std::runtime_error(message), kind(std::move(kind)) {}
    std::string kind;
};

inline std::uint64_t split_mix(std::uint64_t& state) {
    std::uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/** The `size` bytes that `seed` stands for. */
inline Buffer content(std::uint64_t seed, std::size_t size) {
    constexpr std::size_t block_size = 65521;
    static const Buffer block = [] {
        Buffer bytes;
        std::uint64_t state = 1;
        while (bytes.size() < block_size) {
            const std::uint64_t word = split_mix(state);
            for (int shift = 0; shift < 64 && bytes.size() < block_size; shift += 8) {
                bytes.push_back(static_cast<std::uint8_t>(word >> shift));
            }
        }
        return bytes;
    }();
    const std::size_t start = seed * 7919 % block_size;
    Buffer bytes(size);
    for (std::size_t at = 0; at < size; ++at) bytes[at] = block[(start + at) % block_size];
    return bytes;
}

/** The size of frame `seed` of a stream. */
inline std::size_t size_of(std::uint64_t seed, std::size_t low, std::size_t high) {
    std::uint64_t state = seed;
    return low + split_mix(state) % (high - low + 1);
}

/** CRC-32 (IEEE). */
inline std::uint32_t sum(std::span<const std::uint8_t> bytes) {
    static const auto table = [] {
        std::array<std::uint32_t, 256> made{};
        for (std::uint32_t index = 0; index < made.size(); ++index) {
            std::uint32_t value = index;
            for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0xedb88320 : 0);
            made[index] = value;
        }
        return made;
    }();
    std::uint32_t value = 0xffffffff;
    for (const std::uint8_t byte : bytes) value = (value >> 8) ^ table[(value ^ byte) & 0xff];
    return ~value;
}

inline Json described(std::span<const std::uint8_t> bytes, std::uint64_t sequence) {
    return {{"size", bytes.size()}, {"sum", sum(bytes)}, {"sequence", sequence}};
}

inline Json none() { return {{"none", true}}; }

/** The bytes that a step is about. */
inline Buffer bytes_of(const Json& step) {
    if (step.contains("text")) {
        const std::string text = step["text"];
        return {text.begin(), text.end()};
    }
    return content(step.value("seed", std::uint64_t{1}), step.value("size", std::size_t{0}));
}

/** Seed and size of each frame of a stream. */
inline std::vector<std::pair<std::uint64_t, std::size_t>> stream(const Json& step) {
    std::vector<std::pair<std::uint64_t, std::size_t>> frames;
    const std::uint64_t first = step.value("seed", std::uint64_t{1});
    const std::uint64_t count = step.value("count", std::uint64_t{1});
    const std::size_t low = step.value("low", std::size_t{1});
    const std::size_t high = step.value("high", std::size_t{1});
    // Streams without end are killed long before their end.
    for (std::uint64_t seed = first; seed < first + std::min<std::uint64_t>(count, 1'000'000); ++seed) {
        frames.emplace_back(seed, size_of(seed, low, high));
    }
    return frames;
}

inline zerobuffer::timeout_t timeout_of(const Json& step, const char* key = "timeout_ms") {
    return step.value(key, zerobuffer::timeout_t{5000});
}

inline zerobuffer::BufferConfig config_of(const Json& step) {
    zerobuffer::BufferConfig config;
    if (step.contains("payload")) config.set_payload_size(step["payload"]);
    if (step.contains("metadata")) config.set_metadata_size(step["metadata"]);
    if (step.contains("mode")) config.set_mode(step["mode"]);
    config.set_classic(step.value("classic", false)).set_allow_payload_sharing(step.value("sharing", false));
    return config;
}

/** Plays steps of its own; says whether it knows the verb. */
class Player {
public:
    Player() = default;
    Player(const Player&) = delete;
    Player& operator=(const Player&) = delete;
    virtual ~Player() = default;
    virtual bool play(const std::string& verb, const Json& step, Json& answer) = 0;
    virtual void reset() = 0;
};
