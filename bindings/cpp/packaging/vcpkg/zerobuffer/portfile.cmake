# An overlay port until a registry has one:
#   vcpkg install zerobuffer --overlay-ports=bindings/cpp/packaging/vcpkg
# cargo must be on the path: https://rustup.rs has it.
if(DEFINED ENV{ZEROBUFFER_SOURCE})
    # A checkout instead of a release.
    set(SOURCE_PATH "$ENV{ZEROBUFFER_SOURCE}")
else()
    # Placeholder: the address and the SHA512 of the release's archive.
    vcpkg_download_distfile(ARCHIVE
        URLS "https://example.invalid/zerobuffer-${VERSION}.tar.gz"
        FILENAME "zerobuffer-${VERSION}.tar.gz"
        SHA512 0)
    vcpkg_extract_source_archive(SOURCE_PATH ARCHIVE "${ARCHIVE}")
endif()

string(COMPARE EQUAL "${VCPKG_LIBRARY_LINKAGE}" "dynamic" ZEROBUFFER_SHARED)
vcpkg_cmake_configure(
    SOURCE_PATH "${SOURCE_PATH}/bindings/cpp"
    OPTIONS "-DZEROBUFFER_SHARED=${ZEROBUFFER_SHARED}")
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH lib/cmake/zerobuffer)
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include" "${CURRENT_PACKAGES_DIR}/debug/share")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
