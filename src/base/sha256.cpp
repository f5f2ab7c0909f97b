#include "base/sha256.hpp"

#include <openssl/evp.h>

#include <memory>

#include "base/assert.hpp"

namespace penstock {

std::array<uint8_t, 32> sha256(std::initializer_list<std::span<const std::byte>> parts) noexcept {
  struct Free {
    void operator()(EVP_MD_CTX* context) const noexcept { EVP_MD_CTX_free(context); }
  };
  // Looked up once: EVP_sha256() is looked up again by each hash, which takes longer than a short
  // one. Never freed: threads may hash until the process ends.
  static EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  thread_local std::unique_ptr<EVP_MD_CTX, Free> context{EVP_MD_CTX_new()};
  // Fails only when memory is exhausted.
  PENSTOCK_ASSERT(algorithm && context &&
                  EVP_DigestInit_ex(context.get(), algorithm, nullptr) == 1);
  for (const auto& part : parts) {
    PENSTOCK_ASSERT(EVP_DigestUpdate(context.get(), part.data(), part.size()) == 1);
  }
  std::array<uint8_t, 32> digest{};
  PENSTOCK_ASSERT(EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) == 1);
  return digest;
}

}  // namespace penstock
