#include "mover/staging.hpp"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.hpp"
#include "base/sizes.hpp"

namespace penstock {

Result<Staging> Staging::create(size_t slots, size_t slot_bytes) {
  PENSTOCK_ASSERT(slots > 0 && slot_bytes > 0 && slot_bytes % kSector == 0);
  const size_t bytes = slots * slot_bytes;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return Error{Status::NoSpace, fmt::format("cannot allocate {} bytes of staging memory: {}",
                                              bytes, std::strerror(errno))};
  ::madvise(memory, bytes, MADV_HUGEPAGE);
  std::shared_ptr<const void> owner{memory, [bytes](void* mapped) { ::munmap(mapped, bytes); }};
  return Staging{{static_cast<std::byte*>(memory), bytes}, std::move(owner), slot_bytes};
}

Staging::Staging(std::span<std::byte> memory, std::shared_ptr<const void> owner, size_t slot_bytes)
    : memory_{memory},
      owner_{std::move(owner)},
      slots_{memory.size() / slot_bytes},
      slot_bytes_{slot_bytes} {
  free_.reserve(slots_);
  for (size_t i = slots_; i > 0; --i) free_.push_back(memory_.data() + (i - 1) * slot_bytes);
}

std::byte* Staging::take() noexcept {
  PENSTOCK_ASSERT(!free_.empty());
  std::byte* slot = free_.back();
  free_.pop_back();
  return slot;
}

void Staging::give(std::byte* slot) noexcept {
  PENSTOCK_ASSERT(slot >= memory_.data() && slot < memory_.data() + memory_.size());
  free_.push_back(slot);
}

}  // namespace penstock
