// KV bytes that can be told from all others: a function of the token prefix (through the chunk's
// key), the layer and the page within the chunk. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "penstock/key.hpp"

namespace penstock::cli {

// Requires: the page's size is a multiple of 8.
void fill_page(std::span<std::byte> page, const Key& key, uint32_t layer, uint32_t index) noexcept;
// How many bytes of `page` are not those that fill_page() writes.
uint64_t count_wrong_bytes(std::span<const std::byte> page, const Key& key, uint32_t layer,
                           uint32_t index) noexcept;

}  // namespace penstock::cli
