#include "store/store_core.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "base/sizes.hpp"
#include "metrics/trace.hpp"
#include "store/store_files.hpp"

namespace penstock {
namespace {

// Copies of one call that are committed in one transaction: it bounds how far the WAL can pass its
// limit, and for how long other processes wait.
constexpr size_t kCommitBatch = 128;

}  // namespace

StoreCore::StoreCore(const StoreOptions& options, StoreParts parts)
    : options_{options}, parts_{std::move(parts)} {
  write_limit_ = options_.max_write_bytes_per_day < 0
                     ? space_of(parts_.directories).capacity
                     : static_cast<uint64_t>(options_.max_write_bytes_per_day);
  if (parts_.index)
    keeper_.emplace(parts_, options_.min_free_bytes, *options_.clock);
  else
    failure_ = parts_.damage;
  if (parts_.mapped) {
    std::vector<std::span<std::byte>> memory;
    for (uint32_t pool = 0; pool < pool_count(); ++pool) memory.push_back(pool_memory(pool));
    watch_.emplace(std::move(memory), block_size());
    allocated_.resize(pool_count());
    note_growth();
  }
  measure_files();
  publish();
}

StoreCore::~StoreCore() {
  if (works()) keeper_->finish();
}

// The file says how much there is, not the index: a row that is wrong must not end this process.
void StoreCore::note_growth() {
  for (uint32_t pool = 0; pool < allocated_.size(); ++pool) {
    if (!parts_.pools[pool].pool) continue;
    const Pool& file = *parts_.pools[pool].pool;
    allocated_[pool] = std::min<uint64_t>(file.allocated(), file.memory().size() / block_size());
    watch_->allocated(pool, allocated_[pool]);
  }
}

bool StoreCore::has_memory(std::span<const Extent> extents) {
  if (!parts_.mapped) return true;
  const auto inside = [&](const Extent& extent) {
    return extent.pool < allocated_.size() &&
           uint64_t{extent.first} + extent.count <= allocated_[extent.pool];
  };
  if (std::all_of(extents.begin(), extents.end(), inside)) return true;
  note_growth();  // another process may have made it larger
  return std::all_of(extents.begin(), extents.end(), inside);
}

// An index that is damaged stays unused, however the damage was met.
void StoreCore::check_health() {
  if (!works()) return;
  const Index& index = *parts_.index;
  const StoreFiles files{parts_.directories.front()};
  if (index.is_corrupt()) {
    failure_ = index.last_error();
    files.note_damage(failure_);
    log(LogLevel::Error,
        "the index is damaged, nothing is found or saved any more; the next "
        "process that opens the store alone begins a new one: " +
            failure_);
    publish();
  } else if (index.counters().corrupt_copies != corrupt_seen_) {
    // Single rows that make no sense: they are misses, and the index is not to be trusted for long.
    if (corrupt_seen_ == 0) files.note_damage("rows of copies contradict the pools");
    corrupt_.add(index.counters().corrupt_copies - corrupt_seen_);
    corrupt_seen_ = index.counters().corrupt_copies;
  }
}

Result<NamespaceId> StoreCore::open_namespace(const NamespaceSpec& spec) {
  if (!works()) return NamespaceId{0};  // a namespace in which nothing is ever found
  auto id = parts_.index->open_namespace(spec, options_.clock->now_ms());
  check_health();
  if (!works()) return NamespaceId{0};
  return id;
}

uint32_t StoreCore::lookup(NamespaceId ns, std::span<const Key> chain,
                           std::span<const GroupNeed> groups) {
  const TraceScope scope{"lookup", "chunks", chain.size()};
  const auto start = std::chrono::steady_clock::now();
  const uint32_t found = works() && ns > 0 ? parts_.index->lookup(ns, chain, groups) : 0;
  lookups_.add();
  lookup_ns_.add(static_cast<uint64_t>(
      std::chrono::nanoseconds{std::chrono::steady_clock::now() - start}.count()));
  check_health();
  return found;
}

std::vector<CopyRecord> StoreCore::find(NamespaceId ns, std::span<const CopyName> names) {
  const TraceScope scope{"find", "copies", names.size()};
  if (!works() || ns <= 0) return std::vector<CopyRecord>(names.size());
  std::vector<CopyRecord> records = parts_.index->find(ns, names);
  for (CopyRecord& record : records)
    if (!has_memory(record.extents)) record = CopyRecord{};
  // The deepest copy of each group and shard stands for all those above it.
  std::map<std::pair<uint32_t, uint32_t>, int64_t> deepest;
  for (size_t i = 0; i < names.size(); ++i) {
    if (records[i].status == Status::Ok) deepest[{names[i].group, names[i].shard}] = records[i].id;
  }
  for (const auto& [tree, id] : deepest) keeper_->note_hit(id);
  check_health();
  return records;
}

std::vector<Extent> StoreCore::sample(uint32_t limit, uint64_t random) {
  if (!works()) return {};
  std::vector<Extent> blocks = parts_.index->sample(limit, random);
  std::erase_if(blocks, [&](const Extent& block) { return !has_memory({&block, 1}); });
  check_health();
  return blocks;
}

// What the pools that are not out have, or may grow to.
uint64_t StoreCore::usable_blocks() const noexcept {
  uint64_t all = 0;
  uint64_t usable = 0;
  for (const PoolRow& row : parts_.index->pools()) {
    all += row.blocks;
    if (parts_.index->is_usable(row.id)) usable += row.keep;
  }
  const uint64_t most = parts_.plan.blocks;
  return std::min(most, usable + (most > all ? most - all : 0));
}

std::vector<Reservation> StoreCore::reserve(NamespaceId ns, std::span<const Wish> wishes) {
  const TraceScope scope{"reserve", "copies", wishes.size()};
  std::vector<Reservation> answers(wishes.size(), Reservation{Status::NoSpace, {}});
  if (!works() || ns <= 0) return answers;
  Index& index = *parts_.index;
  const WriteLimit limit{day_of(options_.clock->now_ms()), write_limit_};
  // A copy of more than half the store would drive out everything, itself included.
  const uint64_t most = usable_blocks() / 2;
  const auto blocks_at = [&](size_t i) { return div_up(wishes[i].length, block_size()); };
  std::vector<size_t> places;
  for (size_t i = 0; i < wishes.size(); ++i)
    if (blocks_at(i) <= most) places.push_back(i);
  const auto ask = [&] {
    std::vector<Wish> asked;
    std::vector<Reservation> part;
    for (const size_t i : places) asked.push_back(wishes[i]);
    index.reserve(ns, parts_.process, asked, limit, part);
    for (size_t i = 0; i < part.size(); ++i) answers[places[i]] = std::move(part[i]);
  };
  if (!places.empty()) keeper_->note_copy(blocks_at(places.front()));
  if (!places.empty()) ask();

  // Those that found no room: make some and ask once more.
  std::erase_if(places, [&](size_t i) { return answers[i].status != Status::NoSpace; });
  uint64_t missing = 0;
  for (const size_t i : places) missing += blocks_at(i);
  if (!places.empty() && !index.is_corrupt()) {
    std::vector<Wish> asked;
    for (const size_t i : places) asked.push_back(wishes[i]);
    keeper_->make_room(std::min(missing, most), index.ids_of_parents(ns, asked));
    ask();
  }
  for (Reservation& answer : answers) {
    if (has_memory(answer.extents)) continue;
    keeper_->release_later(std::move(answer.extents));
    answer = Reservation{Status::NoSpace, {}};
  }
  for (const Reservation& answer : answers) no_space_.add(answer.status == Status::NoSpace);
  check_health();
  publish();
  return answers;
}

std::vector<Status> StoreCore::commit(NamespaceId ns, std::span<const CopyInsert> copies) {
  const TraceScope scope{"commit", "copies", copies.size()};
  std::vector<Status> statuses;
  statuses.reserve(copies.size());
  while (!copies.empty()) {
    const auto batch = copies.first(std::min(copies.size(), kCommitBatch));
    copies = copies.subspan(batch.size());
    std::vector<Status> part(batch.size(), Status::Rejected);
    Status status = Status::Rejected;
    if (works() && ns > 0)
      status = parts_.index->commit(ns, parts_.process, batch, options_.clock->now_ms(), part);
    // A transaction that failed has given nothing back.
    if (status != Status::Ok && keeper_)
      for (const CopyInsert& copy : batch) keeper_->release_later(copy.extents);
    statuses.insert(statuses.end(), part.begin(), part.end());
    check_health();
  }
  publish();
  return statuses;
}

void StoreCore::release(std::vector<Extent> extents) {
  if (!works()) return;
  if (parts_.index->release(parts_.process, extents) != Status::Ok)
    keeper_->release_later(std::move(extents));
  check_health();
  publish();
}

void StoreCore::settle(std::span<const int64_t> ids) {
  if (works()) keeper_->note_settled(ids);
}

Status StoreCore::damaged(NamespaceId ns, const CopyName& name, int64_t record_id) {
  if (!works() || ns <= 0) return Status::NotFound;
  const std::vector<CopyRecord> now = parts_.index->find(ns, std::span{&name, 1});
  // An id is never used again: another one, or none, means that the blocks were given to somebody
  // else while they were being read.
  Status answer = Status::NotFound;
  if (now.front().status == Status::Ok && now.front().id == record_id) {
    answer = Status::Corrupt;
    corrupt_.add();
    keeper_->bury(record_id);
  }
  check_health();
  return answer;
}

void StoreCore::each_second(std::function<bool()> work) {
  if (work()) each_second_.push_back(std::move(work));
}

void StoreCore::run_each_second() {
  const auto now = std::chrono::steady_clock::now();
  if (now < second_due_) return;
  second_due_ = now + std::chrono::milliseconds{900};  // upkeep comes once a second
  std::erase_if(each_second_, [](const auto& work) { return !work(); });
}

std::chrono::milliseconds StoreCore::upkeep() {
  std::chrono::milliseconds pause{1000};
  if (works()) {
    pause = keeper_->step();
    if (parts_.mapped) note_growth();
    check_health();
  }
  measure_files();
  publish();
  run_each_second();
  return pause;
}

int StoreCore::pool_fd(uint32_t pool) const noexcept {
  if (pool >= parts_.pools.size() || !parts_.pools[pool].pool) return -1;
  return parts_.pools[pool].pool->fd();
}

std::span<std::byte> StoreCore::pool_memory(uint32_t pool) const noexcept {
  if (pool >= parts_.pools.size() || !parts_.pools[pool].pool) return {};
  return parts_.pools[pool].pool->memory();
}

void StoreCore::mark_written(uint32_t pool, uint64_t bytes) noexcept {
  written_.add(bytes);
  if (pool < dirty_.size()) dirty_[pool].store(true, std::memory_order_release);
}

std::vector<uint32_t> StoreCore::take_dirty_pools() {
  std::vector<uint32_t> pools;
  for (uint32_t pool = 0; pool < pool_count(); ++pool)
    if (dirty_[pool].exchange(false, std::memory_order_acq_rel)) pools.push_back(pool);
  return pools;
}

}  // namespace penstock
