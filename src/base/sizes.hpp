// Sizes and alignment used everywhere.
#pragma once

#include <cstdint>

namespace penstock {

inline constexpr uint64_t kSector = 4096;       // alignment of every offset, size and buffer of I/O
inline constexpr uint64_t kLeaf = 4096;         // bytes of one checksum leaf
inline constexpr uint64_t kGb = 1'000'000'000;  // a GB of the configuration

constexpr uint64_t round_up(uint64_t value, uint64_t multiple) noexcept {
  return (value + multiple - 1) / multiple * multiple;
}
constexpr uint64_t div_up(uint64_t value, uint64_t divisor) noexcept {
  return (value + divisor - 1) / divisor;
}

}  // namespace penstock
