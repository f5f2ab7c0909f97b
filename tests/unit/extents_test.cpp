#include "store/extents.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <set>

namespace penstock {
namespace {

TEST(Trim, OfOnePoolTheLastBlocksGo) {
  const std::vector<Extent> extents{{0, 10, 4}, {0, 40, 8}};
  const auto [kept, spare] = trim(extents, 6);
  EXPECT_EQ(kept, (std::vector<Extent>{{0, 10, 4}, {0, 40, 2}}));
  EXPECT_EQ(spare, (std::vector<Extent>{{0, 42, 6}}));
}

TEST(Trim, EachPoolKeepsItsShare) {
  const std::vector<Extent> extents{{2, 0, 16}, {0, 0, 16}};
  const auto [kept, spare] = trim(extents, 24);
  EXPECT_EQ(kept, (std::vector<Extent>{{2, 0, 12}, {0, 0, 12}}));
  EXPECT_EQ(spare, (std::vector<Extent>{{2, 12, 4}, {0, 12, 4}}));
}

TEST(Trim, NoBlockIsLostOrTwice) {
  rc::check([] {
    std::vector<Extent> extents;
    uint64_t total = 0;
    for (uint32_t i = *rc::gen::inRange(1U, 6U); i > 0; --i) {
      const auto count = *rc::gen::inRange(1U, 9U);
      extents.push_back({*rc::gen::inRange(0U, 3U), i * 100, count});
      total += count;
    }
    const uint64_t blocks = *rc::gen::inRange<uint64_t>(1, total + 1);
    const auto [kept, spare] = trim(extents, blocks);
    RC_ASSERT(block_count(kept) == blocks);
    RC_ASSERT(block_count(spare) == total - blocks);
    const auto places = [](const std::vector<Extent>& list) {
      std::set<std::pair<uint32_t, uint32_t>> found;
      for (const Extent& extent : list)
        for (uint32_t i = 0; i < extent.count; ++i) found.emplace(extent.pool, extent.first + i);
      return found;
    };
    auto all = places(kept);
    all.merge(places(spare));
    RC_ASSERT(all == places(extents));
  });
}

}  // namespace
}  // namespace penstock
