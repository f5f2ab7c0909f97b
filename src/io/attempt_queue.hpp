// The queue between the thread that drives an engine and the threads that work for it: requests in,
// results out.
//
// push(), poll() and wait() belong to the driving thread; take() and finish() to the workers;
// wake() and stop() to anyone. One mutex, held for a few instructions. Room for `depth` requests is
// there from the start, so that nothing allocates while requests flow. After stop() workers get
// nothing more, and results may still be handed in.
//
// `on_result` may be empty. It is called by a worker after each result, with the queue locked, so
// that it is never called once stop() has returned; it must not use the queue.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "io/io_engine.hpp"

namespace penstock {

class AttemptQueue {
 public:
  // `work` is a copy: a worker that is held up never looks at a request that is gone.
  struct Task {
    IoRequest* request = nullptr;
    IoRequest work;
  };

  explicit AttemptQueue(size_t depth, std::function<void()> on_result = {});

  void push(std::span<IoRequest* const> requests) noexcept;
  size_t poll(std::span<IoEngine::Attempt> attempts) noexcept;
  void wait(std::chrono::nanoseconds timeout) noexcept;  // for a result or a wake
  void wake() noexcept;

  std::optional<Task> take() noexcept;  // waits; nothing after stop()
  void finish(const Task& task, int64_t result) noexcept;
  void stop() noexcept;  // drops what has not been taken

 private:
  std::mutex mutex_;                      // guards all below
  std::condition_variable work_;          // todo_ has grown, or stopped_
  std::condition_variable news_;          // ended_ has grown, or woken_
  std::vector<IoRequest*> todo_;          // oldest first
  std::vector<IoEngine::Attempt> ended_;  // oldest first
  std::function<void()> on_result_;
  bool woken_ = false;
  bool stopped_ = false;
};

}  // namespace penstock
