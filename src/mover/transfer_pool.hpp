// TransferPool: the runs in flight, their staging slots and the limits on them, and which of two
// I/O engines has them: that of host memory, or cuFile's for slots in memory of the GPU.
//
// Mover thread only. Allocated once. A transfer is the caller's from start() until its completion
// has been delivered by poll(); its slot is then given back. At most `depth` requests are in flight
// on one pool through each engine, so that a drive that hangs cannot take every slot.
#pragma once

#include <array>
#include <functional>
#include <span>
#include <vector>

#include "mover/direct_gate.hpp"
#include "mover/job.hpp"
#include "mover/metrics.hpp"
#include "mover/staging.hpp"

namespace penstock {

struct TransferLimits {
  size_t pools = 0;     // on drives
  size_t depth = 32;    // requests on one pool
  size_t memory = 0;    // runs between host memory and the pages (Route::Memory)
  size_t unpacked = 0;  // runs between parcels and the pages
  size_t batch = 4;     // completions that are handled before new requests are started
};

// Slots in memory of the GPU, and the engine that drives reach them through.
struct DirectPath {
  Staging staging;  // its slots are as large as those in host memory
  std::unique_ptr<IoEngine> io;
};

class TransferPool {
 public:
  // `direct` may be null.
  TransferPool(IoEngine& io, Staging& staging, DirectPath* direct, const TransferLimits& limits,
               MoverMetrics& metrics);

  size_t slot_bytes() const noexcept { return sides_[0].staging->slot_bytes(); }
  // The way for a run between a drive and pages now: Direct while cuFile is there and works.
  Route drive_route() noexcept;
  // A run that came through cuFile has other bytes than it should.
  void direct_was_wrong() noexcept { gate_.held_wrong_bytes(); }
  size_t in_flight() const noexcept { return in_flight_; }
  size_t requests() const noexcept;  // that the I/O engines have
  size_t in_flight(Route route) const noexcept { return by_route_[static_cast<size_t>(route)]; }
  size_t limit(Route route) const noexcept { return limits_[static_cast<size_t>(route)]; }
  // True if a run to or from `pool` can be started and `keep` more could be after it.
  bool can_start(Route route, uint32_t pool, size_t keep) const noexcept;
  // A transfer, with a slot (io.data) where the route has one. Requires: can_start(). Fill it in,
  // then queue() or finish() it, or give it to the MoveQueue.
  Transfer& start(Route route, uint32_t pool) noexcept;
  void queue(Transfer& transfer) noexcept;
  // Starts an fdatasync that belongs to no job. Dropped when there is one on that pool already.
  void sync(uint32_t pool, int fd) noexcept;
  // Hands the queued transfers to the I/O engines.
  void flush() noexcept;
  // Calls fn(transfer, completion) for each one that completed; false: its slot is given back,
  // true: the caller still needs it, and calls finish().
  size_t poll(const std::function<bool(Transfer&, const IoCompletion&)>& fn) noexcept;
  void finish(Transfer& transfer) noexcept;
  // Draws what happened to a run, where a trace is on.
  void trace_run(const Transfer& transfer, const char* name, Clock::time_point begin,
                 Clock::time_point end) const noexcept;
  // The job is gone: its transfers complete without it.
  void orphan(const Job& job) noexcept;

 private:
  // An I/O engine and the slots that only it reads and writes.
  struct Side {
    IoEngine* io = nullptr;
    Staging* staging = nullptr;
    std::vector<IoRequest*> queued = {};
    std::vector<size_t> in_flight_by_pool = {};
  };
  static size_t side_of(Route route) noexcept { return route == Route::Direct ? 1 : 0; }
  Side& side(Route route) noexcept { return sides_[side_of(route)]; }
  bool counts_on_pool(Route route) const noexcept {
    return route != Route::Memory && route != Route::Unpacked;
  }
  void note_done(const Transfer& transfer, Status status) noexcept;
  // Its request is over, or will not be made; its slot may be needed for longer.
  void leave_pool(Transfer& transfer) noexcept;
  void returned_by_cufile(const IoCompletion& completion) noexcept;

  std::array<Side, 2> sides_;  // host memory's; the GPU's, with an engine if there is one
  MoverMetrics& metrics_;
  DirectGate gate_;
  size_t depth_;
  size_t in_flight_ = 0;
  std::array<size_t, kRoutes> limits_{};
  std::array<size_t, kRoutes> by_route_{};
  std::vector<Transfer> transfers_;
  std::vector<Transfer*> free_;
  std::vector<IoCompletion> completions_;
};

}  // namespace penstock
