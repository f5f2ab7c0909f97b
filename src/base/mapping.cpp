#include "base/mapping.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <string>
#include <system_error>

namespace penstock {

Result<Mapping> Mapping::of_file(int fd, uint64_t bytes) {
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) {
    const int error = errno;
    return Error{error == ENOMEM ? Status::NoSpace : Status::Unsupported,
                 "cannot map " + std::to_string(bytes) +
                     " bytes of a file: " + std::system_category().message(error)};
  }
  return Mapping{{static_cast<std::byte*>(memory), bytes}};
}

Mapping::~Mapping() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

}  // namespace penstock
