#include "keys.hpp"

#include <cstring>

#include "convert.hpp"
#include "gil.hpp"
#include "key/copy_checksum.hpp"
#include "penstock/token_keys.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock::python {
namespace {

using ItemTuple = std::tuple<uint64_t, uint64_t, std::string>;

nb::bytes keys_of_tokens(const nb::bytes& tokens, uint32_t chunk_size, std::string cache_salt,
                         std::string lora, const std::vector<ItemTuple>& items) {
  if (tokens.size() % sizeof(uint32_t) != 0)
    throw nb::value_error("tokens: four bytes each, little-endian");
  std::vector<uint32_t> ids(tokens.size() / sizeof(uint32_t));
  if (!ids.empty()) std::memcpy(ids.data(), tokens.data(), tokens.size());
  TokenExtras extras{std::move(cache_salt), std::move(lora), {}};
  for (const auto& [offset, length, identifier] : items)
    extras.items.push_back({offset, length, identifier});
  const auto keys = value_or_throw(token_keys(ids, chunk_size, extras));
  return nb::bytes(keys.data(), keys.size() * sizeof(Key));
}

uint64_t checksum_of_copy(const nb::bytes& digest, const nb::bytes& key, uint32_t group,
                          uint32_t shard, uint64_t address, uint64_t size) {
  const auto keys = keys_from_bytes(key);
  if (keys.size() != 1) throw nb::value_error("key: 32 bytes are needed");
  const Digest name_space = digest_from_bytes(digest);
  const WithoutGil released;
  return copy_checksum(name_space, {keys[0], group, shard},
                       {reinterpret_cast<const std::byte*>(address), size});
}

}  // namespace

void bind_keys(nb::module_& m) {
  m.def("token_keys", &keys_of_tokens, "tokens"_a, "chunk_size"_a, "cache_salt"_a = "",
        "lora"_a = "", "items"_a = std::vector<ItemTuple>{},
        "32 bytes for each whole chunk; see include/penstock/token_keys.hpp. Token ids as uint32; "
        "items: (offset, length, identifier).");
  m.def("copy_checksum", &checksum_of_copy, "digest"_a, "key"_a, "group"_a, "shard"_a, "address"_a,
        "size"_a,
        "Proves the bytes of a copy that lie in host memory at `address`; see "
        "src/key/copy_checksum.hpp.");
}

}  // namespace penstock::python
