#include "convert.hpp"

#include <cstring>

namespace nb = nanobind;

namespace penstock::python {

std::vector<Key> keys_from_bytes(const nb::bytes& bytes) {
  constexpr size_t kKeyBytes = sizeof(Key);
  if (bytes.size() % kKeyBytes != 0)
    throw nb::value_error("keys: the length must be a multiple of 32 bytes");
  std::vector<Key> keys(bytes.size() / kKeyBytes);
  if (!keys.empty()) std::memcpy(keys.data(), bytes.data(), bytes.size());
  return keys;
}

Digest digest_from_bytes(const nb::bytes& bytes) {
  Digest digest;
  if (bytes.size() != digest.bytes.size()) throw nb::value_error("digest: 32 bytes are needed");
  std::memcpy(digest.bytes.data(), bytes.data(), bytes.size());
  return digest;
}

std::vector<GroupLayout> layouts_from_tuples(const std::vector<LayoutTuple>& tuples) {
  std::vector<GroupLayout> layouts;
  for (const auto& [rows_per_chunk, regions] : tuples) {
    GroupLayout layout;
    layout.rows_per_chunk = rows_per_chunk;
    for (const auto& [base, rows, row_stride, page_bytes, layer, element_bytes] : regions)
      layout.regions.push_back({base, rows, row_stride, page_bytes, layer, element_bytes});
    layouts.push_back(std::move(layout));
  }
  return layouts;
}

std::vector<ConfigEntry> entries_from_tuples(const std::vector<EntryTuple>& tuples) {
  std::vector<ConfigEntry> entries;
  for (const auto& [path, values, is_list] : tuples) {
    ConfigEntry entry;
    entry.path = path;
    entry.values = values;
    entry.is_list = is_list;
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace penstock::python
