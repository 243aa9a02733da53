# Toolchain file for other systems and processors: Clang of the PyPI package ziglang, which has the
# headers and C++ libraries of every target.
#
#   cmake -G Ninja --toolchain tests/csrc/zig.cmake -DZIG=PATH -DZIG_TARGET=aarch64-linux-musl …
#
# ZIG is the program zig. ZIG_TARGET is processor-system-library; the library of GNU systems may end
# in the oldest glibc that the result has to run on: x86_64-linux-gnu.2.28.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ZIG ZIG_TARGET)
string(REGEX MATCH "^([a-z0-9_]+)-([a-z]+)" matched "${ZIG_TARGET}")
set(CMAKE_SYSTEM_PROCESSOR ${CMAKE_MATCH_1})
if(CMAKE_MATCH_2 STREQUAL "linux")
  set(CMAKE_SYSTEM_NAME Linux)
else()
  # CMake would look for other tools of the system, such as a compiler of resources.
  set(CMAKE_SYSTEM_NAME Generic)
  set(CMAKE_HAVE_LIBC_PTHREAD TRUE)
endif()
set(CMAKE_CXX_COMPILER "${ZIG};c++;-target;${ZIG_TARGET}")

# CMake's checks of the compiler make no program: zig would first compile the target's C++ library.
set(CMAKE_CXX_COMPILER_ID_RUN TRUE)
set(CMAKE_CXX_COMPILER_ID Clang)
set(CMAKE_CXX_COMPILER_VERSION 18)
set(CMAKE_CXX_COMPILER_FRONTEND_VARIANT GNU)
set(CMAKE_CXX_STANDARD_COMPUTED_DEFAULT 17)
set(CMAKE_CXX_EXTENSIONS_COMPUTED_DEFAULT ON)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_CXX_ARCHIVE_CREATE "\"${ZIG}\" ar qc <TARGET> <OBJECTS>")
set(CMAKE_CXX_ARCHIVE_FINISH "")
