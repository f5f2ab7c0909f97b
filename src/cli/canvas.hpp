// Canvas: a small picture in RGB, drawn with soft edges and written as a PNG. A value; one thread.
// Whatever lies outside is not drawn. A PNG that cannot be written leaves no promise about the
// file.
//
// Not matplotlib: it would be the only thing for which the command needs Python and a package
// beyond the wheel's own.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "penstock/status.hpp"

namespace penstock::cli {

using Colour = std::array<uint8_t, 3>;

struct Point {
  double x = 0, y = 0;  // from the top left
};

class Canvas {
 public:
  enum class Anchor : uint8_t { Left, Middle, Right };

  Canvas(uint32_t width, uint32_t height);  // white

  void line(Point from, Point to, double thickness, Colour colour);
  void disc(Point centre, double radius, Colour colour);
  // `at`: the middle of the text's height, and its left, middle or right.
  void text(Point at, std::string_view words, Anchor anchor, Colour colour);

  uint32_t width() const noexcept { return width_; }
  uint32_t height() const noexcept { return height_; }
  Colour at(uint32_t x, uint32_t y) const noexcept;
  std::vector<uint8_t> png() const;
  Result<void> write_png(const std::string& path) const;

 private:
  // Paints where a shape lies: `distance` is that of a pixel's centre to its edge, negative inside.
  template <typename Distance>
  void paint(Point low, Point high, Colour colour, Distance&& distance);

  uint32_t width_, height_;
  std::vector<uint8_t> pixels_;  // rows of RGB
};

}  // namespace penstock::cli
