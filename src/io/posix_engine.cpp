#include "io/posix_engine.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <thread>
#include <vector>

#include "base/signals_blocked.hpp"
#include "io/attempt_queue.hpp"

namespace penstock {
namespace {

constexpr size_t kMaxThreads = 16;

class PosixEngine final : public IoEngine {
 public:
  explicit PosixEngine(size_t depth) : IoEngine{depth}, queue_{depth} {}
  ~PosixEngine() override {
    queue_.stop();
    for (std::thread& thread : threads_) thread.join();
  }

  Result<void> start() noexcept;
  void wake() noexcept override { queue_.wake(); }
  std::string_view name() const noexcept override { return "posix"; }

 private:
  void submit_impl(std::span<IoRequest* const> requests) noexcept override {
    queue_.push(requests);
  }
  size_t poll_impl(std::span<Attempt> attempts) noexcept override { return queue_.poll(attempts); }
  void wait_impl(std::chrono::nanoseconds timeout) noexcept override { queue_.wait(timeout); }
  void work() noexcept;
  static int64_t attempt(const IoRequest& request) noexcept;

  AttemptQueue queue_;
  std::vector<std::thread> threads_;
};

Result<void> PosixEngine::start() noexcept {
  const size_t wanted = std::min(depth(), kMaxThreads);
  threads_.reserve(wanted);
  const SignalsBlocked inherited;
  int error = 0;
  try {
    while (threads_.size() < wanted) threads_.emplace_back([this] { work(); });
  } catch (const std::system_error& failure) {
    error = failure.code().value();
  }
  if (!threads_.empty()) return {};  // fewer threads than wanted still do the work
  return Error{Status::Io, "cannot start an I/O thread: " + std::system_category().message(error)};
}

void PosixEngine::work() noexcept {
  while (const auto task = queue_.take()) queue_.finish(*task, attempt(task->work));
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
