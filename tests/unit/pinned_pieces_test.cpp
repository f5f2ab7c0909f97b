#include "device/cuda/pinned_pieces.hpp"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace penstock::cuda {
namespace {

class PinnedPiecesTest : public testing::Test {
 protected:
  std::array<std::byte, 400> memory_{};
  std::byte* const at_ = memory_.data();
  PinnedPieces pieces_;
};

TEST_F(PinnedPiecesTest, ACopyEndsWhereItsPieceEnds) {
  pieces_.add({at_ + 100, 100});
  pieces_.add({at_ + 200, 50});
  EXPECT_EQ(pieces_.together(at_ + 120, 60), 60U);
  EXPECT_EQ(pieces_.together(at_ + 120, 80), 80U);
  EXPECT_EQ(pieces_.together(at_ + 120, 81), 80U);
  EXPECT_EQ(pieces_.together(at_ + 200, 150), 50U);
}

TEST_F(PinnedPiecesTest, MemoryThatIsNotPinnedEndsWhereTheNextPieceBegins) {
  EXPECT_EQ(pieces_.together(at_, 400), 400U);
  pieces_.add({at_ + 100, 100});
  EXPECT_EQ(pieces_.together(at_, 400), 100U);
  EXPECT_EQ(pieces_.together(at_ + 200, 200), 200U);
}

TEST_F(PinnedPiecesTest, JoinWhatLiesInOneOfThem) {
  pieces_.add({at_ + 100, 100});
  pieces_.add({at_ + 200, 50});
  for (const size_t place : {101, 199, 201, 249}) EXPECT_TRUE(pieces_.join(at_ + place)) << place;
  for (const size_t place : {50, 100, 200, 250, 300})
    EXPECT_FALSE(pieces_.join(at_ + place)) << place;
}

TEST_F(PinnedPiecesTest, DropsWhatLiesInsideAndForgetsIt) {
  for (const size_t begin : {0, 100, 200, 300}) pieces_.add({at_ + begin, 100});
  std::vector<std::byte*> dropped;
  const auto note = [&](std::byte* start) { dropped.push_back(start); };
  pieces_.remove({at_ + 100, 200}, note);
  EXPECT_EQ(dropped, (std::vector{at_ + 100, at_ + 200}));
  EXPECT_EQ(pieces_.together(at_ + 50, 350), 50U);
  EXPECT_EQ(pieces_.together(at_ + 100, 300), 200U);
  dropped.clear();
  pieces_.remove_all(note);
  EXPECT_EQ(dropped, (std::vector{at_, at_ + 300}));
  EXPECT_EQ(pieces_.together(at_, 400), 400U);
}

}  // namespace
}  // namespace penstock::cuda
