// The test patterns: made by a writer, checked by a reader, known to the command lines of all languages.
#ifndef ZEROBUFFER_CLI_PATTERN_H
#define ZEROBUFFER_CLI_PATTERN_H

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace cli {

enum class Pattern {
    /** Byte i of frame f (both from 0) is (f + i) mod 256. */
    sequential,
    /** SplitMix64 seeded with the frame's index, as little-endian words. */
    random,
    /** All bytes 0. */
    zero,
    /** All bytes 255. */
    ones,
};

/** SplitMix64 (Steele, Lea, Flood 2014), byte by byte. */
class SplitMix64 {
public:
    explicit SplitMix64(std::uint64_t seed) : state_(seed) {}

    std::uint8_t next_byte() {
        if (left_ == 0) {
            state_ += 0x9e3779b97f4a7c15;
            word_ = state_;
            word_ = (word_ ^ (word_ >> 30U)) * 0xbf58476d1ce4e5b9;
            word_ = (word_ ^ (word_ >> 27U)) * 0x94d049bb133111eb;
            word_ ^= word_ >> 31U;
            left_ = 8;
        }
        const auto byte = static_cast<std::uint8_t>(word_);
        word_ >>= 8U;
        --left_;
        return byte;
    }

private:
    std::uint64_t state_;
    std::uint64_t word_ = 0;
    int left_ = 0;
};

/** Calls `each` with the position and the byte of frame `index`, until it returns false. */
template <typename Each>
void generate(Pattern pattern, std::uint64_t index, std::size_t size, Each each) {
    switch (pattern) {
        case Pattern::zero:
        case Pattern::ones: {
            const std::uint8_t byte = pattern == Pattern::zero ? 0 : 255;
            for (std::size_t i = 0; i < size && each(i, byte); ++i) {}
            break;
        }
        case Pattern::sequential:
            for (std::size_t i = 0; i < size && each(i, static_cast<std::uint8_t>(index + i)); ++i) {}
            break;
        case Pattern::random: {
            SplitMix64 random(index);
            for (std::size_t i = 0; i < size && each(i, random.next_byte()); ++i) {}
            break;
        }
    }
}

/** Fills in frame `index`, counted from 0. */
inline void fill(Pattern pattern, std::uint64_t index, std::span<std::uint8_t> frame) {
    generate(pattern, index, frame.size(), [frame](std::size_t at, std::uint8_t byte) {
        frame[at] = byte;
        return true;
    });
}

struct Mismatch {
    std::size_t at;
    std::uint8_t found;
    std::uint8_t expected;
};

/** Where frame `index` first differs from what `fill` makes. */
inline std::optional<Mismatch> mismatch(Pattern pattern, std::uint64_t index, std::span<const std::uint8_t> frame) {
    std::optional<Mismatch> first;
    generate(pattern, index, frame.size(), [frame, &first](std::size_t at, std::uint8_t byte) {
        // One read: the byte that is reported is the one that was compared.
        const std::uint8_t found = frame[at];
        if (found != byte) first = Mismatch{at, found, byte};
        return found == byte;
    });
    return first;
}

}  // namespace cli

#endif
