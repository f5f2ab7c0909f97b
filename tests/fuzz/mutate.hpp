// Mutator: an endless row of inputs, each a seed with some changes. The same row for the same
// number.
#pragma once

#include <algorithm>
#include <random>

#include "fuzz/fuzz.hpp"

namespace penstock::fuzz {

class Mutator {
 public:
  Mutator(std::vector<Bytes> corpus, uint64_t number)
      : corpus_{std::move(corpus)}, random_{number} {}

  Bytes next() {
    Bytes bytes = corpus_[below(corpus_.size())];
    for (uint64_t changes = 1 + below(8); changes > 0; --changes) change(bytes);
    return bytes;
  }

 private:
  static constexpr size_t kMost = 1 << 20;

  uint64_t below(uint64_t limit) { return limit == 0 ? 0 : random_() % limit; }

  void change(Bytes& bytes) {
    const uint64_t at = below(bytes.size());
    const uint64_t left = bytes.size() - at;
    switch (below(7)) {
      case 0:
        if (left > 0) bytes[at] ^= static_cast<uint8_t>(1 << below(8));
        break;
      case 1:
        if (left > 0) bytes[at] = static_cast<uint8_t>(random_());
        break;
      case 2:
        overwrite(bytes, at);
        break;
      case 3: {  // a part is gone
        const auto part = static_cast<std::ptrdiff_t>(below(std::min<uint64_t>(left, 64) + 1));
        bytes.erase(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                    bytes.begin() + static_cast<std::ptrdiff_t>(at) + part);
        break;
      }
      case 4:  // the end is gone
        bytes.resize(at);
        break;
      case 5:  // noise comes in
        insert(bytes, at, noise());
        break;
      case 6: {  // a part of some seed comes in
        const Bytes& other = corpus_[below(corpus_.size())];
        const uint64_t from = below(other.size());
        const uint64_t size = below(std::min<uint64_t>(other.size() - from, 256) + 1);
        const auto begin = other.begin() + static_cast<std::ptrdiff_t>(from);
        insert(bytes, at, Bytes(begin, begin + static_cast<std::ptrdiff_t>(size)));
        break;
      }
    }
  }

  // Powers of two and their neighbours, of 1, 2, 4 or 8 bytes: where arithmetic goes wrong.
  void overwrite(Bytes& bytes, uint64_t at) {
    const uint64_t number = (uint64_t{1} << below(64)) + below(3) - 1;
    const uint64_t size = std::min<uint64_t>(uint64_t{1} << below(4), bytes.size() - at);
    if (size > 0) std::memcpy(bytes.data() + at, &number, size);
  }

  Bytes noise() {
    Bytes bytes(1 + below(16));
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random_());
    return bytes;
  }

  void insert(Bytes& bytes, uint64_t at, const Bytes& part) {
    if (bytes.size() + part.size() <= kMost)
      bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), part.begin(), part.end());
  }

  std::vector<Bytes> corpus_;
  std::mt19937_64 random_;
};

}  // namespace penstock::fuzz
