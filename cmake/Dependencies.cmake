# The libraries of the distribution, linked statically where it ships position-independent archives.
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)

function(penstock_static_library name library header)
  find_library(${name}_path NAMES lib${library}.a ${library} REQUIRED)
  find_path(${name}_include NAMES ${header} REQUIRED)
  add_library(${name} INTERFACE)
  target_include_directories(${name} SYSTEM INTERFACE ${${name}_include})
  target_link_libraries(${name} INTERFACE ${${name}_path})
endfunction()

penstock_static_library(xxhash_static xxhash xxhash.h)
penstock_static_library(sqlite_static sqlite3 sqlite3.h)
penstock_static_library(uring_static uring liburing.h)
penstock_static_library(yaml_static yaml-cpp yaml-cpp/yaml.h)
penstock_static_library(zstd_static zstd zstd.h)
penstock_static_library(lz4_static lz4 lz4.h)
target_link_libraries(sqlite_static INTERFACE Threads::Threads ${CMAKE_DL_LIBS} m)

# OpenSSL's archive, so that the extension does not depend on the host's libcrypto.
find_library(crypto_archive NAMES libcrypto.a)
if(crypto_archive)
  set_target_properties(OpenSSL::Crypto PROPERTIES IMPORTED_LOCATION ${crypto_archive})
  set_property(TARGET OpenSSL::Crypto APPEND PROPERTY INTERFACE_LINK_LIBRARIES
               Threads::Threads ${CMAKE_DL_LIBS})
endif()

find_path(fmt_include NAMES fmt/format.h REQUIRED)
find_path(spdlog_include NAMES spdlog/spdlog.h REQUIRED)
add_library(fmt_static INTERFACE)
target_include_directories(fmt_static SYSTEM INTERFACE ${fmt_include} ${spdlog_include})
target_compile_definitions(fmt_static INTERFACE SPDLOG_FMT_EXTERNAL)
target_link_libraries(fmt_static INTERFACE Threads::Threads)
# Its source, compiled once: as headers it takes seconds of every file that formats. Debian has no
# archive of it. What the source instantiates differs between versions, so those that this one does
# not fit are used as headers.
set(fmt_source ${PROJECT_SOURCE_DIR}/cmake/fmt.cpp)
try_compile(PENSTOCK_FMT_COMPILES ${PROJECT_BINARY_DIR}/fmt_check
            SOURCES ${fmt_source} ${PROJECT_SOURCE_DIR}/cmake/fmt_check.cpp
            CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${fmt_include}"
            CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON)
if(PENSTOCK_FMT_COMPILES)
  add_library(fmt_archive STATIC ${fmt_source})
  target_include_directories(fmt_archive SYSTEM PUBLIC ${fmt_include})
  target_compile_options(fmt_archive PRIVATE -w)
  target_link_libraries(fmt_static INTERFACE fmt_archive)
else()
  target_compile_definitions(fmt_static INTERFACE FMT_HEADER_ONLY)
endif()

# For the command line program only.
penstock_static_library(zlib_static z zlib.h)
find_path(nlohmann_include NAMES nlohmann/json.hpp REQUIRED)
find_path(cli11_include NAMES CLI/CLI.hpp REQUIRED)
add_library(cli_headers INTERFACE)
target_include_directories(cli_headers SYSTEM INTERFACE ${nlohmann_include} ${cli11_include})
