#include "penstock/token_keys.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <tuple>

#include "base/sha256.hpp"

namespace penstock {
namespace {

// Numbers that docs/FORMAT.md names.
constexpr uint8_t kSalt = 1;
constexpr uint8_t kLora = 2;
constexpr uint8_t kItem = 3;

using Bytes = std::vector<std::byte>;

template <typename T>
void append_number(Bytes& bytes, T number) {
  const auto part = std::as_bytes(std::span{&number, 1});
  bytes.insert(bytes.end(), part.begin(), part.end());
}

void append_text(Bytes& bytes, const std::string& text) {
  const auto part = std::as_bytes(std::span{text});
  bytes.insert(bytes.end(), part.begin(), part.end());
}

void append_entry(Bytes& bytes, uint8_t type, const std::string& text) {
  if (text.empty()) return;
  append_number(bytes, type);
  append_number(bytes, static_cast<uint32_t>(text.size()));
  append_text(bytes, text);
}

// `offset` is relative to the chunk: an item that began before it has a negative one.
void append_item(Bytes& bytes, int64_t offset, const std::string& identifier) {
  append_number(bytes, kItem);
  append_number(bytes, static_cast<uint32_t>(sizeof(offset) + identifier.size()));
  append_number(bytes, offset);
  append_text(bytes, identifier);
}

bool is_valid(const MultimodalItem& item, size_t tokens) {
  constexpr uint64_t kMostText = std::numeric_limits<uint32_t>::max() - sizeof(int64_t);
  return item.length > 0 && item.offset < tokens && item.length <= tokens - item.offset &&
         !item.identifier.empty() && item.identifier.size() <= kMostText;
}

}  // namespace

Result<std::vector<Key>> token_keys(std::span<const uint32_t> tokens, uint32_t chunk_size,
                                    const TokenExtras& extras) {
  constexpr size_t kMostText = std::numeric_limits<uint32_t>::max();
  if (chunk_size == 0) return Error{Status::Invalid, "token_keys: a chunk has at least one token"};
  if (extras.cache_salt.size() > kMostText || extras.lora.size() > kMostText)
    return Error{Status::Invalid, "token_keys: cache_salt and lora have less than 4 GiB"};
  for (const MultimodalItem& item : extras.items)
    if (!is_valid(item, tokens.size()))
      return Error{Status::Invalid,
                   "token_keys: an item has a length, an identifier, and lies within the tokens"};
  std::vector<const MultimodalItem*> items;
  for (const MultimodalItem& item : extras.items) items.push_back(&item);
  std::ranges::sort(items, [](const auto* a, const auto* b) {
    return std::tie(a->offset, a->identifier) < std::tie(b->offset, b->identifier);
  });

  std::vector<Key> keys;
  Key parent;
  for (size_t begin = 0; tokens.size() - begin >= chunk_size; begin += chunk_size) {
    Bytes more;
    if (begin == 0) {  // the chain carries them on
      append_entry(more, kSalt, extras.cache_salt);
      append_entry(more, kLora, extras.lora);
    }
    for (const MultimodalItem* item : items)
      if (item->offset < begin + chunk_size && item->offset + item->length > begin)
        append_item(more, static_cast<int64_t>(item->offset - begin), item->identifier);
    parent = Key{sha256({std::as_bytes(std::span{parent.bytes}),
                         std::as_bytes(tokens.subspan(begin, chunk_size)), more})};
    keys.push_back(parent);
  }
  return keys;
}

}  // namespace penstock
