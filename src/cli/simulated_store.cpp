#include "cli/simulated_store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/sizes.hpp"

namespace penstock::cli {
namespace {

constexpr uint64_t kBlock = kSector;  // the smallest that a store takes
constexpr size_t kJobChunks = 64;     // saved together, as the mover publishes them

// The size of a store of `blocks` small blocks, by the store's own plan.
uint64_t size_of_small_store(uint64_t blocks) {
  uint64_t low = blocks * kBlock;
  uint64_t high = blocks * (kBlock + kIndexBytesPerBlock) * 2 + kGb;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    const auto plan = plan_space(middle, kBlock, 1, 0, 0);
    if (plan && plan->blocks >= blocks)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

Result<uint64_t> blocks_of(const SimulatedSize& size, uint64_t copy_blocks) {
  uint64_t blocks = 0;
  if (size.capacity_bytes == 0) {
    // Some are always kept free.
    blocks = copy_blocks * (size.copies + size.copies / 50 + 1000);
  } else {
    const auto plan = plan_space(size.capacity_bytes, size.block_bytes, 1, 0, 0);
    if (!plan) return plan.error();
    blocks = plan->blocks;
  }
  if (blocks > std::numeric_limits<uint32_t>::max())
    return Error{Status::Invalid,
                 fmt::format("a store of {} blocks of {} bytes is more than one pool can have",
                             blocks, size.block_bytes)};
  return blocks;
}

}  // namespace

Result<std::unique_ptr<SimulatedStore>> SimulatedStore::open(const std::string& directory,
                                                             const SimulatedSize& size) {
  std::unique_ptr<SimulatedStore> made{new SimulatedStore};
  // Where nothing is evicted it does not matter how many blocks a copy has.
  const uint64_t real_blocks = div_up(size.chunk_bytes, size.block_bytes);
  made->copy_blocks_ = size.capacity_bytes == 0 ? 1 : real_blocks;
  made->written_a_chunk_ = round_up(size.chunk_bytes, kSector);
  made->block_stands_for_ = real_blocks * size.block_bytes / made->copy_blocks_;
  const auto blocks = blocks_of(size, made->copy_blocks_);
  if (!blocks) return blocks.error();

  StoreOptions options;
  options.directories = {directory};
  options.block_size = kBlock;
  options.max_bytes = size_of_small_store(*blocks);
  options.max_write_bytes_per_day =
      static_cast<int64_t>(size.max_write_bytes_per_day / made->block_stands_for_ * kBlock);
  if (size.max_write_bytes_per_day != 0 && options.max_write_bytes_per_day == 0)
    options.max_write_bytes_per_day = 1;  // less than a block: nothing
  options.clock = &made->clock_;
  auto directories = prepare_directories(options);
  if (!directories) return directories.take_error();
  auto parts = open_store(options, std::move(*directories));
  if (!parts) return parts.take_error();
  // All blocks at once, in a hole: the keeper would take room from the file system for them.
  const auto status = parts->index->extend(
      0, [&](const PoolRow&) { return parts->pools[0].pool->cut(*blocks) ? *blocks : 0; });
  if (status != Status::Ok || parts->index->pools()[0].blocks != *blocks)
    return Error{Status::Io, fmt::format("{}: cannot make a sparse file of {} bytes", directory,
                                         *blocks * kBlock)};
  made->core_.emplace(options, std::move(*parts));
  auto ns = made->core_->open_namespace({Digest{}, "simulation"});
  if (!ns) return ns.take_error();
  made->ns_ = *ns;
  return made;
}

// What the index thread does between pieces of work, until it has nothing to do.
void SimulatedStore::keep_up() {
  while (core_->upkeep() == std::chrono::milliseconds{0}) {
  }
}

Result<uint32_t> SimulatedStore::serve(int64_t time_ms, std::span<const Key> chain,
                                       uint32_t usable) {
  clock_.set(time_ms);
  keep_up();
  const auto first = chain.first(std::min<size_t>(usable, chain.size()));
  uint32_t found = core_->lookup(ns_, first, std::vector<GroupNeed>{GroupNeed{}});
  std::vector<CopyName> names;
  for (const Key& key : first.first(found)) names.push_back({key, 0, 0});
  const auto records = core_->find(ns_, names);
  found = static_cast<uint32_t>(
      std::find_if(records.begin(), records.end(),
                   [](const CopyRecord& record) { return record.status != Status::Ok; }) -
      records.begin());
  save(chain, found);

  const auto metrics = core_->metrics();
  if (metrics.at("failed") != 0 || metrics.at("index_errors") != 0)
    return Error{Status::Io, "the scratch store fails: its directory is full, or not writable"};
  const auto used = static_cast<uint64_t>(metrics.at("bytes_used")) / kBlock * block_stands_for_;
  figures_.peak_bytes = std::max(figures_.peak_bytes, used);
  figures_.evicted_chunks = static_cast<uint64_t>(metrics.at("evictions"));
  return found;
}

void SimulatedStore::save(std::span<const Key> chain, size_t first) {
  for (size_t begin = first; begin < chain.size(); begin += kJobChunks) {
    const size_t end = std::min(begin + kJobChunks, chain.size());
    std::vector<Wish> wishes;
    for (size_t i = begin; i < end; ++i)
      wishes.push_back({{chain[i], 0, 0}, copy_blocks_ * kBlock, std::nullopt});
    std::vector<Reservation> reservations = core_->reserve(ns_, wishes);
    std::vector<CopyInsert> copies;
    for (size_t i = begin; i < end; ++i) {
      Reservation& reservation = reservations[i - begin];
      figures_.rejected_chunks += reservation.status == Status::Rejected;
      figures_.dropped_chunks +=
          reservation.status == Status::NoSpace || reservation.status == Status::Invalid;
      if (reservation.status != Status::Ok) continue;
      figures_.written_bytes += written_a_chunk_;
      copies.push_back({.name = {chain[i], 0, 0},
                        .parent = i == 0 ? Key{} : chain[i - 1],
                        .length = copy_blocks_ * kBlock,
                        .extents = std::move(reservation.extents),
                        .checksums = std::vector<uint64_t>(copy_blocks_)});
    }
    // A copy whose parent found no room is refused here, and its blocks are free again.
    for (const Status status : core_->commit(ns_, copies))
      figures_.dropped_chunks += status != Status::Ok;
    if (core_->needs_room()) keep_up();
  }
}

SimulatedFigures SimulatedStore::figures() const {
  SimulatedFigures figures = figures_;
  figures.pool_bytes =
      static_cast<uint64_t>(core_->metrics().at("blocks_total")) * block_stands_for_;
  return figures;
}

}  // namespace penstock::cli
