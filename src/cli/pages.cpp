#include "cli/pages.hpp"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <random>

namespace penstock::cli {

Result<PageMemory> PageMemory::create(const Geometry& geometry, uint64_t rows) {
  const size_t size = geometry.layers * rows * geometry.page_bytes;
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED)
    return Error{Status::NoSpace,
                 fmt::format("{} bytes of memory for pages: {}", size, std::strerror(errno))};
  return PageMemory{geometry, rows, {static_cast<std::byte*>(memory), size}};
}

PageMemory::~PageMemory() {
  if (!memory_.empty()) munmap(memory_.data(), memory_.size());
}

GroupLayout PageMemory::layout() const {
  GroupLayout layout{.rows_per_chunk = geometry_.rows_per_chunk, .regions = {}};
  for (uint32_t layer = 0; layer < geometry_.layers; ++layer)
    layout.regions.push_back({.base = reinterpret_cast<uint64_t>(page(layer, 0).data()),
                              .rows = rows_,
                              .row_stride = geometry_.page_bytes,
                              .page_bytes = geometry_.page_bytes,
                              .layer = layer});
  return layout;
}

std::vector<int32_t> scattered_rows(uint64_t count) {
  std::vector<int32_t> rows(count);
  std::iota(rows.begin(), rows.end(), 0);
  std::shuffle(rows.begin(), rows.end(), std::mt19937_64{20});
  return rows;
}

}  // namespace penstock::cli
