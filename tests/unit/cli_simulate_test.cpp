#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "cli/curve.hpp"
#include "cli/glyphs.hpp"
#include "cli/replay.hpp"
#include "support/store_rig.hpp"

namespace penstock::cli {
namespace {

constexpr uint64_t kMib = 1 << 20;
constexpr int64_t kDayMs = 24 * 3600 * 1000;

std::vector<Key> chain_of(uint64_t number, size_t chunks) {
  std::vector<Key> keys;
  for (size_t i = 0; i < chunks; ++i) keys.push_back(test::key_of(number * 1000 + i + 1));
  return keys;
}

// The size that leaves room for `blocks` of 1 MiB beside the index.
uint64_t capacity_for(uint64_t blocks) {
  uint64_t bytes = blocks * kMib;
  for (;; bytes += kMib / 4) {
    const auto plan = plan_space(bytes, kMib, 1, 0, 0);
    if (plan && plan->blocks == blocks) return bytes;
  }
}

class SimulatedStoreTest : public testing::Test {
 protected:
  std::unique_ptr<SimulatedStore> open(SimulatedSize size) {
    auto store = SimulatedStore::open(directory_.path(), size);
    EXPECT_TRUE(store) << (store ? "" : store.error().message);
    return store ? std::move(*store) : nullptr;
  }
  static uint32_t serve(SimulatedStore& store, int64_t time_ms, const std::vector<Key>& chain) {
    const auto restored = store.serve(time_ms, chain, static_cast<uint32_t>(chain.size()));
    EXPECT_TRUE(restored) << (restored ? "" : restored.error().message);
    return restored ? *restored : 0;
  }

  test::TempDir directory_{test::in_memory()};
};

TEST_F(SimulatedStoreTest, WhatWasSavedIsRestoredAndOnlyThat) {
  auto store = open({.capacity_bytes = kGb, .chunk_bytes = kMib, .block_bytes = kMib});
  const auto chain = chain_of(1, 10);
  EXPECT_EQ(serve(*store, 0, {chain.begin(), chain.begin() + 6}), 0u);
  EXPECT_EQ(serve(*store, 1, chain), 6u);
  EXPECT_EQ(serve(*store, 2, chain), 10u);
  EXPECT_EQ(serve(*store, 3, chain_of(2, 10)), 0u);
  EXPECT_EQ(*store->serve(4, chain, 9), 9u) << "no more than is usable";
  EXPECT_EQ(store->figures().written_bytes, 20 * kMib);
}

TEST_F(SimulatedStoreTest, NeverTakesMoreThanItsCapacity) {
  const SimulatedSize size{
      .capacity_bytes = kGb / 2, .chunk_bytes = 3 * kMib + 5, .block_bytes = kMib};
  auto store = open(size);
  std::mt19937_64 random{1};
  uint64_t hits = 0;
  for (int64_t i = 0; i < 400; ++i)
    hits += serve(*store, i * 100, chain_of(random() % 30, 1 + random() % 40));
  const SimulatedFigures figures = store->figures();
  EXPECT_LE(figures.pool_bytes, size.capacity_bytes);
  EXPECT_LE(figures.peak_bytes, figures.pool_bytes);
  EXPECT_GT(figures.peak_bytes, figures.pool_bytes / 2) << "it fills up";
  EXPECT_GT(figures.evicted_chunks, 0u);
  EXPECT_GT(hits, 0u);
  EXPECT_EQ(figures.dropped_chunks, 0u);
  store.reset();
  EXPECT_EQ(test::audit(directory_.path()), "");
  EXPECT_LT(test::disk_usage(directory_.path()), size.capacity_bytes / 4) << "nothing of the KV";
}

// The time of the trace is the store's: a day of it renews the write limit.
TEST_F(SimulatedStoreTest, TheWriteLimitGoesByTheTracesDays) {
  auto store = open({.capacity_bytes = kGb,
                     .chunk_bytes = kMib,
                     .block_bytes = kMib,
                     .max_write_bytes_per_day = 10 * kMib});
  serve(*store, 0, chain_of(1, 8));
  serve(*store, kDayMs - 1, chain_of(2, 8));
  EXPECT_EQ(store->figures().rejected_chunks, 6u);
  EXPECT_EQ(serve(*store, kDayMs - 1, chain_of(2, 8)), 2u);
  serve(*store, kDayMs, chain_of(2, 8));
  EXPECT_EQ(serve(*store, kDayMs, chain_of(2, 8)), 8u);
}

TEST_F(SimulatedStoreTest, TheLeastRecentlyUsedInTheTracesTimeGoes) {
  auto store = open({.capacity_bytes = capacity_for(20), .chunk_bytes = kMib, .block_bytes = kMib});
  serve(*store, 0, chain_of(1, 8));
  serve(*store, 1000, chain_of(2, 8));
  serve(*store, 2000, chain_of(1, 8));
  serve(*store, 3000, chain_of(3, 8));  // drives out 2, and one chunk more to keep some free
  EXPECT_EQ(serve(*store, 4000, chain_of(3, 8)), 8u);
  EXPECT_EQ(serve(*store, 5000, chain_of(1, 8)), 7u);
  EXPECT_EQ(serve(*store, 6000, chain_of(2, 8)), 0u);
}

TEST_F(SimulatedStoreTest, WithoutEndNothingIsEvicted) {
  auto store =
      open({.capacity_bytes = 0, .copies = 3000, .chunk_bytes = 5 * kMib, .block_bytes = kMib});
  for (uint64_t i = 0; i < 30; ++i) serve(*store, static_cast<int64_t>(i), chain_of(i, 100));
  for (uint64_t i = 0; i < 30; ++i) EXPECT_EQ(serve(*store, 100, chain_of(i, 100)), 100u);
  EXPECT_EQ(store->figures().evicted_chunks, 0u);
  EXPECT_EQ(store->figures().peak_bytes, 3000 * 5 * kMib);
}

TEST_F(SimulatedStoreTest, ACapacityThatIsTooSmallIsRefused) {
  const auto store = SimulatedStore::open(
      directory_.path(), {.capacity_bytes = kMib, .chunk_bytes = kMib, .block_bytes = kMib});
  EXPECT_EQ(store.status(), Status::Invalid);
}

TraceRequest request_of(uint64_t tokens, std::vector<uint64_t> blocks) {
  return {0, tokens, 0, std::move(blocks)};
}

TEST(ChunkKeys, OnlyFullChunksHaveOneAndTheSamePrefixHasTheSame) {
  const auto keys = chunk_keys(request_of(1300, {7, 8, 9}), 512, 256);
  ASSERT_EQ(keys.size(), 5u);
  const auto longer = chunk_keys(request_of(1536, {7, 8, 9}), 512, 256);
  EXPECT_TRUE(std::equal(keys.begin(), keys.end(), longer.begin()));
  const auto other = chunk_keys(request_of(1300, {6, 8, 9}), 512, 256);
  for (size_t i = 0; i < keys.size(); ++i) EXPECT_NE(keys[i], other[i]) << i;
  EXPECT_EQ(chunk_keys(request_of(511, {7}), 512, 512).size(), 0u);
  EXPECT_EQ(chunk_keys(request_of(100, {1, 2, 3, 4, 5, 6, 7}), 16, 32).size(), 3u);
  // Ids beyond 32 bits are told apart.
  EXPECT_NE(chunk_keys(request_of(512, {1}), 512, 512),
            chunk_keys(request_of(512, {1 + (uint64_t{1} << 32)}), 512, 512));
}

TEST(Trace, ALineOfTheGreatestLengthIsReadAndALongerOneIsNot) {
  test::TempDir directory{test::in_memory()};
  const std::string path = directory / "trace";
  const std::string line =
      R"({"timestamp": 0, "input_length": 0, "output_length": 0, "hash_ids": []})";
  for (const size_t extra : {size_t{1}, size_t{2}}) {
    {
      std::ofstream file{path};
      file << line << std::string(Trace::kMaxLine - extra - line.size(), ' ') << '\n'
           << line << std::string(extra - 1 + Trace::kMaxLine - line.size() - 1, ' ') << '\n';
    }
    auto trace = Trace::open(path, 512);
    ASSERT_TRUE(trace);
    ASSERT_TRUE(trace->next());
    const auto second = trace->next();
    if (extra == 1) {
      ASSERT_TRUE(second) << second.error().message;
      EXPECT_TRUE(second->has_value());
    } else {
      ASSERT_FALSE(second);
      EXPECT_NE(second.error().message.find(":2: a line of more than"), std::string::npos);
    }
  }
}

TEST(Wear, ADayIsWhatTheTraceMakesOfIt) {
  ReplaySetup setup;
  setup.totals.last_ms = 3'600'000;  // an hour
  ReplayFigures figures;
  figures.store.written_bytes = 1'000'000'000'000;
  const Drive drive{.tb = 8, .tb_written = 8 * 365 * 5};
  const auto wear = wear_of(setup, figures, drive);
  ASSERT_TRUE(wear);
  EXPECT_DOUBLE_EQ(wear->bytes_per_day, 24e12);
  EXPECT_DOUBLE_EQ(wear->drive_writes_per_day, 3);
  EXPECT_DOUBLE_EQ(*wear->years, 5.0 / 3);
  setup.max_write_bytes_per_day = 4'000'000'000'000;
  EXPECT_DOUBLE_EQ(*wear_of(setup, figures, drive)->years, 10);
  figures.store.written_bytes = 0;
  EXPECT_FALSE(wear_of(setup, figures, drive)->years);
  setup.totals.last_ms = 0;
  EXPECT_FALSE(wear_of(setup, figures, drive));
}

Curve example_curve() {
  return {.marks = {{64, 0.05}, {256, 0.2}, {1024, 0.28}}, .ceiling = 0.374, .title = "rates"};
}

TEST(Curve, AsTextMarksStandWhereTheyBelong) {
  const std::string text = example_curve().text();
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  EXPECT_EQ(lines.front(), "rates");
  EXPECT_EQ(lines[1].substr(0, 8), "  40 % |");
  EXPECT_EQ(lines[lines.size() - 2].substr(0, 8), "   0 % |");
  EXPECT_EQ(std::count(text.begin(), text.end(), '*'), 3);
  size_t left = std::string::npos, right = 0;
  for (const std::string& line : lines) {
    if (line.find('*') == std::string::npos) continue;
    left = std::min(left, line.find('*'));
    right = std::max(right, line.rfind('*'));
  }
  EXPECT_EQ(left, 8u) << "the smallest at the axis";
  EXPECT_EQ(right, 8u + 63) << "the largest at the end";
  EXPECT_NE(lines.back().find("1.024 TB"), std::string::npos);
}

TEST(Curve, OneCapacityOrNoHitIsNoReasonToFail) {
  EXPECT_NE((Curve{.marks = {{1, 0}}, .ceiling = 0, .title = ""}.text()).find('*'),
            std::string::npos);
  EXPECT_NE((Curve{.marks = {{1, 1}}, .ceiling = 1, .title = ""}.text()).find("100 %"),
            std::string::npos);
}

TEST(Curve, ThePictureHasItsMarksAndLettersForItsWords) {
  const Canvas canvas = example_curve().picture();
  const Colour line = {20, 95, 180};
  EXPECT_EQ(canvas.at(90, 385), line) << "5 % of 40, at the left";
  EXPECT_EQ(canvas.at(829, 178), line) << "28 % of 40, at the right";
  for (const char letter :
       std::string{"prompt tokens restored, 131072 bytes a token GB TB capacity "
                   "without end: 37.4 %"})
    EXPECT_NE(glyph_of(letter), glyph_of('\x01')) << letter;
}

}  // namespace
}  // namespace penstock::cli
