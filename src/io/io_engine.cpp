#include "io/io_engine.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/assert.hpp"
#include "base/sizes.hpp"

namespace penstock {
namespace {

constexpr uint32_t kMaxStalls = 8;  // attempts in a row that move nothing, before giving up
constexpr size_t kBatch = 64;       // attempts reaped at a time

bool is_transient(int error) noexcept {
  return error == EINTR || error == EAGAIN;
}

Status to_status(int error) noexcept {
  return error == ENOSPC || error == EDQUOT ? Status::NoSpace : Status::Io;
}

}  // namespace

uint64_t IoEngine::attempt_size(const IoRequest& request) noexcept {
  return std::min(request.size - request.done, kMaxAttempt);
}

size_t IoEngine::submit(std::span<IoRequest* const> requests) noexcept {
  const auto accepted = requests.first(std::min(requests.size(), depth_ - in_flight_));
  if (accepted.empty()) return 0;
  for (IoRequest* request : accepted) {
    PENSTOCK_ASSERT(request != nullptr);
    PENSTOCK_ASSERT(request->op == IoOp::Sync || request->size == 0 || request->data != nullptr);
    request->done = 0;
    request->stalls = 0;
  }
  in_flight_ += accepted.size();
  counters_.requests += accepted.size();
  submit_impl(accepted);
  return accepted.size();
}

size_t IoEngine::poll(std::span<IoCompletion> completions) noexcept {
  size_t count_done = 0;
  std::array<Attempt, kBatch> attempts;
  while (count_done < completions.size()) {
    const size_t wanted = std::min(kBatch, completions.size() - count_done);
    const size_t reaped = poll_impl(std::span{attempts}.first(wanted));
    for (size_t i = 0; i < reaped; ++i) {
      if (settle(attempts[i], completions[count_done])) {
        count(completions[count_done++]);
      } else {
        submit_impl(std::span{&attempts[i].request, 1});
      }
    }
    if (reaped < wanted) break;
  }
  return count_done;
}

void IoEngine::wait(std::chrono::nanoseconds timeout) noexcept {
  // Clamped so that a backend may add it to a clock without overflow.
  wait_impl(std::clamp(timeout, std::chrono::nanoseconds{0},
                       std::chrono::nanoseconds{std::chrono::hours{24}}));
}

// True if the request is finished; false if it is to be attempted again from request->done.
bool IoEngine::settle(const Attempt& attempt, IoCompletion& completion) noexcept {
  IoRequest& request = *attempt.request;
  completion = {&request, Status::Ok, 0};
  if (attempt.result < 0) {
    const int error = static_cast<int>(-attempt.result);
    if (is_transient(error) && ++request.stalls <= kMaxStalls) return false;
    completion.status = to_status(error);
    completion.error_number = error;
    return true;
  }
  if (request.op == IoOp::Sync) return true;

  const auto moved = static_cast<uint64_t>(attempt.result);
  PENSTOCK_ASSERT(moved <= attempt_size(request));
  if (moved < attempt_size(request)) ++counters_.short_transfers;
  const uint64_t done = request.done + moved;
  if (done == request.size) {
    request.done = done;
    return true;
  }
  // The next attempt starts at a sector boundary: O_DIRECT allows no other place, and moving a few
  // bytes again does no harm. A file that ends within a sector shows as an end that stays put.
  const uint64_t aligned = done / kSector * kSector;
  if (aligned > request.done) {
    request.done = aligned;
    request.stalls = 0;
    return false;
  }
  if (moved != 0 && ++request.stalls <= kMaxStalls) return false;
  completion.status = Status::Io;
  completion.error_number = request.op == IoOp::Read ? 0 : EIO;
  return true;
}

void IoEngine::count(const IoCompletion& completion) noexcept {
  const IoRequest& request = *completion.request;
  PENSTOCK_ASSERT(in_flight_ > 0);
  --in_flight_;
  ++counters_.completions;
  if (completion.status != Status::Ok) ++counters_.errors;
  if (request.op == IoOp::Read) counters_.bytes_read += request.done;
  if (request.op == IoOp::Write) counters_.bytes_written += request.done;
}

}  // namespace penstock
