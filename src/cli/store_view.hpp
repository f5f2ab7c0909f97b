// StoreView: a store as the command line looks at it: its index for reading, and its pool files.
//
// Nothing of the store is locked or changed; processes may use it meanwhile. Owns the descriptors.
// Move-only; one thread. A pool is looked for in the directories that were given, then where the
// index says that it was: a store that was moved or copied is read where it is now.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/open.hpp"
#include "io/raw_speed.hpp"
#include "store/inspect.hpp"

namespace penstock::cli {

struct PoolFile {
  std::string path;
  UniqueFd fd;          // O_DIRECT where possible; none: the pool is not there
  std::string problem;  // why it is not
};

// NotFound, in a sentence: there is no store in `directory`.
Result<std::unique_ptr<Inspector>> open_inspector(const std::string& directory);

class StoreView {
 public:
  // The first directory holds the index. `flags` of open(2) for the pool files. A pool that is not
  // there is no error.
  static Result<StoreView> open(const std::vector<std::string>& directories, int flags);

  Inspector& inspector() noexcept { return *inspector_; }
  const std::vector<PoolFile>& pools() const noexcept { return pools_; }
  uint64_t block_size() const noexcept { return block_size_; }
  uint64_t offset_of(uint64_t block) const noexcept { return inspector_->pool_offset(block); }
  // Where all copies lie, in the order of the files, adjacent ones merged. For raw measurements;
  // valid while the view lives.
  Result<std::vector<RawRange>> places();

 private:
  StoreView() = default;

  std::unique_ptr<Inspector> inspector_;
  std::vector<PoolFile> pools_;
  uint64_t block_size_ = 0;
};

}  // namespace penstock::cli
