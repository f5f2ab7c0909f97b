#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "cli/check_copies.hpp"
#include "cli/drop_copies.hpp"
#include "cli/kv_pattern.hpp"
#include "cli/pages.hpp"
#include "cli/run_jobs.hpp"
#include "key/identity.hpp"
#include "support/files.hpp"

namespace penstock::cli {
namespace {

namespace fs = std::filesystem;

constexpr Geometry kGeometry{.layers = 2, .page_bytes = 12288, .rows_per_chunk = 4};
constexpr uint32_t kChunks = 60;    // enough for both pools to grow
constexpr uint64_t kBlock = 32768;  // three a chunk

// A store on two drives with two chains of chunks.
class CliStore : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(home());
    fs::create_directory(second());
    fs::permissions(home(), fs::perms::owner_all);
    fs::permissions(second(), fs::perms::owner_all);
    auto pages = PageMemory::create(kGeometry, kChunks * kGeometry.rows_per_chunk);
    ASSERT_TRUE(pages);
    for (uint32_t row = 0; row < pages->rows(); ++row)
      for (uint32_t layer = 0; layer < kGeometry.layers; ++layer)
        fill_page(pages->page(layer, row), Key{}, layer, row);
    Config config;
    config.gds_config.cache_dir = {home(), second()};
    config.gds_config.block_size = kBlock;
    config.gds_config.max_cache_size_gb = 0.1;
    config.gds_config.min_free_gb = 0;
    auto engine = Engine::open(config, {pages->layout()});
    ASSERT_TRUE(engine) << engine.error().message;
    const auto id = (*engine)->open_namespace({.digest = {}, .description = "a test"});
    ASSERT_TRUE(id);
    const auto rows = scattered_rows(pages->rows());
    Progress progress{"save", 0};
    const auto saved = run_jobs(**engine,
                                {.kind = JobKind::Save,
                                 .namespace_id = *id,
                                 .jobs = {chain(1), chain(2)},
                                 .rows = rows,
                                 .rows_per_chunk = kGeometry.rows_per_chunk},
                                progress);
    ASSERT_EQ(saved.chunks_ok, kChunks) << saved.failure;
  }

  static std::vector<JobChunk> chain(uint32_t token) {
    std::vector<JobChunk> chunks;
    Key parent;
    for (uint32_t i = 0; i < kChunks / 2; ++i) {
      const Key key = chain_key(parent, &token, 1);
      chunks.push_back({.key = key, .parent = parent});
      parent = key;
    }
    return chunks;
  }

  std::string home() const { return directory_ / "home"; }
  std::string second() const { return directory_ / "second"; }

  std::vector<CopyRow> rows() {
    auto view = StoreView::open({home()}, O_RDONLY);
    EXPECT_TRUE(view);
    std::vector<CopyRow> all;
    EXPECT_TRUE(view->inspector().for_each_copy(0, [&all](const CopyRow& row) {
      all.push_back(row);
      return true;
    }));
    return all;
  }

  CheckResult check(const std::vector<std::string>& directories) {
    auto view = StoreView::open(directories, O_RDONLY);
    EXPECT_TRUE(view);
    auto result = check_copies(*view);
    EXPECT_TRUE(result);
    return std::move(*result);
  }

  // Changes one byte of block `ordinal` of a copy.
  void damage(const CopyRow& row, uint32_t ordinal) {
    auto view = StoreView::open({home()}, O_RDONLY);
    ASSERT_TRUE(view);
    uint32_t skipped = 0;
    for (const Extent& extent : row.record.extents) {
      if (ordinal < skipped + extent.count) {
        const UniqueFd fd{open(view->pools()[extent.pool].path.c_str(), O_RDWR)};
        const auto at = static_cast<off_t>(view->offset_of(extent.first + ordinal - skipped) + 77);
        char byte = 0;
        ASSERT_EQ(pread(fd.get(), &byte, 1, at), 1);
        byte ^= 4;
        ASSERT_EQ(pwrite(fd.get(), &byte, 1, at), 1);
        return;
      }
      skipped += extent.count;
    }
    FAIL() << "no block " << ordinal;
  }

  test::TempDir directory_;
};

TEST_F(CliStore, EveryByteOfBothDrivesIsRead) {
  const CheckResult result = check({home(), second()});
  EXPECT_EQ(result.copies, kChunks);
  EXPECT_EQ(result.bytes, kChunks * kGeometry.chunk_bytes());
  EXPECT_TRUE(result.damaged.empty());
  EXPECT_EQ(result.unreachable, 0u);
}

TEST_F(CliStore, TheIndexNamesTheOtherDrivesWhenOnlyTheFirstIsGiven) {
  EXPECT_EQ(check({home()}).bytes, kChunks * kGeometry.chunk_bytes());
}

TEST_F(CliStore, APoolThatMovedIsReadWhereItIs) {
  const std::string moved = directory_ / "moved";
  fs::rename(second(), moved);
  EXPECT_EQ(check({home(), moved}).bytes, kChunks * kGeometry.chunk_bytes());
}

TEST_F(CliStore, CopiesOnADriveThatIsGoneAreUnreachableAndNotDamaged) {
  fs::rename(second(), directory_ / "moved");
  const CheckResult result = check({home(), second()});
  EXPECT_GT(result.unreachable, 0u);
  EXPECT_TRUE(result.damaged.empty());
  auto view = StoreView::open({home(), second()}, O_RDONLY);
  ASSERT_TRUE(view);
  EXPECT_NE(view->pools()[1].problem.find(second()), std::string::npos);
}

TEST_F(CliStore, EachDamagedBlockIsFoundInItsCopy) {
  for (uint32_t ordinal = 0; ordinal < 3; ++ordinal) {
    const CopyRow row = rows()[4];
    damage(row, ordinal);
    const CheckResult result = check({home()});
    ASSERT_EQ(result.damaged.size(), 1u);
    EXPECT_EQ(result.damaged[0].row.id, row.id);
    EXPECT_EQ(result.damaged[0].block, ordinal);
    damage(row, ordinal);  // back
    EXPECT_TRUE(check({home()}).damaged.empty());
  }
}

TEST_F(CliStore, APoolThatWasCutIsDamageWhereItEnds) {
  const auto view = StoreView::open({home()}, O_RDONLY);
  ASSERT_TRUE(view);
  fs::resize_file(view->pools()[0].path, 4096);
  const CheckResult result = check({home()});
  EXPECT_EQ(result.copies, kChunks);
  EXPECT_FALSE(result.damaged.empty());
  for (const DamagedCopy& damaged : result.damaged) EXPECT_EQ(damaged.reason, "cannot be read");
}

TEST_F(CliStore, DroppingTakesTheDescendantsAndNothingElse) {
  const auto before = rows();
  const auto third = std::find_if(before.begin(), before.end(), [](const CopyRow& row) {
    return row.name.key == chain(1)[2].key;
  });
  ASSERT_NE(third, before.end());
  const auto dropped = drop_copies({home()}, {*third});
  ASSERT_TRUE(dropped) << dropped.error().message;
  EXPECT_EQ(dropped->copies, kChunks / 2 - 2);
  EXPECT_EQ(dropped->remaining, 0u);
  EXPECT_EQ(rows().size(), kChunks / 2 + 2);
  EXPECT_TRUE(check({home()}).damaged.empty());
  const auto again = drop_copies({home()}, {*third});
  ASSERT_TRUE(again);
  EXPECT_EQ(again->copies, 0u) << "it has gone already";
}

TEST_F(CliStore, PlacesAreAllCopiesMerged) {
  auto view = StoreView::open({home()}, O_RDONLY);
  ASSERT_TRUE(view);
  const auto places = view->places();
  ASSERT_TRUE(places);
  uint64_t bytes = 0;
  for (const RawRange& place : *places) bytes += place.size;
  EXPECT_EQ(bytes, kChunks * 3 * kBlock);
  EXPECT_LT(places->size(), kChunks / 2);
}

TEST_F(CliStore, AllCopiesCanBeDropped) {
  const auto dropped = drop_all_copies(home());
  ASSERT_TRUE(dropped) << dropped.error().message;
  EXPECT_EQ(dropped->copies, kChunks);
  EXPECT_TRUE(rows().empty());
}

}  // namespace
}  // namespace penstock::cli
