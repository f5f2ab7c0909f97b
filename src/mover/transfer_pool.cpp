#include "mover/transfer_pool.hpp"

#include <numeric>

#include "base/assert.hpp"

namespace penstock {

TransferPool::TransferPool(IoEngine& io, Staging& staging, const TransferLimits& limits)
    : io_{io},
      staging_{staging},
      depth_{limits.depth},
      in_flight_by_pool_(limits.pools, 0),
      completions_(limits.batch) {
  const size_t slots = staging.slots();
  limits_ = {slots, limits.memory, slots, slots, limits.pools};
  transfers_ = std::vector<Transfer>(std::accumulate(limits_.begin(), limits_.end(), size_t{0}));
  for (Transfer& transfer : transfers_) free_.push_back(&transfer);
  queued_.reserve(transfers_.size());
}

bool TransferPool::can_start(Route route, uint32_t pool, size_t keep) const noexcept {
  if (in_flight(route) + keep >= limit(route)) return false;
  return !counts_on_pool(route) || in_flight_by_pool_[pool] < depth_;
}

Transfer& TransferPool::start(Route route, uint32_t pool) noexcept {
  PENSTOCK_ASSERT(in_flight(route) < limit(route) && !free_.empty());
  Transfer& transfer = *free_.back();
  free_.pop_back();
  transfer.io = {};
  transfer.io.user_data = reinterpret_cast<uint64_t>(&transfer);
  transfer.route = route;
  transfer.pool = pool;
  if (route == Route::Staged) transfer.io.data = transfer.slot = staging_.take();
  ++in_flight_;
  ++by_route_[static_cast<size_t>(route)];
  if (counts_on_pool(route)) ++in_flight_by_pool_[pool];
  return transfer;
}

void TransferPool::queue(Transfer& transfer) noexcept {
  queued_.push_back(&transfer.io);
}

void TransferPool::sync(uint32_t pool, int fd) noexcept {
  if (in_flight(Route::Sync) == limit(Route::Sync)) return;
  Transfer& transfer = start(Route::Sync, pool);
  transfer.io.op = IoOp::Sync;
  transfer.io.fd = fd;
  queue(transfer);
}

void TransferPool::flush() noexcept {
  if (queued_.empty()) return;
  const size_t accepted = io_.submit(queued_);
  queued_.erase(queued_.begin(), queued_.begin() + static_cast<std::ptrdiff_t>(accepted));
}

size_t TransferPool::poll(const std::function<bool(Transfer&, const IoCompletion&)>& fn) noexcept {
  const size_t count = io_.poll(completions_);
  for (size_t i = 0; i < count; ++i) {
    const IoCompletion& completion = completions_[i];
    Transfer& transfer = *reinterpret_cast<Transfer*>(completion.request->user_data);
    const bool wanted = transfer.job != nullptr || transfer.behind;
    if (!wanted || !fn(transfer, completion)) finish(transfer);
  }
  return count;
}

void TransferPool::orphan(const Job& job) noexcept {
  for (Transfer& transfer : transfers_)
    if (transfer.job == &job) transfer.job = nullptr;
}

void TransferPool::finish(Transfer& transfer) noexcept {
  if (transfer.slot != nullptr) staging_.give(transfer.slot);
  --in_flight_;
  --by_route_[static_cast<size_t>(transfer.route)];
  if (counts_on_pool(transfer.route)) --in_flight_by_pool_[transfer.pool];
  transfer.io = {};
  transfer.slot = nullptr;
  transfer.move.after.reset();
  transfer.job = nullptr;
  transfer.behind.reset();
  transfer.lease.reset();
  free_.push_back(&transfer);
}

}  // namespace penstock
