#include <fcntl.h>
#include <gtest/gtest.h>

#include <set>

#include "cli/demo_kv.hpp"
#include "cli/depth_trial.hpp"
#include "cli/kv_pattern.hpp"
#include "cli/process.hpp"
#include "cli/samples.hpp"
#include "cli/table.hpp"
#include "io/open.hpp"
#include "support/files.hpp"

namespace penstock::cli {
namespace {

Key key_of(uint8_t byte) {
  Key key;
  key.bytes.fill(byte);
  return key;
}

TEST(KvPattern, EveryWrongByteIsCounted) {
  std::vector<std::byte> page(65536);
  fill_page(page, key_of(1), 3, 5);
  EXPECT_EQ(count_wrong_bytes(page, key_of(1), 3, 5), 0u);
  for (size_t position = 0; position < page.size(); position += 61) {
    page[position] ^= std::byte{1};
    ASSERT_EQ(count_wrong_bytes(page, key_of(1), 3, 5), 1u) << position;
    page[position] ^= std::byte{1};
  }
  page[8] ^= std::byte{1};
  page[15] ^= std::byte{128};
  EXPECT_EQ(count_wrong_bytes(page, key_of(1), 3, 5), 2u);
}

TEST(KvPattern, PagesOfOtherPlacesDiffer) {
  std::vector<std::byte> page(4096);
  fill_page(page, key_of(1), 3, 5);
  EXPECT_GT(count_wrong_bytes(page, key_of(2), 3, 5), 4000u);
  EXPECT_GT(count_wrong_bytes(page, key_of(1), 4, 5), 4000u);
  EXPECT_GT(count_wrong_bytes(page, key_of(1), 3, 6), 4000u);
  EXPECT_GT(count_wrong_bytes(page, key_of(1), 5, 3), 4000u);
}

TEST(DemoKv, ChunksAreAChainAndCutToFullOnes) {
  const auto kv = DemoKv::make("", 1023);
  ASSERT_TRUE(kv);
  ASSERT_EQ(kv->chunks.size(), 3u);
  EXPECT_TRUE(kv->chunks[0].parent.is_root());
  EXPECT_EQ(kv->chunks[1].parent, kv->chunks[0].key);
  EXPECT_EQ(kv->chunks[2].parent, kv->chunks[1].key);
  EXPECT_EQ(kv->bytes(), 3u * 32 * 1024 * 1024);
  const auto again = DemoKv::make("", 512);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->chunks[1].key, kv->chunks[1].key) << "both processes make the same keys";
}

TEST(DemoKv, ARepeatedTextStillHasChunksOfItsOwn) {
  const auto kv = DemoKv::make("", 100 * 256);
  ASSERT_TRUE(kv);
  ASSERT_LT(kv->text_tokens, kv->tokens());
  std::set<Key> keys;
  for (const JobChunk& chunk : kv->chunks) keys.insert(chunk.key);
  EXPECT_EQ(keys.size(), 100u);
}

TEST(PageMemory, PagesDoNotOverlapAndAreWhereTheLayoutSays) {
  auto pages = PageMemory::create({.layers = 3, .page_bytes = 4096, .rows_per_chunk = 2}, 5);
  ASSERT_TRUE(pages);
  const GroupLayout layout = pages->layout();
  ASSERT_EQ(layout.regions.size(), 3u);
  EXPECT_EQ(layout.copy_bytes(), pages->geometry().chunk_bytes());
  std::set<const std::byte*> starts;
  for (uint32_t layer = 0; layer < 3; ++layer)
    for (uint64_t row = 0; row < 5; ++row) {
      const auto page = pages->page(layer, row);
      const Region& region = layout.regions[layer];
      EXPECT_EQ(reinterpret_cast<uint64_t>(page.data()), region.base + row * region.row_stride);
      starts.insert(page.data());
    }
  EXPECT_EQ(starts.size(), 15u);
}

TEST(Samples, QuantilesOfFewAndOfNone) {
  Samples samples;
  EXPECT_EQ(samples.median(), 0);
  samples.add(3);
  EXPECT_EQ(samples.median(), 3);
  samples.add(1);
  EXPECT_EQ(samples.median(), 2);
  samples.add(10);
  EXPECT_EQ(samples.median(), 3);
  EXPECT_EQ(samples.quantile(1), 10);
  EXPECT_EQ(samples.quantile(0), 1);
}

TEST(Process, OutputAndExitCodeComeBack) {
  std::string output;
  auto code = run_process("sh", {"sh", "-c", "echo hello; exit 3"}, &output);
  ASSERT_TRUE(code);
  EXPECT_EQ(*code, 3);
  EXPECT_EQ(output, "hello\n");
  EXPECT_FALSE(run_process("no-such-program-here", {"x"}));
  EXPECT_FALSE(run_process("sh", {"sh", "-c", "kill -9 $$"}));
}

TEST(Table, ColumnsLineUp) {
  Table table{{"name", "n"}};
  table.add({"a", "100"});
  table.add({"long one", "2"});
  EXPECT_EQ(table.text(), "name        n\na         100\nlong one    2\n");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1'500'000'000), "1.50 GB");
}

TEST(DepthTrial, AdvisesADepthThatIsMuchFaster) {
  DepthTrial trial;
  EXPECT_EQ(trial.advice(), "");
  trial.read_gbs = {{8, 2.3}, {32, 1.8}, {128, 1.7}};
  EXPECT_NE(trial.advice().find("Set io_depth: 8."), std::string::npos) << trial.advice();
  trial.read_gbs = {{8, 20}, {32, 30}, {128, 50}};
  EXPECT_NE(trial.advice().find("Set io_depth: 128."), std::string::npos) << trial.advice();
  trial.read_gbs = {{8, 2.3}, {32, 2.1}, {128, 2.2}};
  EXPECT_EQ(trial.advice(), "");
}

TEST(DepthTrial, ReadsWithEachDepth) {
  constexpr uint64_t kSize = 16 << 20;
  const test::TempDir dir;
  const auto file = open_direct(dir.path() + "/file", O_RDWR | O_CREAT);
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(::posix_fallocate(file->fd.get(), 0, kSize), 0);
  const auto trial = try_depths({.fd = file->fd.get(), .offset = 0, .size = kSize});
  ASSERT_TRUE(trial) << trial.error().message;
  EXPECT_GT(trial->by_default(), 0);
  EXPECT_EQ(trial->read_gbs.size(), 3u);
  EXPECT_EQ(try_depths({.fd = file->fd.get(), .offset = kSize, .size = kSize}).status(),
            Status::Io);
}

}  // namespace
}  // namespace penstock::cli
