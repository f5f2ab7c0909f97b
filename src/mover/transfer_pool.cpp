#include "mover/transfer_pool.hpp"

#include <numeric>

#include "base/assert.hpp"
#include "metrics/trace.hpp"

namespace penstock {

TransferPool::TransferPool(IoEngine& io, Staging& staging, DirectPath* direct,
                           const TransferLimits& limits, MoverMetrics& metrics)
    : sides_{Side{&io, &staging}, Side{}},
      metrics_{metrics},
      gate_{direct != nullptr, metrics},
      depth_{limits.depth},
      completions_(limits.batch) {
  if (direct != nullptr) sides_[1] = {direct->io.get(), &direct->staging};
  const size_t slots = staging.slots();
  const size_t direct_slots = direct == nullptr ? 0 : direct->staging.slots();
  limits_ = {slots, direct_slots, limits.memory, slots,
             slots, limits.pools, slots,         limits.unpacked};
  transfers_ = std::vector<Transfer>(std::accumulate(limits_.begin(), limits_.end(), size_t{0}));
  for (Transfer& transfer : transfers_) free_.push_back(&transfer);
  for (Side& side : sides_) {
    side.queued.reserve(transfers_.size());
    side.in_flight_by_pool.resize(limits.pools, 0);
  }
}

Route TransferPool::drive_route() noexcept {
  const Side& direct = side(Route::Direct);
  if (direct.io == nullptr) return Route::Staged;
  const bool open = gate_.is_open(direct.io->in_flight(), Clock::now());
  return open ? Route::Direct : Route::Staged;
}

bool TransferPool::can_start(Route route, uint32_t pool, size_t keep) const noexcept {
  if (in_flight(route) + keep >= limit(route)) return false;
  return !counts_on_pool(route) || sides_[side_of(route)].in_flight_by_pool[pool] < depth_;
}

Transfer& TransferPool::start(Route route, uint32_t pool) noexcept {
  PENSTOCK_ASSERT(in_flight(route) < limit(route) && !free_.empty());
  Transfer& transfer = *free_.back();
  free_.pop_back();
  transfer.io = {};
  transfer.io.user_data = reinterpret_cast<uint64_t>(&transfer);
  transfer.route = route;
  transfer.pool = pool;
  transfer.ends_layer = false;
  if (has_slot(route)) transfer.io.data = transfer.slot = side(route).staging->take();
  ++in_flight_;
  ++by_route_[static_cast<size_t>(route)];
  transfer.on_pool = counts_on_pool(route);
  if (transfer.on_pool) ++side(route).in_flight_by_pool[pool];
  return transfer;
}

size_t TransferPool::requests() const noexcept {
  size_t all = 0;
  for (const Side& side : sides_) all += side.io == nullptr ? 0 : side.io->in_flight();
  return all;
}

void TransferPool::queue(Transfer& transfer) noexcept {
  transfer.requested = Clock::now();
  side(transfer.route).queued.push_back(&transfer.io);
}

void TransferPool::sync(uint32_t pool, int fd) noexcept {
  if (in_flight(Route::Sync) == limit(Route::Sync)) return;
  Transfer& transfer = start(Route::Sync, pool);
  transfer.io.op = IoOp::Sync;
  transfer.io.fd = fd;
  queue(transfer);
}

void TransferPool::trace_run(const Transfer& transfer, const char* name, Clock::time_point begin,
                             Clock::time_point end) const noexcept {
  if (!tracing()) return;
  trace({name,
         TraceRow::Run,
         static_cast<uint64_t>(&transfer - transfers_.data()),
         begin,
         end,
         {{{"job", transfer.job != nullptr ? transfer.job->id : 0},
           {"chunk", transfer.chunk},
           {"bytes", transfer.io.size}}}});
}

void TransferPool::flush() noexcept {
  for (Side& side : sides_) {
    if (side.queued.empty()) continue;
    if (&side == &sides_[1]) gate_.submitted(side.io->in_flight(), Clock::now());
    const size_t accepted = side.io->submit(side.queued);
    side.queued.erase(side.queued.begin(),
                      side.queued.begin() + static_cast<std::ptrdiff_t>(accepted));
  }
}

void TransferPool::note_done(const Transfer& transfer, Status status) noexcept {
  const IoRequest& io = transfer.io;
  if (io.op == IoOp::Sync) return;
  PathMetrics& path = io.op == IoOp::Read ? metrics_.io_read : metrics_.io_write;
  const auto now = Clock::now();
  path.count(now - transfer.requested, io.size, status == Status::Ok);
  trace_run(transfer, io.op == IoOp::Read ? "read" : "write", transfer.requested, now);
}

size_t TransferPool::poll(const std::function<bool(Transfer&, const IoCompletion&)>& fn) noexcept {
  size_t all = 0;
  for (const Side& side : sides_) {
    const size_t count = side.io == nullptr ? 0 : side.io->poll(completions_);
    for (size_t i = 0; i < count; ++i) {
      const IoCompletion& completion = completions_[i];
      Transfer& transfer = *reinterpret_cast<Transfer*>(completion.request->user_data);
      note_done(transfer, completion.status);
      leave_pool(transfer);
      if (transfer.route == Route::Direct) returned_by_cufile(completion);
      const bool wanted = transfer.job != nullptr || transfer.behind;
      if (!wanted || !fn(transfer, completion)) finish(transfer);
    }
    all += count;
  }
  return all;
}

void TransferPool::returned_by_cufile(const IoCompletion& completion) noexcept {
  gate_.returned(completion.status, Clock::now());
  if (completion.status != Status::Ok) return;
  const bool read = completion.request->op == IoOp::Read;
  (read ? metrics_.cufile_read_bytes : metrics_.cufile_written_bytes).add(completion.request->size);
}

void TransferPool::leave_pool(Transfer& transfer) noexcept {
  if (transfer.on_pool) --side(transfer.route).in_flight_by_pool[transfer.pool];
  transfer.on_pool = false;
}

void TransferPool::orphan(const Job& job) noexcept {
  for (Transfer& transfer : transfers_)
    if (transfer.job == &job) transfer.job = nullptr;
}

void TransferPool::finish(Transfer& transfer) noexcept {
  Side& its = side(transfer.route);
  if (transfer.slot != nullptr) its.staging->give(transfer.slot);
  --in_flight_;
  --by_route_[static_cast<size_t>(transfer.route)];
  leave_pool(transfer);
  transfer.io = {};
  transfer.slot = nullptr;
  transfer.move.after.reset();
  transfer.job = nullptr;
  transfer.behind.reset();
  transfer.lease.reset();
  transfer.parcel.reset();
  free_.push_back(&transfer);
}

}  // namespace penstock
