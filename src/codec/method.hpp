// Method: how one run of bytes is compressed. The numbers are on disk (docs/FORMAT.md).
#pragma once

#include <cstdint>

namespace penstock {

enum class Method : uint8_t { Plain = 0, Zstd = 1, Lz4 = 2 };
inline constexpr uint32_t kMethods = 3;

}  // namespace penstock
