#include "cli/namespaces.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/table.hpp"

namespace penstock::cli {
namespace {

// A description comes from whoever made the namespace: it must not steer the terminal.
std::string printable(std::string text) {
  std::ranges::replace_if(
      text, [](unsigned char byte) { return byte < 0x20 || byte == 0x7f; }, ' ');
  return text;
}

}  // namespace

std::string namespace_table(const std::vector<NamespaceInfo>& namespaces) {
  if (namespaces.empty()) return "no namespaces: nothing has been saved yet\n";
  Table table{{"namespace", "copies", "bytes", "stored", "last used", "description"}};
  table.align_left(5);
  for (const NamespaceInfo& info : namespaces)
    table.add({fmt::format("{}", info.id), fmt::format("{}", info.copies), format_bytes(info.bytes),
               format_bytes(info.stored), format_time(info.last_used),
               printable(info.description)});
  return table.text();
}

Json namespaces_json(const std::vector<NamespaceInfo>& namespaces) {
  Json all = Json::array();
  for (const NamespaceInfo& info : namespaces)
    all.push_back({{"id", info.id},
                   {"digest", info.digest.hex()},
                   {"description", info.description},
                   {"created_ms", info.created},
                   {"last_used_ms", info.last_used},
                   {"copies", info.copies},
                   {"bytes", info.bytes},
                   {"stored_bytes", info.stored}});
  return all;
}

}  // namespace penstock::cli
