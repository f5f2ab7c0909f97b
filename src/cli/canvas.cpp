#include "cli/canvas.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>

#include "base/assert.hpp"
#include "cli/glyphs.hpp"

namespace penstock::cli {
namespace {

constexpr uint32_t kDot = 2;  // pixels of a glyph's dot
constexpr uint32_t kAdvance = (kGlyphWidth + 1) * kDot;

void append_number(std::vector<uint8_t>& bytes, uint32_t number) {
  for (int shift = 24; shift >= 0; shift -= 8)
    bytes.push_back(static_cast<uint8_t>(number >> shift));
}

void append_part(std::vector<uint8_t>& bytes, const char* name, const std::vector<uint8_t>& body) {
  append_number(bytes, static_cast<uint32_t>(body.size()));
  const size_t start = bytes.size();
  bytes.insert(bytes.end(), name, name + 4);
  bytes.insert(bytes.end(), body.begin(), body.end());
  append_number(bytes, static_cast<uint32_t>(::crc32(0, bytes.data() + start,
                                                     static_cast<uInt>(bytes.size() - start))));
}

}  // namespace

Canvas::Canvas(uint32_t width, uint32_t height)
    : width_{width}, height_{height}, pixels_(size_t{3} * width * height, 255) {}

Colour Canvas::at(uint32_t x, uint32_t y) const noexcept {
  const uint8_t* pixel = &pixels_[3 * (size_t{y} * width_ + x)];
  return {pixel[0], pixel[1], pixel[2]};
}

template <typename Distance>
void Canvas::paint(Point low, Point high, Colour colour, Distance&& distance) {
  const auto bound = [](double value, uint32_t most) {
    return static_cast<uint32_t>(std::clamp(value, 0.0, static_cast<double>(most)));
  };
  for (uint32_t y = bound(low.y - 1, height_); y < bound(high.y + 2, height_); ++y)
    for (uint32_t x = bound(low.x - 1, width_); x < bound(high.x + 2, width_); ++x) {
      const double part = std::clamp(0.5 - distance(Point{x + 0.5, y + 0.5}), 0.0, 1.0);
      uint8_t* pixel = &pixels_[3 * (size_t{y} * width_ + x)];
      for (size_t i = 0; i < colour.size(); ++i)
        pixel[i] = static_cast<uint8_t>(std::lround(std::lerp(pixel[i], colour[i], part)));
    }
}

void Canvas::line(Point from, Point to, double thickness, Colour colour) {
  const double dx = to.x - from.x;
  const double dy = to.y - from.y;
  const double square = dx * dx + dy * dy;
  const double half = thickness / 2;
  paint({std::min(from.x, to.x) - half, std::min(from.y, to.y) - half},
        {std::max(from.x, to.x) + half, std::max(from.y, to.y) + half}, colour, [&](Point at) {
          const double along =
              square == 0
                  ? 0
                  : std::clamp(((at.x - from.x) * dx + (at.y - from.y) * dy) / square, 0.0, 1.0);
          return std::hypot(at.x - from.x - along * dx, at.y - from.y - along * dy) - half;
        });
}

void Canvas::disc(Point centre, double radius, Colour colour) {
  paint({centre.x - radius, centre.y - radius}, {centre.x + radius, centre.y + radius}, colour,
        [&](Point at) { return std::hypot(at.x - centre.x, at.y - centre.y) - radius; });
}

void Canvas::text(Point at, std::string_view words, Anchor anchor, Colour colour) {
  const double length = static_cast<double>(words.size() * kAdvance) - kDot;
  const double share = anchor == Anchor::Left ? 0 : anchor == Anchor::Middle ? 0.5 : 1;
  auto left = static_cast<int64_t>(std::lround(at.x - length * share));
  const auto top = static_cast<int64_t>(std::lround(at.y - kGlyphHeight * kDot / 2.0));
  for (const char letter : words) {
    const auto rows = glyph_of(letter);
    for (uint32_t y = 0; y < kGlyphHeight * kDot; ++y)
      for (uint32_t x = 0; x < kGlyphWidth * kDot; ++x) {
        if ((rows[y / kDot] >> (kGlyphWidth - 1 - x / kDot) & 1) == 0) continue;
        const int64_t px = left + x;
        const int64_t py = top + y;
        if (px < 0 || py < 0 || px >= width_ || py >= height_) continue;
        std::copy(colour.begin(), colour.end(),
                  &pixels_[3 * static_cast<size_t>(py * width_ + px)]);
      }
    left += kAdvance;
  }
}

std::vector<uint8_t> Canvas::png() const {
  std::vector<uint8_t> raw;  // each row begins with its filter: none
  const size_t row_bytes = size_t{3} * width_;
  for (size_t row = 0; row < height_; ++row) {
    raw.push_back(0);
    raw.insert(raw.end(), pixels_.begin() + static_cast<ptrdiff_t>(row * row_bytes),
               pixels_.begin() + static_cast<ptrdiff_t>((row + 1) * row_bytes));
  }
  uLongf size = ::compressBound(raw.size());
  std::vector<uint8_t> packed(size);
  const int code = ::compress2(packed.data(), &size, raw.data(), raw.size(), Z_BEST_COMPRESSION);
  PENSTOCK_ASSERT(code == Z_OK);  // there is room for the worst case
  packed.resize(size);

  std::vector<uint8_t> header;
  append_number(header, width_);
  append_number(header, height_);
  header.insert(header.end(), {8, 2, 0, 0, 0});  // 8 bits of RGB, not interlaced
  std::vector<uint8_t> bytes = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  append_part(bytes, "IHDR", header);
  append_part(bytes, "IDAT", packed);
  append_part(bytes, "IEND", {});
  return bytes;
}

Result<void> Canvas::write_png(const std::string& path) const {
  const std::vector<uint8_t> bytes = png();
  std::ofstream file{path, std::ios::binary | std::ios::trunc};
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  file.flush();
  if (!file) return Error{Status::Io, fmt::format("{}: {}", path, std::strerror(errno))};
  return {};
}

}  // namespace penstock::cli
