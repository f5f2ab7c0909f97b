// Trace: a file of requests in Mooncake's format, read one line at a time.
//
//   {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 2353]}
//
// Timestamps are ms and never go back. A hash id stands for `block_tokens` tokens of the prompt
// (the last one for what is left) and for everything before them. Fields beyond these are ignored.
// Owns the file and one line; a line is at most kMaxLine bytes. One thread. An error names file and
// line; after it, next() answers nothing useful.
#pragma once

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "penstock/key.hpp"
#include "penstock/status.hpp"

namespace penstock::cli {

struct TraceRequest {
  int64_t time_ms = 0;
  uint64_t prompt_tokens = 0;
  uint64_t output_tokens = 0;
  std::vector<uint64_t> blocks;  // hash ids
};

class Trace {
 public:
  static constexpr size_t kMaxLine = 8 << 20;

  static Result<Trace> open(const std::string& path, uint64_t block_tokens);
  // The next request; nullopt: the file has ended. Empty lines are skipped.
  Result<std::optional<TraceRequest>> next();
  uint64_t bytes_read() const noexcept { return bytes_read_; }

 private:
  Trace(std::string path, uint64_t block_tokens)
      : path_{std::move(path)}, block_tokens_{block_tokens}, buffer_(kMaxLine) {}
  Error error(const std::string& what) const;
  Result<TraceRequest> parse(std::string_view line) const;

  std::string path_;
  uint64_t block_tokens_;
  std::vector<char> buffer_;
  std::ifstream file_;
  uint64_t line_ = 0;
  uint64_t bytes_read_ = 0;
  int64_t last_ms_ = 0;
};

// What a whole trace amounts to.
struct TraceTotals {
  uint64_t bytes = 0;  // of the file
  uint64_t requests = 0;
  uint64_t prompt_tokens = 0;
  uint64_t output_tokens = 0;
  uint64_t chunks = 0;  // full ones, repeated ones counted again
  int64_t first_ms = 0, last_ms = 0;
  double seconds() const noexcept { return static_cast<double>(last_ms - first_ms) / 1000; }
};
// Reads the trace to its end. Invalid too if it holds no request.
Result<TraceTotals> scan_trace(const std::string& path, uint64_t block_tokens,
                               uint64_t chunk_tokens);

// Keys of the full chunks of a prompt: chained over the hash ids that a chunk overlaps. Chunks and
// blocks divide one another.
std::vector<Key> chunk_keys(const TraceRequest& request, uint64_t block_tokens,
                            uint64_t chunk_tokens);

}  // namespace penstock::cli
