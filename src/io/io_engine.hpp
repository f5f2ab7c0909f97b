// IoEngine moves bytes between open files and memory: submit() some requests, poll() what
// completed.
//
// One thread drives an engine (submit, poll, wait); wake() may be called from any thread. A request
// and its memory are the caller's and must stay in place until its completion has been polled,
// whatever the caller's own deadline says: the kernel may still write there. submit() never blocks.
// Each accepted request completes exactly once. A short transfer is continued inside; `Ok` means
// that every byte was moved. Reading past the end of a file is Io, not a short success. The base
// class checks, continues and counts; a backend implements the private functions only.
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
  uint64_t done = 0;          // the engine's: bytes moved so far
};

struct IoCompletion {
  IoRequest* request = nullptr;
  Status status = Status::Ok;  // Ok, Io, NoSpace
  int error_number = 0;        // errno when not Ok; 0 for an unexpected end of file
};

struct IoCounters {
  uint64_t requests = 0, completions = 0, errors = 0, short_transfers = 0;
  uint64_t bytes_read = 0, bytes_written = 0;
};

class IoEngine {
 public:
  virtual ~IoEngine() = default;  // waits for requests in flight
  // Accepts a prefix of `requests` and returns its length; 0 when `depth` requests are in flight.
  size_t submit(std::span<IoRequest* const> requests) noexcept;
  // Reaps completed requests. Never waits.
  size_t poll(std::span<IoCompletion> completions) noexcept;
  // Returns when a completion may be there, wake() was called, or `timeout` has passed.
  virtual void wait(std::chrono::nanoseconds timeout) noexcept = 0;
  virtual void wake() noexcept = 0;
  virtual std::string_view name() const noexcept = 0;
  size_t in_flight() const noexcept { return in_flight_; }
  size_t depth() const noexcept { return depth_; }
  const IoCounters& counters() const noexcept { return counters_; }

 protected:
  explicit IoEngine(size_t depth) noexcept : depth_{depth} {}
  // One attempt at request->data + done .. size. `result` is bytes moved, or -errno.
  struct Attempt {
    IoRequest* request = nullptr;
    int64_t result = 0;
  };

 private:
  virtual size_t submit_impl(std::span<IoRequest* const> requests) noexcept = 0;
  virtual size_t poll_impl(std::span<Attempt> attempts) noexcept = 0;

  size_t depth_;
  size_t in_flight_ = 0;
  IoCounters counters_;
};

}  // namespace penstock
