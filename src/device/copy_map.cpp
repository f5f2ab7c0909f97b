#include "device/copy_map.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.hpp"

namespace penstock {
namespace {

Error bad_region(size_t index, std::string_view what) {
  return Error{Status::Invalid, fmt::format("region {} {}", index, what)};
}

// Regions overlap if a page of one shares a byte with a page of another. Interleaved regions (K and
// V of one layer in the same rows) do not, so equal strides are compared by their offset in the
// stride.
bool overlap(const Region& a, const Region& b) {
  const uint64_t a_end = a.base + (a.rows - 1) * a.row_stride + a.page_bytes;
  const uint64_t b_end = b.base + (b.rows - 1) * b.row_stride + b.page_bytes;
  if (a_end <= b.base || b_end <= a.base) return false;
  if (a.row_stride != b.row_stride || a.row_stride == 0) return true;  // 0: one row each
  const Region& low = a.base <= b.base ? a : b;
  const Region& high = a.base <= b.base ? b : a;
  const uint64_t shift = (high.base - low.base) % low.row_stride;
  return shift < low.page_bytes || shift + high.page_bytes > low.row_stride;
}

}  // namespace

Result<CopyMap> CopyMap::create(const GroupLayout& layout) {
  if (layout.rows_per_chunk == 0) return Error{Status::Invalid, "rows_per_chunk is 0"};
  if (layout.regions.empty()) return Error{Status::Invalid, "a group has no regions"};
  uint64_t copy_bytes = 0;
  for (size_t i = 0; i < layout.regions.size(); ++i) {
    const Region& region = layout.regions[i];
    if (region.base == 0) return bad_region(i, "has no address");
    if (region.rows == 0 || region.page_bytes == 0) return bad_region(i, "is empty");
    if (region.rows > INT32_MAX) return bad_region(i, "has more than 2^31 rows");
    if (region.rows > 1 && region.row_stride < region.page_bytes)
      return bad_region(i, "has a row stride smaller than its page");
    if (region.page_bytes > UINT64_MAX - region.base ||
        region.row_stride > (UINT64_MAX - region.base) / region.rows)
      return bad_region(i, "does not fit the address space");
    if (region.layer >= kMaxLayers)
      return bad_region(i,
                        fmt::format("is of layer {}; there may be {}", region.layer, kMaxLayers));
    if (region.page_bytes > (kMaxCopyBytes - copy_bytes) / layout.rows_per_chunk)
      return bad_region(i, "makes a copy larger than 16 GiB: use a smaller chunk");
    copy_bytes += region.page_bytes * layout.rows_per_chunk;
    if (i > 0 && region.layer < layout.regions[i - 1].layer)
      return bad_region(i, "is not in layer order");
    for (size_t j = 0; j < i; ++j) {
      if (overlap(layout.regions[j], region))
        return bad_region(i, fmt::format("overlaps region {}", j));
    }
  }
  return CopyMap{layout};
}

CopyMap::CopyMap(const GroupLayout& layout)
    : layout_{layout}, copy_bytes_{layout.copy_bytes()}, layer_count_{layout.layer_count()} {
  uint64_t offset = 0;
  rows_ = layout.regions.front().rows;
  for (const Region& region : layout.regions) {
    starts_.push_back(offset);
    const uint64_t end = offset + region.page_bytes * layout.rows_per_chunk;
    const uint32_t element = is_element(region.element_bytes) ? region.element_bytes : 1;
    for (uint64_t at = offset; at < end; at += slices_.back().bytes)
      slices_.push_back(
          {at, static_cast<uint32_t>(std::min<uint64_t>(end - at, kMaxSlice)), element});
    offset = end;
    rows_ = std::min(rows_, region.rows);
  }
}

bool CopyMap::row_is_valid(int32_t row) const noexcept {
  return row == kNoRow || (row >= 0 && static_cast<uint64_t>(row) < rows_);
}

size_t CopyMap::region_at(uint64_t offset) const noexcept {
  const auto after = std::upper_bound(starts_.begin(), starts_.end(), offset);
  return static_cast<size_t>(after - starts_.begin()) - 1;
}

Piece CopyMap::piece_at(uint64_t offset, std::span<const int32_t> rows) const noexcept {
  PENSTOCK_ASSERT(offset < copy_bytes_ && rows.size() == layout_.rows_per_chunk);
  const size_t index = region_at(offset);
  const Region& region = layout_.regions[index];
  const uint64_t in_region = offset - starts_[index];
  const uint64_t in_page = in_region % region.page_bytes;
  const int32_t row = rows[in_region / region.page_bytes];
  Piece piece{nullptr, region.page_bytes - in_page};
  if (row != kNoRow) {
    const uint64_t address = region.base + static_cast<uint64_t>(row) * region.row_stride + in_page;
    piece.address = reinterpret_cast<std::byte*>(address);
  }
  return piece;
}

CopyMap::Layers CopyMap::layers_of(uint64_t begin, uint64_t end) const noexcept {
  PENSTOCK_ASSERT(begin < end && end <= copy_bytes_);
  return {layout_.regions[region_at(begin)].layer, layout_.regions[region_at(end - 1)].layer};
}

}  // namespace penstock
