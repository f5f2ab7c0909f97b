#include "cli/kv_pattern.hpp"

#include <cstring>

namespace penstock::cli {
namespace {

// The finalizer of splitmix64: neighbouring inputs give unrelated outputs.
uint64_t mix(uint64_t value) noexcept {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

uint64_t page_seed(const Key& key, uint32_t layer, uint32_t index) noexcept {
  uint64_t prefix = 0;
  std::memcpy(&prefix, key.bytes.data(), sizeof prefix);
  return mix(prefix ^ mix((uint64_t{layer} << 32 | index) + 1));
}

constexpr uint64_t kStep = 0x9e3779b97f4a7c15u;

}  // namespace

void fill_page(std::span<std::byte> page, const Key& key, uint32_t layer, uint32_t index) noexcept {
  const uint64_t seed = page_seed(key, layer, index);
  for (uint64_t i = 0; i < page.size() / sizeof(uint64_t); ++i) {
    const uint64_t word = mix(seed + i * kStep);
    std::memcpy(page.data() + i * sizeof word, &word, sizeof word);
  }
}

uint64_t count_wrong_bytes(std::span<const std::byte> page, const Key& key, uint32_t layer,
                           uint32_t index) noexcept {
  const uint64_t seed = page_seed(key, layer, index);
  uint64_t wrong = 0;
  for (uint64_t i = 0; i < page.size() / sizeof(uint64_t); ++i) {
    uint64_t word = 0;
    std::memcpy(&word, page.data() + i * sizeof word, sizeof word);
    uint64_t difference = word ^ mix(seed + i * kStep);
    for (; difference != 0; difference >>= 8) wrong += (difference & 0xff) != 0;
  }
  return wrong;
}

}  // namespace penstock::cli
