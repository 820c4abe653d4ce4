"""Conan 2 recipe: `conan create bindings/cpp/packaging/conan`. cargo must be on the path: https://rustup.rs has it."""

import os

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, get


class ZeroBuffer(ConanFile):
    name = "zerobuffer"
    version = "2.0.0-alpha.1"
    description = "Frames between two processes through shared memory"
    license = "MIT"
    homepage = "https://github.com/zerobuffer/zerobuffer"
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False]}
    default_options = {"shared": True}

    def layout(self):
        cmake_layout(self)

    def validate(self):
        check_min_cppstd(self, 20)

    def source(self):
        checkout = os.environ.get("ZEROBUFFER_SOURCE")
        if checkout:
            # A checkout instead of a release.
            copy(self, "*", checkout, self.source_folder, excludes=("target/*", "*/target/*", ".git/*"))
            return
        # Placeholder: the address and the sha256 of the release's archive.
        get(self, f"https://example.invalid/zerobuffer-{self.version}.tar.gz", sha256="0" * 64, strip_root=True)

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["ZEROBUFFER_SHARED"] = bool(self.options.shared)
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure(build_script_folder="bindings/cpp")
        cmake.build()

    def package(self):
        CMake(self).install()

    def package_info(self):
        # The package's own files, rather than generated ones: they know what the static library needs.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = [os.path.join("lib", "cmake", "zerobuffer")]
