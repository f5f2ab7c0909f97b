// penstock verify over packed copies.
#include <fcntl.h>
#include <gtest/gtest.h>

#include "cli/check_copies.hpp"
#include "support/kv_memory.hpp"
#include "support/packed_store.hpp"

namespace penstock::cli {
namespace {

using namespace test;

TEST(CliPacked, VerifyUnpacks) {
  constexpr uint64_t kLength = 20'000;
  TempDir dir;
  RawBytes raw(kLength);
  fill_with(Content::Bf16, 1, raw);
  uint64_t stored = 0;
  {
    StoreRig rig{options_for(dir.path(), 8 << 20, 4096)};
    const Head heads[] = {Head::Right, Head::WrongChecksum, Head::Right, Head::WrongMagic};
    for (uint64_t number = 0; number < 4; ++number) {
      const uint64_t bytes = save_packed(rig, number + 1, raw, heads[number]);
      ASSERT_GT(bytes, 0u);
      ASSERT_LT(bytes, kLength * 4 / 5);
      stored += bytes;
    }
  }
  auto view = StoreView::open({dir.path()}, O_RDONLY);
  ASSERT_TRUE(view);
  const auto checked = check_copies(*view);
  ASSERT_TRUE(checked);
  EXPECT_EQ(checked->copies, 4u);
  ASSERT_EQ(checked->damaged.size(), 2u);
  EXPECT_EQ(checked->damaged[0].row.name, name_of(2));
  EXPECT_EQ(checked->damaged[0].reason, "unpacked, its bytes are not the ones that were saved");
  EXPECT_EQ(checked->damaged[1].row.name, name_of(4));
  EXPECT_EQ(checked->damaged[1].reason, "its head makes no sense");
  EXPECT_LT(checked->bytes, stored);
  const auto namespaces = view->inspector().namespaces();
  ASSERT_TRUE(namespaces);
  EXPECT_EQ(namespaces->front().bytes, 4 * kLength);
  EXPECT_EQ(namespaces->front().stored, stored);
}

}  // namespace
}  // namespace penstock::cli
