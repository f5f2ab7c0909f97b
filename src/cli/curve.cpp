#include "cli/curve.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/assert.hpp"
#include "cli/table.hpp"

namespace penstock::cli {
namespace {

constexpr Colour kInk{40, 40, 40}, kGrid{225, 225, 225}, kLine{20, 95, 180}, kCeiling{190, 70, 40};

// From capacities and rates to shares of the axes.
class Axes {
 public:
  explicit Axes(const Curve& curve)
      : low_{std::log(curve.marks.front().gb)}, high_{std::log(curve.marks.back().gb)} {
    double most = curve.ceiling;
    for (const auto& mark : curve.marks) most = std::max(most, mark.rate);
    for (const int step : {1, 2, 5, 10, 20}) {
      step_ = step;
      ticks_ = std::max(1, static_cast<int>(std::ceil(most * 100 / step)));
      if (ticks_ <= 6) break;
    }
  }
  double x(double gb) const { return high_ > low_ ? (std::log(gb) - low_) / (high_ - low_) : 0.5; }
  double y(double rate) const { return rate * 100 / (step_ * ticks_); }
  int ticks() const noexcept { return ticks_; }
  int percent_at(int tick) const noexcept { return tick * step_; }

 private:
  double low_, high_;
  int step_ = 1;   // percent between ticks
  int ticks_ = 1;  // the topmost
};

// The rate on the straight line between two neighbours, at share `x` of the axis.
double rate_at(const Curve& curve, const Axes& axes, double x) {
  for (size_t i = 1; i < curve.marks.size(); ++i) {
    const double left = axes.x(curve.marks[i - 1].gb);
    const double right = axes.x(curve.marks[i].gb);
    if (x <= right)
      return std::lerp(curve.marks[i - 1].rate, curve.marks[i].rate,
                       right > left ? (x - left) / (right - left) : 1);
  }
  return curve.marks.back().rate;
}

std::string size_text(double gb) {
  return gb >= 1000 ? fmt::format("{:.4g} TB", gb / 1000) : fmt::format("{:.4g} GB", gb);
}

}  // namespace

std::string Curve::text() const {
  PENSTOCK_ASSERT(!marks.empty());
  constexpr size_t kWidth = 64;
  const Axes axes{*this};
  const auto rows = static_cast<size_t>(axes.ticks() * std::max(2, 12 / axes.ticks()));
  const size_t rows_a_tick = rows / static_cast<size_t>(axes.ticks());
  std::vector<std::string> grid(rows + 1, std::string(kWidth, ' '));
  const auto cell = [&](size_t column, double rate) -> char& {
    const auto row = static_cast<size_t>(std::lround(axes.y(rate) * static_cast<double>(rows)));
    return grid[rows - std::min(row, rows)][column];
  };
  const auto column_of = [&](double gb) {
    return static_cast<size_t>(std::lround(axes.x(gb) * (kWidth - 1)));
  };
  for (size_t column = 0; column < kWidth; ++column) cell(column, ceiling) = '-';
  if (marks.size() > 1)
    for (size_t column = 0; column < kWidth; ++column)
      cell(column, rate_at(*this, axes, static_cast<double>(column) / (kWidth - 1))) = '.';
  for (const Mark& mark : marks) cell(column_of(mark.gb), mark.rate) = '*';

  std::string text = title + "\n";
  for (size_t row = 0; row <= rows; ++row) {
    const size_t from_below = rows - row;
    text +=
        from_below % rows_a_tick == 0
            ? fmt::format("{:>4} % |", axes.percent_at(static_cast<int>(from_below / rows_a_tick)))
            : "       |";
    text += grid[row];
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  std::string labels;
  for (const Mark& mark : marks) {
    const std::string label = size_text(mark.gb);
    const size_t middle = column_of(mark.gb) + 8;
    const size_t begin = middle - std::min(middle, label.size() / 2);
    if (!labels.empty() && begin < labels.size() + 1) continue;  // no room for it
    labels.resize(begin, ' ');
    labels += label;
  }
  return text + labels + "\n";
}

Canvas Curve::picture() const {
  PENSTOCK_ASSERT(!marks.empty());
  using Anchor = Canvas::Anchor;
  constexpr double kLeft = 90, kRight = 830, kTop = 70, kBottom = 430, kLabelWidth = 100;
  Canvas canvas{900, 500};
  const Axes axes{*this};
  const auto place = [&](double gb, double rate) {
    return Point{std::lerp(kLeft, kRight, axes.x(gb)), std::lerp(kBottom, kTop, axes.y(rate))};
  };
  canvas.text({kLeft, 30}, title, Anchor::Left, kInk);
  for (int tick = 0; tick <= axes.ticks(); ++tick) {
    const double y = std::lerp(kBottom, kTop, static_cast<double>(tick) / axes.ticks());
    canvas.line({kLeft, y}, {kRight, y}, 1, kGrid);
    canvas.text({kLeft - 12, y}, fmt::format("{} %", axes.percent_at(tick)), Anchor::Right, kInk);
  }
  double free_from = 0;
  for (const Mark& mark : marks) {
    const double x = place(mark.gb, 0).x;
    canvas.line({x, kTop}, {x, kBottom}, 1, kGrid);
    if (x < free_from) continue;
    canvas.text({x, kBottom + 22}, size_text(mark.gb), Anchor::Middle, kInk);
    free_from = x + kLabelWidth;
  }
  canvas.line({kLeft, kTop}, {kLeft, kBottom}, 1.5, kInk);
  canvas.line({kLeft, kBottom}, {kRight, kBottom}, 1.5, kInk);
  canvas.text({(kLeft + kRight) / 2, kBottom + 50}, "capacity", Anchor::Middle, kInk);

  const double y = place(marks.front().gb, ceiling).y;
  for (double x = kLeft; x < kRight; x += 14)
    canvas.line({x, y}, {std::min(x + 7, kRight), y}, 1.5, kCeiling);
  canvas.text({kLeft + 10, y - 14}, fmt::format("without end: {:.1f} %", ceiling * 100),
              Anchor::Left, kCeiling);
  for (size_t i = 1; i < marks.size(); ++i)
    canvas.line(place(marks[i - 1].gb, marks[i - 1].rate), place(marks[i].gb, marks[i].rate), 2.5,
                kLine);
  for (const Mark& mark : marks) canvas.disc(place(mark.gb, mark.rate), 5, kLine);
  return canvas;
}

}  // namespace penstock::cli
