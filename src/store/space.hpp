// How a size is divided: index, its write-ahead log, pools. Arithmetic, and questions to the file
// system. Any thread.
//
// Bound of the index: a copy has at least one block, so there are no more copies, reservations or
// free runs than blocks. A copy's rows take at most kIndexBytesPerBlock for each of its blocks
// (measured by tests/unit/space_test.cpp with the largest rows, in the worst order); should they
// not fit after all, the bound on the database is a hard one, and copies are evicted for its sake.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "penstock/status.hpp"

namespace penstock {

inline constexpr uint64_t kIndexBytesPerBlock = 400;

struct SpacePlan {
  uint64_t blocks = 0;            // of all pools together
  uint64_t database_bytes = 0;    // bound of the index
  uint64_t checkpoint_bytes = 0;  // WAL size from which on it is checkpointed
  uint64_t wal_bytes = 0;         // WAL size from which on nothing is written
};

// Divides `max_bytes` over `pools` pools. `present_bytes` is what lies there that cannot shrink:
// the database as it is now (it counts if it is larger than its share), `other_bytes` what else
// counts (an index that was set aside). Invalid: too small, with the smallest size that would do.
Result<SpacePlan> plan_space(uint64_t max_bytes, uint64_t block_size, uint32_t pools,
                             uint64_t database_bytes_now, uint64_t other_bytes);

// Blocks by which pools grow at a time.
uint64_t growth_step(uint64_t blocks_of_store) noexcept;
// Blocks that are kept free ahead of need: 1 %, but room for four copies of the usual size.
uint64_t free_target(uint64_t blocks_of_store, uint64_t blocks_of_copy) noexcept;

struct FileSystemSpace {
  uint64_t capacity = 0;   // bytes
  uint64_t available = 0;  // bytes, to this user
};
FileSystemSpace file_system_space(const std::string& directory) noexcept;
FileSystemSpace file_system_space(int fd) noexcept;  // that an open file is on
// Sum over the file systems that these directories are on, each counted once.
FileSystemSpace space_of(std::span<const std::string> directories) noexcept;
uint64_t file_size(const std::string& path) noexcept;  // by stat; 0 if there is none

}  // namespace penstock
