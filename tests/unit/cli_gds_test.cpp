// The doctor's look at cuFile, on machines made of files, by the real probe over the fake
// libraries.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/examine_gds.hpp"
#include "support/fake_cufile.hpp"
#include "support/files.hpp"

namespace penstock::cli {
namespace {

class CliGds : public testing::Test {
 protected:
  CliGds() {
    struct stat status {};
    EXPECT_EQ(::stat(dir_.path().c_str(), &status), 0);
    write("proc/driver/nvidia/version",
          "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\n");
    write("run/udev/data/b" + std::to_string(major(status.st_dev)) + ":" +
              std::to_string(minor(status.st_dev)),
          "E:ID_FS_TYPE=ext4\n");
    write("sys/bus/pci/devices/0000:3b:00.0/vendor", "0x10de\n");
    write("sys/bus/pci/devices/0000:3b:00.0/class", "0x030200\n");
    write("sys/bus/pci/devices/0000:3b:00.0/resource",
          "0x00000000a0000000 0x00000000a0ffffff 0x0000000000040200\n"
          "0x0000021000000000 0x0000024fffffffff 0x000000000014220c\n");
    write("sys/bus/pci/devices/0000:01:00.0/vendor", "0x8086\n");
  }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path{root_ / path}.parent_path());
    std::ofstream{root_ / path} << text;
  }
  GdsExamination examine(const std::string& mode, const Mount& mount) {
    fake_.use(mode);
    return examine_gds(dir_.path(), "0", mount, root_.path());
  }
  static bool has(const std::vector<std::string>& texts, const std::string& part) {
    return std::ranges::any_of(
        texts, [&](const std::string& text) { return text.find(part) != std::string::npos; });
  }

  test::FakeCufile fake_;
  test::TempDir dir_;
  test::TempDir root_;
  const Mount vm_{"ext4", "/", "/dev/vda", "rw", "rw"};
  const Mount bare_{"ext4", "/mnt", "/dev/nvme0n1", "rw", "rw,data=ordered"};
};

TEST_F(CliGds, WhatTheMachineHasIsRead) {
  const auto found = examine("counters=posix", vm_);
  EXPECT_EQ(found.driver, "580.159.04, open modules");
  EXPECT_EQ(found.nvidia_fs, "");
  EXPECT_EQ(found.bar1, std::vector<std::string>{"0000:3b:00.0 262144 MiB"});
  EXPECT_TRUE(found.host.udev_record);
  EXPECT_EQ(found.verdict.version, 1190);
}

TEST_F(CliGds, AVirtualMachineIsToldWhatItLacks) {
  const auto found = examine("counters=posix", vm_);
  EXPECT_FALSE(found.verdict.proven());
  for (const char* part : {"RMForceStaticBar1", "CONFIG_PCI_P2PDMA", "/dev/vda", "data=ordered"})
    EXPECT_TRUE(has(found.p2pdma_lacks, part)) << part;
  EXPECT_FALSE(has(found.p2pdma_lacks, "open kernel modules"));
  ASSERT_EQ(found.advice.size(), 1U);
  for (const char* part : {"4 by POSIX", "RMForceStaticBar1", "/dev/vda"})
    EXPECT_TRUE(has(found.advice, part)) << found.advice[0];
}

TEST_F(CliGds, AMachineThatIsSetUpIsProvenAndNeedsNothing) {
  write("proc/driver/nvidia/params", "RegistryDwords: \"RMForceStaticBar1=1;\"\n");
  write("proc/kallsyms", "0000000000000000 d p2pdma_pgmap_ops\n");
  write("sys/module/nvme_core/parameters/multipath", "N\n");
  const auto found = examine("counters=p2p", bare_);
  EXPECT_TRUE(found.verdict.proven());
  EXPECT_TRUE(found.p2pdma_lacks.empty()) << found.p2pdma_lacks[0];
  EXPECT_TRUE(found.advice.empty());
  const Json json = to_json(found);
  EXPECT_EQ(json["proven"], true);
  EXPECT_EQ(json["reads"]["p2p"], 4);
}

TEST_F(CliGds, WithNvidiaFsNobodyIsSentToP2pdma) {
  write("proc/driver/nvidia-fs/version", "version: 2.28.4\n");
  const auto found = examine("counters=posix", vm_);
  EXPECT_EQ(found.nvidia_fs, "version: 2.28.4");
  ASSERT_EQ(found.advice.size(), 1U);
  EXPECT_FALSE(has(found.advice, "RMForceStaticBar1")) << found.advice[0];
}

TEST_F(CliGds, AFailureIsAdviceInItsOwnWords) {
  const auto found = examine("handle=5027", vm_);
  ASSERT_EQ(found.advice.size(), 1U);
  EXPECT_TRUE(has(found.advice, "-v /run/udev:/run/udev:ro")) << found.advice[0];
}

TEST_F(CliGds, NoGpuIsNoFault) {
  std::filesystem::remove_all(root_ / "proc/driver");
  const auto found = examine("", vm_);
  EXPECT_FALSE(found.verdict.proven());
  EXPECT_TRUE(found.advice.empty());
}

}  // namespace
}  // namespace penstock::cli
