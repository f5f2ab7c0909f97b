#include "base/checksum.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "key/identity.hpp"

namespace penstock {
namespace {

std::vector<std::byte> bytes_of(size_t size) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 131 + i / 251);
  return bytes;
}

TEST(Checksum, EveryBitAndEveryPositionCounts) {
  auto bytes = bytes_of(3 * kLeaf + 100);
  const uint64_t right = block_checksum(bytes, 7);
  for (size_t position = 0; position < bytes.size(); position += 97) {
    bytes[position] ^= std::byte{1};
    EXPECT_NE(block_checksum(bytes, 7), right) << position;
    bytes[position] ^= std::byte{1};
  }
  EXPECT_EQ(block_checksum(bytes, 7), right);
  EXPECT_NE(block_checksum(bytes, 8), right);
}

TEST(Checksum, SwappedLeavesDoNotPass) {
  auto bytes = bytes_of(2 * kLeaf);
  const uint64_t right = block_checksum(bytes, 1);
  std::swap_ranges(bytes.begin(), bytes.begin() + kLeaf, bytes.begin() + kLeaf);
  EXPECT_NE(block_checksum(bytes, 1), right);
}

TEST(Checksum, ShortLastLeafIsPaddedWithZeros) {
  auto bytes = bytes_of(kLeaf + 512);
  const uint64_t short_sum = block_checksum(bytes, 3);
  bytes.resize(2 * kLeaf, std::byte{0});
  EXPECT_EQ(block_checksum(bytes, 3), short_sum);
}

// The on-disk format depends on this value: see docs/FORMAT.md.
TEST(Checksum, GoldenValue) {
  EXPECT_EQ(block_checksum(bytes_of(10000), 42), 0x443439438fe04a4aU);
}

TEST(Identity, DependsOnAllOfWhatIsAskedFor) {
  Digest ns;
  CopyName name{.key = {}, .group = 1, .shard = 2};
  const uint64_t seed = block_identity(ns, name, 3, 4096);
  ns.bytes[31] = 1;
  EXPECT_NE(block_identity(ns, name, 3, 4096), seed);
  ns.bytes[31] = 0;
  EXPECT_EQ(block_identity(ns, name, 3, 4096), seed);
  EXPECT_NE(block_identity(ns, name, 4, 4096), seed);
  EXPECT_NE(block_identity(ns, name, 3, 8192), seed);
  name.key.bytes[0] = 1;
  EXPECT_NE(block_identity(ns, name, 3, 4096), seed);
  name.key.bytes[0] = 0;
  name.group = 0;
  EXPECT_NE(block_identity(ns, name, 3, 4096), seed);
  name.group = 1;
  name.shard = 0;
  EXPECT_NE(block_identity(ns, name, 3, 4096), seed);
}

}  // namespace
}  // namespace penstock
