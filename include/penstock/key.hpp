// Key and Digest: the two 32-byte names that together say what a copy's bytes are.
//
// A Key names one chunk of tokens *and everything before it* (SHA-256 chained over the prefix, or
// an engine's own chained block hash). A Digest names all else that must match (the namespace:
// model, dtypes, layout, parallel shape, format version). Plain values; any thread.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>

namespace penstock {

struct Key {
  std::array<uint8_t, 32> bytes{};
  friend auto operator<=>(const Key&, const Key&) = default;
  // The all-zero key stands for "no parent": the chunk is the first of its chain.
  bool is_root() const noexcept { return *this == Key{}; }
  std::string hex() const;
};

struct Digest {
  std::array<uint8_t, 32> bytes{};
  friend auto operator<=>(const Digest&, const Digest&) = default;
  std::string hex() const;
};

}  // namespace penstock
