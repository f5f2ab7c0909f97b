// How scatters are batched, by a device that records what it is given.
#include "mover/move_queue.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>

#include "io/open.hpp"

namespace penstock {
namespace {

constexpr size_t kBatch = 4;

class RecordingDevice final : public Device {
 public:
  size_t batch() const noexcept override { return kBatch; }
  size_t submit(std::span<PageMove* const> moves) noexcept override {
    const size_t count = std::min(moves.size(), room);
    room -= count;
    if (count > 0) batches.push_back(count);
    for (PageMove* move : moves.first(count)) in_flight_.push_back(move);
    return count;
  }
  size_t poll(std::span<PageMove*> done) noexcept override {
    const size_t count = std::min({done.size(), in_flight_.size(), finished});
    for (size_t i = 0; i < count; ++i) {
      done[i] = in_flight_.front();
      in_flight_.pop_front();
    }
    finished -= count;
    return count;
  }
  std::string_view name() const noexcept override { return "recording"; }
  std::shared_ptr<DeviceTicket> ticket(Stream) noexcept override { return nullptr; }
  void order_after_gathers(Stream) noexcept override {}

  size_t room = SIZE_MAX;
  size_t finished = 0;  // moves that the next poll() may return
  std::vector<size_t> batches;

 private:
  std::deque<PageMove*> in_flight_;
};

class MoveQueueTest : public testing::Test {
 protected:
  MoveQueueTest() {
    job_.chunks.resize(1);
    job_.chunks[0].phase = ChunkPhase::Moving;
    queue_.on_done([](Transfer&) {}, [this](Transfer&) { ++scattered_; });
  }

  void add(size_t count, bool ends_layer = false) {
    for (size_t i = 0; i < count; ++i) {
      Transfer& transfer = transfers_.start(Route::Memory, 0);
      transfer.job = &job_;
      transfer.ends_layer = ends_layer && i + 1 == count;
      queue_.add_scatter(transfer);
    }
  }
  void finish(size_t count) {
    device_.finished = count;
    queue_.poll();
  }
  std::vector<size_t> submitted() {
    device_.batches.clear();
    queue_.submit_scatters();
    return device_.batches;
  }

  static OpenedIo open_io() {
    auto opened = open_io_engine({.kind = "posix", .depth = 1, .memory = {}});
    EXPECT_TRUE(opened);
    return std::move(*opened);
  }
  static Staging make_staging() {
    auto staging = Staging::create(1, 4096);
    EXPECT_TRUE(staging);
    return std::move(*staging);
  }

  using Sizes = std::vector<size_t>;
  OpenedIo io_ = open_io();
  Staging staging_ = make_staging();
  MoverMetrics metrics_;
  TransferPool transfers_{*io_.engine, staging_, nullptr, {.memory = 64}, metrics_};
  RecordingDevice device_;
  MoveQueue queue_{device_, transfers_, metrics_};
  Job job_;
  size_t scattered_ = 0;
};

TEST_F(MoveQueueTest, ADeviceWithoutWorkGetsABatchThatIsNotFull) {
  add(1);
  EXPECT_EQ(submitted(), Sizes({1}));
  add(kBatch + 2);
  EXPECT_EQ(submitted(), Sizes({kBatch, 2})) << "it has one batch by now";
}

TEST_F(MoveQueueTest, WhileTheDeviceHasWorkABatchWaitsUntilItIsFull) {
  add(2 * kBatch + 3);
  EXPECT_EQ(submitted(), Sizes({kBatch, kBatch}));
  add(2);
  EXPECT_EQ(submitted(), Sizes({kBatch}));
  finish(2 * kBatch);
  EXPECT_EQ(submitted(), Sizes({1})) << "and not for ever";
  finish(kBatch + 1);
  EXPECT_EQ(scattered_, 3 * kBatch + 1);
  EXPECT_EQ(job_.moves, 0U);
}

TEST_F(MoveQueueTest, ABatchEndsWithALayerAndThenWaitsForNothing) {
  add(2 * kBatch);
  add(2, true);
  add(3);
  EXPECT_EQ(submitted(), Sizes({kBatch, kBatch, 2}));
  add(1);
  EXPECT_EQ(submitted(), Sizes({kBatch})) << "the next layer's are not in pieces";
}

TEST_F(MoveQueueTest, WhatTheDeviceDidNotTakeComesFirst) {
  device_.room = 3;
  add(kBatch, true);
  EXPECT_EQ(submitted(), Sizes({3}));
  device_.room = SIZE_MAX;
  add(kBatch);
  EXPECT_EQ(submitted(), Sizes({1, kBatch}));
}

}  // namespace
}  // namespace penstock
