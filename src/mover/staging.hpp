// Staging: page-aligned memory for blocks in flight, the host's or a GPU's, cut into equal slots,
// allocated once. It never looks into the memory.
//
// Owned and used by one mover thread. A slot belongs to one I/O request from take() until give();
// after a timed-out job it stays taken until the kernel has returned the request.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "penstock/status.hpp"

namespace penstock {

class Staging {
 public:
  // In memory of the host. slot_bytes is a multiple of kSector. Huge pages are asked for, not
  // required.
  static Result<Staging> create(size_t slots, size_t slot_bytes);
  // `memory` is whole slots, and is there as long as its owner.
  Staging(std::span<std::byte> memory, std::shared_ptr<const void> owner, size_t slot_bytes);

  std::span<std::byte> memory() const noexcept { return memory_; }
  size_t slot_bytes() const noexcept { return slot_bytes_; }
  size_t slots() const noexcept { return slots_; }
  size_t free_slots() const noexcept { return free_.size(); }
  // Requires: free_slots() > 0.
  std::byte* take() noexcept;
  void give(std::byte* slot) noexcept;

 private:
  std::span<std::byte> memory_;
  std::shared_ptr<const void> owner_;
  size_t slots_ = 0;
  size_t slot_bytes_ = 0;
  std::vector<std::byte*> free_;
};

}  // namespace penstock
