// HostDevice: pages that the CPU addresses. A move is done when submit() returns. It can stand in
// for a GPU whose memory is the host's, for tests of what goes straight to that: moves that say of
// their memory that it is where it is not then fail, as on a GPU.
#pragma once

#include <deque>
#include <vector>

#include "device/copy_map.hpp"
#include "device/device.hpp"

namespace penstock {

class HostDevice final : public Device {
 public:
  explicit HostDevice(CopyMaps maps, bool is_stand_in = false)
      : maps_{std::move(maps)}, is_stand_in_{is_stand_in} {}

  size_t batch() const noexcept override { return 1; }
  size_t submit(std::span<PageMove* const> moves) noexcept override;
  size_t poll(std::span<PageMove*> done) noexcept override;
  std::string_view name() const noexcept override { return is_stand_in_ ? kStandIn : "cpu"; }
  std::shared_ptr<DeviceTicket> ticket(Stream) noexcept override { return nullptr; }
  void order_after_gathers(Stream) noexcept override {}
  // Maps the pages ahead of need, so that no copy stops at each for the kernel.
  void pin(std::span<std::byte> memory) noexcept override;
  Result<DirectMemory> make_direct_memory(size_t bytes) override;

  static constexpr std::string_view kStandIn = "test:gpu";

 private:
  bool knows_place_of(const PageMove& move) const noexcept;

  CopyMaps maps_;
  bool is_stand_in_;
  std::span<std::byte> direct_;  // the last that was made
  std::deque<PageMove*> done_;
};

}  // namespace penstock
