// What the cufile engine does beyond the conformance suite: lifetimes, hangs, the library's strange
// answers, and the choice between proven, forced and refused. Over the fake library.
#include "io/cufile_engine.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include "io/cufile_open.hpp"
#include "io/open.hpp"
#include "support/fake_cufile.hpp"
#include "support/files.hpp"

namespace penstock {
namespace {

using namespace std::chrono_literals;
using test::AlignedBuffer;
using test::FakeCufile;

constexpr size_t kSize = 64 * kSector;

// A file of random bytes, memory as a GPU's, an engine between them.
class CufileEngineTest : public testing::Test {
 protected:
  void open(const std::string& mode) {
    fake_.use(mode);
    auto engine = make_cufile_engine(options_);
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
  }
  IoCompletion run(IoRequest& request, std::chrono::seconds limit = 60s) {
    IoRequest* const pointer = &request;
    EXPECT_EQ(engine_->submit({&pointer, 1}), 1U);
    const auto deadline = std::chrono::steady_clock::now() + limit;
    IoCompletion completion{nullptr, Status::Timeout, 0};
    while (engine_->poll({&completion, 1}) == 0 && std::chrono::steady_clock::now() < deadline)
      engine_->wait(100ms);
    return completion;
  }
  IoRequest request(IoOp op, uint64_t offset = 0, uint64_t size = kSize) {
    return {op, file_.fd.get(), offset, memory_.data() + kSector, size};
  }
  OpenedFile make_file(const std::string& name, uint64_t seed) {
    test::write_file(dir_ / name, test::random_bytes(kSize, seed));
    auto file = open_direct(dir_ / name, O_RDWR);
    EXPECT_TRUE(file) << file.error().message;
    return std::move(*file);
  }
  bool memory_is(uint64_t seed) const {
    const auto bytes = test::random_bytes(kSize, seed);
    return std::equal(bytes.begin(), bytes.end(), memory_.data() + kSector);
  }

  FakeCufile fake_;
  test::TempDir dir_;
  AlignedBuffer memory_{kSize + 2 * kSector};
  CufileEngineOptions options_{.depth = 8, .threads = 4, .memory = memory_.span()};
  OpenedFile file_ = make_file("file", 1);
  std::unique_ptr<IoEngine> engine_;
};

TEST_F(CufileEngineTest, EveryByteGoesByTheRegisteredBaseAndAligned) {
  open("");
  EXPECT_EQ(fake_.count("without_json"), 0) << "its configuration is there when the driver opens";
  EXPECT_EQ(std::getenv("CUFILE_ENV_PATH_JSON"), nullptr) << "and is no longer in our environment";
  for (uint64_t at = 0; at < kSize; at += 8 * kSector) {
    IoRequest read{IoOp::Read, file_.fd.get(), at, memory_.data() + kSector + at, 8 * kSector};
    ASSERT_EQ(run(read).status, Status::Ok);
  }
  EXPECT_TRUE(memory_is(1));
  EXPECT_EQ(fake_.count("registered"), 8);
  EXPECT_EQ(fake_.count("unregistered"), 0);
  EXPECT_EQ(fake_.count("misaligned"), 0);
  EXPECT_EQ(fake_.count("handles"), 1);
}

TEST_F(CufileEngineTest, MemoryOutsideGoesByItsOwnAddress) {
  open("");
  AlignedBuffer other{kSize};
  IoRequest read{IoOp::Read, file_.fd.get(), 0, other.data(), kSize};
  EXPECT_EQ(run(read).status, Status::Ok);
  EXPECT_EQ(fake_.count("unregistered"), 1);
  const auto bytes = test::random_bytes(kSize, 1);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), other.data()));
}

TEST_F(CufileEngineTest, WhatIsNotAlignedIsRefusedHere) {
  open("");
  for (const uint64_t wrong : {1, 512, 4095}) {
    IoRequest offset = request(IoOp::Read, wrong);
    EXPECT_EQ(run(offset).error_number, EINVAL);
    IoRequest size = request(IoOp::Write, 0, wrong);
    EXPECT_EQ(run(size).error_number, EINVAL);
    IoRequest data = request(IoOp::Read, 0, kSector);
    data.data += wrong;
    EXPECT_EQ(run(data).error_number, EINVAL);
  }
  EXPECT_EQ(fake_.count("registered") + fake_.count("unregistered"), 0) << "cuFile saw none of it";
}

TEST_F(CufileEngineTest, LifetimesEndInOrder) {
  std::atomic<int> starts{0};
  options_.thread_init = [&starts] { ++starts; };
  std::weak_ptr<const void> owner;
  {
    auto token = std::make_shared<const int>(1);
    owner = token;
    options_.memory_owner = std::move(token);
  }
  open("");
  options_.memory_owner.reset();
  IoRequest read = request(IoOp::Read);
  EXPECT_EQ(run(read).status, Status::Ok);
  EXPECT_FALSE(owner.expired());
  engine_.reset();
  EXPECT_TRUE(owner.expired());
  EXPECT_EQ(starts, 4);
  EXPECT_EQ(fake_.count("opens"), 1);
  EXPECT_EQ(fake_.count("closes"), 1);
  EXPECT_EQ(fake_.count("handles"), 0);
  EXPECT_EQ(fake_.count("disorder"), 0);
}

TEST_F(CufileEngineTest, TheDriverIsOneForAllEngines) {
  open("");
  AlignedBuffer more{kSize};
  CufileEngineOptions options{.depth = 1, .memory = more.span()};
  auto second = make_cufile_engine(options);
  ASSERT_TRUE(second) << second.error().message;
  IoRequest first = request(IoOp::Read);
  EXPECT_EQ(run(first).status, Status::Ok);
  engine_.swap(*second);
  IoRequest same{IoOp::Read, file_.fd.get(), 0, more.data(), kSize};
  EXPECT_EQ(run(same).status, Status::Ok) << "both use one file by one descriptor";
  engine_.swap(*second);
  engine_.reset();
  EXPECT_EQ(fake_.count("opens"), 1);
  EXPECT_EQ(fake_.count("closes"), 0);
  engine_ = std::move(*second);
  IoRequest read{IoOp::Read, file_.fd.get(), 0, more.data(), kSize};
  EXPECT_EQ(run(read).status, Status::Ok);
  engine_.reset();
  EXPECT_EQ(fake_.count("closes"), 1);
  open("");  // and again
  EXPECT_EQ(fake_.count("opens"), 2);
}

TEST_F(CufileEngineTest, AnotherFileUnderAnOldDescriptorIsNoticed) {
  open("");
  IoRequest read = request(IoOp::Read);
  ASSERT_EQ(run(read).status, Status::Ok);
  EXPECT_TRUE(memory_is(1));
  const auto other = make_file("other", 2);
  ASSERT_EQ(::dup2(other.fd.get(), file_.fd.get()), file_.fd.get());
  ASSERT_EQ(run(read).status, Status::Ok);
  EXPECT_TRUE(memory_is(2));
  EXPECT_EQ(fake_.count("handles"), 1);
}

TEST_F(CufileEngineTest, ShortTransfersAreContinued) {
  open("short");
  IoRequest read = request(IoOp::Read);
  EXPECT_EQ(run(read).status, Status::Ok);
  EXPECT_TRUE(memory_is(1));
  EXPECT_GT(engine_->counters().short_transfers, 0U);
  EXPECT_EQ(fake_.count("misaligned"), 0);
  EXPECT_EQ(fake_.count("unregistered"), 0);
}

TEST_F(CufileEngineTest, AFailureIsTheOneRequestsOwn) {
  for (const char* mode : {"fail=5008@2", "fail=5008@2 negative"}) {
    open(mode);
    IoRequest read = request(IoOp::Read);
    EXPECT_EQ(run(read).status, Status::Ok);
    const IoCompletion failed = run(read);
    EXPECT_EQ(failed.status, Status::Io);
    EXPECT_EQ(failed.error_number, EOPNOTSUPP);
    EXPECT_EQ(run(read).status, Status::Ok);
    engine_.reset();
  }
  open("fail=28@1");
  IoRequest write = request(IoOp::Write);
  EXPECT_EQ(run(write).status, Status::NoSpace);
}

TEST_F(CufileEngineTest, AFileThatCannotBeRegisteredIsAnError) {
  open("handle=5030");
  IoRequest read = request(IoOp::Read);
  const IoCompletion completion = run(read);
  EXPECT_EQ(completion.status, Status::Io);
  EXPECT_EQ(completion.error_number, EIO);
}

TEST_F(CufileEngineTest, MoreBytesThanAskedForIsAnError) {
  open("more");
  IoRequest read = request(IoOp::Read);
  const IoCompletion completion = run(read);
  EXPECT_EQ(completion.status, Status::Io);
  EXPECT_EQ(completion.error_number, EIO);
}

TEST_F(CufileEngineTest, WhatFailsToOpenIsToldAndUndone) {
  fake_.use("open=5001");
  auto engine = make_cufile_engine(options_);
  ASSERT_FALSE(engine);
  EXPECT_NE(engine.error().message.find("cuFileDriverOpen failed with 5001"), std::string::npos)
      << engine.error().message;
  fake_.use("buffer=5036");
  engine = make_cufile_engine(options_);
  ASSERT_FALSE(engine);
  EXPECT_NE(engine.error().message.find("BAR1"), std::string::npos) << engine.error().message;
  EXPECT_EQ(fake_.count("closes"), 1) << "the driver that had opened is closed";
  EXPECT_EQ(fake_.count("disorder"), 0);
}

TEST_F(CufileEngineTest, ADriverThatSomebodyElseHasOpenIsUsedAndLeftOpen) {
  open("open=5026");
  IoRequest read = request(IoOp::Read);
  EXPECT_EQ(run(read).error_number, EIO) << "the fake has none that would be open";
  engine_.reset();
  EXPECT_EQ(fake_.count("closes"), 0);
}

// The thread, the slot, the memory and the driver stay as they are until the call comes back.
TEST_F(CufileEngineTest, AHungCallDoesNotHoldUpTheEnd) {
  const auto token = std::make_shared<const int>(1);
  options_.memory_owner = token;
  options_.close_limit = 200ms;
  open("hang=read");
  options_.memory_owner.reset();
  auto read = std::make_unique<IoRequest>(request(IoOp::Read));
  IoRequest* const pointer = read.get();
  ASSERT_EQ(engine_->submit({&pointer, 1}), 1U);
  fake_.wait_for_hang();
  IoRequest write = request(IoOp::Write, 0, kSector);
  EXPECT_EQ(run(write).status, Status::Ok) << "the others go on";
  EXPECT_EQ(engine_->in_flight(), 1U);
  const auto start = std::chrono::steady_clock::now();
  engine_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, 20s);
  read.reset();  // the caller's, and not looked at any more
  EXPECT_EQ(token.use_count(), 2);
  EXPECT_EQ(fake_.count("closes"), 0);
  fake_.release();
  while (token.use_count() > 1) std::this_thread::yield();
  EXPECT_EQ(fake_.count("closes"), 1);
  EXPECT_EQ(fake_.count("disorder"), 0);
}

TEST_F(CufileEngineTest, WhoSleepsElsewhereIsToldOfResultsAndOfNoneAfterTheEnd) {
  std::atomic<int> told{0};
  options_.on_result = [&told] { ++told; };
  open("");
  IoRequest read = request(IoOp::Read);
  ASSERT_EQ(run(read).status, Status::Ok);
  EXPECT_EQ(told, 1);
  options_.close_limit = 200ms;
  const auto token = std::make_shared<const int>(1);
  options_.memory_owner = token;
  engine_.reset();
  open("hang=read");
  options_.memory_owner.reset();
  IoRequest* const late = &read;
  ASSERT_EQ(engine_->submit({&late, 1}), 1U);
  fake_.wait_for_hang();
  engine_.reset();
  fake_.release();
  while (token.use_count() > 1) std::this_thread::yield();
  EXPECT_EQ(told, 1);
}

TEST_F(CufileEngineTest, AHungOpeningIsATimeout) {
  options_.open_limit = 200ms;
  options_.close_limit = 200ms;
  const auto token = std::make_shared<const int>(1);
  options_.memory_owner = token;
  fake_.use("hang=open");
  const auto engine = make_cufile_engine(options_);
  options_.memory_owner.reset();
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.status(), Status::Timeout);
  fake_.release();
  while (token.use_count() > 1) std::this_thread::yield();
  EXPECT_EQ(fake_.count("closes"), 1) << "what opened too late is closed";
}

// Proven, forced, refused.
class OpenCufile : public CufileEngineTest {
 protected:
  OpenCufile() {
    struct stat status {};
    EXPECT_EQ(::stat(dir_.path().c_str(), &status), 0);
    const auto device =
        std::to_string(major(status.st_dev)) + ":" + std::to_string(minor(status.st_dev));
    for (const std::string& path :
         {std::string{"proc/driver/nvidia/version"}, "run/udev/data/b" + device}) {
      std::filesystem::create_directories(std::filesystem::path{root_ / path}.parent_path());
      std::ofstream{root_ / path} << "something\n";
    }
  }
  Result<OpenedCufile> open_as(CufileOptions::Mode mode, const std::string& fake) {
    fake_.use(fake);
    choice_.mode = mode;
    return open_cufile_engine(choice_);
  }
  void expect_refused(CufileOptions::Mode mode, const std::string& fake, const std::string& part) {
    const auto opened = open_as(mode, fake);
    ASSERT_FALSE(opened) << fake;
    EXPECT_EQ(opened.status(), Status::Unsupported);
    EXPECT_NE(opened.error().message.find(part), std::string::npos) << opened.error().message;
    EXPECT_EQ(fake_.count("opens"), 0) << "the driver is not opened here";
  }

  test::TempDir root_;
  CufileOptions choice_{.directories = {dir_.path()},
                        .memory = memory_.span(),
                        .depth = 8,
                        .fresh = true,
                        .system_root = root_.path()};
};

constexpr auto kProven = CufileOptions::Mode::Proven;
constexpr auto kForce = CufileOptions::Mode::Force;

TEST_F(OpenCufile, ProvenIsUsed) {
  auto opened = open_as(kProven, "");
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->path, "p2p");
  EXPECT_EQ(opened->verdicts.size(), 1U);
  EXPECT_NE(opened->reason.find("cuFile 1.19"), std::string::npos) << opened->reason;
  EXPECT_NE(opened->reason.find("4 by P2PDMA"), std::string::npos) << opened->reason;
  engine_ = std::move(opened->engine);
  EXPECT_EQ(engine_->name(), "cufile");
  IoRequest read = request(IoOp::Read);
  EXPECT_EQ(run(read).status, Status::Ok);
  EXPECT_TRUE(memory_is(1));
}

TEST_F(OpenCufile, WhatIsNotProvenIsRefusedWithTheEvidence) {
  expect_refused(kProven, "counters=posix", "4 by POSIX");
  expect_refused(kProven, "writes=posix", "4 by POSIX");
  expect_refused(kProven, "open=5001", "5001");
  expect_refused(kProven, "flip", "wrong bytes");
  expect_refused(kProven, "crash=stats", "crashed");
  choice_.probe_limit = 1s;
  expect_refused(kProven, "hang=open", "did not come back within 1 s");
  choice_.system_root = root_ / "nothing";
  expect_refused(kProven, "", "no NVIDIA driver");
}

TEST_F(OpenCufile, ForceTakesWhateverWorks) {
  choice_.system_root = root_ / "nothing";
  const auto opened = open_as(kForce, "counters=posix");
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->path, "posix");
}

TEST_F(OpenCufile, ForceDoesNotTakeWhatDoesNotWork) {
  expect_refused(kForce, "flip", "wrong bytes");
  expect_refused(kForce, "buffer=5016", "max_device_pinned_mem_size_kb");
  choice_.probe_limit = 1s;
  expect_refused(kForce, "hang=open", "did not come back");
}

TEST_F(OpenCufile, OneDirectoryThatIsNotProvenIsEnough) {
  choice_.directories.push_back(dir_ / "missing");
  const auto opened = open_as(kProven, "");
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message.find("/missing"), std::string::npos) << opened.error().message;
}

TEST_F(OpenCufile, WrongOptionsAreInvalid) {
  const CufileOptions good = choice_;
  choice_.depth = 0;
  EXPECT_EQ(open_cufile_engine(choice_).status(), Status::Invalid);
  choice_ = good;
  choice_.directories.clear();
  EXPECT_EQ(open_cufile_engine(choice_).status(), Status::Invalid);
  choice_ = good;
  choice_.memory = memory_.span().subspan(1);
  EXPECT_EQ(open_cufile_engine(choice_).status(), Status::Invalid);
}

}  // namespace
}  // namespace penstock
