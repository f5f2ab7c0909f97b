// The raw ceiling transfers what it was asked to, by both methods, and reports what went wrong.
#include "io/raw_speed.hpp"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cerrno>

#include "io/open.hpp"
#include "support/child.hpp"
#include "support/files.hpp"

namespace penstock {
namespace {

class RawSpeedTest : public testing::TestWithParam<bool> {
 protected:
  RawSpeedTest() {
    test::write_file(dir_ / "file", content_);
    auto file = open_direct(dir_ / "file", O_RDWR);
    EXPECT_TRUE(file && file->direct);
    fd_ = std::move(file->fd);
  }
  RawOptions options(bool write) const {
    return {.write = write, .request_size = 3 * kSector, .depth = 4, .allow_uring = GetParam()};
  }

  test::TempDir dir_;
  std::vector<std::byte> content_ = test::random_bytes(64 * kSector, 1);
  UniqueFd fd_;
};

TEST_P(RawSpeedTest, ReadsEveryRange) {
  const RawRange ranges[] = {{fd_.get(), 0, 32 * kSector}, {fd_.get(), 40 * kSector, kSector}};
  auto speed = measure_raw_speed(ranges, options(false));
  ASSERT_TRUE(speed) << speed.error().message;
  EXPECT_EQ(speed->bytes, 33 * kSector);
  const bool has_uring = static_cast<bool>(open_io_engine({"uring", 1, {}}));
  EXPECT_EQ(speed->method, GetParam() && has_uring ? "io_uring" : "threads");
  EXPECT_GT(speed->seconds, 0);
  EXPECT_GT(speed->gb_per_s(), 0);
  EXPECT_GT(speed->p50_us, 0);
  EXPECT_GE(speed->p99_us, speed->p50_us);
  EXPECT_LE(speed->p99_us / 1e6, speed->seconds);
  EXPECT_EQ(test::read_file(dir_ / "file"), content_);
}

TEST_P(RawSpeedTest, WritesExactlyTheRanges) {
  const RawRange ranges[] = {{fd_.get(), 8 * kSector, 16 * kSector}};
  auto speed = measure_raw_speed(ranges, options(true));
  ASSERT_TRUE(speed) << speed.error().message;
  const auto after = test::read_file(dir_ / "file");
  ASSERT_EQ(after.size(), content_.size());
  for (size_t sector = 0; sector < 64; ++sector) {
    const auto at = static_cast<ptrdiff_t>(sector * kSector);
    const bool same =
        std::equal(after.begin() + at, after.begin() + at + kSector, content_.begin() + at);
    EXPECT_EQ(same, sector < 8 || sector >= 24) << sector;
  }
}

TEST_P(RawSpeedTest, EndOfFileAndBadDescriptorAreErrors) {
  const RawRange beyond[] = {{fd_.get(), 0, 65 * kSector}};
  EXPECT_EQ(measure_raw_speed(beyond, options(false)).status(), Status::Io);
  const RawRange bad[] = {{9999, 0, 64 * kSector}};
  auto failed = measure_raw_speed(bad, options(false));
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().message.find("Bad file descriptor"), std::string::npos);
}

TEST_P(RawSpeedTest, NonsenseIsInvalid) {
  const RawRange range[] = {{fd_.get(), 0, kSector}};
  for (const RawOptions& wrong :
       {RawOptions{.request_size = 0}, RawOptions{.request_size = 1000},
        RawOptions{.request_size = uint64_t{1} << 30}, RawOptions{.depth = 0},
        RawOptions{.depth = 1'000'000}, RawOptions{.request_size = 64 << 20, .depth = 4096}}) {
    EXPECT_EQ(measure_raw_speed(range, wrong).status(), Status::Invalid);
  }
  EXPECT_EQ(measure_raw_speed({}, options(false)).status(), Status::Invalid);
}

INSTANTIATE_TEST_SUITE_P(Methods, RawSpeedTest, testing::Bool());

TEST(RawSpeed, FallsBackToThreadsWhereIoUringIsForbidden) {
  const test::TempDir dir;
  test::write_file(dir / "file", test::random_bytes(8 * kSector, 1));
  const std::string method = test::in_child([&]() -> std::string {
    auto file = open_direct(dir / "file", O_RDONLY);
    if (!file || !test::deny_system_call(SYS_io_uring_setup, EPERM)) return "no filter";
    const RawRange ranges[] = {{file->fd.get(), 0, 8 * kSector}};
    auto speed = measure_raw_speed(ranges, {.request_size = kSector, .depth = 2});
    return speed ? speed->method : speed.error().message;
  });
  EXPECT_EQ(method, "threads");
}

}  // namespace
}  // namespace penstock
