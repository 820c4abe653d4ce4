#include "connect.h"

#include "exit.h"
#include "output.h"
#include "wait.h"

#include <zerobuffer/inspect.h>

namespace cli {
namespace {

void tell_of_connection(const std::string& name) {
    try {
        const auto buffer = zerobuffer::inspect::snapshot(name);
        inform("buffer `" + name + "`: connected to the reader (pid " + std::to_string(buffer.reader.pid) + "), " +
               human(buffer.payload_size) + " of payload");
    } catch (const zerobuffer::zerobuffer_exception&) {
        // A buffer that cannot be inspected can still be written to.
    }
}

}  // namespace

zerobuffer::Writer connect(const Stop& stop, const std::string& name, std::int64_t timeout_ms, int code, int bad_arguments,
                           Progress& progress, const Tally& tally) {
    const Deadline deadline(timeout_ms);
    bool waits = false;
    for (;;) {
        stop.check();
        try {
            zerobuffer::Writer writer(name, zerobuffer::WriterOptions()
                                                .set_write_timeout(timeout_ms)
                                                .set_connect_timeout(waits ? deadline.slice() : 0)
                                                .set_request_payload_sharing(true));
            stop.watch(writer.interrupt_handle());
            tell_of_connection(name);
            return writer;
        } catch (const zerobuffer::zerobuffer_exception& error) {
            const bool no_reader = error.code() == zerobuffer::ErrorCode::buffer_not_found ||
                                   error.code() == zerobuffer::ErrorCode::reader_dead;
            if (no_reader && !deadline.is_over()) {
                if (!waits) inform("buffer `" + name + "`: waiting for the reader");
                waits = true;
                progress.wait(tally, "the reader");
                continue;
            }
            if (no_reader) {
                throw Failure(code, std::string(error.what()) + " (waited " + std::to_string(timeout_ms) +
                                        " ms; see --timeout-ms)");
            }
            throw Failure::of(error, code, bad_arguments);
        }
    }
}

}  // namespace cli
