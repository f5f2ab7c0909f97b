#include "io/raw_speed.hpp"

#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include "base/sizes.hpp"
#include "io/open.hpp"
#include "io/uring_setup.hpp"

namespace penstock {
namespace {

using Clock = std::chrono::steady_clock;
constexpr uint64_t kMaxRequest = uint64_t{64} << 20;
constexpr uint64_t kMaxBuffers = uint64_t{4} << 30;
constexpr size_t kMostThreads = 64;

double seconds_since(Clock::time_point start) noexcept {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double cpu_seconds() noexcept {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Anonymous pages, present from the start and unmapped at the end. Huge ones where the kernel gives
// them, as the engines have: with small pages a request of 1 MiB has more segments than a virtio
// drive takes at a time, is split, and the ceiling comes out too low (1.3 for 2.3 GB/s).
class Buffers {
 public:
  explicit Buffers(size_t size) noexcept : size_{size} {
    void* const at =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return;
    ::madvise(at, size, MADV_HUGEPAGE);  // advice: small pages do as well
    data_ = static_cast<std::byte*>(at);
    std::memset(data_, 0, size);
  }
  ~Buffers() {
    if (data_ != nullptr) ::munmap(data_, size_);
  }
  Buffers(const Buffers&) = delete;
  Buffers& operator=(const Buffers&) = delete;

  std::byte* data() const noexcept { return data_; }
  // Bytes that no drive can compress away.
  void fill() const noexcept {
    uint64_t state = 0x9e3779b97f4a7c15;
    auto* words = reinterpret_cast<uint64_t*>(data_);
    for (size_t i = 0; i < size_ / sizeof(uint64_t); ++i) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      words[i] = state;
    }
  }

 private:
  std::byte* data_ = nullptr;
  size_t size_;
};

struct Run {
  const RawOptions& options;
  std::vector<RawRange> requests;
  std::vector<float> latency_us;  // one per request
  std::byte* memory = nullptr;    // depth buffers of request_size
};

Error request_error(const Run& run, size_t index, int64_t result) {
  const RawRange& request = run.requests[index];
  const std::string what = (run.options.write ? "write of " : "read of ") +
                           std::to_string(request.size) + " bytes at offset " +
                           std::to_string(request.offset);
  if (result >= 0) return Error{Status::Io, what + " moved " + std::to_string(result)};
  const int error = static_cast<int>(-result);
  return Error{error == ENOSPC ? Status::NoSpace : Status::Io,
               what + " failed: " + std::system_category().message(error)};
}

// One thread, one ring, `depth` slots that are refilled as they complete.
class RingLoop {
 public:
  RingLoop(Run& run, io_uring& ring) noexcept : run_{run}, ring_{ring} {
    slots_.resize(std::min<size_t>(run.options.depth, run.requests.size()));
    iovec all{run.memory, run.options.depth * run.options.request_size};
    // One registered buffer holds at most 1 GiB; without registration the loop is a little slower.
    fixed_ = all.iov_len <= (uint64_t{1} << 30) && io_uring_register_buffers(&ring, &all, 1) == 0;
  }

  Result<void> go() noexcept {
    for (size_t slot = 0; slot < slots_.size(); ++slot) queue_next(slot);
    while (in_flight_ > 0) {
      wait();
      io_uring_cqe* cqe = nullptr;
      while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
        reap(cqe->user_data, cqe->res);
        io_uring_cqe_seen(&ring_, cqe);
      }
    }
    return outcome_;
  }

 private:
  struct Slot {
    size_t index = 0;
    Clock::time_point start;
  };

  void wait() noexcept {
    if (refused_) {  // by the kernel, for good; what it holds still completes
      pollfd ring{ring_.ring_fd, POLLIN, 0};
      ::poll(&ring, 1, -1);
      return;
    }
    const int result = io_uring_submit_and_wait(&ring_, 1);
    if (result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY) return;
    refused_ = true;
    in_flight_ -= io_uring_sq_ready(&ring_);
    outcome_ = Error{Status::Io, "io_uring_enter: " + std::system_category().message(-result)};
  }
  void queue_next(size_t slot) noexcept {
    if (!outcome_ || next_ == run_.requests.size()) return;
    slots_[slot] = {next_++, Clock::now()};
    const RawRange& request = run_.requests[slots_[slot].index];
    std::byte* const data = run_.memory + slot * run_.options.request_size;
    const auto size = static_cast<unsigned>(request.size);
    io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_rw(opcode(), sqe, request.fd, data, size, request.offset);
    sqe->buf_index = 0;
    io_uring_sqe_set_data64(sqe, slot);
    ++in_flight_;
  }
  int opcode() const noexcept {
    if (run_.options.write) return fixed_ ? IORING_OP_WRITE_FIXED : IORING_OP_WRITE;
    return fixed_ ? IORING_OP_READ_FIXED : IORING_OP_READ;
  }
  void reap(size_t slot, int result) noexcept {
    --in_flight_;
    const size_t index = slots_[slot].index;
    run_.latency_us[index] = static_cast<float>(seconds_since(slots_[slot].start) * 1e6);
    if (result < 0 || static_cast<uint64_t>(result) != run_.requests[index].size) {
      if (outcome_) outcome_ = request_error(run_, index, result);
    }
    queue_next(slot);
  }

  Run& run_;
  io_uring& ring_;
  std::vector<Slot> slots_;
  bool fixed_ = false;
  bool refused_ = false;
  size_t next_ = 0;
  size_t in_flight_ = 0;
  Result<void> outcome_;
};

Result<void> run_threads(Run& run) {
  std::atomic<size_t> next{0};
  std::atomic<size_t> bad_index{SIZE_MAX};  // of one request that failed
  std::atomic<int64_t> bad_result{0};
  const auto work = [&](size_t thread) {
    std::byte* const data = run.memory + thread * run.options.request_size;
    for (size_t i = next++; i < run.requests.size() && bad_index == SIZE_MAX; i = next++) {
      const RawRange& request = run.requests[i];
      const auto offset = static_cast<off_t>(request.offset);
      const Clock::time_point start = Clock::now();
      int64_t result = run.options.write ? ::pwrite(request.fd, data, request.size, offset)
                                         : ::pread(request.fd, data, request.size, offset);
      if (result < 0) result = -errno;
      run.latency_us[i] = static_cast<float>(seconds_since(start) * 1e6);
      if (result != static_cast<int64_t>(request.size)) {
        bad_result = result;
        bad_index = i;
      }
    }
  };
  std::vector<std::thread> threads;
  const size_t wanted = std::min<size_t>(run.options.depth, kMostThreads);
  try {
    while (threads.size() < wanted) threads.emplace_back(work, threads.size());
  } catch (const std::system_error&) {
    if (threads.empty()) work(0);  // no thread to be had: this one does it all
  }
  for (std::thread& thread : threads) thread.join();
  if (bad_index != SIZE_MAX) return request_error(run, bad_index, bad_result);
  return {};
}

double percentile(std::vector<float>& sorted, double part) noexcept {
  const auto last = static_cast<double>(sorted.size() - 1);
  return sorted[static_cast<size_t>(last * part + 0.5)];
}

Result<void> check(std::span<const RawRange> ranges, const RawOptions& options) {
  const uint64_t size = options.request_size;
  if (size == 0 || size % kSector != 0 || size > kMaxRequest) {
    return Error{Status::Invalid, "the request size must be a multiple of 4096, at most 64 MiB"};
  }
  if (options.depth == 0 || options.depth > kMaxIoDepth || options.depth * size > kMaxBuffers) {
    return Error{Status::Invalid,
                 "the queue depth must be 1 to 4096, and its buffers at most 4 GiB"};
  }
  for (const RawRange& range : ranges) {
    if (range.size > 0) return {};
  }
  return Error{Status::Invalid, "there is nothing to transfer"};
}

}  // namespace

Result<RawSpeed> measure_raw_speed(std::span<const RawRange> ranges, const RawOptions& options) {
  if (auto checked = check(ranges, options); !checked) return checked.take_error();
  const Buffers buffers{options.depth * options.request_size};
  if (buffers.data() == nullptr) return Error{Status::Io, "no memory for the raw measurement"};
  if (options.write) buffers.fill();

  RawSpeed speed;
  Run run{options, {}, {}, buffers.data()};
  for (const RawRange& range : ranges) {
    for (uint64_t at = 0; at < range.size; at += options.request_size) {
      const uint64_t size = std::min(options.request_size, range.size - at);
      run.requests.push_back({range.fd, range.offset + at, size});
    }
    speed.bytes += range.size;
  }
  run.latency_us.resize(run.requests.size());

  Result<io_uring> ring = Error{Status::Unsupported, ""};
  if (options.allow_uring) ring = setup_ring(options.depth);
  speed.method = ring ? "io_uring" : "threads";
  double cpu = 0;
  Clock::time_point start;
  const auto begin = [&] {
    cpu = cpu_seconds();
    start = Clock::now();
  };
  Result<void> outcome;
  if (ring) {
    RingLoop loop{run, *ring};
    begin();
    outcome = loop.go();
  } else {
    begin();
    outcome = run_threads(run);
  }
  speed.seconds = seconds_since(start);
  speed.cpu_seconds = cpu_seconds() - cpu;
  if (ring) io_uring_queue_exit(&*ring);
  if (!outcome) return outcome.take_error();

  std::sort(run.latency_us.begin(), run.latency_us.end());
  speed.p50_us = percentile(run.latency_us, 0.50);
  speed.p99_us = percentile(run.latency_us, 0.99);
  return speed;
}

}  // namespace penstock
