#include "io/cufile_core.hpp"

#include <unistd.h>

#include <cerrno>
#include <limits>
#include <system_error>
#include <thread>

#include "base/log.hpp"
#include "base/signals_blocked.hpp"
#include "base/sizes.hpp"
#include "io/cufile_errors.hpp"

namespace penstock {
namespace {

bool is_aligned(const IoRequest& request) noexcept {
  return (request.offset | request.size | reinterpret_cast<uintptr_t>(request.data)) % kSector == 0;
}

int64_t refuse(const char* call, int code) {
  if (code >= cufile::kCodeBase)
    log_once(LogLevel::Warning, std::string{call} + " failed with " + describe_cufile_code(code));
  return -errno_of_cufile(code);
}

}  // namespace

CufileCore::CufileCore(CufileEngineOptions options)
    : queue{options.depth, options.on_result}, options_{std::move(options)} {}

// Detached: a thread that hangs must not hold up the engine's end. Nobody waits for the thread
// itself but for its leave(), and it owns a share of the core until then.
bool CufileCore::start_thread(const std::shared_ptr<CufileCore>& core) noexcept {
  bool first = false;
  {
    const std::lock_guard lock{core->mutex_};
    first = core->threads_++ == 0;
  }
  try {
    const SignalsBlocked inherited;
    std::thread{[core, first] { core->run(first); }}.detach();
    return true;
  } catch (const std::system_error&) {
    const std::lock_guard lock{core->mutex_};
    --core->threads_;
    return false;
  }
}

Result<void> CufileCore::wait_until_ready() {
  std::unique_lock lock{mutex_};
  const bool settled =
      changed_.wait_for(lock, options_.open_limit, [this] { return state_ != State::Starting; });
  if (!settled)
    return Error{Status::Timeout, "cuFile did not open within " +
                                      std::to_string(options_.open_limit.count()) + " ms"};
  if (state_ == State::Ready) return {};
  return error_;
}

bool CufileCore::close() {
  queue.stop();
  std::unique_lock lock{mutex_};
  return changed_.wait_for(lock, options_.close_limit,
                           [this] { return state_ == State::Gone || threads_ == 0; });
}

void CufileCore::run(bool first) noexcept {
  if (options_.thread_init) options_.thread_init();
  if (first) {
    auto done = set_up();
    const std::lock_guard lock{mutex_};
    state_ = done ? State::Ready : State::Failed;
    if (!done) error_ = done.take_error();
    changed_.notify_all();
    if (state_ == State::Failed) queue.stop();
  }
  while (const auto task = queue.take()) queue.finish(*task, attempt(task->work));
  leave();
}

Result<void> CufileCore::set_up() {
  auto driver = CufileDriver::open(options_.library_directories);
  if (!driver) return driver.take_error();
  driver_.emplace(std::move(*driver));
  files_.emplace(driver_->library());
  auto buffer = CufileBuffer::make(driver_->library(), options_.memory);
  if (!buffer) return buffer.take_error();
  buffer_.emplace(std::move(*buffer));
  return {};
}

void CufileCore::leave() noexcept {
  {
    const std::lock_guard lock{mutex_};
    if (threads_ > 1) {
      --threads_;
      return;
    }
  }
  buffer_.reset();
  files_.reset();
  driver_.reset();
  options_.memory_owner.reset();
  const std::lock_guard lock{mutex_};
  threads_ = 0;
  state_ = State::Gone;
  changed_.notify_all();
}

int64_t CufileCore::attempt(const IoRequest& request) noexcept {
  if (request.op == IoOp::Sync) return ::fdatasync(request.fd) == 0 ? 0 : -errno;
  const uint64_t size = IoEngine::attempt_size(request);
  if (size == 0) return 0;
  constexpr uint64_t kMaxOffset = std::numeric_limits<off_t>::max();
  const uint64_t offset = request.offset + request.done;
  if (!is_aligned(request) || request.offset > kMaxOffset || size > kMaxOffset - offset)
    return -EINVAL;
  const auto [handle, code] = files_->find(request.fd);
  if (code != 0) return refuse("cuFileHandleRegister", code);
  // From here on the file is ours (a duplicate): what was asked of the caller's descriptor is over
  // before close(), which takes the same lock, lets it be closed, though this call may hang.
  { const std::lock_guard over{mutex_}; }
  const auto [base, base_offset] = buffer_->locate(request.data + request.done, size);
  const CufileLibrary& library = driver_->library();
  const bool reading = request.op == IoOp::Read;
  errno = 0;
  const ssize_t answer =
      reading ? library.read(handle, base, size, static_cast<off_t>(offset), base_offset)
              : library.write(handle, base, size, static_cast<off_t>(offset), base_offset);
  const int error = errno;
  if (answer < 0) return refuse(reading ? "cuFileRead" : "cuFileWrite", cufile_code(answer, error));
  if (static_cast<uint64_t>(answer) > size)
    return -EIO;  // more than was asked for: a broken library
  return answer;
}

}  // namespace penstock
