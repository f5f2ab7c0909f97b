#include "support/kv_memory.hpp"

#include <bit>
#include <random>

namespace penstock::test {

void fill_with(Content content, uint64_t seed, std::span<std::byte> bytes) {
  std::mt19937_64 random{seed};
  if (content == Content::Zeros) return void(std::memset(bytes.data(), 0, bytes.size()));
  if (content == Content::Noise) {
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    return;
  }
  std::normal_distribution<float> values{0.1F, 1.5F};
  for (size_t i = 0; i + 2 <= bytes.size(); i += 2) {
    const auto bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(values(random)) >> 16);
    std::memcpy(bytes.data() + i, &bits, sizeof bits);
  }
}

}  // namespace penstock::test
