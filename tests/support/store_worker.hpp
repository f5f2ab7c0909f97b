// StoreWorker: saves, looks up, loads and lets the store evict, with real bytes, as one of several
// processes on a store. For the tests with two processes and with kill -9.
#pragma once

#include <unistd.h>

#include <random>
#include <string>

#include "base/checksum.hpp"
#include "support/store_rig.hpp"

namespace penstock::test {

// Few enough blocks that there is always something to evict.
inline StoreOptions worker_options(const std::string& directory) {
  return options_for(directory, 8 << 20, 4096);
}

// Reads one copy and compares it with the checksums that its name gives. Ok, Corrupt or Io.
inline Status read_copy(int fd, uint64_t block, const CopyName& name, const CopyRecord& record) {
  AlignedBuffer buffer{block};
  uint32_t ordinal = 0;
  for (const Extent& extent : record.extents) {
    for (uint32_t i = 0; i < extent.count; ++i, ++ordinal) {
      const auto offset =
          static_cast<off_t>(Store::pool_data_offset() + (extent.first + i) * block);
      if (::pread(fd, buffer.data(), block, offset) != static_cast<ssize_t>(block))
        return Status::Io;
      const uint64_t identity =
          block_identity(namespace_spec().digest, name, ordinal, record.length);
      if (block_checksum(buffer.span(), identity) != record.checksums[ordinal])
        return Status::Corrupt;
    }
  }
  return Status::Ok;
}

class StoreWorker {
 public:
  StoreWorker(const StoreOptions& options, uint64_t seed) : rig_{options}, random_{seed} {}

  void step() {
    const uint64_t chain = random_() % 40;
    std::vector<Key> keys;
    for (uint64_t i = 0; i < 12; ++i) keys.push_back(key_at(chain, i));
    const uint32_t present = rig_.lookup(keys);
    if (present > 0) load(chain, random_() % present);
    for (uint64_t i = present; i < std::min<uint64_t>(present + 2, keys.size()); ++i)
      save(chain, i);
  }

  uint64_t saved = 0, loaded = 0, missed = 0;
  std::string wrong;  // what must not happen; empty: it did not
  StoreRig& rig() { return rig_; }

 private:
  static Key key_at(uint64_t chain, uint64_t chunk) { return key_of(1 + chain * 100 + chunk); }

  void save(uint64_t chain, uint64_t chunk) {
    const CopyName name{key_at(chain, chunk), 0, 0};
    const uint64_t blocks = 1 + random_() % 4;
    const uint64_t block = rig_.store->block_size();
    auto reservation = std::move(rig_.reserve({{name, blocks * block}}).front());
    if (reservation.status != Status::Ok) return;
    if (random_() % 8 == 0) {
      rig_.store->release(std::move(reservation.extents));
      return;
    }
    CopyInsert copy{name,
                    chunk == 0 ? Key{} : key_at(chain, chunk - 1),
                    blocks * block,
                    std::move(reservation.extents),
                    {}};
    AlignedBuffer buffer{block};
    for (const Extent& extent : copy.extents) {
      for (uint32_t i = 0; i < extent.count; ++i) {
        for (std::byte& byte : buffer.span().first(64)) byte = static_cast<std::byte>(random_());
        const auto ordinal = static_cast<uint32_t>(copy.checksums.size());
        copy.checksums.push_back(block_checksum(
            buffer.span(), block_identity(namespace_spec().digest, name, ordinal, copy.length)));
        const auto offset =
            static_cast<off_t>(Store::pool_data_offset() + (extent.first + i) * block);
        if (::pwrite(rig_.store->pool_fd(extent.pool), buffer.data(), block, offset) !=
            static_cast<ssize_t>(block))
          wrong = "a write failed";
      }
    }
    const Status status = rig_.commit({std::move(copy)}).front();
    if (status == Status::Ok) ++saved;
    // It is another process's already, its parent was evicted meanwhile, the pool shrinks, or a
    // reader that was stopped in its snapshot keeps a full log from starting over.
    if (status != Status::Ok && status != Status::Present && status != Status::NotFound &&
        status != Status::Rejected && status != Status::NoSpace)
      wrong = "commit: " + std::string{to_string(status)};
  }

  void load(uint64_t chain, uint64_t chunk) {
    const CopyName name{key_at(chain, chunk), 0, 0};
    const CopyRecord record = rig_.find({name}).front();
    if (record.status != Status::Ok) return void(++missed);
    const Status read = read_copy(rig_.store->pool_fd(0), rig_.store->block_size(), name, record);
    if (read == Status::Ok) return void(++loaded);
    // Evicted while it was read, and its blocks written by somebody else: then the record is gone.
    const Status answer = ask<Status>(
        [&](auto done) { return rig_.store->damaged(rig_.ns, name, record.id, std::move(done)); });
    ++missed;
    if (answer != Status::NotFound) wrong = "a copy that was not evicted had other bytes";
  }

  StoreRig rig_;
  std::mt19937_64 random_;
};

// Opens the store alone, closes it, and then, when nothing moves, checks everything about it:
// contradictions, that each block is either free or a copy's, and that every copy has the bytes
// that were saved.
inline std::string check_alone(const StoreOptions& options) {
  {
    StoreRig rig{options};
    if (rig.metric("failed") != 0) return "failed: " + rig.store->facts()["damage"];
    if (rig.store->facts().contains("began_anew")) return rig.store->facts()["began_anew"];
  }
  const std::string& directory = options.directories.front();
  if (std::string problems = audit(directory); !problems.empty()) return problems;
  auto inspector = Inspector::open(directory);
  if (!inspector) return inspector.error().message;
  const auto totals = (*inspector)->totals();
  if (!totals) return totals.error().message;
  const UniqueFd pool{::open((directory + "/pool.data").c_str(), O_RDONLY | O_CLOEXEC)};
  uint64_t used = 0;
  std::string wrong;
  const auto visited = (*inspector)->for_each_copy(0, [&](const CopyRow& row) {
    for (const Extent& extent : row.record.extents) used += extent.count;
    if (read_copy(pool.get(), totals->block_size, row.name, row.record) != Status::Ok)
      wrong = "copy " + std::to_string(row.id) + " has other bytes";
    return wrong.empty();
  });
  if (!visited) return visited.error().message;
  if (wrong.empty() && totals->blocks_free + used != totals->blocks_total)
    wrong = std::to_string(totals->blocks_total) + " blocks, " + std::to_string(used) +
            " used and " + std::to_string(totals->blocks_free) + " free";
  if (wrong.empty() && disk_usage(directory) > options.max_bytes) wrong = "larger than its size";
  return wrong;
}

}  // namespace penstock::test
