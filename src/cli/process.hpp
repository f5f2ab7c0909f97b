// Runs another program without a shell and waits for it. Blocks. One thread.
#pragma once

#include <string>
#include <vector>

#include "penstock/status.hpp"

namespace penstock::cli {

// `program`: a path, or a name that is looked for in PATH; words[0] is its name. With `output` its
// stdout is collected there (at most 16 MiB). Returns the exit code; an error if it did not start,
// or was killed.
Result<int> run_process(const std::string& program, std::vector<std::string> words,
                        std::string* output = nullptr);

}  // namespace penstock::cli
