/**
 * @file
 * Callbacks that come once.
 */
#ifndef ZEROBUFFER_NOTIFY_H
#define ZEROBUFFER_NOTIFY_H

#include <zerobuffer/exceptions.h>

#include <functional>
#include <memory>
#include <utility>

namespace zerobuffer {

/**
 * Called once by a thread of the library. It must not wait, and should only pass the news on: wake a thread, or post to an event loop. It
 * may call any function of the library. An exception that leaves it ends the program.
 */
using NotifyCallback = std::function<void()>;

namespace detail {

/** Has `notify`, a function of the C ABI, call `callback` for `handle`. */
template <typename Notify, typename Handle>
void notify(Notify notify, const Handle* handle, NotifyCallback callback) {
    if (!callback) throw std::invalid_argument("zerobuffer: an empty callback");
    const zb_notify run = [](void* user_data) noexcept { (*static_cast<NotifyCallback*>(user_data))(); };
    const zb_destroy destroy = [](void* user_data) noexcept { delete static_cast<NotifyCallback*>(user_data); };
    // The library takes it over, and destroys it even if it refuses it.
    void* const owned = std::make_unique<NotifyCallback>(std::move(callback)).release();
    call(notify, handle, run, owned, destroy);
}

}  // namespace detail
}  // namespace zerobuffer

#endif
