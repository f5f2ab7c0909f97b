#include "codec/planes.hpp"

#include <bit>
#include <cstring>

#include "base/assert.hpp"

namespace penstock {
namespace {

// The compiler makes vectors of these loops: plain arrays, known element sizes, no aliases.
template <typename Number>
void split(const std::byte* __restrict from, size_t count, const Planes& planes) noexcept {
  auto* __restrict low = reinterpret_cast<uint8_t*>(planes[0]);
  auto* __restrict high = reinterpret_cast<uint8_t*>(planes[1]);
  if constexpr (sizeof(Number) == 2) {
    for (size_t i = 0; i < count; ++i) {
      Number number;
      std::memcpy(&number, from + i * sizeof number, sizeof number);
      number = static_cast<Number>(number << 1 | number >> 15);
      low[i] = static_cast<uint8_t>(number);
      high[i] = static_cast<uint8_t>(number >> 8);
    }
  } else {
    auto* __restrict third = reinterpret_cast<uint8_t*>(planes[2]);
    auto* __restrict fourth = reinterpret_cast<uint8_t*>(planes[3]);
    for (size_t i = 0; i < count; ++i) {
      Number number;
      std::memcpy(&number, from + i * sizeof number, sizeof number);
      number = std::rotl(number, 1);
      low[i] = static_cast<uint8_t>(number);
      high[i] = static_cast<uint8_t>(number >> 8);
      third[i] = static_cast<uint8_t>(number >> 16);
      fourth[i] = static_cast<uint8_t>(number >> 24);
    }
  }
}

template <typename Number>
void join(const ConstPlanes& planes, size_t count, std::byte* __restrict to) noexcept {
  const auto* __restrict low = reinterpret_cast<const uint8_t*>(planes[0]);
  const auto* __restrict high = reinterpret_cast<const uint8_t*>(planes[1]);
  if constexpr (sizeof(Number) == 2) {
    for (size_t i = 0; i < count; ++i) {
      auto number = static_cast<Number>(low[i] | high[i] << 8);
      number = static_cast<Number>(number >> 1 | number << 15);
      std::memcpy(to + i * sizeof number, &number, sizeof number);
    }
  } else {
    const auto* __restrict third = reinterpret_cast<const uint8_t*>(planes[2]);
    const auto* __restrict fourth = reinterpret_cast<const uint8_t*>(planes[3]);
    for (size_t i = 0; i < count; ++i) {
      Number number =
          low[i] | Number{high[i]} << 8 | Number{third[i]} << 16 | Number{fourth[i]} << 24;
      number = std::rotr(number, 1);
      std::memcpy(to + i * sizeof number, &number, sizeof number);
    }
  }
}

}  // namespace

void split_planes(std::span<const std::byte> numbers, uint32_t element,
                  const Planes& planes) noexcept {
  PENSTOCK_ASSERT(is_element(element));
  const size_t count = numbers.size() / element;
  if (numbers.empty()) return;
  if (element == 1) return void(std::memcpy(planes[0], numbers.data(), count));
  if (element == 2) split<uint16_t>(numbers.data(), count, planes);
  if (element == 4) split<uint32_t>(numbers.data(), count, planes);
  for (size_t at = count * element, plane = 0; at < numbers.size(); ++at, ++plane)
    planes[plane][count] = numbers[at];
}

void join_planes(const ConstPlanes& planes, uint32_t element,
                 std::span<std::byte> numbers) noexcept {
  PENSTOCK_ASSERT(is_element(element));
  const size_t count = numbers.size() / element;
  if (numbers.empty()) return;
  if (element == 1) return void(std::memcpy(numbers.data(), planes[0], count));
  if (element == 2) join<uint16_t>(planes, count, numbers.data());
  if (element == 4) join<uint32_t>(planes, count, numbers.data());
  for (size_t at = count * element, plane = 0; at < numbers.size(); ++at, ++plane)
    numbers[at] = planes[plane][count];
}

}  // namespace penstock
