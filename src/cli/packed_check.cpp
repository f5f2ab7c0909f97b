#include "cli/packed_check.hpp"

#include <algorithm>

#include "base/checksum.hpp"
#include "base/sizes.hpp"
#include "codec/slices.hpp"
#include "key/identity.hpp"

namespace penstock::cli {

Result<std::unique_ptr<PackedCheck>> PackedCheck::create() {
  auto coder = Coder::create(kMaxSlice);
  if (!coder) return coder.take_error();
  return std::unique_ptr<PackedCheck>{new PackedCheck{std::move(*coder)}};
}

const char* PackedCheck::run(const Digest& name_space, const CopyRow& row, uint64_t block_size,
                             std::span<const std::byte> packed) {
  const uint64_t bytes = row.record.length;
  const auto head = PackedCopy::decode(packed, bytes, div_up(bytes, block_size));
  if (!head) return "its head makes no sense";
  std::vector<std::byte> raw(bytes);
  for (const PackedSlice& slice : head->slices)
    if (!unpack_slice(*coder_, slice, packed.subspan(slice.packed_begin, slice.packed_bytes()),
                      std::span{raw}.subspan(slice.begin, slice.bytes)))
      return "it cannot be unpacked";
  for (size_t i = 0; i < head->checksums.size(); ++i) {
    const uint64_t begin = i * block_size;
    const auto block = std::span{raw}.subspan(begin, std::min(block_size, bytes - begin));
    const uint64_t identity =
        block_identity(name_space, row.name, static_cast<uint32_t>(i), bytes, CopyForm::Raw);
    if (block_checksum(block, identity) != head->checksums[i])
      return "unpacked, its bytes are not the ones that were saved";
  }
  return nullptr;
}

}  // namespace penstock::cli
