// Finds one GPU's counters in what cuFileGetStatsL3 wrote. Pure; any thread.
#pragma once

#include <cstring>
#include <optional>
#include <span>

#include "io/cufile_abi.hpp"

namespace penstock {

// The general statistics before the GPUs' have grown from version to version, the record of a GPU
// has not, and it begins with the GPU's UUID. So the record is looked for instead of computed: in a
// version of an unknown layout it is found, or it is not, but nothing else is taken for it.
inline std::optional<cufile::GpuCounters> find_gpu_counters(std::span<const std::byte> stats,
                                                            std::span<const uint8_t, 16> uuid) {
  constexpr size_t kSize = sizeof(cufile::GpuCounters);
  for (size_t at = 0; at + kSize <= stats.size(); at += alignof(uint64_t)) {
    if (std::memcmp(stats.data() + at, uuid.data(), uuid.size()) != 0) continue;
    cufile::GpuCounters found;
    std::memcpy(&found, stats.data() + at, kSize);
    return found;
  }
  return std::nullopt;
}

}  // namespace penstock
