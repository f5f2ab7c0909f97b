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

# Header-only use: nothing to link.
find_path(fmt_include NAMES fmt/format.h REQUIRED)
find_path(spdlog_include NAMES spdlog/spdlog.h REQUIRED)
add_library(fmt_headers INTERFACE)
target_include_directories(fmt_headers SYSTEM INTERFACE ${fmt_include} ${spdlog_include})
target_compile_definitions(fmt_headers INTERFACE FMT_HEADER_ONLY SPDLOG_FMT_EXTERNAL)
target_link_libraries(fmt_headers INTERFACE Threads::Threads)

# For the command line program only.
penstock_static_library(zlib_static z zlib.h)
find_path(nlohmann_include NAMES nlohmann/json.hpp REQUIRED)
find_path(cli11_include NAMES CLI/CLI.hpp REQUIRED)
add_library(cli_headers INTERFACE)
target_include_directories(cli_headers SYSTEM INTERFACE ${nlohmann_include} ${cli11_include})
