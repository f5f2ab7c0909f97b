// copy_checksum: one number that proves the bytes of a whole copy, for places that keep copies
// without an index of ours (a user's backend). Made from what was asked for, as every checksum of
// ours.
//
// The copy in pieces of 1 MiB, each with the identity of a block of that ordinal; then XXH3-64 over
// these checksums, with the identity of the ordinal that no block has, 2^32 - 1, as the seed. Pure;
// any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "key/identity.hpp"

namespace penstock {

uint64_t copy_checksum(const Digest& name_space, const CopyName& name,
                       std::span<const std::byte> copy);

}  // namespace penstock
