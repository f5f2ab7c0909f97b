// The doctor's look at links, loads and contention, on machines made of files.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <filesystem>
#include <fstream>

#include "cli/examine_tuning.hpp"
#include "support/files.hpp"

namespace penstock::cli {
namespace {

namespace fs = std::filesystem;

class CliTuning : public testing::Test {
 protected:
  CliTuning() {
    struct stat status {};
    EXPECT_EQ(::stat(dir_.path().c_str(), &status), 0);
    link(kPort + "/0000:01:00.0/nvme/nvme0/nvme0n1",
         "sys/dev/block/" + std::to_string(major(status.st_dev)) + ":" +
             std::to_string(minor(status.st_dev)));
    link_of(kPort, "16.0 GT/s PCIe", "4", "16.0 GT/s PCIe", "4");
    link_of(kDrive, "16.0 GT/s PCIe", "4", "16.0 GT/s PCIe", "4");
    write(kDisk + "/stat", "0 0 0 0 0 0 0 0 0 0 0\n");
    write(kGpuPort + "/0000:3b:00.0/vendor", "0x10de\n");
    write(kGpuPort + "/0000:3b:00.0/class", "0x030200\n");
    link(kGpuPort + "/0000:3b:00.0", "sys/bus/pci/devices/0000:3b:00.0");
    link_of(kGpuPort, "32.0 GT/s PCIe", "16", "32.0 GT/s PCIe", "16");
    link_of(kGpu, "2.5 GT/s PCIe", "16", "32.0 GT/s PCIe", "16");  // it is idle
    driver("580.159.04");
  }
  void write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path{root_ / path}.parent_path());
    std::ofstream{root_ / path} << text;
  }
  void link(const std::string& target, const std::string& path) {
    fs::create_directories(root_ / target);
    fs::create_directories(fs::path{root_ / path}.parent_path());
    fs::create_directory_symlink(root_ / target, root_ / path);
  }
  void link_of(const std::string& device, const char* speed, const char* width, const char* most,
               const char* widest) {
    write(device + "/current_link_speed", std::string{speed} + "\n");
    write(device + "/current_link_width", std::string{width} + "\n");
    write(device + "/max_link_speed", std::string{most} + "\n");
    write(device + "/max_link_width", std::string{widest} + "\n");
  }
  void driver(const std::string& version) {
    write("proc/driver/nvidia/version",
          "NVRM version: NVIDIA UNIX x86_64 Kernel Module  " + version + "  Release Build\n");
  }
  // `meanwhile` happens between the two readings, which are a second apart.
  TuningExamination examine(const std::function<void()>& meanwhile = [] {}) {
    return examine_tuning({.directory = dir_.path(),
                           .raw_read_gbs = 1,
                           .system_root = root_.path(),
                           .wait = [&meanwhile] {
                             meanwhile();
                             return 1.0;
                           }});
  }
  static void expect_one(const TuningExamination& found, std::vector<const char*> parts) {
    ASSERT_EQ(found.advice.size(), 1U) << (found.advice.empty() ? "none" : found.advice.back());
    for (const char* part : parts)
      EXPECT_NE(found.advice[0].find(part), std::string::npos) << part << ": " << found.advice[0];
  }

  const std::string kPort = "sys/devices/pci0000:00/0000:00:01.0";
  const std::string kDrive = kPort + "/0000:01:00.0";
  const std::string kDisk = kDrive + "/nvme/nvme0/nvme0n1";
  const std::string kGpuPort = "sys/devices/pci0000:3a/0000:3a:00.0";
  const std::string kGpu = kGpuPort + "/0000:3b:00.0";
  test::TempDir dir_;
  test::TempDir root_;
};

TEST_F(CliTuning, AGoodMachineNeedsNothing) {
  const auto found = examine();
  EXPECT_TRUE(found.advice.empty()) << found.advice[0];
  ASSERT_EQ(found.gpu_links.size(), 1U);
  EXPECT_EQ(describe(found.gpu_links[0].possible()), "PCIe 5.0 x16, 63.0 GB/s");
  ASSERT_EQ(found.drive_links.size(), 1U);
  EXPECT_EQ(found.drive_links[0].address, "0000:01:00.0");
  EXPECT_EQ(describe(found.drive_links[0].now), "PCIe 4.0 x4, 7.9 GB/s");
  EXPECT_EQ(found.driver, "580.159.04");
  EXPECT_EQ(found.cuda, "13.0");
}

TEST_F(CliTuning, LanesThatAreMissing) {
  link_of(kGpu, "32.0 GT/s PCIe", "8", "32.0 GT/s PCIe", "16");
  expect_one(examine(), {"GPU at 0000:3b:00.0", "8 of its 16", "bifurcation"});
}

TEST_F(CliTuning, ASlotThatIsSlowerThanTheDrive) {
  link_of(kPort, "8.0 GT/s PCIe", "4", "8.0 GT/s PCIe", "4");
  link_of(kDrive, "8.0 GT/s PCIe", "4", "16.0 GT/s PCIe", "4");
  expect_one(examine(), {"drive at 0000:01:00.0", "PCIe 4.0", "slot for 3.0", "BIOS"});
}

TEST_F(CliTuning, ADriveOfAnOldGeneration) {
  link_of(kDrive, "8.0 GT/s PCIe", "4", "8.0 GT/s PCIe", "4");
  expect_one(examine(), {"PCIe 3.0 x4", "4.0 or later", "load_policy"});
}

TEST_F(CliTuning, AnOldDriver) {
  driver("460.32.03");
  const auto found = examine();
  EXPECT_EQ(found.cuda, "11.0");
  ASSERT_FALSE(found.advice.empty());
  EXPECT_NE(found.advice[0].find("install 470 or later"), std::string::npos) << found.advice[0];
}

TEST_F(CliTuning, ADriverTooOldForThisBuild) {
  driver("535.54.03");
  const auto found = examine();
  EXPECT_EQ(found.cuda, "12.2");
  if (found.built_for.starts_with("13."))
    expect_one(found, {"needs driver 580", "535.54.03", "build with CUDA 12.2"});
  else
    EXPECT_TRUE(found.advice.empty());
}

TEST_F(CliTuning, ADriveThatIsSaturated) {
  // 5 GB/s read beside the 1 GB/s that were left for us.
  const auto found =
      examine([&] { write(kDisk + "/stat", "20000 0 9765625 100000 0 0 0 0 40 990 100000\n"); });
  expect_one(found, {"nvme0n1 is saturated", "99 % busy", "5.00 GB/s read", "enable_compression",
                     "cache_dir"});
}

TEST_F(CliTuning, ADriveThatIsBusyAndNotFull) {
  const auto found =
      examine([&] { write(kDisk + "/stat", "1000 0 195312 1000 0 0 0 0 1 990 1000\n"); });
  EXPECT_TRUE(found.advice.empty()) << found.advice[0];
  ASSERT_EQ(found.drives.size(), 1U);
  EXPECT_NEAR(found.drives[0].second.request_ms, 1, 1e-9);
  EXPECT_NEAR(found.drives[0].second.queue, 1, 1e-9);
}

TEST_F(CliTuning, AQueueThatIsCongested) {
  const auto found =
      examine([&] { write(kDisk + "/stat", "10000 0 195312 100000 0 0 0 0 100 500 100000\n"); });
  expect_one(found, {"queue of the drive nvme0n1", "100 requests", "max_concurrent_ops", "io_depth",
                     "chunk_size"});
}

TEST_F(CliTuning, AProcessWhoseQueueIsCongested) {
  auto file = LiveFile::create(dir_.path());
  ASSERT_TRUE(file);
  ASSERT_TRUE(
      (*file)->write("#pid 77\n#device cpu\nio_in_flight 32\nio_in_flight_limit 32\n"
                     "io_read_seconds_le_0.1 10\nio_read_seconds_le_0.25 100\n"
                     "io_read_seconds_le_0.5 100\nio_read_seconds_le_1 100\n"
                     "io_read_seconds_le_2.5 100\nio_read_seconds_le_5 100\n"
                     "io_read_seconds_le_10 100\nio_read_seconds_le_inf 100\n"));
  expect_one(examine(), {"process 77", "32 of 32", "max_concurrent_ops", "io_depth"});
  ASSERT_TRUE((*file)->write("#pid 77\n#device cpu\nio_in_flight 3\nio_in_flight_limit 32\n"));
  EXPECT_TRUE(examine().advice.empty());
}

TEST_F(CliTuning, RdmaThatIsContended) {
  const std::string port = "sys/class/infiniband/mlx5_0/ports/1";
  write(port + "/state", "4: ACTIVE\n");
  write(port + "/rate", "100 Gb/sec (4X EDR)\n");
  write(port + "/counters/port_xmit_wait", "100\n");
  write(port + "/hw_counters/rp_cnp_handled", "7\n");
  const auto quiet = examine();
  EXPECT_TRUE(quiet.advice.empty()) << quiet.advice[0];
  EXPECT_EQ(quiet.rdma.at("mlx5_0 port 1").state, "ACTIVE");
  EXPECT_EQ(quiet.rdma.at("mlx5_0 port 1").rate, "100 Gb/sec (4X EDR)");
  const auto found = examine([&] { write(port + "/hw_counters/rp_cnp_handled", "19\n"); });
  expect_one(found, {"mlx5_0 port 1", "rp_cnp_handled +12", "enable_rdma: false"});
}

TEST_F(CliTuning, AMachineThatSaysNothing) {
  fs::remove_all(root_.path());
  const auto found = examine();
  EXPECT_TRUE(found.advice.empty());
  EXPECT_TRUE(found.gpu_links.empty());
  EXPECT_TRUE(found.drive_links.empty());
  EXPECT_TRUE(found.drives.empty());
  EXPECT_EQ(found.driver, "");
}

}  // namespace
}  // namespace penstock::cli
