// KvMemory: pages of one group that hold numbers as a model's KV has them, noise, or zeros; and a
// copy of them to compare with. For tests of compression.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "penstock/region.hpp"

namespace penstock::test {

enum class Content : uint8_t { Bf16, Noise, Zeros };

void fill_with(Content content, uint64_t seed, std::span<std::byte> bytes);

class KvMemory {
 public:
  // Rows of all layers, with gaps between the pages; `kv` regions a layer.
  KvMemory(uint32_t layers, uint32_t rows, uint64_t page, uint32_t rows_per_chunk,
           uint32_t element = 2, uint32_t kv = 1)
      : page_{page}, stride_{page + kGap}, rows_{rows}, memory_(layers * kv * rows * stride_) {
    layout_.rows_per_chunk = rows_per_chunk;
    for (uint32_t i = 0; i < layers * kv; ++i) {
      const auto base = reinterpret_cast<uint64_t>(memory_.data() + i * rows * stride_);
      layout_.regions.push_back({base, rows, stride_, page, i / kv, element});
    }
  }
  const GroupLayout& layout() const { return layout_; }
  std::span<std::byte> memory() { return memory_; }
  void fill(Content content, uint64_t seed) {
    for (uint32_t row = 0; row < rows_; ++row)
      for (size_t region = 0; region < layout_.regions.size(); ++region)
        fill_with(content, (seed * rows_ + row) * 1000 + region, page(region, row));
    saved_ = memory_;
  }
  void wipe() {
    for (size_t region = 0; region < layout_.regions.size(); ++region)
      for (uint32_t row = 0; row < rows_; ++row) std::memset(page(region, row).data(), 0x5a, page_);
  }
  void restore() { std::ranges::copy(saved_, memory_.begin()); }
  bool holds(uint32_t row) const {
    for (size_t region = 0; region < layout_.regions.size(); ++region)
      if (std::memcmp(memory_.data() + at(region, row), saved_.data() + at(region, row), page_) !=
          0)
        return false;
    return true;
  }
  // No byte between the pages has changed.
  bool gaps_intact() const {
    for (size_t i = 0; i < memory_.size(); i += stride_)
      for (size_t at = i + page_; at < i + stride_; ++at)
        if (memory_[at] != std::byte{}) return false;
    return true;
  }

 private:
  static constexpr uint64_t kGap = 64;
  size_t at(size_t region, uint32_t row) const { return (region * rows_ + row) * stride_; }
  std::span<std::byte> page(size_t region, uint32_t row) {
    return std::span{memory_}.subspan(at(region, row), page_);
  }

  uint64_t page_, stride_;
  uint32_t rows_;
  std::vector<std::byte> memory_, saved_;
  GroupLayout layout_;
};

}  // namespace penstock::test
