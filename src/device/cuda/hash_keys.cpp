#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstring>

#include "device/cuda/copy_kernels.hpp"

namespace penstock::cuda {
namespace {

void read_words(uint64_t* words, size_t count, size_t offset) noexcept {
  std::memcpy(words, XXH3_kSecret + offset, count * sizeof(uint64_t));
}

}  // namespace

HashKeys hash_keys() noexcept {
  HashKeys keys{};
  read_words(keys.stripe, 24, 0);
  read_words(keys.last, 8, XXH_SECRET_DEFAULT_SIZE - 64 - 7);
  read_words(keys.merge, 8, 11);
  const uint64_t initial[8] = {XXH_PRIME32_3, XXH_PRIME64_1, XXH_PRIME64_2, XXH_PRIME64_3,
                               XXH_PRIME64_4, XXH_PRIME32_2, XXH_PRIME64_5, XXH_PRIME32_1};
  std::memcpy(keys.initial, initial, sizeof(initial));
  return keys;
}

}  // namespace penstock::cuda
