// Where a store in memory lies, and how large it may be. Questions to the file system; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "penstock/status.hpp"

namespace penstock {

// /dev/shm/penstock-<user>-<digest of the first of `cache_dirs`>: processes that share a cache
// share its copies in memory too.
std::string default_memory_directory(std::span<const std::string> cache_dirs);

// Memory that may still be taken without this machine, or this container, running out of it.
uint64_t available_memory();

struct MemorySize {
  uint64_t max_bytes = 0;
  uint64_t min_free_bytes = 0;  // others keep things there too, and a full one ends processes
  std::string warning;          // for people, or empty: there is less than one would expect
};

// What `wanted_bytes` comes to in the file system of `directory` (or of its parent, if it does not
// exist yet); 0: a quarter of it, or of this container's memory if that is less. Invalid, with a
// sentence that says what to change: it is not in memory (tmpfs), or smaller than what is wanted.
Result<MemorySize> memory_size(const std::string& directory, uint64_t wanted_bytes);

}  // namespace penstock
