/**
 * @file
 * Ending a blocked call of another thread.
 */
#ifndef ZEROBUFFER_INTERRUPT_H
#define ZEROBUFFER_INTERRUPT_H

#include <zerobuffer/exceptions.h>

#include <utility>

namespace zerobuffer {

/**
 * Ends the blocked calls of a reader or writer, from any thread. It may outlive the reader or writer.
 *
 * Made by Reader::interrupt_handle() and Writer::interrupt_handle(). Move-only.
 */
class InterruptHandle {
public:
    /** Takes a handle of the C ABI over. */
    explicit InterruptHandle(zb_interrupt* handle) noexcept : handle_(handle) {}

    /** Makes the call that is blocked now, or else the next one that may block, throw interrupted_exception once. */
    void interrupt() const { detail::call(zb_interrupt_fire, static_cast<const zb_interrupt*>(handle_.get())); }

private:
    detail::Owned<zb_interrupt, zb_interrupt_free> handle_;
};

}  // namespace zerobuffer

#endif
