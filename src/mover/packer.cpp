#include "mover/packer.hpp"

#include <algorithm>
#include <cstring>

#include "base/checksum.hpp"
#include "base/sizes.hpp"
#include "codec/slices.hpp"
#include "mover/packer_threads.hpp"

namespace penstock {
namespace {

constexpr size_t kMaxParcels = 16;

// Less is not worth the time that unpacking takes.
bool is_worth_it(uint64_t packed, uint64_t raw, uint64_t block_size) noexcept {
  return packed * 21 <= raw * 20 && div_up(packed, block_size) < div_up(raw, block_size);
}

}  // namespace

Result<std::unique_ptr<Packer>> Packer::create(const PackerOptions& options) {
  const uint64_t raw = round_up(options.copy_bytes, kSector);
  const uint64_t slot = raw + round_up(options.copy_bytes + options.head_bytes, kSector);
  // At least one for a load and one for a save, or none.
  const size_t count = std::min<size_t>(options.most_bytes / slot, kMaxParcels);
  std::shared_ptr<Memory> memory;
  std::vector<std::unique_ptr<Coder>> coders;
  if (count >= 2) {
    auto staging = Staging::create(count, slot);
    if (!staging) return staging.take_error();
    memory = std::make_shared<Memory>(std::move(*staging), raw);
    for (size_t i = 0; i < options.threads; ++i) {
      auto coder = Coder::create(kMaxSlice);
      if (!coder) return coder.take_error();
      coders.push_back(std::move(*coder));
    }
  }
  return std::unique_ptr<Packer>{
      new Packer{options, std::move(memory), std::make_unique<Threads>(std::move(coders))}};
}

Packer::Packer(const PackerOptions& options, std::shared_ptr<Memory> memory,
               std::unique_ptr<Threads> threads)
    : options_{options}, memory_{std::move(memory)}, threads_{std::move(threads)} {}

Packer::~Packer() {
  if (memory_) memory_->on_free({});
}

bool Packer::holds(uint64_t copy_bytes) const noexcept {
  return memory_ && copy_bytes <= options_.copy_bytes;
}

size_t Packer::parcels() const noexcept {
  return memory_ ? memory_->staging().slots() : 0;
}

std::span<std::byte> Packer::memory() const noexcept {
  return memory_ ? memory_->staging().memory() : std::span<std::byte>{};
}

void Packer::on_free(Tell tell) {
  if (memory_) memory_->on_free(std::move(tell));
}

std::shared_ptr<Parcel> Packer::take(bool for_load) {
  return memory_ ? memory_->take(for_load ? 0 : std::max<size_t>(parcels() / 4, 1)) : nullptr;
}

uint64_t Packer::identity(const Parcel& parcel, size_t block, CopyForm form) const noexcept {
  return block_identity(parcel.name_space, parcel.name, static_cast<uint32_t>(block), parcel.bytes,
                        form);
}

void Packer::pack(std::shared_ptr<Parcel> parcel, Tell tell) {
  threads_->add(
      [this, parcel, tell](Coder&) {
        if (parcel->unwanted || !copy_from_memory(*parcel)) {
          parcel->failed = true;
          return tell();
        }
        PackedCopy& head = parcel->head;
        for (const RawSlice& slice : parcel->slices) head.slices.push_back({slice, 0, {}});
        parcel->slices_left = head.slices.size();
        const uint64_t begin = PackedCopy::head_bytes(parcel->checksums.size(), parcel->slices);
        for (size_t i = 0; i < head.slices.size(); ++i) {
          threads_->add(
              [this, parcel, tell, begin, i](Coder& coder) {
                PackedSlice& slice = parcel->head.slices[i];
                slice.packed_begin = begin + slice.begin;  // for now; finish_packing() closes up
                if (!parcel->unwanted) {
                  pack_slice(coder, options_.method, parcel->raw.subspan(slice.begin, slice.bytes),
                             slice, parcel->packed.subspan(slice.packed_begin, slice.bytes));
                }
                if (parcel->slices_left.fetch_sub(1) != 1) return;
                if (!parcel->unwanted) finish_packing(*parcel);
                tell();
              },
              false);
        }
      },
      false);
}

// Others may change that memory meanwhile; what counts is what has come over.
bool Packer::copy_from_memory(Parcel& parcel) const noexcept {
  for (size_t i = 0; i < parcel.memory.size(); ++i) {
    const uint64_t begin = i * options_.block_size;
    const auto block =
        parcel.raw.subspan(begin, std::min(options_.block_size, parcel.bytes - begin));
    std::memcpy(block.data(), parcel.memory[i], block.size());
    if (block_checksum(block, identity(parcel, i, CopyForm::Raw)) != parcel.checksums[i])
      return false;
  }
  if (!parcel.memory.empty())
    std::ranges::fill(
        parcel.raw.subspan(parcel.bytes, round_up(parcel.bytes, kSector) - parcel.bytes),
        std::byte{});
  return true;
}

void Packer::finish_packing(Parcel& parcel) const {
  PackedCopy& head = parcel.head;
  uint64_t end = PackedCopy::head_bytes(parcel.checksums.size(), parcel.slices);
  for (PackedSlice& slice : head.slices) {
    std::memmove(parcel.packed.data() + end, parcel.packed.data() + slice.packed_begin,
                 slice.packed_bytes());
    slice.packed_begin = end;
    end += slice.packed_bytes();
  }
  if (!is_worth_it(end, parcel.bytes, options_.block_size)) {
    parcel.stored = parcel.bytes;
    parcel.stored_checksums = parcel.checksums;
    return;
  }
  head.raw_bytes = parcel.bytes;
  head.packed_bytes = end;
  head.checksums = parcel.checksums;
  head.encode(parcel.packed);
  std::ranges::fill(parcel.packed.subspan(end, round_up(end, kSector) - end), std::byte{});
  parcel.stored = end;
  for (uint64_t begin = 0; begin < end; begin += options_.block_size) {
    parcel.stored_checksums.push_back(
        block_checksum(parcel.packed.subspan(begin, std::min(options_.block_size, end - begin)),
                       identity(parcel, parcel.stored_checksums.size(), CopyForm::Packed)));
  }
}

void Packer::unpack(std::shared_ptr<Parcel> parcel, Tell tell) {
  threads_->add(
      [this, parcel, tell](Coder&) {
        if (parcel->unwanted || !open(*parcel)) {
          parcel->failed = true;
          return tell();
        }
        const size_t slices = parcel->head.slices.size();
        parcel->opened.store(true, std::memory_order_release);
        for (size_t i = 0; i < slices; ++i) {
          threads_->add(
              [this, parcel, tell, i](Coder& coder) {
                if (parcel->unwanted || parcel->failed) return;
                if (unpack(*parcel, i, coder))
                  parcel->done[i].store(true, std::memory_order_release);
                else
                  parcel->failed = true;
                tell();
              },
              true);
        }
      },
      true);
}

bool Packer::open(Parcel& parcel) const {
  const uint64_t end = parcel.stored;
  const auto stored = parcel.packed.first(end);
  size_t block = 0;
  for (uint64_t begin = 0; begin < end; begin += options_.block_size, ++block) {
    const auto bytes = stored.subspan(begin, std::min(options_.block_size, end - begin));
    if (block_checksum(bytes, identity(parcel, block, CopyForm::Packed)) !=
        parcel.stored_checksums[block])
      return false;
  }
  auto head = PackedCopy::decode(stored, parcel.bytes, div_up(parcel.bytes, options_.block_size));
  if (!head) return false;
  parcel.checksums = head->checksums;
  parcel.head = std::move(*head);
  parcel.done = std::vector<std::atomic<bool>>(parcel.head.slices.size());
  return true;
}

bool Packer::unpack(Parcel& parcel, size_t index, Coder& coder) const noexcept {
  const PackedSlice& slice = parcel.head.slices[index];
  if (!unpack_slice(coder, slice, parcel.packed.subspan(slice.packed_begin, slice.packed_bytes()),
                    parcel.raw.subspan(slice.begin, slice.bytes)))
    return false;
  if (!parcel.memory.empty()) copy_to_memory(parcel, slice);
  return true;
}

void Packer::copy_to_memory(Parcel& parcel, const RawSlice& slice) const noexcept {
  const uint64_t end = slice.begin + slice.bytes;
  for (uint64_t at = slice.begin; at < end;) {
    const uint64_t block = at / options_.block_size, in_block = at % options_.block_size;
    const uint64_t size = std::min(options_.block_size - in_block, end - at);
    std::memcpy(parcel.memory[block] + in_block, parcel.raw.data() + at, size);
    at += size;
    if (at == parcel.bytes)
      std::memset(parcel.memory[block] + in_block + size, 0, round_up(at, kSector) - at);
  }
}

}  // namespace penstock
