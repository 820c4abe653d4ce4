# The target zerobuffer::c: the library of the C ABI, built by cargo, and its header.

find_program(ZEROBUFFER_CARGO cargo HINTS "$ENV{HOME}/.cargo/bin" REQUIRED
    DOC "cargo, which builds the library; https://rustup.rs has it")
find_package(Threads REQUIRED)

get_filename_component(ZEROBUFFER_ROOT "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(ZEROBUFFER_C_INCLUDE_DIR "${ZEROBUFFER_ROOT}/crates/zerobuffer-ffi/include")

# The numbers in the names of the library, from the one place that has them.
file(READ "${ZEROBUFFER_ROOT}/crates/zerobuffer-ffi/src/version.rs" ZEROBUFFER_VERSION_SOURCE)
foreach(PART MAJOR MINOR)
    if(NOT ZEROBUFFER_VERSION_SOURCE MATCHES "ZB_ABI_VERSION_${PART}: u32 = ([0-9]+)")
        message(FATAL_ERROR "zerobuffer: src/version.rs of the C ABI states no ${PART} version")
    endif()
    set(ZEROBUFFER_ABI_${PART} "${CMAKE_MATCH_1}")
endforeach()

# Programs ask for the name with the ABI's major number (the SONAME); linkers for the one without any.
set(ZEROBUFFER_STATIC_NAME "libzerobuffer_c.a")
set(ZEROBUFFER_LINK_NAME "libzerobuffer_c.so")
set(ZEROBUFFER_SONAME "${ZEROBUFFER_LINK_NAME}.${ZEROBUFFER_ABI_MAJOR}")
set(ZEROBUFFER_SHARED_NAME "${ZEROBUFFER_SONAME}.${ZEROBUFFER_ABI_MINOR}")
set(ZEROBUFFER_LIBRARY_DIR "${CMAKE_CURRENT_BINARY_DIR}/lib")

# What Rust's standard library needs of the system, for programs that link the static library.
set(ZEROBUFFER_SYSTEM_LIBRARIES ${CMAKE_DL_LIBS} m gcc_s)

# Cargo knows best what is out of date, so it is asked each time; copies are made of what is new only.
set(ZEROBUFFER_CARGO_OUTPUT "${ZEROBUFFER_CARGO_TARGET_DIR}/release")
add_custom_target(zerobuffer_cargo
    COMMAND "${CMAKE_COMMAND}" -E env "CARGO_TARGET_DIR=${ZEROBUFFER_CARGO_TARGET_DIR}"
        "${ZEROBUFFER_CARGO}" build --release --quiet --locked --package zerobuffer-ffi
    COMMAND "${CMAKE_COMMAND}" -E make_directory "${ZEROBUFFER_LIBRARY_DIR}"
    COMMAND "${CMAKE_COMMAND}" -E copy_if_different
        "${ZEROBUFFER_CARGO_OUTPUT}/${ZEROBUFFER_STATIC_NAME}" "${ZEROBUFFER_LIBRARY_DIR}/${ZEROBUFFER_STATIC_NAME}"
    COMMAND "${CMAKE_COMMAND}" -E copy_if_different
        "${ZEROBUFFER_CARGO_OUTPUT}/${ZEROBUFFER_LINK_NAME}" "${ZEROBUFFER_LIBRARY_DIR}/${ZEROBUFFER_SHARED_NAME}"
    COMMAND "${CMAKE_COMMAND}" -E create_symlink
        "${ZEROBUFFER_SHARED_NAME}" "${ZEROBUFFER_LIBRARY_DIR}/${ZEROBUFFER_SONAME}"
    COMMAND "${CMAKE_COMMAND}" -E create_symlink
        "${ZEROBUFFER_SONAME}" "${ZEROBUFFER_LIBRARY_DIR}/${ZEROBUFFER_LINK_NAME}"
    BYPRODUCTS
        "${ZEROBUFFER_LIBRARY_DIR}/${ZEROBUFFER_STATIC_NAME}"
        "${ZEROBUFFER_LIBRARY_DIR}/${ZEROBUFFER_SHARED_NAME}"
        "${ZEROBUFFER_LIBRARY_DIR}/${ZEROBUFFER_SONAME}"
        "${ZEROBUFFER_LIBRARY_DIR}/${ZEROBUFFER_LINK_NAME}"
    WORKING_DIRECTORY "${ZEROBUFFER_ROOT}"
    COMMENT "Building the zerobuffer library"
    VERBATIM)

# The same name as the installed package has, so that zerobuffer::zerobuffer can be exported as it is.
if(ZEROBUFFER_SHARED)
    add_library(zerobuffer::c SHARED IMPORTED GLOBAL)
    set_target_properties(zerobuffer::c PROPERTIES
        IMPORTED_LOCATION "${ZEROBUFFER_LIBRARY_DIR}/${ZEROBUFFER_SONAME}"
        IMPORTED_SONAME "${ZEROBUFFER_SONAME}")
else()
    add_library(zerobuffer::c STATIC IMPORTED GLOBAL)
    set_target_properties(zerobuffer::c PROPERTIES
        IMPORTED_LOCATION "${ZEROBUFFER_LIBRARY_DIR}/${ZEROBUFFER_STATIC_NAME}")
    target_link_libraries(zerobuffer::c INTERFACE Threads::Threads ${ZEROBUFFER_SYSTEM_LIBRARIES})
endif()
target_include_directories(zerobuffer::c INTERFACE "${ZEROBUFFER_C_INCLUDE_DIR}")
add_dependencies(zerobuffer::c zerobuffer_cargo)
