// Glyphs: letters for Canvas, 5 x 7 dots. Pure; any thread.
#pragma once

#include <array>
#include <cstdint>

namespace penstock::cli {

inline constexpr uint32_t kGlyphWidth = 5;
inline constexpr uint32_t kGlyphHeight = 7;

// Rows from the top; bit 4 is the leftmost dot. A box for what there is no glyph for.
std::array<uint8_t, kGlyphHeight> glyph_of(char letter) noexcept;

}  // namespace penstock::cli
