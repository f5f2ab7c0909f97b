// Rig: KV pages in plain memory, an engine or a bare mover over them, and helpers that fill, save,
// wipe, load and compare. For tests of everything from the mover up.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "penstock/engine.hpp"

namespace penstock::test {

inline Key key_of(uint64_t number) {
  Key key;
  std::memcpy(key.bytes.data(), &number, sizeof(number));
  key.bytes[31] = 1;  // never the root
  return key;
}

// `layers` regions of `rows` pages, with a poisoned gap between the pages.
class Pages {
 public:
  Pages(uint32_t layers, uint32_t rows, uint32_t page_bytes, uint32_t rows_per_chunk)
      : layers_{layers}, rows_{rows}, page_{page_bytes}, stride_{page_bytes + kGap} {
    memory_.resize(size_t{layers} * rows * stride_ + 64, kPoison);
    layout_.rows_per_chunk = rows_per_chunk;
    for (uint32_t layer = 0; layer < layers; ++layer)
      layout_.regions.push_back({address(layer, 0), rows, stride_, page_bytes, layer});
  }
  const GroupLayout& layout() const { return layout_; }
  std::span<std::byte> memory() { return std::as_writable_bytes(std::span{memory_}); }
  // Bytes that depend on the seed, the layer and the place in the page.
  void fill(uint32_t row, uint64_t seed) {
    for (uint32_t layer = 0; layer < layers_; ++layer)
      for (uint32_t i = 0; i < page_; i += kPiece)
        std::memcpy(at(layer, row) + i, expected(seed, layer, i), std::min(kPiece, page_ - i));
  }
  void wipe() {
    for (uint32_t layer = 0; layer < layers_; ++layer)
      for (uint32_t row = 0; row < rows_; ++row) std::memset(at(layer, row), 0x5a, page_);
  }
  bool holds(uint32_t row, uint64_t seed) const {
    for (uint32_t layer = 0; layer < layers_; ++layer)
      for (uint32_t i = 0; i < page_; i += kPiece)
        if (std::memcmp(at(layer, row) + i, expected(seed, layer, i),
                        std::min(kPiece, page_ - i)) != 0)
          return false;
    return true;
  }
  bool untouched(uint32_t row) const {
    for (uint32_t layer = 0; layer < layers_; ++layer)
      if (!all_are(0x5a, at(layer, row), page_)) return false;
    return true;
  }
  // The gaps between pages and the end are as they were.
  bool neighbours_intact() const {
    for (uint32_t layer = 0; layer < layers_; ++layer)
      for (uint32_t row = 0; row < rows_; ++row)
        if (!all_are(kPoison, at(layer, row) + page_, kGap)) return false;
    return true;
  }

 private:
  static constexpr uint32_t kGap = 192;
  static constexpr uint8_t kPoison = 0xee;
  // Byte i of a page is seed * 31 + layer * 7 + i * 13 + i / 256, modulo 256. Given in pieces, as
  // tests are compiled without optimization.
  static constexpr uint32_t kPiece = 256;
  static const uint8_t* expected(uint64_t seed, uint32_t layer, uint32_t i) {
    static const auto multiples = [] {
      std::array<uint8_t, 2 * kPiece> made{};
      for (uint32_t k = 0; k < made.size(); ++k) made[k] = static_cast<uint8_t>(k * 13);
      return made;
    }();
    const uint64_t first = seed * 31 + layer * 7 + i / kPiece;
    return multiples.data() + static_cast<uint8_t>(first * 197);  // 13 * 197 is 1, modulo 256
  }
  static bool all_are(uint8_t value, const uint8_t* bytes, size_t count) {
    return bytes[0] == value && std::memcmp(bytes, bytes + 1, count - 1) == 0;
  }
  uint8_t* at(uint32_t layer, uint32_t row) {
    return memory_.data() + 64 + (size_t{layer} * rows_ + row) * stride_;
  }
  const uint8_t* at(uint32_t layer, uint32_t row) const {
    return const_cast<Pages*>(this)->at(layer, row);
  }
  uint64_t address(uint32_t layer, uint32_t row) {
    return reinterpret_cast<uint64_t>(at(layer, row));
  }

  uint32_t layers_, rows_, page_;
  uint64_t stride_;
  std::vector<uint8_t> memory_;
  GroupLayout layout_;
};

inline Config config_for(const std::string& directory, double size_gb = 0.1) {
  Config config;
  config.gds_config.cache_dir = {directory};
  config.gds_config.max_cache_size_gb = size_gb;
  config.gds_config.min_free_gb = 0;
  config.log_level = "error";
  return config;
}

inline NamespaceSpec namespace_spec(uint8_t which = 1) {
  NamespaceSpec spec;
  spec.digest.bytes[0] = which;
  spec.description = "{\"test\": true}";
  return spec;
}

// A chain of `count` chunks of group 0: keys first_key.., rows in order from `first_row`.
inline JobRequest chain_job(JobKind kind, NamespaceId ns, uint64_t first_key, uint32_t count,
                            uint32_t rows_per_chunk, int32_t first_row = 0, uint64_t chain = 0) {
  JobRequest request;
  request.kind = kind;
  request.namespace_id = ns;
  for (uint32_t i = 0; i < count; ++i) {
    JobChunk chunk;
    chunk.key = key_of(chain * 1'000'000 + first_key + i);
    if (first_key + i > 0) chunk.parent = key_of(chain * 1'000'000 + first_key + i - 1);
    request.chunks.push_back(chunk);
    for (uint32_t r = 0; r < rows_per_chunk; ++r)
      request.rows.push_back(first_row + static_cast<int32_t>(i * rows_per_chunk + r));
  }
  return request;
}

// Submits and waits for this job's result; other results are kept for later calls.
inline JobResult run_job(Engine& engine, JobRequest request) {
  auto id = engine.submit(std::move(request));
  EXPECT_TRUE(id) << (id ? "" : id.error().message);
  if (!id) return {};
  while (engine.wait(std::chrono::seconds{60})) {
    for (JobResult& result : engine.poll())
      if (result.id == *id) return result;
  }
  ADD_FAILURE() << "the job never completed";
  return {};
}

inline uint32_t lookup_now(Engine& engine, NamespaceId ns, uint64_t first_key, uint32_t count,
                           std::vector<GroupNeed> groups = {GroupNeed{}}, uint64_t chain = 0) {
  std::vector<Key> keys;
  for (uint32_t i = 0; i < count; ++i) keys.push_back(key_of(chain * 1'000'000 + first_key + i));
  auto lookup = engine.lookup(ns, std::move(keys), std::move(groups));
  const auto chunks = lookup.wait(std::chrono::seconds{10});
  EXPECT_TRUE(chunks.has_value());
  return chunks.value_or(0);
}

}  // namespace penstock::test
