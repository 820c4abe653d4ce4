# What `cmake --install` puts where: the library that was chosen, the headers, and the files that find_package and
# pkg-config look for.
include(CMakePackageConfigHelpers)

# Nothing else may ask for it.
add_custom_target(zerobuffer_all ALL)
add_dependencies(zerobuffer_all zerobuffer_cargo)

set(ZEROBUFFER_PACKAGE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/zerobuffer")

# What the static library needs of the system.
list(TRANSFORM ZEROBUFFER_SYSTEM_LIBRARIES PREPEND " -l" OUTPUT_VARIABLE ZEROBUFFER_PC_LIBS_PRIVATE)
list(JOIN ZEROBUFFER_PC_LIBS_PRIVATE "" ZEROBUFFER_PC_LIBS_PRIVATE)
string(APPEND ZEROBUFFER_PC_LIBS_PRIVATE " -pthread")

if(ZEROBUFFER_SHARED)
    set(ZEROBUFFER_KIND SHARED)
    set(ZEROBUFFER_INSTALLED_NAME "${ZEROBUFFER_SHARED_NAME}")
    # Programs find the library where it lies, but for a system's own folder, where the loader looks anyway.
    if(CMAKE_INSTALL_PREFIX STREQUAL "/usr")
        set(ZEROBUFFER_PC_LIBS "")
    else()
        set(ZEROBUFFER_PC_LIBS " -Wl,-rpath,\${libdir}")
    endif()
    # Symbolic links are installed as such.
    install(FILES "${ZEROBUFFER_LIBRARY_DIR}/${ZEROBUFFER_SONAME}" "${ZEROBUFFER_LIBRARY_DIR}/${ZEROBUFFER_LINK_NAME}"
        DESTINATION "${CMAKE_INSTALL_LIBDIR}")
    install(PROGRAMS "${ZEROBUFFER_LIBRARY_DIR}/${ZEROBUFFER_SHARED_NAME}" DESTINATION "${CMAKE_INSTALL_LIBDIR}")
    # Beside it, for programs that carry the library with them: `-l:libzerobuffer_c.a` and what `Libs.private` names.
    install(FILES "${ZEROBUFFER_LIBRARY_DIR}/${ZEROBUFFER_STATIC_NAME}" DESTINATION "${CMAKE_INSTALL_LIBDIR}")
else()
    set(ZEROBUFFER_KIND STATIC)
    set(ZEROBUFFER_INSTALLED_NAME "${ZEROBUFFER_STATIC_NAME}")
    set(ZEROBUFFER_PC_LIBS "${ZEROBUFFER_PC_LIBS_PRIVATE}")
    install(FILES "${ZEROBUFFER_LIBRARY_DIR}/${ZEROBUFFER_STATIC_NAME}" DESTINATION "${CMAKE_INSTALL_LIBDIR}")
endif()

install(DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/include/" "${ZEROBUFFER_C_INCLUDE_DIR}/"
    DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.h")
install(FILES "${ZEROBUFFER_ROOT}/LICENSE" DESTINATION "${CMAKE_INSTALL_DATADIR}/doc/zerobuffer")

install(TARGETS zerobuffer EXPORT zerobufferTargets)
install(EXPORT zerobufferTargets NAMESPACE zerobuffer:: DESTINATION "${ZEROBUFFER_PACKAGE_DIR}")
configure_package_config_file(cmake/zerobufferConfig.cmake.in zerobufferConfig.cmake
    INSTALL_DESTINATION "${ZEROBUFFER_PACKAGE_DIR}"
    PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(zerobufferConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES
    "${CMAKE_CURRENT_BINARY_DIR}/zerobufferConfig.cmake"
    "${CMAKE_CURRENT_BINARY_DIR}/zerobufferConfigVersion.cmake"
    DESTINATION "${ZEROBUFFER_PACKAGE_DIR}")

# Relative to itself, so that the folder may be moved.
file(RELATIVE_PATH ZEROBUFFER_PC_PREFIX
    "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
configure_file(cmake/zerobuffer.pc.in zerobuffer.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/zerobuffer.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
