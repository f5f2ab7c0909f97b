// IoEngine moves bytes between open files and memory: submit() some requests, poll() what
// completed.
//
// One thread drives an engine (submit, poll, wait); wake() may be called from any thread. A request
// and its memory are the caller's and must stay in place until its completion has been polled,
// whatever the caller's own deadline says: the kernel may still write there. submit() never blocks.
// Each accepted request completes exactly once. A short transfer is continued inside; `Ok` means
// that every byte was moved. Reading past the end of a file is Io, not a short success. After a
// failure the request's memory (or file range) holds undefined bytes; the engine goes on serving
// others. The base class checks, continues and counts; a backend implements the private functions
// only.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "penstock/status.hpp"

namespace penstock {

enum class IoOp : uint8_t { Read, Write, Sync };  // Sync: fdatasync of the file

struct IoRequest {
  IoOp op = IoOp::Read;
  int fd = -1;
  uint64_t offset = 0;        // bytes; a multiple of kSector if the file is O_DIRECT
  std::byte* data = nullptr;  // kSector-aligned if the file is O_DIRECT
  uint64_t size = 0;          // bytes; a multiple of kSector if the file is O_DIRECT
  uint64_t user_data = 0;     // the caller's
  uint64_t done = 0;          // the engine's: bytes moved so far, down to a sector boundary
  uint32_t stalls = 0;        // the engine's: attempts since `done` last grew
};

struct IoCompletion {
  IoRequest* request = nullptr;
  Status status = Status::Ok;  // Ok, Io, NoSpace
  int error_number = 0;        // errno when not Ok; 0 for an end of file within the request
};

struct IoCounters {
  uint64_t requests = 0, completions = 0, errors = 0, short_transfers = 0;
  uint64_t bytes_read = 0, bytes_written = 0;
};

class IoEngine {
 public:
  virtual ~IoEngine() = default;  // waits for requests in flight; their completions are lost
  // Accepts a prefix of `requests` and returns its length; 0 when `depth` requests are in flight.
  size_t submit(std::span<IoRequest* const> requests) noexcept;
  // Reaps completed requests. Never waits. May return 0 while requests are being continued.
  size_t poll(std::span<IoCompletion> completions) noexcept;
  // Returns when a completion may be there, wake() was called since the last return, or `timeout`
  // has passed. May return early; never spins.
  void wait(std::chrono::nanoseconds timeout) noexcept;
  virtual void wake() noexcept = 0;
  virtual std::string_view name() const noexcept = 0;
  size_t in_flight() const noexcept { return in_flight_; }
  size_t depth() const noexcept { return depth_; }
  const IoCounters& counters() const noexcept { return counters_; }

  // For backends.
  // One attempt at request->data + done .. size. `result` is bytes moved, or -errno.
  struct Attempt {
    IoRequest* request = nullptr;
    int64_t result = 0;
  };
  // Bytes that one attempt asks for: what is left, at most kMaxAttempt.
  static uint64_t attempt_size(const IoRequest& request) noexcept;
  static constexpr uint64_t kMaxAttempt = uint64_t{1} << 30;  // a syscall moves less than 2 GiB

 protected:
  explicit IoEngine(size_t depth) noexcept : depth_{depth} {}

 private:
  // Takes all of `requests` (never more than `depth` at a time); what it cannot start it returns
  // from poll_impl with -errno.
  virtual void submit_impl(std::span<IoRequest* const> requests) noexcept = 0;
  // Returns fewer than asked for only if no further attempt has ended.
  virtual size_t poll_impl(std::span<Attempt> attempts) noexcept = 0;
  virtual void wait_impl(std::chrono::nanoseconds timeout) noexcept = 0;

  bool settle(const Attempt& attempt, IoCompletion& completion) noexcept;
  void count(const IoCompletion& completion) noexcept;

  size_t depth_;
  size_t in_flight_ = 0;
  IoCounters counters_;
};

}  // namespace penstock
