#include "mover/direct_gate.hpp"

#include <fmt/format.h>

#include "base/log.hpp"

namespace penstock {

bool DirectGate::is_open(size_t in_flight, Clock::time_point now) noexcept {
  if (open_ && in_flight > 0 && now - last_sign_ >= kPatience)
    close("it has returned nothing for 5 s");
  return open_;
}

void DirectGate::submitted(size_t in_flight_before, Clock::time_point now) noexcept {
  if (in_flight_before == 0) last_sign_ = now;
}

void DirectGate::returned(Status status, Clock::time_point now) noexcept {
  last_sign_ = now;
  if (status == Status::Ok) {
    failed_in_a_row_ = 0;
    return;
  }
  metrics_.cufile_failures.add();
  if (++failed_in_a_row_ == kMostFailures) close("8 requests in a row have failed");
}

void DirectGate::held_wrong_bytes() noexcept {
  metrics_.cufile_failures.add();
  if (++wrong_ == kMostFailures) close("8 reads have brought wrong bytes");
}

void DirectGate::close(const char* why) noexcept {
  if (!open_) return;
  open_ = false;
  metrics_.cufile_given_up.add();
  log(LogLevel::Warning,
      fmt::format("cuFile is given up: {}. Blocks go through host memory from now on.", why));
}

}  // namespace penstock
