#include "io/uring_engine.hpp"

#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/assert.hpp"
#include "io/uring_setup.hpp"

namespace penstock {
namespace {

constexpr uint64_t kSegment = uint64_t{1} << 30;  // the kernel's limit for one registered buffer
constexpr uint64_t kWakeTag = 0;                  // user_data of the eventfd's poll; no request
constexpr std::chrono::nanoseconds kRetry = std::chrono::milliseconds{1};

bool is_passing(int error) noexcept {
  return error == EAGAIN || error == EBUSY || error == EINTR || error == ENOMEM;
}

class UringEngine final : public IoEngine {
 public:
  UringEngine(size_t depth, io_uring ring, UniqueFd event) noexcept
      : IoEngine{depth}, ring_{ring}, event_{std::move(event)} {
    failed_.reserve(depth);
    watch_event();
  }
  ~UringEngine() override;

  int register_memory(std::span<std::byte> memory) noexcept;  // 0 or an errno
  void wake() noexcept override;
  std::string_view name() const noexcept override { return "uring"; }

 private:
  void submit_impl(std::span<IoRequest* const> requests) noexcept override;
  size_t poll_impl(std::span<Attempt> attempts) noexcept override;
  void wait_impl(std::chrono::nanoseconds timeout) noexcept override;

  void prepare(io_uring_sqe* sqe, const IoRequest& request) const noexcept;
  int buffer_index(const std::byte* data, uint64_t size) const noexcept;  // -1: not registered
  void watch_event() noexcept;
  void drain_event() noexcept;
  void flush() noexcept;
  void give_up(int error) noexcept;
  void sleep_outside_ring(std::chrono::nanoseconds timeout) noexcept;

  io_uring ring_;
  UniqueFd event_;
  std::span<std::byte> registered_;
  size_t outstanding_ = 0;       // requests queued in the ring or held by the kernel
  std::vector<Attempt> failed_;  // never reached the kernel
  int ring_error_ = 0;           // errno with which the kernel refused the ring for good
  bool woken_ = false;           // a wake that poll() found; the next wait() owes a return
};

UringEngine::~UringEngine() {
  Attempt attempt;
  while (outstanding_ > 0) {
    if (poll_impl(std::span{&attempt, 1}) == 0) wait_impl(std::chrono::seconds{1});
  }
  io_uring_queue_exit(&ring_);
}

int UringEngine::register_memory(std::span<std::byte> memory) noexcept {
  std::vector<iovec> segments;
  for (uint64_t at = 0; at < memory.size(); at += kSegment) {
    segments.push_back({memory.data() + at, std::min(kSegment, memory.size() - at)});
  }
  if (segments.empty()) return 0;
  const int result =
      io_uring_register_buffers(&ring_, segments.data(), static_cast<unsigned>(segments.size()));
  if (result < 0) return -result;
  registered_ = memory;
  return 0;
}

void UringEngine::wake() noexcept {
  const uint64_t one = 1;
  // EAGAIN: the counter is at its maximum, so the wake is pending already.
  while (::write(event_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

void UringEngine::submit_impl(std::span<IoRequest* const> requests) noexcept {
  for (IoRequest* request : requests) {
    if (ring_error_ != 0) {
      failed_.push_back({request, -ring_error_});
      continue;
    }
    io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
    PENSTOCK_ASSERT(sqe != nullptr);  // the ring has room for depth requests and the eventfd
    prepare(sqe, *request);
    ++outstanding_;
  }
  flush();
}

void UringEngine::prepare(io_uring_sqe* sqe, const IoRequest& request) const noexcept {
  std::byte* const data = request.data + request.done;
  const auto size = static_cast<unsigned>(attempt_size(request));
  const uint64_t offset = request.offset + request.done;
  const int buffer = request.op == IoOp::Sync ? -1 : buffer_index(data, size);
  switch (request.op) {
    case IoOp::Read:
      if (buffer >= 0) {
        io_uring_prep_read_fixed(sqe, request.fd, data, size, offset, buffer);
      } else {
        io_uring_prep_read(sqe, request.fd, data, size, offset);
      }
      break;
    case IoOp::Write:
      if (buffer >= 0) {
        io_uring_prep_write_fixed(sqe, request.fd, data, size, offset, buffer);
      } else {
        io_uring_prep_write(sqe, request.fd, data, size, offset);
      }
      break;
    case IoOp::Sync:
      io_uring_prep_fsync(sqe, request.fd, IORING_FSYNC_DATASYNC);
      break;
  }
  io_uring_sqe_set_data(sqe, const_cast<IoRequest*>(&request));
}

int UringEngine::buffer_index(const std::byte* data, uint64_t size) const noexcept {
  const auto begin = reinterpret_cast<uintptr_t>(registered_.data());
  const auto at = reinterpret_cast<uintptr_t>(data);
  if (size == 0 || at < begin || at - begin >= registered_.size()) return -1;
  const uint64_t first = at - begin;
  if (size > registered_.size() - first) return -1;
  const uint64_t segment = first / kSegment;
  return (first + size - 1) / kSegment == segment ? static_cast<int>(segment) : -1;
}

size_t UringEngine::poll_impl(std::span<Attempt> attempts) noexcept {
  flush();
  size_t count = std::min(attempts.size(), failed_.size());
  std::copy_n(failed_.begin(), count, attempts.begin());
  failed_.erase(failed_.begin(), failed_.begin() + static_cast<ptrdiff_t>(count));
  io_uring_cqe* cqe = nullptr;
  while (count < attempts.size() && io_uring_peek_cqe(&ring_, &cqe) == 0) {
    if (cqe->user_data == kWakeTag) {
      drain_event();
      woken_ = true;
      watch_event();
    } else {
      attempts[count++] = {static_cast<IoRequest*>(io_uring_cqe_get_data(cqe)), cqe->res};
      --outstanding_;
    }
    io_uring_cqe_seen(&ring_, cqe);
  }
  return count;
}

void UringEngine::wait_impl(std::chrono::nanoseconds timeout) noexcept {
  flush();
  if (std::exchange(woken_, false) || !failed_.empty()) return;
  if (ring_error_ != 0) return sleep_outside_ring(timeout);
  // The kernel was out of memory for a moment: try again soon.
  if (io_uring_sq_ready(&ring_) > 0) timeout = std::min<std::chrono::nanoseconds>(timeout, kRetry);

  __kernel_timespec limit{};
  limit.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(timeout).count();
  limit.tv_nsec = (timeout % std::chrono::seconds{1}).count();
  io_uring_cqe* cqe = nullptr;
  const int result = io_uring_wait_cqes(&ring_, &cqe, 1, &limit, nullptr);
  if (result < 0) {
    if (result != -ETIME && !is_passing(-result)) give_up(-result);
  } else if (cqe != nullptr && cqe->user_data == kWakeTag) {
    drain_event();  // taken here, or the next wait() would return for it once more
    io_uring_cqe_seen(&ring_, cqe);
    watch_event();
  }
}

// One-shot, armed again after each wake. It polls, and the read is ours: no buffer of this object
// is left to the kernel when the ring is closed.
void UringEngine::watch_event() noexcept {
  if (ring_error_ != 0) return;
  io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
  PENSTOCK_ASSERT(sqe != nullptr);
  io_uring_prep_poll_add(sqe, event_.get(), POLLIN);
  io_uring_sqe_set_data64(sqe, kWakeTag);
}

void UringEngine::drain_event() noexcept {
  uint64_t count = 0;
  while (::read(event_.get(), &count, sizeof count) < 0 && errno == EINTR) {
  }
}

void UringEngine::flush() noexcept {
  while (ring_error_ == 0 && io_uring_sq_ready(&ring_) > 0) {
    const int result = io_uring_submit(&ring_);
    if (result > 0) continue;
    if (result == 0 || is_passing(-result)) return;
    give_up(-result);
  }
}

// What is still in the submission queue never reached the kernel and never will; what the kernel
// holds completes as ever.
void UringEngine::give_up(int error) noexcept {
  ring_error_ = error;
  const unsigned queued = io_uring_sq_ready(&ring_);
  const unsigned first = *ring_.sq.khead;
  for (unsigned i = 0; i < queued; ++i) {
    const io_uring_sqe& sqe = ring_.sq.sqes[(first + i) & *ring_.sq.kring_mask];
    if (sqe.user_data == kWakeTag) continue;
    failed_.push_back({reinterpret_cast<IoRequest*>(sqe.user_data), -error});
    --outstanding_;
  }
}

void UringEngine::sleep_outside_ring(std::chrono::nanoseconds timeout) noexcept {
  pollfd files[] = {{ring_.ring_fd, POLLIN, 0}, {event_.get(), POLLIN, 0}};
  const timespec limit{std::chrono::duration_cast<std::chrono::seconds>(timeout).count(),
                       (timeout % std::chrono::seconds{1}).count()};
  if (::ppoll(files, 2, &limit, nullptr) > 0 && files[1].revents != 0) drain_event();
}

std::string memory_reason(int error, uint64_t bytes) {
  std::string reason = "the I/O buffers are not registered with io_uring: ";
  rlimit limit{};
  if (error == ENOMEM && ::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur < bytes) {
    return reason + "the memory lock limit (`ulimit -l`) is " +
           std::to_string(limit.rlim_cur / 1024) + " KiB and they take " +
           std::to_string(bytes / 1024) + " KiB; raise it with `ulimit -l unlimited`";
  }
  return reason + std::system_category().message(error);
}

}  // namespace

Result<OpenedIo> make_uring_engine(const IoOptions& options) {
  auto ring = setup_ring(static_cast<unsigned>(options.depth) + 1);
  if (!ring) return ring.take_error();
  UniqueFd event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (!event) {
    const int error = errno;
    io_uring_queue_exit(&*ring);
    return Error{Status::Io, "cannot make an eventfd: " + std::system_category().message(error)};
  }
  auto engine = std::make_unique<UringEngine>(options.depth, *ring, std::move(event));
  std::string reason;
  if (const int error = engine->register_memory(options.memory); error != 0) {
    reason = memory_reason(error, options.memory.size());
  }
  return OpenedIo{std::move(engine), std::move(reason)};
}

}  // namespace penstock
