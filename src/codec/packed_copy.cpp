#include "codec/packed_copy.hpp"

#include <cstring>

#include "base/assert.hpp"

namespace penstock {
namespace {

constexpr char kMagic[8] = {'P', 'S', 'T', 'K', 'P', 'A', 'C', 'K'};

struct Head {
  char magic[8];
  uint64_t raw_bytes;
  uint64_t packed_bytes;
  uint32_t checksums;
  uint32_t slices;
};
static_assert(sizeof(Head) == 32);

struct SliceEntry {
  uint32_t bytes;
  uint32_t element;
};
struct PlaneEntry {
  uint32_t bytes;
  uint32_t method;
};

class Writer {
 public:
  explicit Writer(std::byte* at) : at_{at} {}
  template <typename T>
  void put(const T& value) noexcept {
    std::memcpy(at_, &value, sizeof value);
    at_ += sizeof value;
  }

 private:
  std::byte* at_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> left) : left_{left} {}
  template <typename T>
  bool take(T& value) noexcept {
    if (left_.size() < sizeof value) return false;
    std::memcpy(&value, left_.data(), sizeof value);
    left_ = left_.subspan(sizeof value);
    return true;
  }
  size_t left() const noexcept { return left_.size(); }

 private:
  std::span<const std::byte> left_;
};

// Reads one slice, which begins where `copy` ends so far.
bool take_slice(Reader& reader, PackedSlice& slice, uint64_t raw_bytes) {
  SliceEntry entry{};
  if (!reader.take(entry)) return false;
  slice.bytes = entry.bytes;
  slice.element = entry.element;
  if (!is_element(slice.element) || slice.bytes == 0 || slice.bytes > kMaxSlice) return false;
  if (slice.bytes > raw_bytes - slice.begin) return false;
  for (uint32_t i = 0; i < slice.element; ++i) {
    PlaneEntry plane{};
    if (!reader.take(plane) || plane.method >= kMethods) return false;
    const size_t whole = plane_bytes(slice.bytes, slice.element, i);
    slice.planes[i] = {plane.bytes, static_cast<Method>(plane.method)};
    if (slice.planes[i].method == Method::Plain ? plane.bytes != whole : plane.bytes >= whole)
      return false;
  }
  return true;
}

}  // namespace

uint64_t PackedSlice::packed_bytes() const noexcept {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < element; ++i) sum += planes[i].bytes;
  return sum;
}

uint64_t PackedCopy::head_bytes(size_t blocks, std::span<const RawSlice> slices) noexcept {
  uint64_t bytes = sizeof(Head) + blocks * sizeof(uint64_t);
  for (const RawSlice& slice : slices)
    bytes += sizeof(SliceEntry) + slice.element * sizeof(PlaneEntry);
  return bytes;
}

void PackedCopy::encode(std::span<std::byte> head) const noexcept {
  Head first{{},
             raw_bytes,
             packed_bytes,
             static_cast<uint32_t>(checksums.size()),
             static_cast<uint32_t>(slices.size())};
  std::memcpy(first.magic, kMagic, sizeof kMagic);
  Writer writer{head.data()};
  writer.put(first);
  for (const uint64_t checksum : checksums) writer.put(checksum);
  for (const PackedSlice& slice : slices) {
    writer.put(SliceEntry{slice.bytes, slice.element});
    for (uint32_t i = 0; i < slice.element; ++i)
      writer.put(PlaneEntry{slice.planes[i].bytes, static_cast<uint32_t>(slice.planes[i].method)});
  }
}

std::optional<PackedCopy> PackedCopy::decode(std::span<const std::byte> packed, uint64_t raw_bytes,
                                             size_t blocks) {
  Reader reader{packed};
  Head head{};
  if (!reader.take(head) || std::memcmp(head.magic, kMagic, sizeof kMagic) != 0)
    return std::nullopt;
  if (head.raw_bytes != raw_bytes || head.packed_bytes != packed.size() || head.checksums != blocks)
    return std::nullopt;
  // Each needs room in what is there, so nothing is allocated for an empty promise.
  if (blocks > reader.left() / sizeof(uint64_t)) return std::nullopt;
  PackedCopy copy;
  copy.raw_bytes = raw_bytes;
  copy.packed_bytes = packed.size();
  copy.checksums.resize(blocks);
  for (uint64_t& checksum : copy.checksums) reader.take(checksum);
  if (head.slices > reader.left() / sizeof(SliceEntry)) return std::nullopt;
  uint64_t begin = 0;
  for (uint32_t i = 0; i < head.slices; ++i) {
    PackedSlice slice;
    slice.begin = begin;
    if (!take_slice(reader, slice, raw_bytes)) return std::nullopt;
    begin += slice.bytes;
    copy.slices.push_back(slice);
  }
  uint64_t packed_begin = packed.size() - reader.left();
  for (PackedSlice& slice : copy.slices) {
    slice.packed_begin = packed_begin;
    packed_begin += slice.packed_bytes();
  }
  if (begin != raw_bytes || packed_begin != packed.size()) return std::nullopt;
  return copy;
}

}  // namespace penstock
