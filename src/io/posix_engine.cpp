#include "io/posix_engine.hpp"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace penstock {
namespace {

constexpr size_t kMaxThreads = 16;

class PosixEngine final : public IoEngine {
 public:
  explicit PosixEngine(size_t depth) : IoEngine{depth} {
    // Reserved once, so that nothing allocates while requests flow.
    todo_.reserve(depth);
    ended_.reserve(depth);
  }
  ~PosixEngine() override {
    {
      const std::lock_guard lock{mutex_};
      stopping_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Result<void> start() noexcept;
  void wake() noexcept override {
    {
      const std::lock_guard lock{mutex_};
      woken_ = true;
    }
    news_.notify_one();
  }
  std::string_view name() const noexcept override { return "posix"; }

 private:
  void submit_impl(std::span<IoRequest* const> requests) noexcept override;
  size_t poll_impl(std::span<Attempt> attempts) noexcept override;
  void wait_impl(std::chrono::nanoseconds timeout) noexcept override;
  void work() noexcept;
  static int64_t attempt(const IoRequest& request) noexcept;

  std::mutex mutex_;              // guards all below but threads_
  std::condition_variable work_;  // todo_ has grown, or stopping_
  std::condition_variable news_;  // ended_ has grown, or woken_
  std::vector<IoRequest*> todo_;  // oldest first
  std::vector<Attempt> ended_;    // oldest first
  bool woken_ = false;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

Result<void> PosixEngine::start() noexcept {
  const size_t wanted = std::min(depth(), kMaxThreads);
  threads_.reserve(wanted);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // workers inherit it
  int error = 0;
  try {
    while (threads_.size() < wanted) threads_.emplace_back([this] { work(); });
  } catch (const std::system_error& failure) {
    error = failure.code().value();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!threads_.empty()) return {};  // fewer threads than wanted still do the work
  return Error{Status::Io, "cannot start an I/O thread: " + std::system_category().message(error)};
}

void PosixEngine::submit_impl(std::span<IoRequest* const> requests) noexcept {
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

size_t PosixEngine::poll_impl(std::span<Attempt> attempts) noexcept {
  const std::lock_guard lock{mutex_};
  const size_t count = std::min(attempts.size(), ended_.size());
  std::copy_n(ended_.begin(), count, attempts.begin());
  ended_.erase(ended_.begin(), ended_.begin() + static_cast<ptrdiff_t>(count));
  return count;
}

void PosixEngine::wait_impl(std::chrono::nanoseconds timeout) noexcept {
  std::unique_lock lock{mutex_};
  news_.wait_for(lock, timeout, [this] { return woken_ || !ended_.empty(); });
  woken_ = false;
}

void PosixEngine::work() noexcept {
  std::unique_lock lock{mutex_};
  for (;;) {
    work_.wait(lock, [this] { return stopping_ || !todo_.empty(); });
    if (stopping_) return;
    IoRequest* const request = todo_.front();
    todo_.erase(todo_.begin());
    lock.unlock();
    const int64_t result = attempt(*request);
    lock.lock();
    ended_.push_back({request, result});
    news_.notify_one();
  }
}

int64_t PosixEngine::attempt(const IoRequest& request) noexcept {
  const uint64_t size = attempt_size(request);
  const auto offset = static_cast<off_t>(request.offset + request.done);
  int64_t result = 0;
  switch (request.op) {
    case IoOp::Read:
      result = ::pread(request.fd, request.data + request.done, size, offset);
      break;
    case IoOp::Write:
      result = ::pwrite(request.fd, request.data + request.done, size, offset);
      break;
    case IoOp::Sync:
      result = ::fdatasync(request.fd);
      break;
  }
  return result < 0 ? -errno : result;
}

}  // namespace

Result<std::unique_ptr<IoEngine>> make_posix_engine(size_t depth) {
  auto engine = std::make_unique<PosixEngine>(depth);
  if (auto started = engine->start(); !started) return started.take_error();
  return std::unique_ptr<IoEngine>{std::move(engine)};
}

}  // namespace penstock
