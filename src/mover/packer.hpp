// Packer: packs copies on their way to a drive and unpacks them on the way back, on threads of its
// own, so that the mover goes on meanwhile.
//
// Its memory is there from the start and bounds what is in work: whoever gets no parcel tries again
// later. A copy is packed slice by slice, each on whatever thread is free; unpacking comes before
// packing. The mover's thread calls; `tell` is called by any thread, when there is something new to
// see in the parcel or a parcel has come free. Nothing fails loudly: what cannot be packed stays as
// it is, what cannot be unpacked is `failed`.
#pragma once

#include <functional>
#include <memory>

#include "codec/coder.hpp"
#include "mover/parcel.hpp"

namespace penstock {

struct PackerOptions {
  bool packs = false;  // whether copies are packed; those that are can always be unpacked
  Method method = Method::Zstd;
  uint64_t block_size = 0;
  uint64_t copy_bytes = 0;          // of the largest copy
  uint64_t head_bytes = 0;          // of the largest head
  uint64_t most_bytes = 512 << 20;  // memory for all parcels
  size_t threads = 2;
};

class Packer {
 public:
  using Tell = std::function<void()>;

  static Result<std::unique_ptr<Packer>> create(const PackerOptions& options);
  ~Packer();  // ends its threads after the slices that they are at

  bool packs() const noexcept { return options_.packs && memory_; }
  // Whether copies of that size can be packed and unpacked here at all.
  bool holds(uint64_t copy_bytes) const noexcept;
  size_t parcels() const noexcept;
  std::span<std::byte> memory() const noexcept;
  void on_free(Tell tell);  // called once, before anything else

  // null: none is free. Some are left for loads.
  std::shared_ptr<Parcel> take(bool for_load);
  // Makes `stored` and `stored_checksums` of `raw` (or of `memory`, which then goes to `raw`).
  void pack(std::shared_ptr<Parcel> parcel, Tell tell);
  // Makes `checksums` and `raw` (and `memory`) of `packed`.
  void unpack(std::shared_ptr<Parcel> parcel, Tell tell);

 private:
  class Memory;
  class Threads;
  using Task = std::function<void(Coder&)>;

  Packer(const PackerOptions& options, std::shared_ptr<Memory> memory,
         std::unique_ptr<Threads> threads);
  uint64_t identity(const Parcel& parcel, size_t block, CopyForm form) const noexcept;
  bool copy_from_memory(Parcel& parcel) const noexcept;
  void copy_to_memory(Parcel& parcel, const RawSlice& slice) const noexcept;
  void finish_packing(Parcel& parcel) const;
  bool open(Parcel& parcel) const;
  bool unpack(Parcel& parcel, size_t slice, Coder& coder) const noexcept;

  PackerOptions options_;
  std::shared_ptr<Memory> memory_;
  std::unique_ptr<Threads> threads_;
};

}  // namespace penstock
