#include "store/pool_setup.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "store/directory.hpp"

namespace penstock {
namespace {

class PoolSetup {
 public:
  PoolSetup(StoreParts& parts, std::vector<PoolRow>& rows) : parts_{parts}, rows_{rows} {}

  Result<void> run() {
    parts_.pools.resize(rows_.size());
    for (size_t i = 0; i < parts_.directories.size(); ++i)
      if (auto done = set_up(parts_.directories[i], i == 0); !done) return done;
    for (const PoolRow& row : rows_) {
      OpenPool& entry = parts_.pools[row.id];
      if (!entry.state.empty()) continue;
      auto done = leave_out(
          entry, row.directory + " is not configured (its part of the size stays its own)");
      if (!done) return done;
    }
    return {};
  }

 private:
  Result<void> set_up(const std::string& directory, bool is_home) {
    const auto header = Pool::inspect(directory);
    // The first pool is always the one beside the index, wherever the two have been moved together.
    const auto is_known = [&](const PoolRow& row) {
      if (is_home || row.id == 0) return is_home && row.id == 0;
      return row.directory == directory ||
             (header && header->store == store() && header->uuid == row.uuid);
    };
    const auto known = std::find_if(rows_.begin(), rows_.end(), is_known);
    if (known == rows_.end()) return make(directory, is_home, header);
    known->directory = directory;  // it may have been mounted elsewhere
    OpenPool& entry = parts_.pools[known->id];
    if (!header && header.status() != Status::Corrupt) {
      if (is_home && header.status() == Status::NotFound)
        return Error{Status::Corrupt, header.error().message + ", but the index has copies there"};
      if (is_home) return header.error();
      return leave_out(entry, header.error().message + " (is the drive mounted?)");
    }
    if (header && header->store != store() && !is_home)
      return leave_out(entry, directory + " holds a pool of another store");
    if (!header || *header != PoolIdentity{store(), known->uuid, known->generation, block_size()})
      return Error{Status::Corrupt, "the pool in " + directory +
                                        " is not the one that the index "
                                        "knows"};
    return open(directory, *header, known->blocks, entry);
  }

  Result<void> open(const std::string& directory, const PoolIdentity& identity, uint64_t blocks,
                    OpenPool& entry) {
    auto pool = Pool::open(directory, identity);
    if (!pool) return leave_out(entry, pool.error().message);
    // A crash while it grew leaves it too long; a file that was cut is made whole again, and the
    // blocks that lost their bytes fail their checksums.
    if (pool->fit(blocks) != Status::Ok)
      log(LogLevel::Warning, "cannot give the pool in " + directory + " its size");
    use(std::move(*pool), entry);
    return {};
  }

  Result<void> make(const std::string& directory, bool is_home,
                    const Result<PoolIdentity>& header) {
    if (auto path = prepare_directory(directory); !path) return path.take_error();
    if (header.status() == Status::Io) return header.error();  // it is not to be emptied unseen
    if (header && header->store != store() && !is_home) {
      return Error{Status::Invalid, "cache directory " + directory +
                                        " holds a pool of another store; give another directory, "
                                        "or remove " +
                                        directory + "/" + Pool::kFileName};
    }
    if (rows_.size() == kMaxPools)
      return Error{Status::Invalid, "the store has had " + std::to_string(kMaxPools) +
                                        " cache directories; begin with an empty one"};
    const PoolIdentity identity{store(), random_uuid(), header ? header->generation + 1 : 1,
                                block_size()};
    auto pool = Pool::format(directory, identity);
    if (!pool) return pool.take_error();
    PoolRow row;
    row.id = static_cast<uint32_t>(rows_.size());
    row.directory = directory;
    row.uuid = identity.uuid;
    row.generation = identity.generation;
    rows_.push_back(row);
    use(std::move(*pool), parts_.pools.emplace_back());
    return {};
  }

  void use(Pool pool, OpenPool& entry) {
    entry.state =
        pool.is_direct() ? "in use, O_DIRECT" : "in use, buffered: " + pool.direct_reason();
    entry.pool.emplace(std::move(pool));
  }

  Result<void> leave_out(OpenPool& entry, const std::string& why) {
    entry.state = "out: " + why;
    log(LogLevel::Warning, "a pool is left out, its copies are not found: " + why);
    return {};
  }

  const Uuid& store() const { return parts_.index->meta().store; }
  uint64_t block_size() const { return parts_.index->meta().block_size; }

  StoreParts& parts_;
  std::vector<PoolRow>& rows_;
};

}  // namespace

Result<void> set_up_pools(StoreParts& parts) {
  Result<void> result;
  // In one transaction, so that of two processes that begin a store one makes the pools.
  const Status status = parts.index->edit_pools([&](std::vector<PoolRow>& rows) {
    result = PoolSetup{parts, rows}.run();
  });
  if (!result) return result;
  if (status != Status::Ok) return Error{status, parts.index->last_error()};
  uint64_t usable = 0;
  for (size_t i = 0; i < parts.pools.size(); ++i)
    if (parts.pools[i].pool) usable |= uint64_t{1} << i;
  parts.index->set_usable(usable);
  return {};
}

}  // namespace penstock
