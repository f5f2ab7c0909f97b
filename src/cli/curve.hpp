// Curve: hit rate over capacity, on a logarithmic axis: as text for a terminal, and as a picture.
// A value; pure.
#pragma once

#include <string>
#include <vector>

#include "cli/canvas.hpp"

namespace penstock::cli {

struct Curve {
  struct Mark {
    double gb = 0;
    double rate = 0;  // 0 to 1
  };
  std::vector<Mark> marks;  // by capacity, at least one
  double ceiling = 0;       // of a store without end
  std::string title;

  std::string text() const;
  Canvas picture() const;
};

}  // namespace penstock::cli
