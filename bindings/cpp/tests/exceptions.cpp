// Each number of the C ABI becomes its own exception, with all that the error object says. Built without the library, whose
// error objects cannot be made at will: some numbers nothing that works can provoke.
#include <doctest/doctest.h>
#include <zerobuffer/exceptions.h>

#include <string>
#include <type_traits>
#include <typeinfo>

/** As the library's, but made here. */
struct zb_error {
    zb_status code;
};

static int freed = 0;

extern "C" {
zb_status zb_error_code(const zb_error* error) { return error != nullptr ? error->code : ZB_OK; }
const char* zb_error_message(const zb_error*) { return "`camera`: something broke: mend it"; }
const char* zb_error_buffer(const zb_error*) { return "camera"; }
std::int32_t zb_error_os_error(const zb_error*) { return 28; }
std::uint64_t zb_error_sequence(const zb_error*) { return 7; }
bool zb_error_sequence_gap(const zb_error* error, std::uint64_t* expected, std::uint64_t* got) {
    *expected = 3;
    *got = 5;
    return error->code == ZB_ERROR_SEQUENCE_ERROR;
}
void zb_error_free(zb_error*) { ++freed; }
}

using namespace zerobuffer;

namespace {

zb_status fail(zb_status code, zb_error** error) {
    static zb_error made{};
    made.code = code;
    *error = &made;
    return code;
}

/** A call that fails with this number throws this very class, and frees the error. */
template <typename Exception>
void becomes(ErrorCode code) {
    CAPTURE(static_cast<int>(code));
    const int before = freed;
    try {
        detail::call(fail, static_cast<zb_status>(code));
        FAIL("nothing was thrown");
    } catch (const zerobuffer_exception& error) {
        CHECK(typeid(error) == typeid(Exception));
        CHECK(error.code() == code);
        CHECK(error.buffer() == "camera");
        CHECK(error.os_error() == 28);
        CHECK(error.sequence() == 7);
        CHECK(std::string(error.what()) == "`camera`: something broke: mend it");
        if constexpr (std::is_same_v<Exception, sequence_error_exception>) {
            const auto& gap = dynamic_cast<const sequence_error_exception&>(error);
            CHECK(gap.expected() == 3);
            CHECK(gap.got() == 5);
        }
        // A copy, as std::exception_ptr makes, says the same when the original is gone.
        const auto copy = std::make_unique<zerobuffer_exception>(error);
        CHECK(copy->buffer() == "camera");
    }
    CHECK(freed == before + 1);
}

}  // namespace

TEST_CASE("every number is an exception of its own") {
    becomes<buffer_not_found_exception>(ErrorCode::buffer_not_found);
    becomes<writer_already_connected_exception>(ErrorCode::writer_already_connected);
    becomes<reader_already_connected_exception>(ErrorCode::reader_already_connected);
    becomes<buffer_full_exception>(ErrorCode::buffer_full);
    becomes<reader_dead_exception>(ErrorCode::reader_dead);
    becomes<writer_dead_exception>(ErrorCode::writer_dead);
    becomes<writer_closed_exception>(ErrorCode::writer_closed);
    becomes<frame_too_large_exception>(ErrorCode::frame_too_large);
    becomes<invalid_frame_size_exception>(ErrorCode::invalid_frame_size);
    becomes<sequence_error_exception>(ErrorCode::sequence_error);
    becomes<metadata_already_written_exception>(ErrorCode::metadata_already_written);
    becomes<metadata_too_large_exception>(ErrorCode::metadata_too_large);
    becomes<invalid_name_exception>(ErrorCode::invalid_name);
    becomes<invalid_config_exception>(ErrorCode::invalid_config);
    becomes<invalid_state_exception>(ErrorCode::invalid_state);
    becomes<incompatible_protocol_exception>(ErrorCode::incompatible_protocol);
    becomes<corrupt_buffer_exception>(ErrorCode::corrupt_buffer);
    becomes<permission_denied_exception>(ErrorCode::permission_denied);
    becomes<out_of_memory_exception>(ErrorCode::out_of_memory);
    becomes<interrupted_exception>(ErrorCode::interrupted);
    becomes<closed_exception>(ErrorCode::closed);
    becomes<request_failed_exception>(ErrorCode::request_failed);
    becomes<cancelled_exception>(ErrorCode::cancelled);
    becomes<deadline_exceeded_exception>(ErrorCode::deadline_exceeded);
    becomes<handler_busy_exception>(ErrorCode::handler_busy);
    becomes<system_exception>(ErrorCode::system);
    becomes<invalid_argument_exception>(ErrorCode::invalid_argument);
    becomes<internal_exception>(ErrorCode::internal);
}

TEST_CASE("a number of a newer library is the base exception") {
    becomes<zerobuffer_exception>(static_cast<ErrorCode>(-9999));
}

TEST_CASE("a status that is no failure is handed on") {
    CHECK(detail::call([](zb_error** error) { *error = nullptr; return ZB_TIMEOUT; }) == ZB_TIMEOUT);
}
