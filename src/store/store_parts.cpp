#include "store/store_parts.hpp"

#include <algorithm>

#include "base/checksum.hpp"
#include "base/log.hpp"
#include "base/sizes.hpp"
#include "store/directory.hpp"
#include "store/pool_setup.hpp"
#include "store/store_files.hpp"

namespace penstock {
namespace {

// A damaged index is kept for whoever wants to look at it, if it takes no more than this part.
constexpr uint64_t kSetAsideShare = 16;

Result<void> check(const StoreOptions& options) {
  if (options.directories.empty()) return Error{Status::Invalid, "no cache directory is given"};
  if (options.directories.size() > kMaxPools) {
    return Error{Status::Invalid,
                 "more than " + std::to_string(kMaxPools) + " cache directories are given"};
  }
  if (options.block_size < kSector || options.block_size > kMaxBlock ||
      options.block_size % kSector != 0) {
    return Error{Status::Invalid, "block_size " + std::to_string(options.block_size) +
                                      " is not a multiple of 4096 from 4096 to " +
                                      std::to_string(kMaxBlock)};
  }
  const auto pools = static_cast<uint32_t>(options.directories.size());
  if (auto plan = plan_space(options.max_bytes, options.block_size, pools, 0, 0); !plan)
    return plan.take_error();
  return {};
}

// The row that a new index begins with. Pools that are left of an index that is gone are known
// again by the store's uuid.
MetaRow new_meta(const StoreOptions& options, const std::string& directory) {
  MetaRow meta;
  const auto left = Pool::inspect(directory);
  meta.store = left ? left->store : random_uuid();
  meta.block_size = options.block_size;
  meta.max_bytes = options.max_bytes;
  return meta;
}

// Whether the index is gone although its pool is there.
bool is_index_lost(const StoreFiles& files, const std::string& directory) {
  return file_size(files.index) == 0 && Pool::inspect(directory).status() == Status::Ok;
}

// `anew`: the index was put aside, so that there is none is as it should be.
Result<void> try_open(const StoreOptions& options, StoreParts& parts, bool anew = false) {
  const std::string& home = parts.directories.front();
  const StoreFiles files{home};
  if (files.has_damage_note())
    return Error{Status::Corrupt, "index " + files.index + " was found damaged while in use"};
  if (!anew && is_index_lost(files, home))
    return Error{Status::Corrupt, "index " + files.index + " is missing or empty"};
  auto index = Index::open({files.index, "", new_meta(options, home)}, *parts.lock);
  if (!index) return index.take_error();
  parts.index = std::move(*index);
  parts.pools.clear();
  if (auto done = set_up_pools(parts); !done) {
    parts.index.reset();
    return done.take_error();
  }
  return {};
}

// Requires: the index was found unusable, as `parts.damage` says, and is closed. `sound`: it is in
// order, but is to go all the same.
Result<void> replace_index(const StoreOptions& options, StoreParts& parts, bool sound = false) {
  const StoreFiles files{parts.directories.front()};
  parts.lock->leave_users();
  const bool alone = parts.lock->own_users() == Status::Ok;
  if (!alone && parts.lock->share_users() != Status::Ok)
    return Error{Status::Busy, "another process replaces the index " + files.index};
  // Another process may have replaced it before we got the lock.
  Result<void> opened;
  if (!sound) opened = try_open(options, parts);
  if (alone && (sound || opened.status() == Status::Corrupt)) {
    log(LogLevel::Warning,
        parts.damage + "; it is set aside as " + files.set_aside + " and the cache begins empty");
    if (auto done = files.put_index_aside(options.max_bytes / kSetAsideShare); !done)
      return done.take_error();
    opened = try_open(options, parts, true);
  }
  if (alone) parts.lock->share_users();
  if (!alone && opened.status() == Status::Corrupt) {
    log(LogLevel::Warning, parts.damage +
                               ", and another process uses it: nothing is found or saved until "
                               "the store is opened with no other process using it");
    return {};
  }
  return opened;
}

// Files that are mapped cannot shrink, so a store in memory that has another shape than is wanted
// begins anew, with its memory given back first. Only who uses it alone may do that: a live store's
// size holds (agree_on_size), its block size too, where any will do.
Result<void> settle_shape(const StoreOptions& options, StoreParts& parts) {
  const MetaRow meta = parts.index->meta();
  const bool other_blocks = options.exact_block_size && meta.block_size != options.block_size;
  if (meta.max_bytes == options.max_bytes && !other_blocks) return {};
  const std::string& home = parts.directories.front();
  if (parts.lock->own_users(std::chrono::milliseconds{0}) != Status::Ok) {
    if (!other_blocks) return {};
    return Error{Status::Busy, "another process uses the store in " + home + " with blocks of " +
                                   std::to_string(meta.block_size) + " bytes; " +
                                   std::to_string(options.block_size) + " are needed"};
  }
  parts.damage = "the store in memory in " + home + " had another size or block size";
  parts.index.reset();
  parts.pools.clear();
  Result<void> opened = StoreFiles{home}.put_index_aside(0);
  if (opened) opened = try_open(options, parts, true);
  parts.lock->share_users();
  return opened;
}

Result<void> map_pools(StoreParts& parts) {
  for (OpenPool& entry : parts.pools) {
    if (!entry.pool) continue;
    if (auto done = entry.pool->map(parts.plan.blocks); !done) return done;
    entry.state += ", mapped";
  }
  return {};
}

// A store has one size; only who uses it alone may change it.
Result<void> agree_on_size(const StoreOptions& options, StoreParts& parts) {
  Index& index = *parts.index;
  if (index.meta().max_bytes == options.max_bytes) return {};
  const bool alone =
      !parts.mapped && parts.lock->own_users(std::chrono::milliseconds{0}) == Status::Ok;
  Status status = Status::Ok;
  if (alone) {
    status = index.set_max_bytes(options.max_bytes);
    parts.lock->share_users();
  } else {
    log(LogLevel::Warning, "another process uses " + parts.directories.front() +
                               " with a size of " + std::to_string(index.meta().max_bytes) +
                               " bytes, which therefore holds here too");
  }
  if (status != Status::Ok) return Error{status, index.last_error()};
  return {};
}

// `outgrown`: it fails because an index from times when the store was larger leaves no room.
Result<void> settle_size(const StoreOptions& options, StoreParts& parts, bool& outgrown) {
  if (auto done = agree_on_size(options, parts); !done) return done;
  parts.block_size = parts.index->meta().block_size;
  auto plan = plan_now(*parts.index, parts.directories.front());
  if (plan) {
    parts.plan = *plan;
    return {};
  }
  const auto pools = static_cast<uint32_t>(parts.index->pools().size());
  outgrown = plan_space(parts.index->meta().max_bytes, parts.block_size, pools, 0, 0).status() ==
             Status::Ok;
  return Error{plan.status(), "with the index in " + parts.directories.front() + " as large as " +
                                  std::to_string(parts.index->file_bytes()) + " bytes, " +
                                  plan.error().message};
}

// Without an index, a pool is what is left of a store that begins anew, or another drive of a store
// whose index lies elsewhere and which may be in use. The pool is looked for first: a store that is
// just beginning makes it last.
bool is_drive_of_another(const std::string& directory) {
  return Pool::inspect(directory).status() != Status::NotFound &&
         !StoreFiles{directory}.had_index();
}

}  // namespace

Result<std::vector<std::string>> prepare_directories(const StoreOptions& options) {
  if (auto done = check(options); !done) return done.take_error();
  std::vector<std::string> directories;
  for (const std::string& given : options.directories) {
    auto path = prepare_directory(given);
    if (!path && directories.empty()) return path.take_error();
    std::string chosen = path ? *path : given;
    if (std::find(directories.begin(), directories.end(), chosen) != directories.end())
      return Error{Status::Invalid, "cache directory " + given + " is given twice"};
    // The same directories in another order, or a store of its own: its index would be forgotten.
    if (!directories.empty() && file_size(StoreFiles{chosen}.index) != 0) {
      return Error{Status::Invalid, "cache directory " + given +
                                        " has the index of a store, so it must come first; or "
                                        "remove what is in it"};
    }
    directories.push_back(std::move(chosen));
  }
  const std::string& home = directories.front();
  if (is_drive_of_another(home)) {
    return Error{Status::Invalid,
                 "cache directory " + home +
                     " holds a pool of another store, whose index lies elsewhere; name the "
                     "directory of that index first, or remove " +
                     home + "/" + Pool::kFileName + " if that cache is not wanted any more"};
  }
  return directories;
}

Result<SpacePlan> plan_now(Index& index, const std::string& directory) {
  return plan_space(index.meta().max_bytes, index.meta().block_size,
                    static_cast<uint32_t>(index.pools().size()), index.file_bytes(),
                    file_size(StoreFiles{directory}.set_aside));
}

Result<StoreParts> open_store(const StoreOptions& options, std::vector<std::string> directories) {
  StoreParts parts;
  parts.directories = std::move(directories);
  parts.block_size = options.block_size;
  parts.mapped = options.mapped;
  const StoreFiles files{parts.directories.front()};
  auto lock = LockFile::open(files.lock);
  if (!lock) return lock.take_error();
  parts.lock = std::move(*lock);
  const OpeningLock opening{*parts.lock};
  if (parts.lock->share_users() != Status::Ok)
    return Error{Status::Busy, "another process replaces the index " + files.index};
  auto process = parts.lock->claim_process();
  if (!process) return process.take_error();
  parts.process = *process;

  Result<void> opened = try_open(options, parts);
  if (opened.status() == Status::Corrupt) {
    parts.damage = opened.error().message;
    opened = replace_index(options, parts);
  }
  if (opened && parts.index && parts.mapped) opened = settle_shape(options, parts);
  bool outgrown = false;
  if (opened && parts.index) opened = settle_size(options, parts, outgrown);
  if (outgrown) {
    parts.damage = opened.error().message;
    parts.index.reset();
    opened = replace_index(options, parts, outgrown);
    if (opened && parts.index) opened = settle_size(options, parts, outgrown);
  }
  if (!opened) return opened.take_error();
  if (!parts.index) return parts;
  if (parts.mapped)
    if (auto done = map_pools(parts); !done) return done.take_error();
  parts.index->set_limits(
      {parts.plan.database_bytes, parts.plan.checkpoint_bytes, parts.plan.wal_bytes});
  // What the last process in our place had reserved, and other dead ones.
  const Status reclaimed = parts.index->reclaim(
      [&](uint32_t other) { return other == parts.process || !parts.lock->is_alive(other); });
  if (reclaimed != Status::Ok) log(LogLevel::Warning, parts.index->last_error());
  return parts;
}

}  // namespace penstock
