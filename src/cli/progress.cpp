#include "cli/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace penstock::cli {

Progress::Progress(std::string label, uint64_t total_bytes, bool has_rate)
    : label_{std::move(label)},
      total_{total_bytes},
      has_rate_{has_rate},
      shown_{isatty(STDERR_FILENO) == 1} {
  set(0);
}

Progress::~Progress() {
  if (shown_) fmt::print(stderr, "\r\033[K");
}

void Progress::set(uint64_t bytes) {
  constexpr auto kRedraw = std::chrono::milliseconds{100};
  constexpr size_t kWidth = 30;
  done_ = bytes;
  const auto now = Clock::now();
  if (!shown_ || now - drawn_ < kRedraw) return;
  drawn_ = now;
  const double part =
      total_ == 0 ? 1 : std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
  const auto filled = static_cast<size_t>(part * kWidth);
  const double seconds = std::chrono::duration<double>(now - started_).count();
  fmt::print(stderr, "\r\033[K{:<10} [{}{}] {:3.0f} %", label_, std::string(filled, '#'),
             std::string(kWidth - filled, '.'), part * 100);
  if (has_rate_)
    fmt::print(stderr, "  {:.2f} GB/s",
               seconds > 0 ? static_cast<double>(done_) / seconds / 1e9 : 0.0);
  std::fflush(stderr);
}

}  // namespace penstock::cli
