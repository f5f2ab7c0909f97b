// StoreParts: what an open store consists of; open_store() puts it together.
//
// Opening checks the directories, takes the locks, opens or makes index and pools, and agrees with
// the processes that are there already. A damaged index is set aside and begun anew if no other
// process uses it; otherwise the parts come without an index and say why. A mapped store of another
// size than is wanted begins anew too. Nothing is scanned.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "store/index.hpp"
#include "store/lock_file.hpp"
#include "store/options.hpp"
#include "store/pool.hpp"
#include "store/space.hpp"

namespace penstock {

struct OpenPool {
  std::optional<Pool> pool;  // nullopt: out
  std::string state;         // for people
};

struct StoreParts {
  std::vector<std::string> directories;  // canonical
  std::unique_ptr<LockFile> lock;        // outlives the index
  uint32_t process = 0;                  // our place in the lock file
  std::unique_ptr<Index> index;          // null: every answer is a miss
  std::string damage;                    // why there is no index, or why it was begun anew
  std::vector<OpenPool> pools;           // by number
  SpacePlan plan;
  uint64_t block_size = 0;
  bool mapped = false;  // the pools are; they never shrink
};

// `directories` are those of the options, prepared (see prepare_directories).
Result<StoreParts> open_store(const StoreOptions& options, std::vector<std::string> directories);

// Checks the options and their directories; canonical paths. The first must be usable; another that
// is not keeps its given path, and open_store() decides (its drive may just not be mounted).
Result<std::vector<std::string>> prepare_directories(const StoreOptions& options);

// The plan for the index as it is now.
Result<SpacePlan> plan_now(Index& index, const std::string& directory);

}  // namespace penstock
