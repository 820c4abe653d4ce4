# The target zerobuffer::c: the library of the C ABI, built by cargo, and its header.

find_program(ZEROBUFFER_CARGO cargo HINTS "$ENV{HOME}/.cargo/bin" REQUIRED
    DOC "cargo, which builds the library; https://rustup.rs has it")
find_package(Threads REQUIRED)

get_filename_component(ZEROBUFFER_ROOT "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(ZEROBUFFER_C_INCLUDE_DIR "${ZEROBUFFER_ROOT}/crates/zerobuffer-ffi/include")

# The number in the SONAME, from the one place that has it.
file(READ "${ZEROBUFFER_ROOT}/crates/zerobuffer-ffi/src/version.rs" ZEROBUFFER_VERSION_SOURCE)
if(NOT ZEROBUFFER_VERSION_SOURCE MATCHES "ZB_ABI_VERSION_MAJOR: u32 = ([0-9]+)")
    message(FATAL_ERROR "zerobuffer: src/version.rs of the C ABI states no version")
endif()
set(ZEROBUFFER_ABI_MAJOR "${CMAKE_MATCH_1}")

set(ZEROBUFFER_LIBRARY_DIR "${CMAKE_CURRENT_BINARY_DIR}/lib")
set(ZEROBUFFER_STATIC_LIBRARY "${ZEROBUFFER_LIBRARY_DIR}/libzerobuffer_c.a")
# Programs ask for the name with the ABI's number; linkers for the one without.
set(ZEROBUFFER_SHARED_LIBRARY "${ZEROBUFFER_LIBRARY_DIR}/libzerobuffer_c.so.${ZEROBUFFER_ABI_MAJOR}")
set(ZEROBUFFER_SHARED_LINK "${ZEROBUFFER_LIBRARY_DIR}/libzerobuffer_c.so")

# Cargo knows best what is out of date, so it is asked each time; copies are made of what is new only.
set(ZEROBUFFER_CARGO_OUTPUT "${ZEROBUFFER_CARGO_TARGET_DIR}/release")
add_custom_target(zerobuffer_cargo
    COMMAND "${CMAKE_COMMAND}" -E env "CARGO_TARGET_DIR=${ZEROBUFFER_CARGO_TARGET_DIR}"
        "${ZEROBUFFER_CARGO}" build --release --quiet --locked --package zerobuffer-ffi
    COMMAND "${CMAKE_COMMAND}" -E make_directory "${ZEROBUFFER_LIBRARY_DIR}"
    COMMAND "${CMAKE_COMMAND}" -E copy_if_different
        "${ZEROBUFFER_CARGO_OUTPUT}/libzerobuffer_c.a" "${ZEROBUFFER_STATIC_LIBRARY}"
    COMMAND "${CMAKE_COMMAND}" -E copy_if_different
        "${ZEROBUFFER_CARGO_OUTPUT}/libzerobuffer_c.so" "${ZEROBUFFER_SHARED_LIBRARY}"
    COMMAND "${CMAKE_COMMAND}" -E create_symlink
        "libzerobuffer_c.so.${ZEROBUFFER_ABI_MAJOR}" "${ZEROBUFFER_SHARED_LINK}"
    BYPRODUCTS "${ZEROBUFFER_STATIC_LIBRARY}" "${ZEROBUFFER_SHARED_LIBRARY}" "${ZEROBUFFER_SHARED_LINK}"
    WORKING_DIRECTORY "${ZEROBUFFER_ROOT}"
    COMMENT "Building the zerobuffer library"
    VERBATIM)

if(ZEROBUFFER_SHARED)
    add_library(zerobuffer_c SHARED IMPORTED GLOBAL)
    set_target_properties(zerobuffer_c PROPERTIES
        IMPORTED_LOCATION "${ZEROBUFFER_SHARED_LIBRARY}"
        IMPORTED_SONAME "libzerobuffer_c.so.${ZEROBUFFER_ABI_MAJOR}")
else()
    add_library(zerobuffer_c STATIC IMPORTED GLOBAL)
    set_target_properties(zerobuffer_c PROPERTIES IMPORTED_LOCATION "${ZEROBUFFER_STATIC_LIBRARY}")
    # What Rust's standard library needs of the system.
    set_property(TARGET zerobuffer_c APPEND PROPERTY
        INTERFACE_LINK_LIBRARIES Threads::Threads ${CMAKE_DL_LIBS} m gcc_s)
endif()
target_include_directories(zerobuffer_c INTERFACE "${ZEROBUFFER_C_INCLUDE_DIR}")
add_dependencies(zerobuffer_c zerobuffer_cargo)
add_library(zerobuffer::c ALIAS zerobuffer_c)
