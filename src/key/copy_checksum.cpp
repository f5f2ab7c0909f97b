#include "key/copy_checksum.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "base/checksum.hpp"

namespace penstock {

uint64_t copy_checksum(const Digest& name_space, const CopyName& name,
                       std::span<const std::byte> copy) {
  constexpr size_t kPiece = 1024 * 1024;
  constexpr uint32_t kWhole = std::numeric_limits<uint32_t>::max();
  std::vector<uint64_t> pieces;
  for (size_t at = 0; at < copy.size(); at += kPiece) {
    const auto ordinal = static_cast<uint32_t>(pieces.size());
    pieces.push_back(block_checksum(copy.subspan(at, std::min(kPiece, copy.size() - at)),
                                    block_identity(name_space, name, ordinal, copy.size())));
  }
  return combine_leaves(pieces, block_identity(name_space, name, kWhole, copy.size()));
}

}  // namespace penstock
