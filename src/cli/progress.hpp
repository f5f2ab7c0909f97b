// Progress: a bar on stderr, if stderr is a terminal; nothing otherwise. With a rate, unless the
// bytes only measure how far it is. One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace penstock::cli {

class Progress {
 public:
  Progress(std::string label, uint64_t total_bytes, bool has_rate = true);
  ~Progress();  // wipes the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void add(uint64_t bytes) { set(done_ + bytes); }
  void set(uint64_t bytes);

 private:
  using Clock = std::chrono::steady_clock;

  std::string label_;
  uint64_t total_ = 0;
  uint64_t done_ = 0;
  bool has_rate_ = true;
  bool shown_ = false;  // stderr is a terminal
  Clock::time_point started_ = Clock::now();
  Clock::time_point drawn_{};
};

}  // namespace penstock::cli
