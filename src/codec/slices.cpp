#include "codec/slices.hpp"

#include <cstring>

#include "base/assert.hpp"

namespace penstock {

void pack_slice(Coder& coder, Method method, std::span<const std::byte> raw, PackedSlice& slice,
                std::span<std::byte> packed) noexcept {
  PENSTOCK_ASSERT(raw.size() == slice.bytes && packed.size() >= raw.size());
  PENSTOCK_ASSERT(slice.element == 1 || coder.scratch().size() >= raw.size());
  ConstPlanes planes{raw.data()};
  if (slice.element > 1) {
    Planes split{};
    std::byte* at = coder.scratch().data();
    for (uint32_t i = 0; i < slice.element; ++i) {
      split[i] = at;
      planes[i] = at;
      at += plane_bytes(raw.size(), slice.element, i);
    }
    split_planes(raw, slice.element, split);
  }
  for (uint32_t i = 0; i < slice.element; ++i) {
    const std::span plane{planes[i], plane_bytes(raw.size(), slice.element, i)};
    size_t size = coder.compress(method, plane, packed);
    slice.planes[i].method = size > 0 ? method : Method::Plain;
    if (size == 0) {
      size = plane.size();
      if (size > 0) std::memcpy(packed.data(), plane.data(), size);
    }
    slice.planes[i].bytes = static_cast<uint32_t>(size);
    packed = packed.subspan(size);
  }
}

bool unpack_slice(Coder& coder, const PackedSlice& slice, std::span<const std::byte> packed,
                  std::span<std::byte> raw) noexcept {
  PENSTOCK_ASSERT(raw.size() == slice.bytes && packed.size() == slice.packed_bytes());
  if (slice.element == 1) return coder.decompress(slice.planes[0].method, packed, raw);
  PENSTOCK_ASSERT(coder.scratch().size() >= raw.size());
  ConstPlanes planes{};
  std::span scratch = coder.scratch();
  for (uint32_t i = 0; i < slice.element; ++i) {
    const auto& [bytes, method] = slice.planes[i];
    const size_t whole = plane_bytes(raw.size(), slice.element, i);
    planes[i] = packed.data();  // read where it lies
    if (method != Method::Plain) {
      planes[i] = scratch.data();
      if (!coder.decompress(method, packed.first(bytes), scratch.first(whole))) return false;
      scratch = scratch.subspan(whole);
    }
    packed = packed.subspan(bytes);
  }
  join_planes(planes, slice.element, raw);
  return true;
}

}  // namespace penstock
