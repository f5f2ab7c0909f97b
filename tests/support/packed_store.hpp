// Packed copies that are put into a store by hand, so that they may be wrong in a chosen way.
#pragma once

#include "base/checksum.hpp"
#include "support/packed_bytes.hpp"
#include "support/store_rig.hpp"

namespace penstock::test {

// Where the head's checksums are wrong while all that is stored is as it was written.
enum class Head : uint8_t { Right, WrongChecksum, WrongMagic };

// `raw` as copy `number` of namespace_spec(), first of its chain. Returns bytes stored; 0: it
// failed.
inline uint64_t save_packed(StoreRig& rig, uint64_t number, std::span<const std::byte> raw,
                            Head head = Head::Right) {
  const uint64_t block = rig.store->block_size();
  const CopyName name = name_of(number);
  const auto checksums_of = [&](std::span<const std::byte> bytes, CopyForm form) {
    std::vector<uint64_t> checksums;
    for (uint64_t begin = 0; begin < bytes.size(); begin += block) {
      const auto ordinal = static_cast<uint32_t>(begin / block);
      checksums.push_back(
          block_checksum(bytes.subspan(begin, std::min(block, bytes.size() - begin)),
                         block_identity(namespace_spec().digest, name, ordinal, raw.size(), form)));
    }
    return checksums;
  };
  auto raw_checksums = checksums_of(raw, CopyForm::Raw);
  if (head == Head::WrongChecksum) ++raw_checksums.back();
  auto packed = packed_bytes(raw, raw_checksums, Method::Zstd, 2, 6000);
  if (head == Head::WrongMagic) packed[0] = std::byte{'X'};
  CopyInsert copy;
  copy.name = name;
  copy.length = raw.size();
  copy.stored = packed.size();
  copy.checksums = checksums_of(packed, CopyForm::Packed);
  copy.extents = rig.reserve({{name, raw.size()}}).front().extents;
  if (copy.extents.size() != 1) return 0;
  AlignedBuffer buffer{round_up(packed.size(), kSector)};
  std::ranges::copy(packed, buffer.data());
  const auto at = static_cast<off_t>(Store::pool_data_offset() + copy.extents[0].first * block);
  if (::pwrite(rig.store->pool_fd(0), buffer.data(), buffer.size(), at) !=
      static_cast<ssize_t>(buffer.size()))
    return 0;
  return rig.commit({copy}).front() == Status::Ok ? packed.size() : 0;
}

}  // namespace penstock::test
