// The fault adaptor does what its plan says, and the engine above it continues what was shortened.
#include "io/fault_engine.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "io/memory_engine.hpp"
#include "io/open.hpp"
#include "support/files.hpp"

namespace penstock {
namespace {

using namespace std::chrono_literals;
using test::AlignedBuffer;
using test::random_bytes;

constexpr int kFd = 5;
constexpr size_t kBlocks = 8;

class FaultEngineTest : public testing::Test {
 protected:
  FaultEngineTest() {
    auto memory = std::make_unique<MemoryEngine>(kBlocks);
    memory_ = memory.get();
    memory_->file(kFd) = content_;
    engine_ = std::make_unique<FaultEngine>(std::move(memory));
    for (size_t i = 0; i < kBlocks; ++i) requests_.push_back(block(IoOp::Read, i));
  }

  IoRequest block(IoOp op, size_t i) {
    return {op, kFd, i * 2 * kSector, buffer_.data() + i * 2 * kSector, 2 * kSector, i};
  }
  void submit(size_t i) {
    IoRequest* const request = &requests_[i];
    ASSERT_EQ(engine_->submit({&request, 1}), 1U);
  }
  // Completes block i by itself.
  IoCompletion run(size_t i) {
    submit(i);
    return next();
  }
  IoCompletion next() {
    std::array<IoCompletion, 1> completion;
    for (int tries = 0; tries < 100; ++tries) {
      if (engine_->poll(completion) == 1) return completion[0];
      engine_->wait(100ms);
    }
    ADD_FAILURE() << "nothing completed";
    return {};
  }
  bool nothing_completes() {
    std::array<IoCompletion, 1> completion;
    return engine_->poll(completion) == 0;
  }
  bool bytes_arrived(size_t i) const {
    const size_t at = i * 2 * kSector;
    return std::equal(content_.begin() + at, content_.begin() + at + 2 * kSector,
                      buffer_.data() + at);
  }

  std::vector<std::byte> content_ = random_bytes(kBlocks * 2 * kSector, 1);
  AlignedBuffer buffer_{kBlocks * 2 * kSector};
  std::vector<IoRequest> requests_;
  MemoryEngine* memory_ = nullptr;
  std::unique_ptr<FaultEngine> engine_;
};

TEST_F(FaultEngineTest, FailsTheOneOperation) {
  engine_->set_plan({{.kind = FaultKind::Fail, .operation = 2, .error_number = ENOSPC}});
  EXPECT_EQ(run(0).status, Status::Ok);
  const IoCompletion failed = run(1);
  EXPECT_EQ(failed.status, Status::NoSpace);
  EXPECT_EQ(failed.error_number, ENOSPC);
  EXPECT_FALSE(bytes_arrived(1));
  EXPECT_EQ(run(2).status, Status::Ok);
  EXPECT_EQ(engine_->operations(), 3U);
}

TEST_F(FaultEngineTest, FailsFromAnOperationOn) {
  engine_->set_plan({{.kind = FaultKind::Fail, .operation = 3, .onwards = true}});
  for (size_t i = 0; i < 6; ++i) {
    const IoCompletion completion = run(i);
    EXPECT_EQ(completion.status, i < 2 ? Status::Ok : Status::Io) << i;
    EXPECT_EQ(completion.error_number, i < 2 ? 0 : EIO) << i;
  }
}

TEST_F(FaultEngineTest, FaultOfOneKindSkipsTheOther) {
  engine_->set_plan({{.kind = FaultKind::Fail, .onwards = true, .only = IoOp::Write}});
  EXPECT_EQ(run(0).status, Status::Ok);
  requests_[1].op = IoOp::Write;
  EXPECT_EQ(run(1).status, Status::Io);
  EXPECT_EQ(engine_->operations(), 2U) << "both are counted";
}

TEST_F(FaultEngineTest, SyncIsNotCounted) {
  engine_->set_plan({{.kind = FaultKind::Fail, .operation = 1}});
  requests_[0].op = IoOp::Sync;
  EXPECT_EQ(run(0).status, Status::Ok);
  EXPECT_EQ(engine_->operations(), 0U);
  EXPECT_EQ(run(1).status, Status::Io);
}

TEST_F(FaultEngineTest, TransientErrorsAreTriedAgain) {
  for (const int error : {EINTR, EAGAIN}) {
    engine_->set_plan({{.kind = FaultKind::Fail, .operation = 1, .error_number = error}});
    EXPECT_EQ(run(0).status, Status::Ok);
    EXPECT_TRUE(bytes_arrived(0));
  }
}

TEST_F(FaultEngineTest, TransientErrorsThatLastEndTheRequest) {
  engine_->set_plan(
      {{.kind = FaultKind::Fail, .operation = 1, .onwards = true, .error_number = EAGAIN}});
  const IoCompletion completion = run(0);
  EXPECT_EQ(completion.status, Status::Io);
  EXPECT_EQ(completion.error_number, EAGAIN);
}

// Ends at a sector, within one, before the first, and one byte short.
TEST_F(FaultEngineTest, ShortTransfersAreContinued) {
  for (const uint64_t bytes : {kSector, kSector + 1000, uint64_t{1000}, 2 * kSector - 1}) {
    std::fill_n(buffer_.data(), buffer_.size(), std::byte{0});
    engine_->set_plan({{.kind = FaultKind::Shorten, .operation = 1, .bytes = bytes}});
    const uint64_t before = engine_->counters().short_transfers;
    EXPECT_EQ(run(0).status, Status::Ok) << bytes;
    EXPECT_TRUE(bytes_arrived(0)) << bytes;
    EXPECT_EQ(engine_->counters().short_transfers, before + 1);
    EXPECT_EQ(engine_->operations(), 1U) << "a continuation is no new operation";
  }
}

TEST_F(FaultEngineTest, ShortWritesAreContinued) {
  const auto fresh = random_bytes(buffer_.size(), 2);
  std::copy(fresh.begin(), fresh.end(), buffer_.data());
  engine_->set_plan(
      {{.kind = FaultKind::Shorten, .operation = 1, .onwards = true, .bytes = kSector + 1}});
  for (size_t i = 0; i < kBlocks; ++i) {
    requests_[i].op = IoOp::Write;
    EXPECT_EQ(run(i).status, Status::Ok);
  }
  EXPECT_EQ(memory_->file(kFd), fresh);
}

TEST_F(FaultEngineTest, TransfersThatNeverReachASectorEnd) {
  engine_->set_plan({{.kind = FaultKind::Shorten, .operation = 1, .onwards = true, .bytes = 1000}});
  EXPECT_EQ(run(0).status, Status::Io);
  requests_[1].op = IoOp::Write;
  const IoCompletion write = run(1);
  EXPECT_EQ(write.status, Status::Io);
  EXPECT_EQ(write.error_number, EIO);
}

TEST_F(FaultEngineTest, ShortenedToNothingIsAnEndOfFile) {
  engine_->set_plan({{.kind = FaultKind::Shorten, .operation = 1, .bytes = 0}});
  const IoCompletion completion = run(0);
  EXPECT_EQ(completion.status, Status::Io);
  EXPECT_EQ(completion.error_number, 0);
}

TEST_F(FaultEngineTest, StuckUntilReleased) {
  engine_->set_plan({{.kind = FaultKind::Stick, .operation = 1}});
  submit(0);
  submit(1);
  EXPECT_EQ(next().request, &requests_[1]) << "others pass";
  EXPECT_TRUE(nothing_completes());
  EXPECT_EQ(engine_->in_flight(), 1U);
  EXPECT_FALSE(bytes_arrived(0));
  std::thread other{[&] { engine_->release(); }};
  engine_->wait(30s);
  other.join();
  const IoCompletion completion = next();
  EXPECT_EQ(completion.request, &requests_[0]);
  EXPECT_EQ(completion.status, Status::Ok);
  EXPECT_TRUE(bytes_arrived(0));
}

TEST_F(FaultEngineTest, ReleaseIsForWhatIsHeldNow) {
  engine_->set_plan({{.kind = FaultKind::Stick, .operation = 1}});
  engine_->release();
  submit(0);
  EXPECT_TRUE(nothing_completes());
  engine_->release();
  EXPECT_EQ(next().status, Status::Ok);
}

TEST_F(FaultEngineTest, DelayedByTheClock) {
  engine_->set_plan({{.kind = FaultKind::Delay, .operation = 1, .delay = 50ms}});
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(run(0).status, Status::Ok);
  const auto taken = std::chrono::steady_clock::now() - start;
  EXPECT_GE(taken, 50ms);
  EXPECT_LT(taken, 20s);
}

TEST_F(FaultEngineTest, CorruptedReadDiffersInOneByte) {
  engine_->set_plan({{.kind = FaultKind::Corrupt, .operation = 1, .bytes = 4097}});
  EXPECT_EQ(run(0).status, Status::Ok);
  EXPECT_EQ(buffer_.data()[4097], ~content_[4097]);
  buffer_.data()[4097] = content_[4097];
  EXPECT_TRUE(bytes_arrived(0));
}

TEST_F(FaultEngineTest, CorruptedWriteLeavesTheCallersBytes) {
  const auto fresh = random_bytes(2 * kSector, 3);
  std::copy(fresh.begin(), fresh.end(), buffer_.data());
  engine_->set_plan({{.kind = FaultKind::Corrupt, .operation = 1, .bytes = 2 * kSector + 7}});
  requests_[0].op = IoOp::Write;
  EXPECT_EQ(run(0).status, Status::Ok);
  EXPECT_TRUE(std::equal(fresh.begin(), fresh.end(), buffer_.data()));
  auto written = memory_->file(kFd);
  EXPECT_EQ(written[7], ~fresh[7]) << "the place is taken modulo the size";
  written[7] = fresh[7];
  EXPECT_TRUE(std::equal(fresh.begin(), fresh.end(), written.begin()));
}

TEST_F(FaultEngineTest, ErrorsOfTheInnerEnginePassThrough) {
  requests_[0].fd = 99;
  EXPECT_EQ(run(0).error_number, EBADF);
  requests_[1].offset = content_.size();
  const IoCompletion end = run(1);
  EXPECT_EQ(end.status, Status::Io);
  EXPECT_EQ(end.error_number, 0);
}

TEST_F(FaultEngineTest, DestructionDropsWhatIsHeld) {
  engine_->set_plan({{.kind = FaultKind::Stick, .operation = 1, .onwards = true}});
  for (size_t i = 0; i < kBlocks; ++i) submit(i);
  engine_.reset();
  for (const std::byte byte : buffer_.span()) ASSERT_EQ(byte, std::byte{0});
}

// The same continuation against the kernel's alignment rules.
TEST(FaultEngineOnDisk, ShortTransfersAreContinuedWithODirect) {
  const test::TempDir dir;
  const auto bytes = random_bytes(16 * kSector, 4);
  test::write_file(dir / "file", bytes);
  auto file = open_direct(dir / "file", O_RDWR);
  ASSERT_TRUE(file && file->direct);
  auto opened = open_io_engine({"auto", 4, {}});
  ASSERT_TRUE(opened);
  FaultEngine engine{std::move(opened->engine),
                     {{.kind = FaultKind::Shorten, .onwards = true, .bytes = 2 * kSector + 100}}};
  AlignedBuffer in{bytes.size()};
  IoRequest read{IoOp::Read, file->fd.get(), 0, in.data(), in.size()};
  IoRequest* const pointer = &read;
  ASSERT_EQ(engine.submit({&pointer, 1}), 1U);
  std::array<IoCompletion, 1> completion;
  for (int tries = 0; engine.poll(completion) == 0 && tries < 100; ++tries) engine.wait(1s);
  ASSERT_EQ(completion[0].request, &read);
  EXPECT_EQ(completion[0].status, Status::Ok) << completion[0].error_number;
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), in.data()));
  EXPECT_GE(engine.counters().short_transfers, 7U);
}

}  // namespace
}  // namespace penstock
