// Coder: the libraries' states for one thread, and its memory for the planes of one slice.
//
// Made once, used by one thread. Bytes that are decoded may be hostile: nothing is written beyond
// the span that is given, and what does not come out whole is an error.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "codec/method.hpp"
#include "penstock/status.hpp"

namespace penstock {

class Coder {
 public:
  // NoSpace: no memory for it. `max_slice` is the largest slice that its scratch memory is for.
  static Result<std::unique_ptr<Coder>> create(size_t max_slice);
  ~Coder();

  // Bytes written to the front of `to`; 0: it would not have got smaller, or looks like noise.
  size_t compress(Method method, std::span<const std::byte> from, std::span<std::byte> to) noexcept;
  // True if exactly to.size() bytes came out.
  bool decompress(Method method, std::span<const std::byte> from, std::span<std::byte> to) noexcept;
  std::span<std::byte> scratch() noexcept;

 private:
  struct Impl;
  explicit Coder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Whether `bytes` are spread so evenly over all values that no method would save much; a sample.
bool looks_like_noise(std::span<const std::byte> bytes) noexcept;

}  // namespace penstock
