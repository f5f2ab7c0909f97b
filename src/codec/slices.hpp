// One slice of a copy, packed and unpacked. Pure but for the Coder's memory; one thread a Coder.
#pragma once

#include <span>

#include "codec/coder.hpp"
#include "codec/packed_copy.hpp"

namespace penstock {

// Packs `raw` to the front of `packed`; says how in `slice.planes`. What does not get smaller is
// stored as it is. Requires: slice.bytes bytes on both sides, and a Coder for slices of that size.
void pack_slice(Coder& coder, Method method, std::span<const std::byte> raw, PackedSlice& slice,
                std::span<std::byte> packed) noexcept;

// The other way. False: `packed` is not what pack_slice() made; `raw` then holds undefined bytes.
// Requires: slice.packed_bytes() and slice.bytes bytes.
bool unpack_slice(Coder& coder, const PackedSlice& slice, std::span<const std::byte> packed,
                  std::span<std::byte> raw) noexcept;

}  // namespace penstock
