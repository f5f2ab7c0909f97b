// PageMove: one run of a copy's bytes on its way between staging memory and the engine's pages,
// with the checksum of each of its blocks. A value that its owner keeps in place while a Device has
// it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "penstock/status.hpp"

namespace penstock {

// Work of the engine that was queued on its GPU stream when a ticket was taken.
class DeviceTicket {
 public:
  virtual ~DeviceTicket() = default;
};

struct PageMove {
  enum class Direction : uint8_t { Gather, Scatter };  // out of the pages; into the pages

  // Set by the owner.
  Direction direction = Direction::Scatter;
  bool on_device = false;  // `data` is memory of the device, not of the host
  bool shared = false;     // others may change `data` at any moment: what is hashed must be a copy
  uint32_t group = 0;      // of the layouts that the device was opened with
  std::span<const int32_t> rows;        // of one chunk; kNoRow reads as zeros and is not written
  uint64_t begin = 0, end = 0;          // bytes of the copy
  uint64_t block_size = 0;              // the run starts at a multiple of it
  std::byte* data = nullptr;            // kSector-aligned, room for round_up(end - begin, kSector)
  std::shared_ptr<DeviceTicket> after;  // touch the pages only when this has been reached
  std::vector<uint64_t> identities;     // of each block
  uint64_t user_data = 0;

  // Set by the device.
  std::vector<uint64_t> checksums;  // of each block
  Status status = Status::Ok;       // Ok, or Io: the device failed; nothing is known of the bytes

  uint64_t bytes() const noexcept { return end - begin; }
};

}  // namespace penstock
