#include "device/host_device.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/sizes.hpp"
#include "device/host_copy.hpp"

namespace penstock {

size_t HostDevice::submit(std::span<PageMove* const> moves) noexcept {
  for (PageMove* move : moves) {
    const CopyMap& map = (*maps_)[move->group];
    move->status = Status::Ok;
    move->checksums.clear();
    if (is_stand_in_ && !knows_place_of(*move)) {
      move->status = Status::Io;
      done_.push_back(move);
      continue;
    }
    std::byte* data = move->data;
    uint64_t begin = move->begin;
    for (const uint64_t identity : move->identities) {
      const uint64_t size = std::min(move->block_size, move->end - begin);
      move->checksums.push_back(
          move->direction == PageMove::Direction::Gather
              ? gather(map, move->rows, begin, {data, size}, identity)
              : scatter(map, move->rows, begin, {data, size}, identity, move->shared));
      data += size;
      begin += size;
    }
    if (move->direction == PageMove::Direction::Gather)
      std::memset(data, 0, round_up(move->bytes(), kSector) - move->bytes());
    done_.push_back(move);
  }
  return moves.size();
}

void HostDevice::pin(std::span<std::byte> memory) noexcept {
#if defined(MADV_POPULATE_WRITE)
  // Kernels before 5.14 do not know it.
  (void)::madvise(memory.data(), memory.size(), MADV_POPULATE_WRITE);
#else
  (void)memory;
#endif
}

Result<DirectMemory> HostDevice::make_direct_memory(size_t bytes) {
  if (!is_stand_in_) return Device::make_direct_memory(bytes);
  auto* const memory = static_cast<std::byte*>(std::aligned_alloc(kSector, bytes));
  if (memory == nullptr) return Error{Status::NoSpace, "no memory"};
  direct_ = {memory, bytes};
  return DirectMemory{direct_, {memory, [](void* each) { std::free(each); }}, "0", {}};
}

bool HostDevice::knows_place_of(const PageMove& move) const noexcept {
  const bool is_direct = move.data >= direct_.data() && move.data < direct_.data() + direct_.size();
  return is_direct == move.on_device;
}

size_t HostDevice::poll(std::span<PageMove*> done) noexcept {
  const size_t count = std::min(done.size(), done_.size());
  std::copy_n(done_.begin(), count, done.begin());
  done_.erase(done_.begin(), done_.begin() + static_cast<std::ptrdiff_t>(count));
  return count;
}

}  // namespace penstock
