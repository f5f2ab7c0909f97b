// DirectGate: whether runs still go through cuFile, or through host memory like all else.
//
// It closes for good, with one warning, after kMostFailures requests in a row have failed; after as
// many runs that claimed success held wrong bytes; or when cuFile has requests and has returned
// none for kPatience. What it fails at would often fail through host memory too (a drive is gone),
// and then nothing is lost by the change. Mover thread only.
#pragma once

#include <chrono>
#include <cstddef>

#include "mover/metrics.hpp"
#include "penstock/status.hpp"

namespace penstock {

class DirectGate {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr size_t kMostFailures = 8;
  static constexpr std::chrono::seconds kPatience{5};

  DirectGate(bool open, MoverMetrics& metrics) : open_{open}, metrics_{metrics} {}

  // `in_flight`: requests that cuFile has.
  bool is_open(size_t in_flight, Clock::time_point now) noexcept;
  void submitted(size_t in_flight_before, Clock::time_point now) noexcept;
  void returned(Status status, Clock::time_point now) noexcept;
  void held_wrong_bytes() noexcept;

 private:
  void close(const char* why) noexcept;

  bool open_;
  MoverMetrics& metrics_;
  size_t failed_in_a_row_ = 0;
  size_t wrong_ = 0;
  Clock::time_point last_sign_{};  // of life: it returned a request, or had none before
};

}  // namespace penstock
