// Byte planes: the bytes of floating point numbers, sorted by their place in the number.
//
// The exponents of KV are much alike, the mantissas are noise; apart from each other the former
// compress and the latter need not be tried. A number is first rotated left by one bit, so that its
// sign joins the mantissa and a bf16's or fp32's exponent is one whole byte. Plane 0 has the bytes
// of lowest significance. A rest that is no whole number goes, as it is, byte after byte to planes
// 0, 1, ... Pure; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace penstock {

inline constexpr uint32_t kMaxElement = 4;

// 1, 2 and 4 bytes are numbers that are known here.
constexpr bool is_element(uint32_t bytes) noexcept {
  return bytes == 1 || bytes == 2 || bytes == 4;
}
// Bytes of plane `plane` of `size` bytes.
constexpr size_t plane_bytes(size_t size, uint32_t element, uint32_t plane) noexcept {
  return (size + element - 1 - plane) / element;
}

using Planes = std::array<std::byte*, kMaxElement>;
using ConstPlanes = std::array<const std::byte*, kMaxElement>;

// Requires: is_element(element); planes of plane_bytes(), which do not overlap the numbers.
void split_planes(std::span<const std::byte> numbers, uint32_t element,
                  const Planes& planes) noexcept;
void join_planes(const ConstPlanes& planes, uint32_t element,
                 std::span<std::byte> numbers) noexcept;

}  // namespace penstock
