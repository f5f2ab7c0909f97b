#include "mover/move_queue.hpp"

#include <algorithm>
#include <array>

#include "base/assert.hpp"

namespace penstock {
namespace {

constexpr size_t kDoneAtOnce = 64;
constexpr size_t kBatchesAhead = 2;  // that the device has while the next one fills

Transfer& transfer_of(PageMove* move) noexcept {
  return *reinterpret_cast<Transfer*>(move->user_data);
}

}  // namespace

void MoveQueue::add_scatter(Transfer& transfer) {
  ++transfer.job->moves;
  transfer.handed = Clock::now();
  scatters_.push_back(&transfer);
}

void MoveQueue::add_gather(Transfer& transfer) {
  ++transfer.job->moves;
  transfer.handed = Clock::now();
  gathers_.push_back(&transfer);
}

void MoveQueue::release(Transfer& transfer) noexcept {
  --transfer.job->moves;
  transfers_.finish(transfer);
}

void MoveQueue::drop_dead(std::vector<Transfer*>& list) {
  std::erase_if(list, [this](Transfer* transfer) {
    if (transfer->job->chunks[transfer->chunk].phase == ChunkPhase::Moving) return false;
    release(*transfer);
    return true;
  });
}

size_t MoveQueue::submit_to_device(std::span<Transfer* const> batch) noexcept {
  moves_.clear();
  for (Transfer* transfer : batch) {
    transfer->move.user_data = reinterpret_cast<uint64_t>(transfer);
    moves_.push_back(&transfer->move);
  }
  return device_.submit(moves_);
}

// How many of the scatters from `from` on are given to the device now.
size_t MoveQueue::next_batch(size_t from) const noexcept {
  size_t size = 0;
  for (size_t i = from; i < scatters_.size() && size < device_.batch(); ++i) {
    ++size;
    if (scatters_[i]->ends_layer) return size;
  }
  const bool has_work = scattering_ >= kBatchesAhead * device_.batch();
  return size < device_.batch() && has_work ? 0 : size;
}

bool MoveQueue::submit_scatters() {
  drop_dead(scatters_);
  size_t taken = 0;
  while (const size_t size = next_batch(taken)) {
    const size_t accepted = submit_to_device(std::span{scatters_}.subspan(taken, size));
    taken += accepted;
    scattering_ += accepted;
    if (accepted < size) break;
  }
  scatters_.erase(scatters_.begin(), scatters_.begin() + static_cast<std::ptrdiff_t>(taken));
  return taken > 0;
}

bool MoveQueue::submit_gathers(const Submit& submit) {
  drop_dead(gathers_);
  if (gathers_.empty()) return false;
  const size_t taken =
      submit(std::span{gathers_}.first(std::min(device_.batch(), gathers_.size())));
  gathers_.erase(gathers_.begin(), gathers_.begin() + static_cast<std::ptrdiff_t>(taken));
  return taken > 0;
}

void MoveQueue::note_done(const Transfer& transfer) noexcept {
  const PageMove& move = transfer.move;
  const bool is_load = move.direction == PageMove::Direction::Scatter;
  const auto now = Clock::now();
  transfers_.trace_run(transfer, is_load ? "scatter" : "gather", transfer.handed, now);
  if (transfer.route != Route::Memory) return;  // counted as a request to a drive
  PathMetrics& path = is_load ? metrics_.memory_read : metrics_.memory_write;
  path.count(now - transfer.handed, move.end - move.begin, move.status == Status::Ok);
}

bool MoveQueue::poll() {
  std::array<PageMove*, kDoneAtOnce> done;
  const size_t count = device_.poll(done);
  for (size_t i = 0; i < count; ++i) {
    Transfer& transfer = transfer_of(done[i]);
    note_done(transfer);
    if (done[i]->direction == PageMove::Direction::Scatter) {
      --scattering_;
      scattered_(transfer);
      release(transfer);
    } else {
      --transfer.job->moves;
      gathered_(transfer);
    }
  }
  return count > 0;
}

}  // namespace penstock
