// Layouts of KV memory, as a connector describes them: what is accepted must be safe to walk.
#include "device/copy_map.hpp"
#include "fuzz/fuzz.hpp"

namespace penstock::fuzz {

const int kRounds = 30'000;

namespace {

struct RegionFields {
  uint64_t base, rows, row_stride, page_bytes;
  uint32_t layer, unused;
};

Bytes seed(uint32_t rows_per_chunk, const std::vector<RegionFields>& regions) {
  Bytes bytes(sizeof rows_per_chunk + regions.size() * sizeof(RegionFields));
  std::memcpy(bytes.data(), &rows_per_chunk, sizeof rows_per_chunk);
  std::memcpy(bytes.data() + sizeof rows_per_chunk, regions.data(),
              regions.size() * sizeof(RegionFields));
  return bytes;
}

void walk(const GroupLayout& layout, const CopyMap& map) {
  require(map.copy_bytes() > 0 && map.copy_bytes() <= CopyMap::kMaxCopyBytes, "a copy has a size");
  uint64_t bytes = 0;
  for (const Region& region : layout.regions) {
    uint64_t end = (region.rows - 1) * region.row_stride;
    require(!__builtin_add_overflow(end, region.page_bytes, &end) &&
                !__builtin_add_overflow(end, region.base, &end),
            "regions end within the address space");
    bytes += region.page_bytes * layout.rows_per_chunk;
  }
  require(bytes == map.copy_bytes(), "and it is the sum of its pages");
  require(!map.row_is_valid(-2) && !map.row_is_valid(INT32_MAX), "rows are counted");
  if (layout.rows_per_chunk > 1000) return;
  uint64_t rows = UINT64_MAX;
  for (const Region& region : layout.regions) rows = std::min(rows, region.rows);
  const auto last = static_cast<int32_t>(rows - 1);
  require(map.row_is_valid(last) && map.row_is_valid(kNoRow), "the last row is one");
  const std::vector<int32_t> chunk(layout.rows_per_chunk, last);
  for (const uint64_t offset : {uint64_t{0}, map.copy_bytes() / 2, map.copy_bytes() - 1}) {
    const Piece piece = map.piece_at(offset, chunk);
    const auto address = reinterpret_cast<uint64_t>(piece.address);
    bool inside = false;
    for (const Region& region : layout.regions) {
      const uint64_t page = region.base + (rows - 1) * region.row_stride;
      inside |= address >= page && address + piece.size == page + region.page_bytes;
    }
    require(piece.size > 0 && inside, "a piece is the rest of a page");
    require(map.layers_of(offset, offset + 1).last < map.layer_count(), "layers are counted");
  }
}

}  // namespace

std::vector<Bytes> seeds() {
  return {seed(16, {{0x7f0000000000, 1000, 4096, 4096, 0, 0},
                    {0x7f1000000000, 1000, 4096, 4096, 1, 0}}),
          seed(1, {{64, 1, 0, 1, 0, 0}}),
          seed(1, {{64, 1, 0, 2, 0, 0}, {65, 1, 0, 2, 0, 0}}),   // they overlap
          seed(1 << 30, {{64, 1, 0, uint64_t{1} << 34, 0, 0}}),  // their product is 0
          seed(4, {{0x1000, 9, 8192, 4096, 3, 0}, {0x2000, 9, 8192, 4096, 3, 0}})};
}

}  // namespace penstock::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  using namespace penstock::fuzz;
  Input input{data, size};
  GroupLayout layout;
  layout.rows_per_chunk = input.take<uint32_t>();
  while (!input.empty() && layout.regions.size() < 8) {
    const auto fields = input.take<RegionFields>();
    layout.regions.push_back(
        {fields.base, fields.rows, fields.row_stride, fields.page_bytes, fields.layer});
  }
  const auto map = CopyMap::create(layout);
  if (map) walk(layout, *map);
  if (!map) require(!map.error().message.empty(), "a refusal says why");
  return 0;
}
