// CopyMap: which memory the bytes of one group's copies come from and go to.
//
// A copy is region after region, and in a region page after page in token order. CopyMap turns a
// byte range of a copy into pieces of pages. Immutable after creation; any thread. It does not own
// memory.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "codec/packed_copy.hpp"
#include "penstock/engine.hpp"

namespace penstock {

// Contiguous bytes of one page; `address` is null where the row is kNoRow.
struct Piece {
  std::byte* address = nullptr;
  uint64_t size = 0;
};

class CopyMap {
 public:
  // Checks the layout: rows and pages of at least one, strides that hold a page, no two regions
  // that overlap, no more than kMaxLayers and kMaxCopyBytes. The error names the region.
  static Result<CopyMap> create(const GroupLayout& layout);

  uint64_t copy_bytes() const noexcept { return copy_bytes_; }
  uint32_t rows_per_chunk() const noexcept { return layout_.rows_per_chunk; }
  uint32_t layer_count() const noexcept { return layer_count_; }
  bool row_is_valid(int32_t row) const noexcept;

  // The piece at `offset` (< copy_bytes()) of the copy that lies in `rows`, up to its page's end.
  Piece piece_at(uint64_t offset, std::span<const int32_t> rows) const noexcept;

  // First and last layer that the bytes [begin, end) of a copy belong to.
  struct Layers {
    uint32_t first = 0, last = 0;
  };
  Layers layers_of(uint64_t begin, uint64_t end) const noexcept;

  // How a copy is cut to be packed: each region's part, in pieces of at most kMaxSlice.
  std::span<const RawSlice> slices() const noexcept { return slices_; }

  static constexpr uint64_t kMaxCopyBytes = uint64_t{1} << 34;
  static constexpr uint32_t kMaxLayers = 1 << 16;

 private:
  explicit CopyMap(const GroupLayout& layout);
  size_t region_at(uint64_t offset) const noexcept;

  GroupLayout layout_;
  std::vector<uint64_t> starts_;  // offset of each region's first page in a copy
  std::vector<RawSlice> slices_;
  uint64_t copy_bytes_ = 0;
  uint64_t rows_ = 0;  // rows that every region has
  uint32_t layer_count_ = 0;
};

using CopyMaps = std::shared_ptr<const std::vector<CopyMap>>;  // by group

}  // namespace penstock
