/**
 * @file
 * What a reader decides about its buffer, and a writer about its connection.
 */
#ifndef ZEROBUFFER_CONFIG_H
#define ZEROBUFFER_CONFIG_H

#include <zerobuffer/exceptions.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace zerobuffer {

/** How long a call waits: milliseconds; 0 polls once, a negative number waits without limit. */
using timeout_t = std::int64_t;

/** As a time-out: no limit. */
inline constexpr timeout_t forever = -1;

/** How long a read waits for a frame and a write for space by default: 5000 ms. */
inline constexpr timeout_t default_timeout_ms = 5000;

/** Bytes of the metadata block by default. */
inline constexpr std::size_t default_metadata_size = 4096;

/** Bytes of the ring by default: 256 MiB. Memory is used only where frames have been. */
inline constexpr std::size_t default_payload_size = std::size_t{256} * 1024 * 1024;

/** How a reader waits for frames and a writer for space. */
enum class WaitStrategy : zb_wait_strategy {
    /** Spin for a moment if the last waits were short, else sleep. */
    adaptive = ZB_WAIT_ADAPTIVE,
    /** Sleep at once: the least processor time, but each wait costs a wake-up by the kernel. */
    block = ZB_WAIT_BLOCK,
    /** Never sleep: the least latency, at the cost of a whole core. */
    spin = ZB_WAIT_SPIN,
};

namespace detail {

using Config = Owned<zb_config, zb_config_free>;
using WriterOptionsHandle = Owned<zb_writer_options, zb_writer_options_free>;
using ClientOptionsHandle = Owned<zb_client_options, zb_client_options_free>;

/** Setters of the C ABI fail only for arguments that the classes below cannot have. */
inline void expect(zb_status status) {
    if (status != ZB_OK) throw std::invalid_argument("zerobuffer: a setting that does not exist");
}

}  // namespace detail

/**
 * The sizes and rights of a buffer, decided by the reader that creates it.
 *
 * A size that is not set is the default, or the size of a kept buffer that the reader takes over.
 */
class BufferConfig {
public:
    /** All defaults. */
    BufferConfig() = default;

    /** Bytes of the metadata block and of the ring, each rounded up to a multiple of 64. A frame needs its size plus 16. */
    BufferConfig(std::size_t metadata_size, std::size_t payload_size)
        : metadata_size_(metadata_size), payload_size_(payload_size) {}

    /** Bytes of the metadata block. 8 of them hold the length. */
    BufferConfig& set_metadata_size(std::size_t bytes) noexcept {
        metadata_size_ = bytes;
        return *this;
    }

    /** Bytes of the ring. */
    BufferConfig& set_payload_size(std::size_t bytes) noexcept {
        payload_size_ = bytes;
        return *this;
    }

    /** Permission bits of the buffer's files (0600 by default), set exactly, whatever the umask is. */
    BufferConfig& set_mode(std::uint32_t mode) noexcept {
        mode_ = mode;
        return *this;
    }

    /** Whether to reserve and touch all memory at creation. */
    BufferConfig& set_preallocate(bool preallocate) noexcept {
        preallocate_ = preallocate;
        return *this;
    }

    /**
     * Whether to reserve and touch all memory at creation, in huge pages as far as the kernel has some. Reader::huge_page_bytes() tells
     * what the buffer got.
     */
    BufferConfig& set_huge_pages(bool huge_pages) noexcept {
        huge_pages_ = huge_pages;
        return *this;
    }

    /** The NUMA node whose memory the buffer shall use, as far as there is room, or numa_node_of_reader. */
    BufferConfig& set_numa_node(std::optional<std::int32_t> node) noexcept {
        numa_node_ = node;
        return *this;
    }

    /** Whether to keep the ring classic (the layout that 1.x peers know), whichever writer connects. */
    BufferConfig& set_classic(bool classic) noexcept {
        classic_ = classic;
        return *this;
    }

    /**
     * Whether the reader's frames may be lent to other readers, and it takes frames that are lent to it (Writer::forward()). Who
     * may read the buffer that they are forwarded to may look at all of this one.
     */
    BufferConfig& set_allow_payload_sharing(bool allow) noexcept {
        sharing_ = allow;
        return *this;
    }

    /** How the reader waits for frames. */
    BufferConfig& set_wait_strategy(WaitStrategy strategy) noexcept {
        strategy_ = strategy;
        return *this;
    }

    /** The metadata bytes asked for, or the default. */
    [[nodiscard]] std::size_t metadata_size() const noexcept { return metadata_size_.value_or(default_metadata_size); }

    /** The payload bytes asked for, or the default. */
    [[nodiscard]] std::size_t payload_size() const noexcept { return payload_size_.value_or(default_payload_size); }

    /** The permission bits asked for. */
    [[nodiscard]] std::uint32_t mode() const noexcept { return mode_; }

    /** Whether all memory is reserved at creation. */
    [[nodiscard]] bool preallocate() const noexcept { return preallocate_; }

    /** The NUMA node that the thread runs on which creates the reader. */
    static constexpr std::int32_t numa_node_of_reader = ZB_NUMA_NODE_OF_READER;

    /** Whether huge pages are asked for. */
    [[nodiscard]] bool huge_pages() const noexcept { return huge_pages_; }

    /** The NUMA node asked for. */
    [[nodiscard]] std::optional<std::int32_t> numa_node() const noexcept { return numa_node_; }

    /** Whether the ring stays classic. */
    [[nodiscard]] bool classic() const noexcept { return classic_; }

    /** Whether payload sharing is allowed. */
    [[nodiscard]] bool allow_payload_sharing() const noexcept { return sharing_; }

    /** How the reader waits. */
    [[nodiscard]] WaitStrategy wait_strategy() const noexcept { return strategy_; }

    /** The handle of the C ABI. */
    [[nodiscard]] detail::Config to_c() const {
        detail::Config config(zb_config_new());
        if (metadata_size_) detail::expect(zb_config_set_metadata_size(config.get(), *metadata_size_));
        if (payload_size_) detail::expect(zb_config_set_payload_size(config.get(), *payload_size_));
        detail::expect(zb_config_set_mode(config.get(), mode_));
        detail::expect(zb_config_set_preallocate(config.get(), preallocate_));
        detail::expect(zb_config_set_huge_pages(config.get(), huge_pages_));
        if (numa_node_) detail::expect(zb_config_set_numa_node(config.get(), *numa_node_));
        detail::expect(zb_config_set_classic(config.get(), classic_));
        detail::expect(zb_config_set_allow_payload_sharing(config.get(), sharing_));
        detail::expect(zb_config_set_wait_strategy(config.get(), static_cast<zb_wait_strategy>(strategy_)));
        return config;
    }

private:
    std::optional<std::size_t> metadata_size_;
    std::optional<std::size_t> payload_size_;
    std::uint32_t mode_ = 0600;
    bool preallocate_ = false;
    bool huge_pages_ = false;
    std::optional<std::int32_t> numa_node_;
    bool classic_ = false;
    bool sharing_ = false;
    WaitStrategy strategy_ = WaitStrategy::adaptive;
};

/** How a writer connects and waits. */
class WriterOptions {
public:
    /** How long a write waits for space (5000 ms by default). */
    WriterOptions& set_write_timeout(timeout_t timeout_ms) noexcept {
        write_timeout_ms_ = timeout_ms;
        return *this;
    }

    /** As set_write_timeout(timeout_t). */
    WriterOptions& set_write_timeout(std::chrono::milliseconds timeout) noexcept { return set_write_timeout(timeout_t{timeout.count()}); }

    /** How long connecting waits for a reader to create the buffer (0 by default: it fails at once). */
    WriterOptions& set_connect_timeout(timeout_t timeout_ms) noexcept {
        connect_timeout_ms_ = timeout_ms;
        return *this;
    }

    /** As set_connect_timeout(timeout_t). */
    WriterOptions& set_connect_timeout(std::chrono::milliseconds timeout) noexcept { return set_connect_timeout(timeout_t{timeout.count()}); }

    /** Whether Writer::forward() lends frames rather than copying them, where both readers allow it. */
    WriterOptions& set_request_payload_sharing(bool request) noexcept {
        sharing_ = request;
        return *this;
    }

    /** How the writer waits for space. */
    WriterOptions& set_wait_strategy(WaitStrategy strategy) noexcept {
        strategy_ = strategy;
        return *this;
    }

    /** How long a write waits for space. */
    [[nodiscard]] timeout_t write_timeout() const noexcept { return write_timeout_ms_; }

    /** How long connecting waits. */
    [[nodiscard]] timeout_t connect_timeout() const noexcept { return connect_timeout_ms_; }

    /** Whether payload sharing is requested. */
    [[nodiscard]] bool request_payload_sharing() const noexcept { return sharing_; }

    /** How the writer waits. */
    [[nodiscard]] WaitStrategy wait_strategy() const noexcept { return strategy_; }

    /** The handle of the C ABI. */
    [[nodiscard]] detail::WriterOptionsHandle to_c() const {
        detail::WriterOptionsHandle options(zb_writer_options_new());
        detail::expect(zb_writer_options_set_write_timeout(options.get(), write_timeout_ms_));
        detail::expect(zb_writer_options_set_connect_timeout(options.get(), connect_timeout_ms_));
        detail::expect(zb_writer_options_set_request_payload_sharing(options.get(), sharing_));
        detail::expect(
            zb_writer_options_set_wait_strategy(options.get(), static_cast<zb_wait_strategy>(strategy_)));
        return options;
    }

private:
    timeout_t write_timeout_ms_ = default_timeout_ms;
    timeout_t connect_timeout_ms_ = 0;
    bool sharing_ = false;
    WaitStrategy strategy_ = WaitStrategy::adaptive;
};

/** How a duplex client connects and waits, and the response buffer that it creates. */
class ClientOptions {
public:
    /** How long connecting waits for a server (0 by default: it fails at once). */
    ClientOptions& set_connect_timeout(timeout_t timeout_ms) noexcept {
        connect_timeout_ms_ = timeout_ms;
        return *this;
    }

    /** As set_connect_timeout(timeout_t). */
    ClientOptions& set_connect_timeout(std::chrono::milliseconds timeout) noexcept { return set_connect_timeout(timeout_t{timeout.count()}); }

    /** How long sending a request waits for space, and for other threads that send (5000 ms by default). */
    ClientOptions& set_request_timeout(timeout_t timeout_ms) noexcept {
        request_timeout_ms_ = timeout_ms;
        return *this;
    }

    /** As set_request_timeout(timeout_t). */
    ClientOptions& set_request_timeout(std::chrono::milliseconds timeout) noexcept { return set_request_timeout(timeout_t{timeout.count()}); }

    /** Sizes and rights of the response buffer. */
    ClientOptions& set_response_config(const BufferConfig& config) {
        response_config_ = config;
        return *this;
    }

    /** How long connecting waits. */
    [[nodiscard]] timeout_t connect_timeout() const noexcept { return connect_timeout_ms_; }

    /** How long sending a request waits. */
    [[nodiscard]] timeout_t request_timeout() const noexcept { return request_timeout_ms_; }

    /** Sizes and rights of the response buffer. */
    [[nodiscard]] const BufferConfig& response_config() const noexcept { return response_config_; }

    /** The handle of the C ABI. */
    [[nodiscard]] detail::ClientOptionsHandle to_c() const {
        detail::ClientOptionsHandle options(zb_client_options_new());
        detail::expect(zb_client_options_set_connect_timeout(options.get(), connect_timeout_ms_));
        detail::expect(zb_client_options_set_request_timeout(options.get(), request_timeout_ms_));
        detail::expect(zb_client_options_set_response_config(options.get(), response_config_.to_c().get()));
        return options;
    }

private:
    timeout_t connect_timeout_ms_ = 0;
    timeout_t request_timeout_ms_ = default_timeout_ms;
    BufferConfig response_config_;
};

}  // namespace zerobuffer

#endif
