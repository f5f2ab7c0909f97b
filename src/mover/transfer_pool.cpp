#include "mover/transfer_pool.hpp"

#include "base/assert.hpp"

namespace penstock {

TransferPool::TransferPool(IoEngine& io, Staging& staging, size_t pools, size_t depth, size_t batch)
    : io_{io},
      staging_{staging},
      depth_{depth},
      transfers_(staging.slots() + pools),  // one more a pool for its fdatasync
      in_flight_by_pool_(pools, 0),
      completions_(batch) {
  for (Transfer& transfer : transfers_) free_.push_back(&transfer);
  queued_.reserve(transfers_.size());
}

bool TransferPool::can_start(uint32_t pool, size_t keep) const noexcept {
  return staging_.free_slots() > keep && !free_.empty() && in_flight_by_pool_[pool] < depth_;
}

Transfer& TransferPool::start(uint32_t pool) noexcept {
  PENSTOCK_ASSERT(can_start(pool, 0));
  Transfer& transfer = *free_.back();
  free_.pop_back();
  transfer.io = {};
  transfer.io.data = staging_.take();
  transfer.io.user_data = reinterpret_cast<uint64_t>(&transfer);
  transfer.pool = pool;
  ++in_flight_;
  ++in_flight_by_pool_[pool];
  return transfer;
}

void TransferPool::queue(Transfer& transfer) noexcept {
  queued_.push_back(&transfer.io);
}

void TransferPool::sync(uint32_t pool, int fd) noexcept {
  if (free_.empty()) return;
  Transfer& transfer = *free_.back();
  free_.pop_back();
  transfer.io = {};
  transfer.io.op = IoOp::Sync;
  transfer.io.fd = fd;
  transfer.io.user_data = reinterpret_cast<uint64_t>(&transfer);
  transfer.pool = pool;
  ++in_flight_;
  ++in_flight_by_pool_[pool];
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
    if (transfer.job == nullptr || !fn(transfer, completion)) finish(transfer);
  }
  return count;
}

void TransferPool::orphan(const Job& job) noexcept {
  for (Transfer& transfer : transfers_)
    if (transfer.job == &job) transfer.job = nullptr;
}

void TransferPool::finish(Transfer& transfer) noexcept {
  if (transfer.io.data != nullptr) staging_.give(transfer.io.data);
  --in_flight_;
  --in_flight_by_pool_[transfer.pool];
  transfer.io = {};
  transfer.move.after.reset();
  transfer.job = nullptr;
  transfer.lease.reset();
  free_.push_back(&transfer);
}

}  // namespace penstock
