// When cuFile is given up, by a clock of our own.
#include "mover/direct_gate.hpp"

#include <gtest/gtest.h>

namespace penstock {
namespace {

using namespace std::chrono_literals;

class DirectGateTest : public testing::Test {
 protected:
  static constexpr DirectGate::Clock::time_point kStart{1h};
  void returned(Status status, size_t times) {
    for (size_t i = 0; i < times; ++i) gate_.returned(status, kStart);
  }
  bool is_open() { return gate_.is_open(0, kStart); }

  MoverMetrics metrics_;
  DirectGate gate_{true, metrics_};
};

TEST_F(DirectGateTest, WithoutCufileItIsClosedAndNothingWasGivenUp) {
  DirectGate gate{false, metrics_};
  EXPECT_FALSE(gate.is_open(0, kStart));
  EXPECT_EQ(metrics_.cufile_given_up.value(), 0U);
}

TEST_F(DirectGateTest, FailuresInARowCloseItForGood) {
  returned(Status::Io, DirectGate::kMostFailures - 1);
  returned(Status::Ok, 1);
  returned(Status::Io, DirectGate::kMostFailures - 1);
  EXPECT_TRUE(is_open());
  returned(Status::NoSpace, 1);
  EXPECT_FALSE(is_open());
  returned(Status::Ok, 100);
  EXPECT_FALSE(is_open());
  returned(Status::Io, 100);
  EXPECT_EQ(metrics_.cufile_given_up.value(), 1U);
  EXPECT_EQ(metrics_.cufile_failures.value(), 2 * DirectGate::kMostFailures - 1 + 100);
}

TEST_F(DirectGateTest, WrongBytesAddUpThoughEachRequestSucceeds) {
  for (size_t i = 0; i < DirectGate::kMostFailures; ++i) {
    EXPECT_TRUE(is_open());
    returned(Status::Ok, 1);
    gate_.held_wrong_bytes();
  }
  EXPECT_FALSE(is_open());
}

TEST_F(DirectGateTest, SilenceWithRequestsInFlightClosesIt) {
  const auto limit = DirectGate::kPatience;
  EXPECT_TRUE(gate_.is_open(0, kStart + 10 * limit)) << "nobody is waiting";
  gate_.submitted(0, kStart);
  gate_.submitted(1, kStart + limit - 1ms);  // no sign of life
  EXPECT_TRUE(gate_.is_open(2, kStart + limit - 1ms));
  gate_.returned(Status::Ok, kStart + limit - 1ms);
  EXPECT_TRUE(gate_.is_open(1, kStart + 2 * limit - 2ms));
  EXPECT_FALSE(gate_.is_open(1, kStart + 2 * limit - 1ms));
}

}  // namespace
}  // namespace penstock
