// Inbox: closures that other threads leave for a mover thread. Shared, so that an answer of the
// store that comes after the mover has gone finds a closed inbox and not a dead mover.
#pragma once

#include <functional>
#include <mutex>
#include <vector>

#include "io/io_engine.hpp"

namespace penstock {

class Inbox {
 public:
  using Task = std::function<void()>;
  // `io` is woken for each task; it must live until close().
  explicit Inbox(IoEngine& io) : io_{&io} {}

  // Any thread. False once closed: the task was not taken.
  bool post(Task task) {
    std::scoped_lock lock{mutex_};
    if (io_ == nullptr) return false;
    tasks_.push_back(std::move(task));
    io_->wake();
    return true;
  }
  // The mover thread: runs what has been posted. Returns how many.
  size_t drain() {
    {
      std::scoped_lock lock{mutex_};
      running_.swap(tasks_);
    }
    const size_t count = running_.size();
    for (Task& task : running_) task();
    running_.clear();
    return count;
  }
  void close() {
    std::scoped_lock lock{mutex_};
    io_ = nullptr;
  }

 private:
  std::mutex mutex_;
  IoEngine* io_;
  std::vector<Task> tasks_, running_;
};

}  // namespace penstock
