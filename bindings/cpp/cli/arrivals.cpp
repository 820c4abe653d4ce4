#include "commands.h"
#include "output.h"

#include <zerobuffer/inspect.h>

#include <array>
#include <cstdio>

namespace cli {
namespace {

std::string octal(std::uint32_t mode) {
    std::array<char, 16> text{};
    std::snprintf(text.data(), text.size(), "%04o", mode);
    return text.data();
}

/** A look at a buffer; no value if it cannot be inspected. */
std::optional<zerobuffer::inspect::Snapshot> look_at(const std::string& name) {
    try {
        return zerobuffer::inspect::snapshot(name);
    } catch (const zerobuffer::zerobuffer_exception&) {
        return std::nullopt;
    }
}

}  // namespace

void tell_of_buffer(const std::string& name) {
    const auto buffer = look_at(name);
    if (!buffer) return;
    inform("buffer `" + name + "`: created with " + human(buffer->payload_size) + " of payload, " +
           human(buffer->metadata_size) + " of metadata, mode " + octal(buffer->mode) + "; waiting for a writer");
}

void Arrivals::frame() {
    if (writing_) return;
    writing_ = true;
    if (!is_verbose()) return;
    if (const auto buffer = look_at(name_)) {
        const auto pid = buffer->writer.pid;
        const std::string who = pid == 0 ? "" : " (pid " + std::to_string(pid) + ")";
        inform("buffer `" + name_ + "`: the first frame of the writer" + who + " has come");
    }
}

}  // namespace cli
