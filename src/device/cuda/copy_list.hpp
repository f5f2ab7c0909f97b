// CopyList: the copies of one batch between the host and a GPU, as arrays that CUDA takes in one
// call. What is adjacent on both sides is one copy where it lies in one pinned piece, and none
// reaches from one piece into the next. One thread. Memory is kept from batch to batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "device/cuda/pinned_pieces.hpp"

namespace penstock::cuda {

class CopyList {
 public:
  explicit CopyList(const PinnedPieces& pinned) : pinned_{pinned} {}

  void clear() noexcept {
    host_.clear();
    gpu_.clear();
    bytes_.clear();
    pending_ = {};
  }

  void add(std::byte* host, std::byte* gpu, uint64_t bytes) {
    if (host == pending_.host + pending_.bytes && gpu == pending_.gpu + pending_.bytes &&
        pinned_.join(host)) {
      pending_.bytes += bytes;
      return;
    }
    flush();
    pending_ = {host, gpu, bytes};
  }

  // After the last one.
  void flush() {
    while (pending_.bytes > 0) {
      const uint64_t piece = pinned_.together(pending_.host, pending_.bytes);
      host_.push_back(pending_.host);
      gpu_.push_back(pending_.gpu);
      bytes_.push_back(piece);
      pending_ = {pending_.host + piece, pending_.gpu + piece, pending_.bytes - piece};
    }
  }

  size_t size() const noexcept { return bytes_.size(); }
  void** host() noexcept { return host_.data(); }
  void** gpu() noexcept { return gpu_.data(); }
  size_t* bytes() noexcept { return bytes_.data(); }

 private:
  struct Part {
    std::byte* host = nullptr;
    std::byte* gpu = nullptr;
    uint64_t bytes = 0;
  };

  const PinnedPieces& pinned_;
  std::vector<void*> host_, gpu_;
  std::vector<size_t> bytes_;
  Part pending_;
};

}  // namespace penstock::cuda
