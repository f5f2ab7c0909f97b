// TransferPool: the requests in flight, their staging slots and the limits on them.
//
// Mover thread only. Allocated once. A transfer is the caller's from start() until its completion
// has been delivered by poll(); its slot is then given back. At most `depth` requests are in flight
// on one pool, so that a drive that hangs cannot take every slot.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "mover/job.hpp"
#include "mover/staging.hpp"

namespace penstock {

class TransferPool {
 public:
  // `batch`: how many completions are handled before new requests are started.
  TransferPool(IoEngine& io, Staging& staging, size_t pools, size_t depth, size_t batch);

  size_t slot_bytes() const noexcept { return staging_.slot_bytes(); }
  size_t in_flight() const noexcept { return in_flight_; }
  // True if a request to `pool` can be started and `keep` slots stay free after it.
  bool can_start(uint32_t pool, size_t keep) const noexcept;
  // A transfer with a slot (io.data). Requires: can_start(). Fill it in and queue() or finish() it.
  Transfer& start(uint32_t pool) noexcept;
  void queue(Transfer& transfer) noexcept;
  // Starts an fdatasync that belongs to no job. Dropped when all requests are taken.
  void sync(uint32_t pool, int fd) noexcept;
  // Hands the queued transfers to the I/O engine.
  void flush() noexcept;
  // Calls fn(transfer, completion) for each one that completed; false: its slot is given back,
  // true: the caller still needs it, and calls finish().
  size_t poll(const std::function<bool(Transfer&, const IoCompletion&)>& fn) noexcept;
  void finish(Transfer& transfer) noexcept;
  // The job is gone: its transfers complete without it.
  void orphan(const Job& job) noexcept;

 private:
  IoEngine& io_;
  Staging& staging_;
  size_t depth_;
  size_t in_flight_ = 0;
  std::vector<Transfer> transfers_;
  std::vector<Transfer*> free_;
  std::vector<IoRequest*> queued_;
  std::vector<size_t> in_flight_by_pool_;
  std::vector<IoCompletion> completions_;
};

}  // namespace penstock
