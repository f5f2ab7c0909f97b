// A store that version 3 of the format has written, byte for byte, opens and reads back.
//
// tests/golden/v3 holds its index and the beginning of its pool. It was made once, by the disabled
// test below; a format that reads it differently is another version.
#include <gtest/gtest.h>

#include "support/packed_bytes.hpp"
#include "support/store_worker.hpp"

namespace penstock::test {
namespace {

const std::string kGolden = std::string{PENSTOCK_SOURCE_DIR} + "/tests/golden/v3";
constexpr uint64_t kCopies = 6;  // a chain; copy i has 1 + i % 3 blocks, the last one partly used
constexpr uint64_t kBlock = 4096;

uint64_t length_of(uint64_t number) {
  return (number % 3) * kBlock + 1000 + number;
}

// The bytes of a block: a pattern up to the copy's end, then zeros.
AlignedBuffer block_of(uint64_t number, uint64_t ordinal) {
  AlignedBuffer buffer{kBlock};
  for (uint64_t i = 0; i < kBlock && ordinal * kBlock + i < length_of(number); ++i)
    buffer.data()[i] = static_cast<std::byte>(number * 31 + ordinal * 7 + i * 13);
  return buffer;
}

// One copy more is packed: numbers of two bytes in two slices.
constexpr uint64_t kPacked = kCopies + 1, kPackedLength = 3 * kBlock - 200, kSlice = 8000;

std::vector<std::byte> packed_content() {
  std::vector<std::byte> raw(kPackedLength);
  std::mt19937 random;  // the same row everywhere
  for (uint32_t i = 0; 2 * i < raw.size(); ++i) {
    const auto number = static_cast<uint16_t>(0x3e00 + random() % 512);
    std::memcpy(raw.data() + 2 * i, &number, sizeof number);
  }
  return raw;
}

uint64_t checksum_of(std::span<const std::byte> whole, uint32_t ordinal, CopyForm form) {
  const uint64_t begin = ordinal * kBlock;
  return block_checksum(
      whole.subspan(begin, std::min(kBlock, whole.size() - begin)),
      block_identity(namespace_spec().digest, name_of(kPacked), ordinal, kPackedLength, form));
}

std::vector<std::byte> read_stored(int fd, const CopyRecord& record) {
  std::vector<std::byte> stored;
  AlignedBuffer buffer{kBlock};
  for (const Extent& extent : record.extents) {
    for (uint32_t i = 0; i < extent.count; ++i) {
      const auto offset =
          static_cast<off_t>(Store::pool_data_offset() + (extent.first + i) * kBlock);
      EXPECT_EQ(::pread(fd, buffer.data(), kBlock, offset), static_cast<ssize_t>(kBlock));
      stored.insert(stored.end(), buffer.data(), buffer.data() + kBlock);
    }
  }
  stored.resize(record.stored);
  return stored;
}

void expect_packed_copy(StoreRig& rig) {
  const CopyRecord record = rig.find({name_of(kPacked)}).front();
  ASSERT_EQ(record.status, Status::Ok);
  EXPECT_EQ(record.length, kPackedLength);
  ASSERT_EQ(record.checksums.size(), 2u);
  const auto stored = read_stored(rig.store->pool_fd(0), record);
  for (uint32_t i = 0; i < 2; ++i)
    EXPECT_EQ(record.checksums[i], checksum_of(stored, i, CopyForm::Packed));
  const auto head = PackedCopy::decode(stored, kPackedLength, 3);
  ASSERT_TRUE(head);
  ASSERT_EQ(head->slices.size(), 2u);
  EXPECT_EQ(head->slices[0].planes[1].method, Method::Zstd);
  const auto raw = unpacked_bytes(stored, kPackedLength, 3);
  ASSERT_TRUE(raw);
  EXPECT_EQ(*raw, packed_content());
  for (uint32_t i = 0; i < 3; ++i)
    EXPECT_EQ(head->checksums[i], checksum_of(*raw, i, CopyForm::Raw));
}

TEST(StoreGolden, Version3ReadsBack) {
  TempDir directory;
  const std::string home = directory / "cache";
  std::filesystem::copy(kGolden, home);
  const StoreOptions options = options_for(home, 8 << 20, kBlock);
  StoreRig rig{options};
  EXPECT_FALSE(rig.store->facts().contains("began_anew"));
  EXPECT_EQ(rig.ns, 1);
  std::vector<Key> chain;
  for (uint64_t number = 1; number <= kCopies; ++number) {
    chain.push_back(key_of(number));
    const CopyRecord record = rig.find({name_of(number)}).front();
    ASSERT_EQ(record.status, Status::Ok) << number;
    EXPECT_EQ(record.length, length_of(number));
    EXPECT_EQ(read_copy(rig.store->pool_fd(0), kBlock, name_of(number), record), Status::Ok);
    uint64_t ordinal = 0;
    for (const Extent& extent : record.extents) {
      for (uint32_t i = 0; i < extent.count; ++i, ++ordinal) {
        const AlignedBuffer expected = block_of(number, ordinal);
        const uint64_t identity = block_identity(namespace_spec().digest, name_of(number),
                                                 static_cast<uint32_t>(ordinal), record.length);
        EXPECT_EQ(record.checksums[ordinal], block_checksum(expected.span(), identity));
      }
    }
  }
  chain.push_back(key_of(kPacked));
  EXPECT_EQ(rig.lookup(chain), kPacked);
  expect_packed_copy(rig);
  EXPECT_EQ(rig.save(kPacked + 1, kPacked), Status::Ok);
  EXPECT_EQ(audit(home), "");
}

void save_packed_copy(StoreRig& rig) {
  const auto raw = packed_content();
  std::vector<uint64_t> checksums;
  for (uint32_t i = 0; i < 3; ++i) checksums.push_back(checksum_of(raw, i, CopyForm::Raw));
  const auto packed = packed_bytes(raw, checksums, Method::Zstd, 2, kSlice);
  AlignedBuffer stored{2 * kBlock};
  ASSERT_LE(packed.size(), stored.size());
  std::ranges::copy(packed, stored.data());
  CopyInsert copy{
      name_of(kPacked),
      key_of(kCopies),
      kPackedLength,
      std::move(rig.reserve({{name_of(kPacked), kPackedLength}}).front().extents),
      {checksum_of(packed, 0, CopyForm::Packed), checksum_of(packed, 1, CopyForm::Packed)}};
  copy.stored = packed.size();
  ASSERT_EQ(copy.extents.size(), 1u);
  const auto offset =
      static_cast<off_t>(Store::pool_data_offset() + copy.extents[0].first * kBlock);
  ASSERT_EQ(::pwrite(rig.store->pool_fd(0), stored.data(), 2 * kBlock, offset),
            static_cast<ssize_t>(2 * kBlock));
  ASSERT_EQ(rig.commit({copy}).front(), Status::Ok);
}

// Run it with --gtest_also_run_disabled_tests, in a mount where the path may be made: the index
// remembers it, and it is the one of the documentation's examples.
TEST(StoreGolden, DISABLED_MakeVersion3) {
  const std::string home = "/mnt/nvme/llm_cache";
  ASSERT_FALSE(std::filesystem::exists(home));
  std::filesystem::create_directories("/mnt/nvme");
  {
    StoreRig rig{options_for(home, 8 << 20, kBlock)};
    for (uint64_t number = 1; number <= kCopies; ++number) {
      CopyInsert copy{
          name_of(number),
          number == 1 ? Key{} : key_of(number - 1),
          length_of(number),
          std::move(rig.reserve({{name_of(number), length_of(number)}}).front().extents),
          {}};
      for (const Extent& extent : copy.extents) {
        for (uint32_t i = 0; i < extent.count; ++i) {
          const auto ordinal = static_cast<uint32_t>(copy.checksums.size());
          const AlignedBuffer bytes = block_of(number, ordinal);
          copy.checksums.push_back(block_checksum(
              bytes.span(),
              block_identity(namespace_spec().digest, copy.name, ordinal, copy.length)));
          const auto offset =
              static_cast<off_t>(Store::pool_data_offset() + (extent.first + i) * kBlock);
          ASSERT_EQ(::pwrite(rig.store->pool_fd(0), bytes.data(), kBlock, offset),
                    static_cast<ssize_t>(kBlock));
        }
      }
      ASSERT_EQ(rig.commit({copy}).front(), Status::Ok);
    }
    save_packed_copy(rig);
  }
  std::filesystem::create_directories(kGolden);
  std::filesystem::copy_file(home + "/penstock.db", kGolden + "/penstock.db");
  std::filesystem::copy_file(home + "/pool.data", kGolden + "/pool.data");
  // Blocks that no copy uses are not worth keeping; an open gives the file its length again.
  std::filesystem::resize_file(kGolden + "/pool.data", 4096 + 15 * kBlock);
  std::filesystem::remove_all(home);
}

}  // namespace
}  // namespace penstock::test
