#include "io/fault_engine.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "base/assert.hpp"
#include "base/sizes.hpp"

namespace penstock {
namespace {

struct Freer {
  void operator()(std::byte* bytes) const noexcept { std::free(bytes); }
};

}  // namespace

struct FaultEngine::Slot {
  IoRequest shadow;  // what the inner engine sees; shadow.user_data is the slot's place
  IoRequest* request = nullptr;
  uint64_t reported = 0;  // bytes that the attempt will claim to have moved
  Clock::time_point due;  // of a held one
  bool corrupt = false;
  uint64_t corrupt_at = 0;                     // within the shadow
  std::unique_ptr<std::byte[], Freer> copy{};  // the bytes of a corrupted write
};

FaultEngine::FaultEngine(std::unique_ptr<IoEngine> inner, std::vector<Fault> plan)
    : IoEngine{inner->depth()},
      name_{"fault(" + std::string{inner->name()} + ")"},
      plan_{std::move(plan)},
      slots_(inner->depth()),
      inner_{std::move(inner)} {
  PENSTOCK_ASSERT(inner_->in_flight() == 0);
  for (size_t i = 0; i < slots_.size(); ++i) {
    slots_[i].shadow.user_data = i;
    free_.push_back(&slots_[i]);
  }
}

FaultEngine::~FaultEngine() = default;

void FaultEngine::set_plan(std::vector<Fault> plan) {
  const std::lock_guard lock{mutex_};
  plan_ = std::move(plan);
  operations_.store(0, std::memory_order_relaxed);
}

void FaultEngine::release() {
  {
    const std::lock_guard lock{mutex_};
    released_ = true;
  }
  inner_->wake();
}

void FaultEngine::submit_impl(std::span<IoRequest* const> requests) noexcept {
  forward_due();  // an earlier release() is not for what comes now
  for (IoRequest* request : requests) begin(*request);
}

// A continuation (something was tried already) meets only faults that last.
std::optional<Fault> FaultEngine::fault_for(const IoRequest& request) noexcept {
  if (request.op == IoOp::Sync) return std::nullopt;
  const bool continued = request.done > 0 || request.stalls > 0;
  const std::lock_guard lock{mutex_};
  uint64_t operation = operations_.load(std::memory_order_relaxed);
  if (!continued) operations_.store(++operation, std::memory_order_relaxed);
  for (const Fault& fault : plan_) {
    if (fault.only && *fault.only != request.op) continue;
    if (fault.onwards ? operation >= fault.operation : !continued && operation == fault.operation) {
      return fault;
    }
  }
  return std::nullopt;
}

void FaultEngine::begin(IoRequest& request) noexcept {
  const std::optional<Fault> fault = fault_for(request);
  if (fault && fault->kind == FaultKind::Fail) {
    ended_.push_back({&request, -fault->error_number});
    return;
  }
  PENSTOCK_ASSERT(!free_.empty());  // one for each request in flight
  Slot& slot = *free_.back();
  free_.pop_back();
  const uint64_t place = slot.shadow.user_data;
  slot.shadow = {
      request.op, request.fd, request.offset + request.done, request.data, attempt_size(request),
      place};
  if (request.data != nullptr) slot.shadow.data += request.done;
  slot.request = &request;
  slot.corrupt = fault && fault->kind == FaultKind::Corrupt && slot.shadow.size > 0;
  if (slot.corrupt) slot.corrupt_at = fault->bytes % slot.shadow.size;
  slot.reported = slot.shadow.size;
  if (fault && fault->kind == FaultKind::Shorten) {
    slot.reported = std::min(slot.shadow.size, fault->bytes);
    // O_DIRECT moves whole sectors only.
    slot.shadow.size = std::min(slot.shadow.size, round_up(slot.reported, kSector));
  }
  if (fault && (fault->kind == FaultKind::Delay || fault->kind == FaultKind::Stick)) {
    const bool timed = fault->kind == FaultKind::Delay;
    slot.due = timed ? Clock::now() + fault->delay : Clock::time_point::max();
    held_.push_back(&slot);
    return;
  }
  forward(slot);
}

void FaultEngine::forward(Slot& slot) noexcept {
  IoRequest* const shadow = &slot.shadow;
  if (slot.corrupt && shadow->op == IoOp::Write) {
    // The caller's bytes stay as they are: a corrupted copy is written.
    const uint64_t room = round_up(shadow->size, kSector);
    slot.copy.reset(static_cast<std::byte*>(std::aligned_alloc(kSector, room)));
    PENSTOCK_ASSERT(slot.copy != nullptr);
    std::copy_n(shadow->data, shadow->size, slot.copy.get());
    slot.copy[slot.corrupt_at] = ~slot.copy[slot.corrupt_at];
    shadow->data = slot.copy.get();
  }
  // It cannot be full: both engines have the same depth.
  const size_t accepted = inner_->submit(std::span{&shadow, 1});
  PENSTOCK_ASSERT(accepted == 1);
}

void FaultEngine::forward_due() noexcept {
  bool released = false;
  {
    const std::lock_guard lock{mutex_};
    released = std::exchange(released_, false);
  }
  if (held_.empty()) return;
  const Clock::time_point now = Clock::now();
  const auto is_due = [&](const Slot* slot) { return released || slot->due <= now; };
  for (Slot* slot : held_) {
    if (is_due(slot)) forward(*slot);
  }
  std::erase_if(held_, is_due);
}

size_t FaultEngine::poll_impl(std::span<Attempt> attempts) noexcept {
  forward_due();
  size_t count = std::min(attempts.size(), ended_.size());
  std::copy_n(ended_.begin(), count, attempts.begin());
  ended_.erase(ended_.begin(), ended_.begin() + static_cast<ptrdiff_t>(count));
  std::array<IoCompletion, 16> completions;
  while (count < attempts.size()) {
    const size_t wanted = std::min(completions.size(), attempts.size() - count);
    const size_t reaped = inner_->poll(std::span{completions}.first(wanted));
    for (size_t i = 0; i < reaped; ++i) attempts[count++] = finish(completions[i]);
    if (reaped < wanted) break;
  }
  return count;
}

IoEngine::Attempt FaultEngine::finish(const IoCompletion& completion) noexcept {
  Slot& slot = slots_[completion.request->user_data];
  Attempt attempt{slot.request, 0};
  if (completion.status == Status::Ok) {
    if (slot.shadow.op != IoOp::Sync) attempt.result = static_cast<int64_t>(slot.reported);
    if (slot.corrupt && slot.shadow.op == IoOp::Read) {
      slot.shadow.data[slot.corrupt_at] = ~slot.shadow.data[slot.corrupt_at];
    }
  } else {
    attempt.result = -completion.error_number;  // 0: the end of the file
  }
  slot.copy.reset();
  free_.push_back(&slot);
  return attempt;
}

void FaultEngine::wait_impl(std::chrono::nanoseconds timeout) noexcept {
  forward_due();
  if (!ended_.empty()) return;
  const Clock::time_point now = Clock::now();
  for (const Slot* slot : held_) {
    if (slot->due == Clock::time_point::max()) continue;
    timeout = std::min<std::chrono::nanoseconds>(timeout, slot->due - now);
  }
  inner_->wait(timeout);
}

}  // namespace penstock
