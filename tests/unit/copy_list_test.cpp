#include "device/cuda/copy_list.hpp"

#include <gtest/gtest.h>

#include <array>
#include <tuple>
#include <vector>

namespace penstock::cuda {
namespace {

class CopyListTest : public testing::Test {
 protected:
  using Copy = std::tuple<ptrdiff_t, ptrdiff_t, size_t>;  // of the host, of the GPU, bytes

  void add(size_t host, size_t gpu, uint64_t bytes) {
    list_.add(host_.data() + host, gpu_.data() + gpu, bytes);
  }
  std::vector<Copy> copies() {
    list_.flush();
    std::vector<Copy> all;
    for (size_t i = 0; i < list_.size(); ++i)
      all.emplace_back(static_cast<std::byte*>(list_.host()[i]) - host_.data(),
                       static_cast<std::byte*>(list_.gpu()[i]) - gpu_.data(), list_.bytes()[i]);
    return all;
  }

  std::array<std::byte, 400> host_{}, gpu_{};
  PinnedPieces pinned_;
  CopyList list_{pinned_};
};

TEST_F(CopyListTest, NeighboursOnBothSidesAreOneCopy) {
  pinned_.add(host_);
  add(0, 100, 10);
  add(10, 110, 20);
  add(30, 130, 5);
  EXPECT_EQ(copies(), (std::vector{Copy{0, 100, 35}}));
}

// Somebody else may have pinned it in pieces.
TEST_F(CopyListTest, NeighboursInMemoryThatIsNotKnownAreTwo) {
  pinned_.add({host_.data() + 100, 100});
  add(50, 0, 20);
  add(70, 20, 30);
  add(100, 50, 100);
  add(200, 150, 10);
  add(210, 160, 10);
  EXPECT_EQ(copies(), (std::vector{Copy{50, 0, 20}, Copy{70, 20, 30}, Copy{100, 50, 100},
                                   Copy{200, 150, 10}, Copy{210, 160, 10}}));
}

TEST_F(CopyListTest, NeighboursOnOneSideAreTwo) {
  pinned_.add(host_);
  add(0, 100, 10);
  add(50, 110, 10);  // the GPU's alone
  add(60, 200, 10);  // the host's alone
  add(60, 210, 10);  // the same memory twice
  EXPECT_EQ(copies(), (std::vector{Copy{0, 100, 10}, Copy{50, 110, 10}, Copy{60, 200, 10},
                                   Copy{60, 210, 10}}));
}

TEST_F(CopyListTest, EndsWhereAPinnedPieceEnds) {
  pinned_.add({host_.data() + 100, 100});
  pinned_.add({host_.data() + 200, 50});
  add(120, 0, 60);
  add(180, 60, 60);  // from one into the next
  add(300, 200, 10);
  EXPECT_EQ(copies(), (std::vector{Copy{120, 0, 80}, Copy{200, 80, 40}, Copy{300, 200, 10}}));
}

TEST_F(CopyListTest, IsEmptyAfterwardsAndNothingContinuesWhatWasCleared) {
  EXPECT_TRUE(copies().empty());
  add(0, 0, 10);
  list_.clear();
  add(10, 10, 10);
  EXPECT_EQ(copies(), (std::vector{Copy{10, 10, 10}}));
  list_.clear();
  EXPECT_TRUE(copies().empty());
}

}  // namespace
}  // namespace penstock::cuda
