// TierRig: an engine over host memory and a drive, with pages on the host or where `adopt` has put
// them. For tests of tiers.
#pragma once

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "support/files.hpp"
#include "support/rig.hpp"
#include "support/store_rig.hpp"

namespace penstock::test {

class TierRig {
 public:
  static constexpr uint64_t kBlock = 65536;
  static constexpr uint32_t kRowsPerChunk = 4, kLayers = 4, kPage = 16384;
  static constexpr uint64_t kChunkBytes = uint64_t{kRowsPerChunk} * kLayers * kPage;

  TierRig(const std::string& drive, const std::string& memory, double local_gb = 0.1) {
    config = config_for(drive, 0.5);
    config.gds_config.block_size = kBlock;  // four blocks a copy
    config.backend = {"local", "gds"};
    config.local_config.directory = memory;
    config.local_config.max_cache_size_gb = local_gb;
  }

  void open(uint32_t chunks = 16) {
    engine.reset();
    adopted.reset();
    pages = std::make_unique<Pages>(kLayers, chunks * kRowsPerChunk, kPage, kRowsPerChunk);
    if (adopt) adopted = adopt(pages->memory());
    auto opened = Engine::open(config, {pages->layout()}, device);
    ASSERT_TRUE(opened) << opened.error().message;
    engine = std::move(*opened);
    auto opened_namespace = engine->open_namespace(namespace_spec());
    ASSERT_TRUE(opened_namespace) << opened_namespace.error().message;
    ns = *opened_namespace;
  }

  // Chunks [first, first + count) of a chain, in the rows of the same numbers.
  JobRequest job(JobKind kind, uint64_t first, uint32_t count, uint64_t chain = 0) const {
    return chain_job(kind, ns, first, count, kRowsPerChunk,
                     static_cast<int32_t>(first * kRowsPerChunk), chain);
  }
  JobResult save(uint64_t first, uint32_t count, uint64_t chain = 0) {
    for (uint64_t row = first * kRowsPerChunk; row < (first + count) * kRowsPerChunk; ++row)
      pages->fill(static_cast<uint32_t>(row), seed(row, chain));
    return run_job(*engine, job(JobKind::Save, first, count, chain));
  }
  // Chunks that are reported as loaded; each of them is compared with what was saved.
  uint32_t load(uint64_t first, uint32_t count, uint64_t chain = 0) {
    pages->wipe();
    JobRequest request = job(JobKind::Load, first, count, chain);
    request.layerwise = layerwise;
    last = run_job(*engine, std::move(request));
    uint32_t good = 0;
    for (uint64_t i = 0; i < last.chunk_status.size(); ++i) {
      if (last.chunk_status[i] != Status::Ok) continue;
      ++good;
      for (uint64_t row = (first + i) * kRowsPerChunk; row < (first + i + 1) * kRowsPerChunk; ++row)
        EXPECT_TRUE(pages->holds(static_cast<uint32_t>(row), seed(row, chain)))
            << "a wrong byte in row " << row << " of chain " << chain;
    }
    EXPECT_TRUE(pages->neighbours_intact());
    return good;
  }
  std::vector<TierRun> runs(uint32_t count, uint64_t chain = 0) const {
    std::vector<Key> keys;
    for (uint64_t i = 0; i < count; ++i) keys.push_back(key_of(chain * 1'000'000 + i));
    auto lookup = engine->lookup(ns, std::move(keys), {GroupNeed{}});
    EXPECT_TRUE(lookup.wait(std::chrono::seconds{10}).has_value());
    return lookup.runs();
  }
  double metric(const std::string& name) const {
    const auto all = engine->metrics();
    const auto found = all.find(name);
    EXPECT_NE(found, all.end()) << name;
    return found == all.end() ? -1 : found->second;
  }
  // All that was saved is on the drive, or will never be.
  bool written_behind(std::chrono::milliseconds limit = std::chrono::seconds{20}) const {
    return eventually([&] { return metric("write_behind_pending_bytes") == 0; }, limit);
  }

  Config config;
  std::unique_ptr<Pages> pages;
  std::shared_ptr<void> adopted;  // what `adopt` made of the pages
  std::unique_ptr<Engine> engine;
  NamespaceId ns = 0;
  bool layerwise = false;  // loads
  std::string device = "cpu";
  std::function<std::shared_ptr<void>(std::span<std::byte>)> adopt;  // makes it the device's
  JobResult last;

 private:
  static uint64_t seed(uint64_t row, uint64_t chain) { return row + 1 + 1000 * chain; }
};

// Turns a bit in each block of a pool's file that begins within [begin, end) of its data.
inline void damage_pool(const std::filesystem::path& pool, uint64_t begin = 0,
                        uint64_t end = UINT64_MAX) {
  std::fstream file{pool, std::ios::in | std::ios::out | std::ios::binary};
  ASSERT_TRUE(file.is_open()) << pool;
  const uint64_t data = Store::pool_data_offset(), size = std::filesystem::file_size(pool);
  for (uint64_t at = data + begin; at < size && at - data < end; at += TierRig::kBlock) {
    const auto place = static_cast<std::streamoff>(at + 100);
    file.seekg(place);
    const int byte = file.get();
    file.seekp(place);
    file.put(static_cast<char>(byte ^ 1));
  }
  ASSERT_TRUE(file.good());
}

}  // namespace penstock::test
