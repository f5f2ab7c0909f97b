// The proof, by the real helper over the fake libraries: each way that cuFile is known to be, and
// the sentence that a person reads.
#include "io/cufile_probe.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "io/cufile_library.hpp"
#include "io/limited_child.hpp"
#include "support/fake_cufile.hpp"
#include "support/files.hpp"

namespace penstock {
namespace {

using namespace std::chrono_literals;
using test::FakeCufile;

class CufileProbe : public testing::Test {
 protected:
  CufileVerdict probe(const std::string& mode) {
    fake_.use(mode);
    return probe_cufile(options_);
  }
  void expect(const std::string& mode, bool usable, const std::string& part) {
    const auto verdict = probe(mode);
    EXPECT_EQ(verdict.usable, usable) << mode << ": " << verdict.sentence;
    EXPECT_FALSE(verdict.proven()) << mode;
    EXPECT_NE(verdict.sentence.find(part), std::string::npos)
        << mode << ": " << verdict.sentence << "\nexpected: " << part;
  }

  FakeCufile fake_;
  test::TempDir dir_;
  CufileProbeOptions options_{.directory = dir_.path(), .check_host = false};
};

TEST_F(CufileProbe, CountersProveIt) {
  const auto verdict = probe("counters=p2p");
  EXPECT_TRUE(verdict.proven()) << verdict.sentence;
  EXPECT_EQ(verdict.reads.p2p, 4U);
  EXPECT_EQ(verdict.writes.p2p, 4U);
  EXPECT_EQ(verdict.version, 1190);
  EXPECT_EQ(verdict.gpu, "GPU-01020304-0506-0708-090a-0b0c0d0e0f10");
  EXPECT_TRUE(std::filesystem::equivalent(verdict.library, PENSTOCK_FAKE_CUFILE));
  EXPECT_NE(verdict.sentence.find("4 by P2PDMA"), std::string::npos) << verdict.sentence;
  const auto nvfs = probe("counters=nvfs");
  EXPECT_TRUE(nvfs.proven()) << nvfs.sentence;
  EXPECT_EQ(nvfs.reads.path(), CufilePath::Nvfs);
}

TEST_F(CufileProbe, SuccessThroughHostMemoryIsNone) {
  expect("counters=posix", true, "host memory");
  expect("writes=posix", true, "writes: 0 by P2PDMA, 0 by nvidia-fs, 4 by POSIX");
  expect("counters=none", true, "counters show nothing");
  expect("version=1140", true, "version 1.14");
}

TEST_F(CufileProbe, EachFailureHasItsSentence) {
  expect("open=5001", false, "cuFileDriverOpen failed with 5001");
  expect("handle=5027", false, "/run/udev");
  expect("handle=5030", false, "overlayfs");
  expect("buffer=5011 cuda=801", false, "RMForceStaticBar1");
  expect("fail=5008@3", false, "cuFileRead failed with 5008");
  expect("fail=5044@5", false, "cuFileWrite failed with 5044");
  expect("fail=5044@5 negative", false, "cuFileWrite failed with 5044");
  expect("fail=28@6", false, "No space left");
  expect("more", false, "of 1048576 bytes moved 1052672");
}

TEST_F(CufileProbe, WrongBytesAreSeen) {
  expect("flip", false, "delivered wrong bytes");
}

TEST_F(CufileProbe, ShortTransfersAreContinued) {
  EXPECT_TRUE(probe("short").proven());
}

TEST_F(CufileProbe, CrashesStayInTheHelper) {
  expect("crash=open", false, "crashed (signal 6) while cuFileDriverOpen");
  expect("crash=stats", true, "crashed (signal 6) while reading its statistics");
}

TEST_F(CufileProbe, HangsEndAtTheLimit) {
  options_.limit = 3s;
  for (const auto& [mode, part] : {std::pair{"hang=open", "from cuFileDriverOpen"},
                                   std::pair{"hang=handle", "from cuFileHandleRegister"},
                                   std::pair{"hang=read", "from cuFileRead"}}) {
    const auto start = std::chrono::steady_clock::now();
    expect(mode, false, part);
    EXPECT_LT(std::chrono::steady_clock::now() - start, 20s);
  }
  fake_.use_cuda("hang");
  expect("", false, "from opening the GPU");
}

TEST_F(CufileProbe, AHangOnTheWayOutTakesNoProofAway) {
  options_.limit = 3s;
  const auto verdict = probe("hang=close");
  EXPECT_TRUE(verdict.proven()) << verdict.sentence;
}

TEST_F(CufileProbe, TheGpuIsFoundByItsNames) {
  for (const char* name : {"0", "GPU-01020304-0506-0708-090a-0b0c0d0e0f10", "0000:3b:00.0"}) {
    options_.gpu = name;
    EXPECT_TRUE(probe("").proven()) << name;
  }
  options_.gpu = "1";
  expect("", false, "cuDeviceGet failed");
  options_.gpu = "GPU-00000000-0000-0000-0000-000000000000";
  expect("", false, "there is no GPU-00000000");
  options_.gpu = "none";
  expect("", false, "cuDeviceGetByPCIBusId failed");
}

TEST_F(CufileProbe, CudaThatDoesNotWorkIsNamed) {
  fake_.use_cuda("init=100");
  expect("", false, "cuInit failed: no CUDA-capable device (100)");
  fake_.use_cuda("memory=2");
  expect("", false, "cuMemAlloc failed");
  ::setenv("PENSTOCK_CUDA_DRIVER_LIBRARY", "/no/libcuda.so.1", 1);
  expect("", false, "no CUDA driver: /no/libcuda.so.1");
}

TEST_F(CufileProbe, AMissingLibraryIsNamed) {
  ::setenv("PENSTOCK_CUFILE_LIBRARY", "/no/libcufile.so.0", 1);
  // The copy that this process has loaded would be proven in its place.
  options_.library_directories = {"/nowhere"};
  const auto library = load_cufile({});
  ASSERT_FALSE(library);
  EXPECT_NE(library.error().message.find("PENSTOCK_CUFILE_LIBRARY: /no/libcufile.so.0"),
            std::string::npos)
      << library.error().message;
}

TEST_F(CufileProbe, ALibraryWithoutTheFunctionsIsRefused) {
  ::setenv("PENSTOCK_CUFILE_LIBRARY", PENSTOCK_FAKE_CUDA, 1);
  const auto library = load_cufile({});
  ASSERT_FALSE(library);
  EXPECT_NE(library.error().message.find("cuFileDriverOpen"), std::string::npos)
      << library.error().message;
}

TEST_F(CufileProbe, WithoutTheVariableTheLoadedCopyIsUsed) {
  ::unsetenv("PENSTOCK_CUFILE_LIBRARY");
  const auto library = load_cufile({});
  ASSERT_TRUE(library) << library.error().message;
  EXPECT_TRUE(std::filesystem::equivalent(library->path, PENSTOCK_FAKE_CUFILE));
  EXPECT_EQ(loaded_cufile(), library->path);
  EXPECT_TRUE(probe("").proven()) << "the helper is told which copy that is";
}

TEST_F(CufileProbe, AMissingHelperIsNamed) {
  ::setenv("PENSTOCK_PROBE", "/no/penstock-probe", 1);
  expect("", false, "/no/penstock-probe: No such file");
  ::unsetenv("PENSTOCK_PROBE");
  const auto program = find_probe_program();  // not beside this test
  ASSERT_FALSE(program);
  EXPECT_NE(program.error().message.find(
                std::filesystem::read_symlink("/proc/self/exe").parent_path().string()),
            std::string::npos)
      << program.error().message;
}

TEST_F(CufileProbe, TheHelperIsFoundBesideTheProgram) {
  ::unsetenv("PENSTOCK_PROBE");
  const auto beside =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "penstock-probe";
  std::error_code error;
  std::filesystem::create_symlink(PENSTOCK_PROBE_PROGRAM, beside, error);
  ASSERT_FALSE(error) << error.message();
  const auto program = find_probe_program();
  const auto verdict = probe("");
  std::filesystem::remove(beside);
  ASSERT_TRUE(program) << program.error().message;
  EXPECT_EQ(*program, beside);
  EXPECT_TRUE(verdict.proven()) << verdict.sentence;
}

// site-packages/penstock/penstock-probe beside site-packages/nvidia/cu13, and bin/penstock-probe
// with lib/python3.x/site-packages.
TEST_F(CufileProbe, TheLibraryOfAWheelIsFoundFromOurOwnPlace) {
  namespace fs = std::filesystem;
  for (const auto& [place, wheel] :
       {std::pair{"penstock", "nvidia/cu13/lib"},
        std::pair{"bin", "lib/python3.12/site-packages/nvidia/cufile/lib"}}) {
    const test::TempDir tree;
    fs::create_directories(tree / place);
    fs::create_directories(tree / wheel);
    const auto program = fs::path{tree / place} / "penstock-probe";
    fs::copy_file(PENSTOCK_PROBE_PROGRAM, program);
    fs::create_symlink(PENSTOCK_FAKE_CUFILE, fs::path{tree / wheel} / "libcufile.so.0");
    std::ofstream{dir_ / "file"};
    const auto end =
        run_limited({program, dir_ / "file", "0", "0", "20"}, {{kCufileLibraryVariable, ""}}, 20s);
    ASSERT_TRUE(end) << end.error().message;
    // Where the loader knows one of its own, that comes first.
    EXPECT_NE(end->output.find("\nlibrary /"), std::string::npos) << end->output;
  }
}

TEST_F(CufileProbe, NothingIsLeftBehind) {
  const test::TempDir temporary;
  ::setenv("TMPDIR", temporary.path().c_str(), 1);
  options_.limit = 3s;
  for (const char* mode : {"", "open=5001", "crash=open", "hang=read"}) probe(mode);
  ::unsetenv("TMPDIR");
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
  EXPECT_TRUE(std::filesystem::is_empty(temporary.path()));
}

TEST_F(CufileProbe, ADirectoryThatCannotBeWrittenIsNamed) {
  options_.directory = "/proc";
  expect("", false, "cannot make a file in /proc");
}

TEST_F(CufileProbe, TheMachineIsAskedFirst) {
  options_.check_host = true;
  options_.system_root = dir_ / "root";
  expect("", false, "no NVIDIA driver");
}

TEST_F(CufileProbe, AVerdictIsKeptPerDriveAndGpu) {
  fake_.use("counters=p2p");
  options_.gpu = "0000:3b:00.0";
  EXPECT_TRUE(probe_cufile_once(options_).proven());
  fake_.use("counters=posix");
  EXPECT_TRUE(probe_cufile_once(options_).proven());
  EXPECT_FALSE(probe_cufile(options_).proven());
  options_.gpu = "GPU-01020304-0506-0708-090a-0b0c0d0e0f10";
  EXPECT_FALSE(probe_cufile_once(options_).proven());
  fake_.use("counters=p2p");
  EXPECT_FALSE(probe_cufile_once(options_).proven());
}

TEST_F(CufileProbe, WhatTheMachineSpeaksAgainstIsNotKeptForThoseWhoForceIt) {
  fake_.use("counters=p2p");
  options_.gpu = "0000:3b:00.0";
  options_.check_host = true;
  options_.system_root = dir_ / "root";
  EXPECT_FALSE(probe_cufile_once(options_).usable);
  options_.check_host = false;
  EXPECT_TRUE(probe_cufile_once(options_).usable);
}

}  // namespace
}  // namespace penstock
