// PageMemory: KV pages of one group in host memory, laid out like an engine's paged cache: one
// region a layer, `rows` pages in each.
//
// Owns the memory (anonymous, touched at creation, so that page faults are in no measurement).
// Move-only; the pages may be used by any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "penstock/region.hpp"
#include "penstock/status.hpp"

namespace penstock::cli {

// The shape of one chunk's KV.
struct Geometry {
  uint32_t layers = 1;
  uint64_t page_bytes = 0;
  uint32_t rows_per_chunk = 1;
  uint64_t chunk_bytes() const noexcept { return layers * page_bytes * rows_per_chunk; }
};

class PageMemory {
 public:
  static Result<PageMemory> create(const Geometry& geometry, uint64_t rows);
  PageMemory(PageMemory&& other) noexcept
      : geometry_{other.geometry_}, rows_{other.rows_}, memory_{std::exchange(other.memory_, {})} {}
  PageMemory& operator=(PageMemory&&) = delete;
  ~PageMemory();

  GroupLayout layout() const;
  std::span<std::byte> page(uint32_t layer, uint64_t row) const noexcept {
    return memory_.subspan((layer * rows_ + row) * geometry_.page_bytes, geometry_.page_bytes);
  }
  const Geometry& geometry() const noexcept { return geometry_; }
  uint64_t rows() const noexcept { return rows_; }

 private:
  PageMemory(const Geometry& geometry, uint64_t rows, std::span<std::byte> memory)
      : geometry_{geometry}, rows_{rows}, memory_{memory} {}

  Geometry geometry_;
  uint64_t rows_ = 0;
  std::span<std::byte> memory_;
};

// The numbers 0 to count-1 in an order that looks random and is the same in every run: an engine
// hands out pages in no order.
std::vector<int32_t> scattered_rows(uint64_t count);

}  // namespace penstock::cli
