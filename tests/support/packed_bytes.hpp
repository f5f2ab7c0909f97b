// A copy as it is packed, and unpacked, in one piece. For tests of everything that reads such
// bytes.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "codec/slices.hpp"

namespace penstock::test {

using RawBytes = std::vector<std::byte>;

inline Coder& shared_coder() {
  static const auto made = Coder::create(kMaxSlice);
  return **made;
}

// `raw` in slices of `cut` bytes, of numbers of `element` bytes.
inline RawBytes packed_bytes(std::span<const std::byte> raw, std::vector<uint64_t> checksums,
                             Method method, uint32_t element, uint32_t cut) {
  std::vector<RawSlice> slices;
  for (uint64_t at = 0; at < raw.size(); at += slices.back().bytes)
    slices.push_back(
        {at, static_cast<uint32_t>(std::min<uint64_t>(cut, raw.size() - at)), element});
  PackedCopy copy;
  copy.raw_bytes = raw.size();
  copy.checksums = std::move(checksums);
  uint64_t end = PackedCopy::head_bytes(copy.checksums.size(), slices);
  RawBytes packed(end + raw.size());
  for (const RawSlice& slice : slices) {
    PackedSlice made{slice, end, {}};
    pack_slice(shared_coder(), method, raw.subspan(slice.begin, slice.bytes), made,
               std::span{packed}.subspan(end));
    end += made.packed_bytes();
    copy.slices.push_back(made);
  }
  packed.resize(copy.packed_bytes = end);
  copy.encode(packed);
  return packed;
}

// What comes out; nullopt: it was refused.
inline std::optional<RawBytes> unpacked_bytes(std::span<const std::byte> packed, uint64_t raw_bytes,
                                              size_t blocks) {
  const auto copy = PackedCopy::decode(packed, raw_bytes, blocks);
  if (!copy) return std::nullopt;
  RawBytes raw(raw_bytes);
  for (const PackedSlice& slice : copy->slices) {
    if (!unpack_slice(shared_coder(), slice,
                      packed.subspan(slice.packed_begin, slice.packed_bytes()),
                      std::span{raw}.subspan(slice.begin, slice.bytes)))
      return std::nullopt;
  }
  return raw;
}

}  // namespace penstock::test
