#include "io/attempt_queue.hpp"

#include <algorithm>
#include <utility>

namespace penstock {

AttemptQueue::AttemptQueue(size_t depth, std::function<void()> on_result)
    : on_result_{std::move(on_result)} {
  todo_.reserve(depth);
  ended_.reserve(depth);
}

void AttemptQueue::push(std::span<IoRequest* const> requests) noexcept {
  {
    const std::lock_guard lock{mutex_};
    todo_.insert(todo_.end(), requests.begin(), requests.end());
  }
  if (requests.size() == 1) {
    work_.notify_one();
  } else {
    work_.notify_all();
  }
}

size_t AttemptQueue::poll(std::span<IoEngine::Attempt> attempts) noexcept {
  const std::lock_guard lock{mutex_};
  const size_t count = std::min(attempts.size(), ended_.size());
  std::copy_n(ended_.begin(), count, attempts.begin());
  ended_.erase(ended_.begin(), ended_.begin() + static_cast<ptrdiff_t>(count));
  return count;
}

void AttemptQueue::wait(std::chrono::nanoseconds timeout) noexcept {
  std::unique_lock lock{mutex_};
  news_.wait_for(lock, timeout, [this] { return woken_ || !ended_.empty(); });
  woken_ = false;
}

void AttemptQueue::wake() noexcept {
  {
    const std::lock_guard lock{mutex_};
    woken_ = true;
  }
  news_.notify_one();
}

std::optional<AttemptQueue::Task> AttemptQueue::take() noexcept {
  std::unique_lock lock{mutex_};
  work_.wait(lock, [this] { return stopped_ || !todo_.empty(); });
  if (stopped_) return std::nullopt;
  IoRequest* const request = todo_.front();
  todo_.erase(todo_.begin());
  return Task{request, *request};
}

void AttemptQueue::finish(const Task& task, int64_t result) noexcept {
  const std::lock_guard lock{mutex_};
  ended_.push_back({task.request, result});
  news_.notify_one();
  if (on_result_ && !stopped_) on_result_();
}

void AttemptQueue::stop() noexcept {
  {
    const std::lock_guard lock{mutex_};
    stopped_ = true;
    todo_.clear();
  }
  work_.notify_all();
}

}  // namespace penstock
