// PackedCopy: the head of a packed copy, which says how its slices were made smaller and what the
// copy's checksums are (docs/FORMAT.md).
//
//   head | slice 0 | slice 1 | ...      slice: plane 0 | plane 1 | ...
//
// A slice is a part of the copy that can be unpacked without the others. decode() trusts nothing:
// what it returns fits the sizes that were asked for in every respect. Values; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "codec/method.hpp"
#include "codec/planes.hpp"

namespace penstock {

inline constexpr uint32_t kMaxSlice = 1 << 20;

// A part of a copy, made of numbers of `element` bytes.
struct RawSlice {
  uint64_t begin = 0;
  uint32_t bytes = 0;  // at most kMaxSlice
  uint32_t element = 1;
};

struct PackedSlice : RawSlice {
  struct Plane {
    uint32_t bytes = 0;  // as stored
    Method method = Method::Plain;
  };
  uint64_t packed_begin = 0;
  std::array<Plane, kMaxElement> planes{};

  uint64_t packed_bytes() const noexcept;
};

struct PackedCopy {
  uint64_t raw_bytes = 0;
  uint64_t packed_bytes = 0;        // the head included
  std::vector<uint64_t> checksums;  // of the raw copy's blocks
  std::vector<PackedSlice> slices;

  // Bytes that a head takes.
  static uint64_t head_bytes(size_t blocks, std::span<const RawSlice> slices) noexcept;
  // Requires: `head` has room for it.
  void encode(std::span<std::byte> head) const noexcept;
  // Of a copy of `raw_bytes` with `blocks` checksums. nullopt: it is not one of those.
  static std::optional<PackedCopy> decode(std::span<const std::byte> packed, uint64_t raw_bytes,
                                          size_t blocks);
};

}  // namespace penstock
