#include "store/clock.hpp"

namespace penstock {

const StoreClock& StoreClock::machine() noexcept {
  class Machine final : public StoreClock {
    Stamp now_ms() const noexcept override { return penstock::now_ms(); }
    std::chrono::steady_clock::time_point steady() const noexcept override {
      return std::chrono::steady_clock::now();
    }
  };
  static const auto* machine = new Machine;  // never destroyed: stores may outlive static objects
  return *machine;
}

}  // namespace penstock
