/**
 * @file
 * A writer with a buffer of its own making, for frames that it forwards.
 */
#ifndef ZEROBUFFER_SHARED_WRITER_H
#define ZEROBUFFER_SHARED_WRITER_H

#include <zerobuffer/reader.h>
#include <zerobuffer/writer.h>

#include <string>

namespace zerobuffer {

/**
 * The writing side of a buffer that shares the payload of another one: a relay's output that exists before its reader does.
 *
 * A reader that comes later takes the buffer over, with the frames in it. If it allows sharing, it gets frames without a copy
 * from the first one on. If none has come when the writer is closed, the buffer is removed. In all else it is a Writer.
 */
class SharedWriter : public Writer {
public:
    /**
     * Creates the buffer, connects to it, and offers it the payload of `source`. The buffer is at least as large as the one of
     * `source`. Both sides share, whatever `config` and `options` say about that.
     *
     * Throws like the constructors of KeptBuffer and Writer, and closed_exception if `source` is closed.
     */
    SharedWriter(const std::string& name, Reader& source, const BufferConfig& config = BufferConfig(),
                 const WriterOptions& options = WriterOptions())
        : Writer(create(name, source, config, options)) {}

    /**
     * Whether a reader has taken the buffer over.
     *
     * @throws closed_exception, invalid_state_exception
     */
    [[nodiscard]] bool is_adopted() const {
        bool adopted = false;
        detail::call(zb_writer_is_adopted, handle(), &adopted);
        return adopted;
    }

private:
    static zb_writer* create(const std::string& name, const Reader& source, const BufferConfig& config, const WriterOptions& options) {
        detail::check_abi();
        zb_writer* writer = nullptr;
        detail::call(zb_shared_writer_create_n, name.data(), name.size(), static_cast<const zb_reader*>(source.reader_.get()),
                     static_cast<const zb_config*>(config.to_c().get()),
                     static_cast<const zb_writer_options*>(options.to_c().get()), &writer);
        return writer;
    }
};

}  // namespace zerobuffer

#endif
