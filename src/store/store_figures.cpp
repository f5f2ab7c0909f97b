// What a store says about itself: metrics and facts.
#include <sqlite3.h>

#include "base/sizes.hpp"
#include "store/store_core.hpp"
#include "store/store_files.hpp"

namespace penstock {

void StoreCore::measure_files() {
  const StoreFiles files{parts_.directories.front()};
  index_bytes_ = file_size(files.index);
  wal_bytes_ = file_size(files.wal);
}

// Takes the index thread's figures, so that metrics() waits for nothing.
void StoreCore::publish() {
  std::map<std::string, double> figures;
  const auto set = [&](const char* name, uint64_t value) {
    figures[name] = static_cast<double>(value);
  };
  if (parts_.index) {
    const Index& index = *parts_.index;
    const IndexCounters& counters = index.counters();
    uint64_t blocks = 0;
    uint64_t free = 0;
    for (const PoolRow& row : index.pools()) {
      blocks += row.blocks;
      free += row.free;
    }
    set("copies", works() ? index.meta().copies : 0);
    set("blocks_total", blocks);
    set("blocks_free", free);
    set("bytes_capacity", index.meta().max_bytes);
    set("bytes_used", (blocks - free) * block_size());
    set("evictions", counters.evictions);
    set("rejected_present", counters.rejected_present);
    set("rejected_parent", counters.rejected_parent);
    set("rejected_write_limit", counters.rejected_write_limit);
    set("rejected_wal_full", counters.rejected_wal_full);
    set("checkpoints", counters.checkpoints);
    set("index_errors", counters.errors);
    const int64_t today = day_of(options_.clock->now_ms());
    set("written_bytes_today", index.meta().day == today ? index.meta().written : 0);
  }
  if (keeper_) {
    set("growth_failures", keeper_->counters().growth_failures);
    set("shrink_drops", keeper_->counters().shrink_drops);
  }
  set("index_bytes", index_bytes_);
  set("wal_bytes", wal_bytes_);
  set("failed", works() ? 0 : 1);
  std::scoped_lock lock{mutex_};
  figures_ = std::move(figures);
  failure_seen_ = failure_;
}

std::map<std::string, double> StoreCore::metrics() const {
  std::map<std::string, double> figures;
  {
    std::scoped_lock lock{mutex_};
    figures = figures_;
  }
  figures["index_lookups"] = static_cast<double>(lookups_.value());
  figures["index_lookup_seconds"] = static_cast<double>(lookup_ns_.value()) * 1e-9;
  figures["rejected_no_space"] = static_cast<double>(no_space_.value());
  figures["corrupt_copies"] = static_cast<double>(corrupt_.value());
  figures["written_bytes"] = static_cast<double>(written_.value());
  figures["write_limit_bytes"] = static_cast<double>(write_limit_);
  return figures;
}

std::map<std::string, std::string> StoreCore::facts() const {
  std::map<std::string, std::string> facts;
  facts["index_path"] = StoreFiles{parts_.directories.front()}.index;
  facts["sqlite_version"] = sqlite3_libversion();
  facts["block_size"] = std::to_string(block_size());
  facts["write_limit_bytes_per_day"] = std::to_string(write_limit_);
  std::string directories;
  for (const std::string& directory : parts_.directories)
    directories += (directories.empty() ? "" : ", ") + directory;
  facts["directories"] = directories;
  for (size_t i = 0; i < parts_.pools.size(); ++i)
    facts["pool_" + std::to_string(i)] = parts_.pools[i].state;
  std::scoped_lock lock{mutex_};
  if (!failure_seen_.empty()) facts["damage"] = failure_seen_;
  if (failure_seen_.empty() && !parts_.damage.empty()) facts["began_anew"] = parts_.damage;
  return facts;
}

}  // namespace penstock
