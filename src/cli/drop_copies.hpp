// drop_copies: removes copies from a store, with all that hang below them. Opens the store as an
// engine does, beside others that may use it. Blocks until they are gone; one thread.
#pragma once

#include <string>
#include <vector>

#include "store/inspect.hpp"

namespace penstock::cli {

struct Dropped {
  uint64_t copies = 0;     // that went, the descendants included
  uint64_t remaining = 0;  // of `rows`: the store cannot remove them
};

// A copy that has gone already, or was written again since `rows` were read, is left alone. The
// directories that the index names are used beside those that are given.
Result<Dropped> drop_copies(const std::vector<std::string>& directories,
                            const std::vector<CopyRow>& rows);
// Empties the store. For benchmarks.
Result<Dropped> drop_all_copies(const std::string& directory);

}  // namespace penstock::cli
