// Namespaces of a store, for `ls` and `stats`. Pure.
#pragma once

#include <string>
#include <vector>

#include "cli/command.hpp"
#include "store/inspect.hpp"

namespace penstock::cli {

std::string namespace_table(const std::vector<NamespaceInfo>& namespaces);
Json namespaces_json(const std::vector<NamespaceInfo>& namespaces);

}  // namespace penstock::cli
