// The memory engine: an IoEngine whose files are byte vectors, for tests.
//
// Deterministic: a request runs when poll() reaps it, in the order of submission. Files are made by
// the owner under any descriptor number and belong to the engine; they grow when written, up to
// kMaxFile (then EFBIG). The driving thread uses everything but wake(). A failed request has
// changed nothing.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

#include "io/io_engine.hpp"

namespace penstock {

class MemoryEngine final : public IoEngine {
 public:
  static constexpr uint64_t kMaxFile = uint64_t{1} << 30;

  explicit MemoryEngine(size_t depth) : IoEngine{depth} {}

  // The file behind `fd`, made empty if there is none yet. Stays in place.
  std::vector<std::byte>& file(int fd) { return files_[fd]; }
  void wake() noexcept override;
  std::string_view name() const noexcept override { return "memory"; }

 private:
  void submit_impl(std::span<IoRequest* const> requests) noexcept override;
  size_t poll_impl(std::span<Attempt> attempts) noexcept override;
  void wait_impl(std::chrono::nanoseconds timeout) noexcept override;
  int64_t attempt(const IoRequest& request) noexcept;

  std::map<int, std::vector<std::byte>> files_;
  std::vector<IoRequest*> queue_;  // oldest first
  std::mutex mutex_;               // guards woken_
  std::condition_variable woken_changed_;
  bool woken_ = false;
};

}  // namespace penstock
