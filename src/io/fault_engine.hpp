// The fault engine: an adaptor over any IoEngine that fails, shortens, delays or corrupts chosen
// operations, for tests of everything above it.
//
// It owns the inner engine. Data operations (reads and writes, not Sync) are counted from 1 in the
// order of submission; a continuation of a short transfer is no new operation. The driving thread
// uses it as any engine; set_plan(), release() and operations() may be called from any thread.
// A delayed operation is held back *before* it reaches the inner engine, so that memory handed back
// too early shows as bytes that arrive late. Destruction drops what is held and waits for the rest.
#pragma once

#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "io/io_engine.hpp"

namespace penstock {

enum class FaultKind : uint8_t {
  Fail,     // moves nothing, ends with `error_number`
  Shorten,  // an attempt ends after at most `bytes` (any number); 0 is an end of file
  Delay,    // held back for `delay`, or until release() if that comes first
  Stick,    // held back until release()
  Corrupt,  // moves everything, with the byte at `bytes` (modulo the size) inverted
};

struct Fault {
  FaultKind kind = FaultKind::Fail;
  uint64_t operation = 1;      // counted from 1
  bool onwards = false;        // this operation and every later one
  std::optional<IoOp> only{};  // applied to operations of this kind only; all are counted
  int error_number = EIO;
  uint64_t bytes = 0;
  std::chrono::nanoseconds delay{0};
};

class FaultEngine final : public IoEngine {
 public:
  explicit FaultEngine(std::unique_ptr<IoEngine> inner, std::vector<Fault> plan = {});
  ~FaultEngine() override;

  // Replaces the plan and counts operations from 1 again. The first fault that fits is applied.
  void set_plan(std::vector<Fault> plan);
  void release();  // lets go of everything that is held now
  uint64_t operations() const noexcept { return operations_.load(std::memory_order_relaxed); }

  void wake() noexcept override { inner_->wake(); }
  std::string_view name() const noexcept override { return name_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Slot;  // one request in flight and its shadow in the inner engine

  void submit_impl(std::span<IoRequest* const> requests) noexcept override;
  size_t poll_impl(std::span<Attempt> attempts) noexcept override;
  void wait_impl(std::chrono::nanoseconds timeout) noexcept override;

  std::optional<Fault> fault_for(const IoRequest& request) noexcept;
  void begin(IoRequest& request) noexcept;
  void forward(Slot& slot) noexcept;
  void forward_due() noexcept;
  Attempt finish(const IoCompletion& completion) noexcept;

  std::string name_;
  std::mutex mutex_;  // guards plan_ and released_, and orders changes of operations_
  std::vector<Fault> plan_;
  bool released_ = false;
  std::atomic<uint64_t> operations_{0};
  std::vector<Slot> slots_;
  std::vector<Slot*> free_;
  std::vector<Slot*> held_;
  std::vector<Attempt> ended_;       // without the inner engine
  std::unique_ptr<IoEngine> inner_;  // last: it goes first, while the slots are still there
};

}  // namespace penstock
