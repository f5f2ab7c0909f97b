// Ring: hands out a buffer's bytes in order and takes them back in the same order. A value.
#pragma once

#include <cstdint>
#include <optional>

namespace penstock::cuda {

class Ring {
 public:
  explicit Ring(uint64_t bytes) : bytes_{bytes} {}

  // Offset of `size` contiguous bytes; nullopt: not now.
  std::optional<uint64_t> take(uint64_t size) noexcept {
    const uint64_t at = head_ % bytes_;
    const uint64_t skip =
        at + size > bytes_ ? bytes_ - at : 0;  // what is left at the end is wasted
    if (head_ + skip + size - tail_ > bytes_) return std::nullopt;
    head_ += skip + size;
    return (head_ - size) % bytes_;
  }
  // Everything taken before `mark()` was called is free again.
  uint64_t mark() const noexcept { return head_; }
  void free_to(uint64_t mark) noexcept { tail_ = mark; }
  uint64_t bytes() const noexcept { return bytes_; }

 private:
  uint64_t bytes_;
  uint64_t head_ = 0, tail_ = 0;  // bytes handed out and taken back since the beginning
};

}  // namespace penstock::cuda
