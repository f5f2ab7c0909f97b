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
  return Staging{{static_cast<std::byte*>(memory), bytes}, slots, slot_bytes};
}

Staging::Staging(std::span<std::byte> memory, size_t slots, size_t slot_bytes)
    : memory_{memory}, slots_{slots}, slot_bytes_{slot_bytes} {
  free_.reserve(slots);
  for (size_t i = slots; i > 0; --i) free_.push_back(memory_.data() + (i - 1) * slot_bytes);
}

Staging::Staging(Staging&& other) noexcept
    : memory_{std::exchange(other.memory_, {})},
      slots_{other.slots_},
      slot_bytes_{other.slot_bytes_},
      free_{std::move(other.free_)} {}

Staging::~Staging() {
  if (!memory_.empty()) ::munmap(memory_.data(), memory_.size());
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
