// One suite over every IoEngine: what io_engine.hpp promises holds for each of them.
#include "io/io_engine.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <sys/mman.h>
#include <time.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <thread>

#include "io/cufile_open.hpp"
#include "io/fault_engine.hpp"
#include "io/memory_engine.hpp"
#include "io/open.hpp"
#include "support/fake_cufile.hpp"
#include "support/files.hpp"

namespace penstock {
namespace {

using namespace std::chrono_literals;
using test::AlignedBuffer;
using test::random_bytes;

constexpr size_t kDepth = 16;

// An engine, one file that it can use, and a way to see that file from outside.
struct Bench {
  test::TempDir dir;
  std::unique_ptr<IoEngine> engine;
  OpenedFile file;
  int fd = -1;
  MemoryEngine* memory = nullptr;  // if that is what the engine is

  void set_content(const std::vector<std::byte>& bytes) {
    if (memory != nullptr) {
      memory->file(fd) = bytes;
      return;
    }
    // In place: the engine's descriptor stays valid.
    test::write_file(dir / "file", bytes);
  }
  std::vector<std::byte> content() {
    return memory != nullptr ? memory->file(fd) : test::read_file(dir / "file");
  }
};

struct Kind {
  std::string name;
  std::string engine;  // memory | posix | uring | cufile
  bool direct = false;
  bool fault = false;  // behind a fault adaptor without a plan
};

void PrintTo(const Kind& kind, std::ostream* out) {
  *out << kind.name;
}

// The cufile engine works between the fake library and host memory in the place of a GPU's.
std::unique_ptr<IoEngine> open_engine(const Kind& kind, const std::string& directory,
                                      std::span<std::byte> memory, size_t depth) {
  if (kind.engine == "cufile") {
    auto opened = open_cufile_engine({.mode = CufileOptions::Mode::Force,
                                      .directories = {directory},
                                      .memory = memory,
                                      .depth = depth});
    EXPECT_TRUE(opened) << opened.error().message;
    return std::move(opened->engine);
  }
  auto opened = open_io_engine({kind.engine, depth, memory});
  EXPECT_TRUE(opened) << opened.error().message;
  return std::move(opened->engine);
}

std::unique_ptr<Bench> make_bench(const Kind& kind, std::span<std::byte> memory = {},
                                  size_t depth = kDepth) {
  auto bench = std::make_unique<Bench>();
  if (kind.engine == "memory") {
    auto engine = std::make_unique<MemoryEngine>(depth);
    bench->memory = engine.get();
    bench->fd = 100;
    engine->file(100);
    bench->engine = std::move(engine);
  } else {
    bench->engine = open_engine(kind, bench->dir.path(), memory, depth);
    EXPECT_EQ(bench->engine->name(), kind.engine);
    const std::string path = bench->dir / "file";
    if (kind.direct) {
      auto file = open_direct(path, O_RDWR | O_CREAT);
      EXPECT_TRUE(file) << file.error().message;
      EXPECT_TRUE(file->direct) << file->reason;
      bench->file = std::move(*file);
    } else {
      bench->file.fd = UniqueFd{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
    }
    bench->fd = bench->file.fd.get();
    EXPECT_GE(bench->fd, 0);
  }
  if (kind.fault) bench->engine = std::make_unique<FaultEngine>(std::move(bench->engine));
  return bench;
}

// Polls until `count` requests have completed; fails rather than hang.
std::vector<IoCompletion> collect(IoEngine& engine, size_t count) {
  std::vector<IoCompletion> all;
  const auto deadline = std::chrono::steady_clock::now() + 60s;
  while (all.size() < count && std::chrono::steady_clock::now() < deadline) {
    std::array<IoCompletion, 5> some;
    const size_t n = engine.poll(some);
    all.insert(all.end(), some.begin(), some.begin() + static_cast<ptrdiff_t>(n));
    if (n == 0) engine.wait(1s);
  }
  EXPECT_EQ(all.size(), count);
  return all;
}

IoCompletion run_one(IoEngine& engine, IoRequest& request) {
  IoRequest* const pointer = &request;
  EXPECT_EQ(engine.submit({&pointer, 1}), 1U);
  const auto completions = collect(engine, 1);
  if (completions.empty()) return {nullptr, Status::Timeout, 0};
  EXPECT_EQ(completions[0].request, &request);
  return completions[0];
}

class IoEngineTest : public testing::TestWithParam<Kind> {
 protected:
  ~IoEngineTest() override {
    bench_.reset();
    EXPECT_EQ(fake_.count("misaligned"), 0);
  }
  IoRequest request(IoOp op, uint64_t offset, const AlignedBuffer& buffer) {
    return {op, bench_->fd, offset, buffer.data(), buffer.size()};
  }
  test::FakeCufile fake_;
  std::unique_ptr<Bench> bench_ = make_bench(GetParam());
  IoEngine& engine_ = *bench_->engine;
};

TEST_P(IoEngineTest, ReadsBackWhatWasWritten) {
  const auto bytes = random_bytes(5 * kSector, 1);
  AlignedBuffer out{bytes.size()};
  std::copy(bytes.begin(), bytes.end(), out.data());
  IoRequest write = request(IoOp::Write, 3 * kSector, out);
  EXPECT_EQ(run_one(engine_, write).status, Status::Ok);

  const auto content = bench_->content();
  ASSERT_EQ(content.size(), 8 * kSector);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), content.begin() + 3 * kSector));

  AlignedBuffer in{bytes.size()};
  IoRequest read = request(IoOp::Read, 3 * kSector, in);
  EXPECT_EQ(run_one(engine_, read).status, Status::Ok);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), in.data()));
}

TEST_P(IoEngineTest, EachOfManyCompletesExactlyOnce) {
  constexpr size_t kCount = 300;
  const auto bytes = random_bytes(kCount * kSector, 2);
  bench_->set_content(bytes);
  AlignedBuffer in{bytes.size()};
  std::vector<IoRequest> requests;
  for (size_t i = 0; i < kCount; ++i) {
    const size_t at = (i * 7 % kCount) * kSector;  // not in the order of the file
    requests.push_back({IoOp::Read, bench_->fd, at, in.data() + at, kSector, i});
  }
  std::vector<IoRequest*> pointers;
  for (IoRequest& each : requests) pointers.push_back(&each);

  std::map<uint64_t, int> seen;
  size_t submitted = 0;
  for (int rounds = 0; seen.size() < kCount && rounds < 100'000; ++rounds) {
    submitted += engine_.submit(std::span{pointers}.subspan(submitted));
    EXPECT_LE(engine_.in_flight(), kDepth);
    engine_.wait(1s);
    std::array<IoCompletion, 7> completions;
    const size_t n = engine_.poll(completions);
    for (size_t i = 0; i < n; ++i) {
      EXPECT_EQ(completions[i].status, Status::Ok);
      ++seen[completions[i].request->user_data];
    }
  }
  ASSERT_EQ(seen.size(), kCount);
  for (const auto& [user_data, times] : seen) EXPECT_EQ(times, 1) << user_data;
  EXPECT_EQ(engine_.in_flight(), 0U);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), in.data()));
}

TEST_P(IoEngineTest, SubmitTakesAPrefixUpToTheDepth) {
  bench_->set_content(random_bytes(kSector, 3));
  AlignedBuffer in{kSector * (kDepth + 3)};
  std::vector<IoRequest> requests(kDepth + 3);
  std::vector<IoRequest*> pointers;
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i] = {IoOp::Read, bench_->fd, 0, in.data() + i * kSector, kSector, i};
    pointers.push_back(&requests[i]);
  }
  EXPECT_EQ(engine_.submit(pointers), kDepth);
  EXPECT_EQ(engine_.in_flight(), kDepth);
  EXPECT_EQ(engine_.submit(std::span{pointers}.subspan(kDepth)), 0U);
  for (const IoCompletion& completion : collect(engine_, kDepth)) {
    EXPECT_LT(completion.request->user_data, kDepth);
  }
  EXPECT_EQ(engine_.submit(std::span{pointers}.subspan(kDepth)), 3U);
  collect(engine_, 3);
  EXPECT_EQ(engine_.submit({}), 0U);
}

TEST_P(IoEngineTest, EndOfFileIsAnErrorWithoutErrno) {
  AlignedBuffer in{4 * kSector};
  for (const size_t length : {size_t{0}, size_t{1000}, size_t{kSector}, size_t{2 * kSector + 1000},
                              size_t{4 * kSector - 1}}) {
    bench_->set_content(random_bytes(length, 4));
    IoRequest read = request(IoOp::Read, 0, in);
    const IoCompletion completion = run_one(engine_, read);
    EXPECT_EQ(completion.status, Status::Io) << length;
    EXPECT_EQ(completion.error_number, 0) << length;
  }
  IoRequest beyond = request(IoOp::Read, 1000 * kSector, in);
  EXPECT_EQ(run_one(engine_, beyond).status, Status::Io);
}

TEST_P(IoEngineTest, EmptyTransferIsOk) {
  IoRequest read{IoOp::Read, bench_->fd, 0, nullptr, 0};
  EXPECT_EQ(run_one(engine_, read).status, Status::Ok);
}

TEST_P(IoEngineTest, BadDescriptorAndBadOffsetAreIo) {
  AlignedBuffer in{kSector};
  for (const IoOp op : {IoOp::Read, IoOp::Write, IoOp::Sync}) {
    IoRequest bad = request(op, 0, in);
    bad.fd = 9999;
    const IoCompletion completion = run_one(engine_, bad);
    EXPECT_EQ(completion.status, Status::Io);
    EXPECT_EQ(completion.error_number, EBADF);
  }
  IoRequest far = request(IoOp::Read, uint64_t{1} << 63, in);
  EXPECT_EQ(run_one(engine_, far).status, Status::Io);
  // The engine still works.
  IoRequest good = request(IoOp::Write, 0, in);
  EXPECT_EQ(run_one(engine_, good).status, Status::Ok);
}

TEST_P(IoEngineTest, FullDeviceIsNoSpace) {
  if (bench_->memory != nullptr) GTEST_SKIP() << "it has no device that could be full";
  const UniqueFd full{::open("/dev/full", O_RDWR | O_CLOEXEC)};
  ASSERT_TRUE(full);
  AlignedBuffer out{kSector};
  IoRequest write = request(IoOp::Write, 0, out);
  write.fd = full.get();
  const IoCompletion completion = run_one(engine_, write);
  EXPECT_EQ(completion.status, Status::NoSpace);
  EXPECT_EQ(completion.error_number, ENOSPC);
}

TEST_P(IoEngineTest, SyncCompletes) {
  AlignedBuffer out{kSector};
  IoRequest write = request(IoOp::Write, 0, out);
  ASSERT_EQ(run_one(engine_, write).status, Status::Ok);
  IoRequest sync{IoOp::Sync, bench_->fd};
  EXPECT_EQ(run_one(engine_, sync).status, Status::Ok);
}

TEST_P(IoEngineTest, WakeFromAnotherThreadEndsWait) {
  for (int round = 0; round < 20; ++round) {
    const auto start = std::chrono::steady_clock::now();
    std::thread other{[&] { engine_.wake(); }};
    engine_.wait(30s);
    EXPECT_LT(std::chrono::steady_clock::now() - start, 20s);
    other.join();
    std::array<IoCompletion, 1> completions;
    EXPECT_EQ(engine_.poll(completions), 0U);
  }
}

// A driver that polls before it looks at what it was woken for must not sleep through it.
TEST_P(IoEngineTest, WakeIsKeptAcrossPoll) {
  const auto start = std::chrono::steady_clock::now();
  engine_.wait(0s);  // some engines start to listen at the first call
  engine_.wake();
  engine_.wake();
  std::array<IoCompletion, 1> completions;
  EXPECT_EQ(engine_.poll(completions), 0U);
  EXPECT_EQ(engine_.poll(completions), 0U);
  engine_.wait(30s);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 20s);
}

TEST_P(IoEngineTest, WaitTimesOutAsleep) {
  std::array<IoCompletion, 1> completions;
  engine_.wake();
  engine_.wait(30s);  // a wake is good for one return
  const auto cpu = [] {
    timespec now{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return std::chrono::seconds{now.tv_sec} + std::chrono::nanoseconds{now.tv_nsec};
  };
  const auto cpu_start = cpu();
  const auto start = std::chrono::steady_clock::now();
  // It may return early, but not so often that it amounts to polling.
  int returns = 0;
  while (std::chrono::steady_clock::now() - start < 300ms) {
    engine_.wait(100ms);
    EXPECT_EQ(engine_.poll(completions), 0U);
    ++returns;
  }
  EXPECT_LE(returns, 6);
  EXPECT_LT(cpu() - cpu_start, 150ms);
  engine_.wait(-5s);  // a deadline that has passed
}

TEST_P(IoEngineTest, DestructionWaitsForWhatIsInFlight) {
  const auto bytes = random_bytes(kDepth * (1 << 20), 5);
  bench_->set_content(bytes);
  AlignedBuffer in{bytes.size()};
  std::vector<IoRequest> requests(kDepth);
  // Submitted by a thread that is gone when the engine is destroyed by this one.
  std::thread driver{[&] {
    for (size_t i = 0; i < kDepth; ++i) {
      requests[i] = {IoOp::Read, bench_->fd, i << 20, in.data() + (i << 20), 1 << 20};
      IoRequest* const pointer = &requests[i];
      EXPECT_EQ(engine_.submit({&pointer, 1}), 1U);
    }
  }};
  driver.join();
  bench_->engine.reset();
  // Nothing arrives any more: not while all of the file is read once more.
  std::fill_n(in.data(), in.size(), std::byte{0xaa});
  if (bench_->memory == nullptr) {
    EXPECT_EQ(bench_->content(), bytes);
  }
  EXPECT_EQ(in.data()[0], std::byte{0xaa});
  EXPECT_EQ(std::memcmp(in.data(), in.data() + 1, in.size() - 1), 0);
}

TEST_P(IoEngineTest, CountsWhatItDid) {
  bench_->set_content(random_bytes(2 * kSector, 6));
  AlignedBuffer buffer{2 * kSector};
  IoRequest read = request(IoOp::Read, 0, buffer);
  IoRequest write = request(IoOp::Write, 2 * kSector, buffer);
  IoRequest bad = request(IoOp::Read, 100 * kSector, buffer);
  run_one(engine_, read);
  run_one(engine_, read);  // a request may be used again
  run_one(engine_, write);
  run_one(engine_, bad);
  const IoCounters& counters = engine_.counters();
  EXPECT_EQ(counters.requests, 4U);
  EXPECT_EQ(counters.completions, 4U);
  EXPECT_EQ(counters.errors, 1U);
  EXPECT_EQ(counters.bytes_read, 4 * kSector);
  EXPECT_EQ(counters.bytes_written, 2 * kSector);
}

TEST_P(IoEngineTest, RegisteredMemoryAndOtherMemoryGiveTheSameBytes) {
  AlignedBuffer all{16 * kSector};
  auto bench = make_bench(GetParam(), all.span().subspan(4 * kSector, 8 * kSector));
  const auto bytes = random_bytes(16 * kSector, 7);
  bench->set_content(bytes);
  for (size_t first = 0; first < 16; ++first) {
    for (size_t count = 1; first + count <= 16; count += 3) {
      std::fill_n(all.data(), all.size(), std::byte{0});
      IoRequest read{IoOp::Read, bench->fd, first * kSector, all.data() + first * kSector,
                     count * kSector};
      ASSERT_EQ(run_one(*bench->engine, read).status, Status::Ok) << first << "+" << count;
      const auto expected = std::span{bytes}.subspan(first * kSector, count * kSector);
      ASSERT_TRUE(std::equal(expected.begin(), expected.end(), read.data));
    }
  }
}

// More than one system call moves; the pages of the buffer are the same few over and over.
TEST_P(IoEngineTest, RequestBeyondOneSystemCall) {
  if (!GetParam().direct) GTEST_SKIP() << "would only fill the page cache";
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer would shadow 2 GiB byte by byte";
#endif
  constexpr uint64_t kSize = (uint64_t{1} << 31) + kSector;
  constexpr uint64_t kStep = uint64_t{1} << 21;
  ASSERT_EQ(::ftruncate(bench_->fd, kSize), 0);
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
  IoRequest read{IoOp::Read, bench_->fd, 0, data, kSize};
  EXPECT_EQ(run_one(engine_, read).status, Status::Ok);
  EXPECT_EQ(engine_.counters().bytes_read, kSize);
  EXPECT_EQ(engine_.counters().short_transfers, 0U);
  ::munmap(base, kSize);
}

// Random batches of reads and writes that do not overlap within a batch, against a vector.
TEST_P(IoEngineTest, BehavesLikeAnArrayOfBytes) {
  constexpr uint64_t kSectors = 64;
  std::vector<std::byte> model = random_bytes(kSectors * kSector, 8);
  bench_->set_content(model);
  const bool any_byte = !GetParam().direct && !GetParam().fault;
  const uint64_t unit = any_byte ? 1000 : kSector;  // unaligned where the file allows it

  const bool held = rc::check("engine == array", [&] {
    const uint64_t units = model.size() / unit;
    std::vector<bool> taken(units, false);
    std::vector<IoRequest> requests;
    std::vector<AlignedBuffer> buffers;
    std::vector<std::vector<std::byte>> expected;
    const int wishes = *rc::gen::inRange(1, static_cast<int>(kDepth) + 1);
    for (int i = 0; i < wishes; ++i) {
      const auto first = *rc::gen::inRange<uint64_t>(0, units);
      const auto count = *rc::gen::inRange<uint64_t>(1, std::min<uint64_t>(9, units - first + 1));
      const auto overlaps = std::any_of(taken.begin() + first, taken.begin() + first + count,
                                        [](bool each) { return each; });
      if (overlaps) continue;
      std::fill_n(taken.begin() + first, count, true);
      const auto slice = std::span{model}.subspan(first * unit, count * unit);
      AlignedBuffer& buffer = buffers.emplace_back(slice.size());
      const bool write = *rc::gen::arbitrary<bool>();
      if (write) {
        const auto fresh = random_bytes(slice.size(), *rc::gen::arbitrary<uint64_t>());
        std::copy(fresh.begin(), fresh.end(), slice.begin());
        std::copy(fresh.begin(), fresh.end(), buffer.data());
      }
      requests.push_back({write ? IoOp::Write : IoOp::Read, bench_->fd, first * unit, buffer.data(),
                          buffer.size(), requests.size()});
      expected.emplace_back(slice.begin(), slice.end());
    }
    std::vector<IoRequest*> pointers;
    for (IoRequest& each : requests) pointers.push_back(&each);
    RC_ASSERT(engine_.submit(pointers) == pointers.size());
    const auto completions = collect(engine_, pointers.size());
    RC_ASSERT(completions.size() == pointers.size());
    for (const IoCompletion& completion : completions) {
      RC_ASSERT(completion.status == Status::Ok);
      const auto& bytes = expected[completion.request->user_data];
      RC_ASSERT(std::equal(bytes.begin(), bytes.end(), completion.request->data));
    }
  });
  EXPECT_TRUE(held);
  EXPECT_EQ(bench_->content(), model);
}

Result<OpenedIo> open_uring() {
  return open_io_engine({"uring", 1, {}});
}

std::vector<Kind> kinds() {
  std::vector<Kind> all = {{"memory", "memory"},
                           {"posix_direct", "posix", true},
                           {"posix_buffered", "posix"},
                           {"fault_over_memory", "memory", false, true},
                           {"cufile_direct", "cufile", true}};
  if (open_uring()) {
    all.push_back({"uring_direct", "uring", true});
    all.push_back({"uring_buffered", "uring"});
    all.push_back({"fault_over_uring", "uring", true, true});
  }
  return all;
}

// Says in the report that a third of the suite is absent, and why.
TEST(IoEngineKinds, UringIsAmongThem) {
  auto opened = open_uring();
  if (!opened) GTEST_SKIP() << opened.error().message;
  EXPECT_EQ(kinds().size(), 8U);
}

INSTANTIATE_TEST_SUITE_P(All, IoEngineTest, testing::ValuesIn(kinds()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace penstock
