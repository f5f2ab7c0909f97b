// Parcel: memory for one copy in both of its forms, and what the packer is to do, or has done, with
// it.
//
// Whoever takes one fills in the order, hands it to the Packer and reads the answers when it is
// told. A parcel goes back when nobody holds it any more: neither the chunk, nor a request or a
// move in flight, nor a thread of the packer. Until then its memory is not given to another copy.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "codec/packed_copy.hpp"
#include "mover/job.hpp"

namespace penstock {

struct Parcel {
  // The memory; kSector-aligned, and as long as the longest copy in whole sectors.
  std::span<std::byte> raw;     // the copy as the pages have it
  std::span<std::byte> packed;  // the copy as a drive has it

  // The order. Not touched by its owner while the packer has it.
  Digest name_space;
  CopyName name;
  uint64_t bytes = 0;                      // of the copy
  std::span<const RawSlice> slices;        // to pack
  std::vector<uint64_t> checksums;         // of the raw blocks: to pack; answered when unpacked
  std::vector<uint64_t> stored_checksums;  // of the stored blocks: to unpack; answered when packed
  uint64_t stored = 0;                     // bytes: to unpack; answered when packed
  std::vector<std::byte*> memory;          // blocks of the memory tier: where a copy to pack comes
                                           // from, where an unpacked one goes too; may be empty
  std::shared_ptr<ExtentLease> lease;      // of those blocks
  std::atomic<bool> unwanted = false;      // any thread: what is left need not be done

  // The answers.
  std::atomic<bool> failed = false;  // to pack: memory has another copy; to unpack: damage
  std::atomic<bool> opened = false;  // unpacking: `checksums` are there

  bool is_packed() const noexcept { return stored < bytes; }
  // Unpacking, and opened: bytes from the start on that are in `raw` (and `memory`). One thread.
  uint64_t unpacked_bytes() noexcept;
  // What is written to the drive.
  std::byte* stored_data() const noexcept { return is_packed() ? packed.data() : raw.data(); }

  // The packer's own.
  PackedCopy head;
  std::vector<std::atomic<bool>> done;  // by slice, when unpacking
  std::atomic<size_t> slices_left = 0;  // when packing
  size_t next_slice = 0;                // whoever asks for unpacked_bytes()
};

inline uint64_t Parcel::unpacked_bytes() noexcept {
  while (next_slice < done.size() && done[next_slice].load(std::memory_order_acquire)) ++next_slice;
  return next_slice == done.size() ? bytes : head.slices[next_slice].begin;
}

}  // namespace penstock
