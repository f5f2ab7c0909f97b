// A fuzz target is one file: a function over arbitrary bytes, after which nothing may have crashed
// and what the function requires must hold; and the seeds that mutations start from.
//
// Each is two programs: a test over the seeds and mutations of them (mutation_test.cpp, part of
// `make test`), and with clang one that libFuzzer drives (`make fuzz`). One thread calls it.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

// The name is libFuzzer's. Returns 0.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace penstock::fuzz {

using Bytes = std::vector<uint8_t>;

std::vector<Bytes> seeds();  // by the target
extern const int kRounds;    // by the target: mutations of a test, about a second of them

inline Bytes bytes_of(std::string_view text) {
  return {text.begin(), text.end()};
}

// Thrown, not asserted: a test says which input it was.
inline void require(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

// Takes values from the front of the input; zeros when it is used up.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : left_{data, size} {}
  bool empty() const { return left_.empty(); }
  template <typename T>
  T take() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    const auto part = take_bytes(sizeof(T));
    if (!part.empty()) std::memcpy(&value, part.data(), part.size());
    return value;
  }
  uint64_t below(uint64_t limit) { return take<uint16_t>() % limit; }
  std::span<const uint8_t> take_bytes(size_t size) {
    const auto part = left_.first(std::min(size, left_.size()));
    left_ = left_.subspan(part.size());
    return part;
  }
  std::string take_text(size_t size) {
    const auto part = take_bytes(size);
    return {part.begin(), part.end()};
  }

 private:
  std::span<const uint8_t> left_;
};

}  // namespace penstock::fuzz
