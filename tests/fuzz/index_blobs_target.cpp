// The blobs of a copy's row: where its blocks lie, and their checksums.
#include "base/sizes.hpp"
#include "fuzz/fuzz.hpp"
#include "store/copy_table.hpp"

namespace penstock::fuzz {

const int kRounds = 30'000;

namespace {

constexpr uint64_t kBlock = 4096;

std::vector<PoolRow> pools() {
  std::vector<PoolRow> rows(2);
  rows[0].blocks = 100;
  rows[1].blocks = UINT32_MAX;
  return rows;
}

Bytes seed(uint64_t length, const std::vector<Extent>& extents) {
  Bytes bytes(2 * sizeof length);
  std::memcpy(bytes.data(), &length, sizeof length);
  std::memcpy(bytes.data() + sizeof length, &length, sizeof length);
  bytes.push_back(static_cast<uint8_t>(extents.size() * 12));
  for (const std::byte byte : encode_extents(extents)) bytes.push_back(static_cast<uint8_t>(byte));
  bytes.resize(bytes.size() + div_up(length, kBlock) * sizeof(uint64_t), 0x5a);
  return bytes;
}

}  // namespace

std::vector<Bytes> seeds() {
  return {seed(1, {{0, 0, 1}}), seed(10 * kBlock, {{0, 90, 10}}),
          seed(3 * kBlock - 1, {{0, 5, 1}, {1, 4'000'000'000, 2}})};
}

}  // namespace penstock::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  using namespace penstock::fuzz;
  Input input{data, size};
  CopyRecord record;
  record.length = input.take<uint64_t>();
  record.stored = input.take<uint64_t>();
  const auto extents = std::as_bytes(input.take_bytes(input.take<uint8_t>()));
  const auto checksums = std::as_bytes(input.take_bytes(SIZE_MAX));
  if (!decode_blocks(extents, checksums, kBlock, pools(), record)) return 0;
  uint64_t blocks = 0;
  for (const Extent& extent : record.extents) {
    require(extent.pool < pools().size() && extent.count > 0, "extents are of a pool");
    require(uint64_t{extent.first} + extent.count <= pools()[extent.pool].blocks, "and within it");
    blocks += extent.count;
  }
  require(record.checksums.size() == blocks, "one checksum a block");
  require(record.stored > (blocks - 1) * kBlock && record.stored <= blocks * kBlock,
          "no block too many");
  require(record.stored <= record.length, "nothing is stored at greater length");
  const auto encoded = encode_extents(record.extents);
  require(std::ranges::equal(encoded, extents), "what was read is what was written");
  return 0;
}
