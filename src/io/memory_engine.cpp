#include "io/memory_engine.hpp"

#include <algorithm>
#include <cerrno>

namespace penstock {

void MemoryEngine::submit_impl(std::span<IoRequest* const> requests) noexcept {
  queue_.insert(queue_.end(), requests.begin(), requests.end());
}

size_t MemoryEngine::poll_impl(std::span<Attempt> attempts) noexcept {
  const size_t count = std::min(attempts.size(), queue_.size());
  for (size_t i = 0; i < count; ++i) attempts[i] = {queue_[i], attempt(*queue_[i])};
  queue_.erase(queue_.begin(), queue_.begin() + static_cast<ptrdiff_t>(count));
  return count;
}

void MemoryEngine::wait_impl(std::chrono::nanoseconds timeout) noexcept {
  std::unique_lock lock{mutex_};
  if (queue_.empty()) woken_changed_.wait_for(lock, timeout, [this] { return woken_; });
  woken_ = false;
}

void MemoryEngine::wake() noexcept {
  {
    const std::lock_guard lock{mutex_};
    woken_ = true;
  }
  woken_changed_.notify_one();
}

// What pread, pwrite and fdatasync would return on such a file, errors as -errno.
int64_t MemoryEngine::attempt(const IoRequest& request) noexcept {
  const auto found = files_.find(request.fd);
  if (found == files_.end()) return -EBADF;
  if (request.op == IoOp::Sync) return 0;
  std::vector<std::byte>& bytes = found->second;
  const uint64_t size = attempt_size(request);
  const uint64_t begin = request.offset + request.done;
  if (begin < request.offset || begin > INT64_MAX) return -EINVAL;
  if (request.op == IoOp::Read) {
    if (begin >= bytes.size()) return 0;
    const uint64_t moved = std::min(size, bytes.size() - begin);
    std::copy_n(bytes.data() + begin, moved, request.data + request.done);
    return static_cast<int64_t>(moved);
  }
  if (begin > kMaxFile || size > kMaxFile - begin) return -EFBIG;
  if (begin + size > bytes.size()) bytes.resize(begin + size);
  std::copy_n(request.data + request.done, size, bytes.data() + begin);
  return static_cast<int64_t>(size);
}

}  // namespace penstock
