/**
 * @file
 * Buffers that exist before their reader does.
 */
#ifndef ZEROBUFFER_KEPT_BUFFER_H
#define ZEROBUFFER_KEPT_BUFFER_H

#include <zerobuffer/config.h>
#include <zerobuffer/version.h>

#include <string>

namespace zerobuffer {

/**
 * A buffer kept for a reader that comes later, which takes it over with the frames in it.
 *
 * Usually the reader creates a buffer and the writer waits for it; a relay may have to reverse this. One
 * thread at a time may use it. It moves and does not copy.
 */
class KeptBuffer {
public:
    /** Creates the buffer. Throws like Reader's constructor. */
    explicit KeptBuffer(const std::string& name, const BufferConfig& config = BufferConfig()) {
        detail::check_abi();
        zb_kept_buffer* kept = nullptr;
        detail::call(zb_kept_buffer_create_n, name.data(), name.size(), static_cast<const zb_config*>(config.to_c().get()), &kept);
        kept_.reset(kept);
    }

    /** Whether a reader has taken the buffer over. */
    [[nodiscard]] bool is_adopted() {
        bool adopted = false;
        detail::call(zb_kept_buffer_is_adopted, static_cast<const zb_kept_buffer*>(kept_.get()), &adopted);
        return adopted;
    }

    /**
     * Ends the keeping, as destroying the object does. Returns whether a reader had taken the buffer over; if
     * none had, its names are removed and the frames in it are lost.
     */
    bool close() {
        bool adopted = false;
        detail::call(zb_kept_buffer_close, static_cast<const zb_kept_buffer*>(kept_.get()), &adopted);
        return adopted;
    }

private:
    detail::Owned<zb_kept_buffer, zb_kept_buffer_free> kept_;
};

}  // namespace zerobuffer

#endif
