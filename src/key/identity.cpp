#include "key/identity.hpp"

#include <bit>
#include <cstring>

#include "base/sha256.hpp"

namespace penstock {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

std::string to_hex(const std::array<uint8_t, 32>& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(64);
  for (uint8_t byte : bytes) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

}  // namespace

std::string Key::hex() const {
  return to_hex(bytes);
}
std::string Digest::hex() const {
  return to_hex(bytes);
}

uint64_t block_identity(const Digest& name_space, const CopyName& name, uint32_t ordinal,
                        uint64_t copy_bytes, CopyForm form) noexcept {
  struct {
    uint32_t group, shard, ordinal, form;
    uint64_t copy_bytes;
  } const tail{name.group, name.shard, ordinal, static_cast<uint32_t>(form), copy_bytes};
  static_assert(sizeof(tail) == 24);
  const auto digest =
      sha256({std::as_bytes(std::span{name_space.bytes}), std::as_bytes(std::span{name.key.bytes}),
              std::as_bytes(std::span{&tail, 1})});
  uint64_t seed = 0;
  std::memcpy(&seed, digest.data(), sizeof(seed));
  return seed;
}

Key chain_key(const Key& parent, const uint32_t* tokens, size_t count) noexcept {
  return Key{
      sha256({std::as_bytes(std::span{parent.bytes}), std::as_bytes(std::span{tokens, count})})};
}

}  // namespace penstock
