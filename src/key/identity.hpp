// The identity of a block: the seed of its checksum, made from what was *asked for*.
//
// The first 8 bytes (little-endian) of SHA-256 over namespace digest, key, group, shard, ordinal of
// the block within its copy, the form that it is stored in, and the copy's length in bytes. A block
// of another copy, of another place in the same copy, of another form or of another layout
// therefore never passes. Pure; any thread.
#pragma once

#include <cstdint>

#include "penstock/key.hpp"

namespace penstock {

struct CopyName {
  Key key;
  uint32_t group = 0;
  uint32_t shard = 0;
  friend auto operator<=>(const CopyName&, const CopyName&) = default;
};

// Raw: the bytes are the copy's. Packed: they are those of its compressed form (codec/).
enum class CopyForm : uint32_t { Raw = 0, Packed = 1 };

uint64_t block_identity(const Digest& name_space, const CopyName& name, uint32_t ordinal,
                        uint64_t copy_bytes, CopyForm form = CopyForm::Raw) noexcept;

// The key of a chunk of token ids (uint32, little-endian) after `parent`: SHA-256 over both.
Key chain_key(const Key& parent, const uint32_t* tokens, size_t count) noexcept;

}  // namespace penstock
