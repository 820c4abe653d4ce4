/**
 * @file
 * Versions of the library at hand.
 */
#ifndef ZEROBUFFER_VERSION_H
#define ZEROBUFFER_VERSION_H

#include <zerobuffer/zerobuffer_c.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace zerobuffer {

/** The version of the library as text, such as "2.0.0". */
inline const char* version() noexcept { return zb_version(); }

namespace detail {

/** Throws unless the library that was loaded has the ABI that these headers were written for. */
inline void check_abi() {
    static const bool fits = [] {
        constexpr std::uint32_t major = ZB_ABI_VERSION_MAJOR;
        constexpr std::uint32_t wanted = (major << 16U) | ZB_ABI_VERSION_MINOR;
        const std::uint32_t abi = zb_abi_version();
        return abi >> 16U == major && abi >= wanted;
    }();
    if (!fits) {
        throw std::runtime_error("the zerobuffer library that was loaded (" + std::string(zb_version()) +
                                 ") does not fit the headers that this program was built with: install the matching one");
    }
}

}  // namespace detail
}  // namespace zerobuffer

#endif
