// What only the io_uring engine promises: registered segments, a life across threads, and a kernel
// that refuses the ring after it was opened.
#include "io/uring_engine.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cerrno>
#include <optional>
#include <thread>

#include "support/child.hpp"
#include "support/files.hpp"

namespace penstock {
namespace {

using namespace std::chrono_literals;
using test::AlignedBuffer;
using test::random_bytes;

IoCompletion run_one(IoEngine& engine, IoRequest& request) {
  IoRequest* const pointer = &request;
  std::array<IoCompletion, 1> completion;
  if (engine.submit({&pointer, 1}) != 1) return {};
  for (int tries = 0; tries < 100; ++tries) {
    if (engine.poll(completion) == 1) return completion[0];
    engine.wait(1s);
  }
  return {};
}

class UringEngine : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = make_uring_engine({"uring", 1, {}});
    if (!opened) GTEST_SKIP() << opened.error().message;
  }
};

// A sandbox put on while the engine is in use: what comes then fails with that errno, at once.
TEST_F(UringEngine, RingRefusedLaterFailsRequestsInsteadOfLosingThem) {
  const test::TempDir dir;
  test::write_file(dir / "file", random_bytes(kSector, 1));
  const std::string text = test::in_child([&]() -> std::string {
    auto opened = make_uring_engine({"uring", 4, {}});
    auto file = open_direct(dir / "file", O_RDONLY);
    if (!opened || !file) return "not opened";
    IoEngine& engine = *opened->engine;
    AlignedBuffer in{kSector};
    IoRequest read{IoOp::Read, file->fd.get(), 0, in.data(), kSector};
    if (run_one(engine, read).status != Status::Ok) return "the first read failed";
    if (!test::deny_system_call(SYS_io_uring_enter, EPERM)) return "no filter";
    for (int i = 0; i < 10; ++i) {
      const IoCompletion completion = run_one(engine, read);
      if (completion.request != &read) return "lost";
      if (completion.status != Status::Io) return "not Io";
      if (completion.error_number != EPERM) return std::to_string(completion.error_number);
    }
    engine.wake();
    engine.wait(30s);  // must return by the wake; the parent's time limit would show it
    engine.wait(1ms);
    opened->engine.reset();
    return "good";
  });
  EXPECT_EQ(text, "good");
}

// Requests that are with the kernel when it refuses the ring complete as ever.
TEST_F(UringEngine, RequestsInFlightSurviveARefusedRing) {
  const test::TempDir dir;
  const auto bytes = random_bytes(4 << 20, 2);
  test::write_file(dir / "file", bytes);
  const std::string text = test::in_child([&]() -> std::string {
    auto opened = make_uring_engine({"uring", 4, {}});
    auto file = open_direct(dir / "file", O_RDONLY);
    if (!opened || !file) return "not opened";
    AlignedBuffer in{bytes.size()};
    std::vector<IoRequest> reads;
    for (size_t i = 0; i < 4; ++i) {
      reads.push_back({IoOp::Read, file->fd.get(), i << 20, in.data() + (i << 20), 1 << 20});
    }
    for (IoRequest& read : reads) {
      IoRequest* const pointer = &read;
      if (opened->engine->submit({&pointer, 1}) != 1) return "refused";
    }
    if (!test::deny_system_call(SYS_io_uring_enter, EPERM)) return "no filter";
    std::array<IoCompletion, 4> completions;
    size_t count = 0;
    for (int tries = 0; count < 4 && tries < 1000; ++tries) {
      count += opened->engine->poll(std::span{completions}.subspan(count));
      opened->engine->wait(100ms);
    }
    if (count != 4) return "lost";
    for (const IoCompletion& completion : completions) {
      if (completion.status != Status::Ok) return std::to_string(completion.error_number);
    }
    return std::equal(bytes.begin(), bytes.end(), in.data()) ? "good" : "wrong bytes";
  });
  EXPECT_EQ(text, "good");
}

TEST_F(UringEngine, BuiltDrivenAndDestroyedOnDifferentThreads) {
  const test::TempDir dir;
  const auto bytes = random_bytes(8 << 20, 3);
  test::write_file(dir / "file", bytes);
  auto file = open_direct(dir / "file", O_RDONLY);
  ASSERT_TRUE(file);
  AlignedBuffer in{bytes.size()};
  std::unique_ptr<IoEngine> engine;
  std::thread builder{[&] {
    auto opened = make_uring_engine({"uring", 8, in.span()});
    if (opened) engine = std::move(opened->engine);
  }};
  builder.join();
  ASSERT_NE(engine, nullptr);
  std::vector<IoRequest> reads(8);
  std::thread submitter{[&] {
    for (size_t i = 0; i < reads.size(); ++i) {
      reads[i] = {IoOp::Read, file->fd.get(), i << 20, in.data() + (i << 20), 1 << 20};
      IoRequest* const pointer = &reads[i];
      EXPECT_EQ(engine->submit({&pointer, 1}), 1U);
    }
  }};
  submitter.join();
  size_t count = 0;
  std::thread reaper{[&] {
    std::array<IoCompletion, 8> completions;
    for (int tries = 0; count < 8 && tries < 100; ++tries) {
      count += engine->poll(completions);
      engine->wait(100ms);
    }
  }};
  reaper.join();
  EXPECT_EQ(count, 8U);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), in.data()));
  std::thread{[&] { engine.reset(); }}.join();
}

// Registered in segments of 1 GiB; a request across their border goes unregistered. The pages are
// the same few over and over.
TEST_F(UringEngine, MemoryOfSeveralSegments) {
  constexpr uint64_t kSize = (uint64_t{2} << 30) + 8 * kSector;
  constexpr uint64_t kStep = uint64_t{1} << 21;
  const UniqueFd pages{::memfd_create("pages", MFD_CLOEXEC)};
  ASSERT_EQ(::ftruncate(pages.get(), kStep), 0);
  void* const base = ::mmap(nullptr, kSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(base, MAP_FAILED);
  auto* const data = static_cast<std::byte*>(base);
  for (uint64_t at = 0; at < kSize; at += kStep) {
    ASSERT_NE(::mmap(data + at, std::min(kStep, kSize - at), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_FIXED, pages.get(), 0),
              MAP_FAILED);
  }
  {
    auto opened = make_uring_engine({"uring", 4, {data, kSize}});
    ASSERT_TRUE(opened) << opened.error().message;
    const test::TempDir dir;
    const auto bytes = random_bytes(4 * kSector, 4);
    test::write_file(dir / "file", bytes);
    auto file = open_direct(dir / "file", O_RDWR);
    ASSERT_TRUE(file);
    const uint64_t border = uint64_t{1} << 30;
    for (const uint64_t at : {uint64_t{0}, border - 4 * kSector, border - 2 * kSector, border,
                              2 * border - kSector, kSize - 4 * kSector}) {
      std::fill_n(data + at, 4 * kSector, std::byte{0});
      IoRequest read{IoOp::Read, file->fd.get(), 0, data + at, 4 * kSector};
      const IoCompletion completion = run_one(*opened->engine, read);
      EXPECT_EQ(completion.status, Status::Ok) << at << ": " << completion.error_number;
      EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), data + at)) << at;
      IoRequest write{IoOp::Write, file->fd.get(), 0, data + at, 4 * kSector};
      EXPECT_EQ(run_one(*opened->engine, write).status, Status::Ok) << at;
    }
    EXPECT_EQ(test::read_file(dir / "file"), bytes);
  }
  ::munmap(base, kSize);
}

}  // namespace
}  // namespace penstock
