// Mapping owns one shared mapping of a file and unmaps it once. Move-only; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "penstock/status.hpp"

namespace penstock {

class Mapping {
 public:
  // The first `bytes` of the file, readable and writable. The file may be shorter; what lies beyond
  // its end must not be touched before it has grown.
  static Result<Mapping> of_file(int fd, uint64_t bytes);

  Mapping() noexcept = default;
  Mapping(Mapping&& other) noexcept : bytes_{std::exchange(other.bytes_, {})} {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping();
  std::span<std::byte> bytes() const noexcept { return bytes_; }
  explicit operator bool() const noexcept { return !bytes_.empty(); }

 private:
  explicit Mapping(std::span<std::byte> bytes) noexcept : bytes_{bytes} {}
  std::span<std::byte> bytes_;
};

}  // namespace penstock
