// drop_copies: removes copies from a store, with all that hang below them. Opens the store as an
// engine does, beside others that may use it. Blocks until they are gone; one thread.
#pragma once

#include <string>
#include <vector>

#include "store/inspect.hpp"

namespace penstock::cli {

// Returns how many copies went, the descendants included. A copy that has gone already, or was
// written again since `rows` were read, is left alone.
Result<uint64_t> drop_copies(const std::vector<std::string>& directories,
                             const std::vector<CopyRow>& rows);
// Empties the store. For benchmarks.
Result<uint64_t> drop_all_copies(const std::string& directory);

}  // namespace penstock::cli
