// What one reading of an engine's figures says. Two readings do not belong together: a pool may
// have grown in between.
#pragma once

#include <map>
#include <string>

namespace penstock {

// `prefix`: of a tier. Requires: it has blocks.
inline double blocks_in_use(const std::map<std::string, double>& figures,
                            const std::string& prefix = "") {
  return figures.at(prefix + "blocks_total") - figures.at(prefix + "blocks_free");
}

}  // namespace penstock
