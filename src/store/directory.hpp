// prepare_directory: checks a cache directory, and creates its last part. Any thread.
#pragma once

#include <string>

#include "penstock/status.hpp"

namespace penstock {

// The canonical path. Invalid, with a sentence that says what to do: the parent does not exist, it
// is not a directory, everybody may write to it (so anybody could plant files), it is not this
// user's although everybody may write to its parent (so anybody could have made it), or this user
// may not write to it. Unsupported: the blocks of its file system are smaller than pages of memory.
// A directory that is created gets mode 0700.
Result<std::string> prepare_directory(const std::string& path);

}  // namespace penstock
