#include "connect.h"

#include "exit.h"
#include "wait.h"

namespace cli {

zerobuffer::Writer connect(const Stop& stop, const std::string& name, std::int64_t timeout_ms, int code, int bad_arguments) {
    const Deadline deadline(timeout_ms);
    for (;;) {
        stop.check();
        try {
            zerobuffer::Writer writer(
                name, zerobuffer::WriterOptions().set_write_timeout(timeout_ms).set_connect_timeout(deadline.slice()));
            stop.watch(writer.interrupt_handle());
            return writer;
        } catch (const zerobuffer::zerobuffer_exception& error) {
            const bool nobody = error.code() == zerobuffer::ErrorCode::buffer_not_found ||
                                error.code() == zerobuffer::ErrorCode::reader_dead;
            if (nobody && !deadline.is_over()) continue;
            if (nobody) {
                throw Failure(code, std::string(error.what()) + " (waited " + std::to_string(timeout_ms) +
                                        " ms; see --timeout-ms)");
            }
            throw Failure::of(error, code, bad_arguments);
        }
    }
}

}  // namespace cli
