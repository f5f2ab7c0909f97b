// SHA-256 over a list of byte ranges (OpenSSL). Pure; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

namespace penstock {

std::array<uint8_t, 32> sha256(std::initializer_list<std::span<const std::byte>> parts) noexcept;

}  // namespace penstock
