// Runs a program for at most a given time and collects what it writes to its descriptor 3.
//
// For what may hang or crash: the child is killed at the limit and reaped. Its standard streams are
// /dev/null. Blocks up to the limit and a little more. Any thread, also of a process that has other
// children; what another reaper took is not an error.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "penstock/status.hpp"

namespace penstock {

struct ChildEnd {
  std::string output;  // at most kMaxChildOutput bytes
  bool timed_out = false;
  int signal = 0;     // that ended it, other than for the limit
  int exit_code = 0;  // meaningful if there was no signal
};

inline constexpr size_t kMaxChildOutput = 64 * 1024;

using Environment = std::vector<std::pair<std::string, std::string>>;

// `words[0]` is the path of the program. `more` is added to the environment. An error if the
// program cannot be started.
Result<ChildEnd> run_limited(std::vector<std::string> words, const Environment& more,
                             std::chrono::milliseconds limit);

}  // namespace penstock
