// Our declarations of cuFile's binary interface against the vendor's header and library. Built
// where the package nvidia-cufile is installed; the header is included in this file only.
#include "io/cufile_abi.hpp"

#include <cufile.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>

#include "io/cufile_counters.hpp"
#include "io/cufile_library.hpp"

namespace penstock {
namespace {

// Two functions are called alike if result and arguments agree in size and in kind.
template <typename A, typename B>
constexpr bool same_slot() {
  if constexpr (std::is_void_v<A> || std::is_void_v<B>) {
    return std::is_void_v<A> && std::is_void_v<B>;
  } else {
    return sizeof(A) == sizeof(B) && std::is_pointer_v<A> == std::is_pointer_v<B> &&
           std::is_class_v<A> == std::is_class_v<B> && std::is_signed_v<A> == std::is_signed_v<B>;
  }
}
template <typename A, typename B>
struct SameCall : std::false_type {};
template <typename R, typename... A, typename S, typename... B>
struct SameCall<R (*)(A...), S (*)(B...)> {
  static constexpr bool value = [] {
    if constexpr (sizeof...(A) != sizeof...(B)) {
      return false;
    } else {
      return same_slot<R, S>() && (same_slot<A, B>() && ...);
    }
  }();
};
template <auto Theirs, typename Ours>
constexpr bool kSameCall = SameCall<std::decay_t<decltype(Theirs)>, Ours>::value;

static_assert(!SameCall<int (*)(long), int (*)(int)>::value, "the comparison sees a difference");
static_assert(!SameCall<int (*)(int), int (*)(int, int)>::value);
static_assert(!SameCall<void (*)(void*), void (*)(long)>::value);

static_assert(kSameCall<&cuFileDriverOpen, cufile::DriverOpen>);
static_assert(kSameCall<&cuFileDriverClose_v2, cufile::DriverClose>);
static_assert(kSameCall<&cuFileHandleRegister, cufile::HandleRegister>);
static_assert(kSameCall<&cuFileHandleDeregister, cufile::HandleDeregister>);
static_assert(kSameCall<&cuFileBufRegister, cufile::BufferRegister>);
static_assert(kSameCall<&cuFileBufDeregister, cufile::BufferDeregister>);
static_assert(kSameCall<&cuFileRead, cufile::Read>);
static_assert(kSameCall<&cuFileWrite, cufile::Write>);
static_assert(kSameCall<&cuFileGetVersion, cufile::GetVersion>);
static_assert(kSameCall<&cuFileDriverGetProperties, cufile::GetProperties>);
static_assert(kSameCall<&cuFileSetStatsLevel, cufile::SetStatsLevel>);
static_assert(kSameCall<&cuFileStatsStart, cufile::StatsStart>);
static_assert(kSameCall<&cuFileStatsStop, cufile::StatsStop>);
static_assert(kSameCall<&cuFileGetStatsL3, cufile::GetStatsL3>);

static_assert(sizeof(cufile::Outcome) == sizeof(CUfileError_t));
static_assert(offsetof(cufile::Outcome, code) == offsetof(CUfileError_t, err));
static_assert(offsetof(cufile::Outcome, cuda) == offsetof(CUfileError_t, cu_err));
static_assert(cufile::kCodeBase == CUFILEOP_BASE_ERR);
static_assert(cufile::kIoNotSupported == CU_FILE_IO_NOT_SUPPORTED);
static_assert(cufile::kCudaDriverError == CU_FILE_CUDA_DRIVER_ERROR);
static_assert(cufile::kDriverAlreadyOpen == CU_FILE_DRIVER_ALREADY_OPEN);
static_assert(cufile::kHandleNotRegistered == CU_FILE_HANDLE_NOT_REGISTERED);
static_assert(cufile::kHandleAlreadyRegistered == CU_FILE_HANDLE_ALREADY_REGISTERED);

static_assert(sizeof(cufile::Descriptor) == sizeof(CUfileDescr_t));
static_assert(offsetof(cufile::Descriptor, type) == offsetof(CUfileDescr_t, type));
static_assert(offsetof(cufile::Descriptor, file) == offsetof(CUfileDescr_t, handle));
static_assert(offsetof(cufile::Descriptor, operations) == offsetof(CUfileDescr_t, fs_ops));
static_assert(sizeof(cufile::HandleType) == sizeof(CUfileDescr_t::type));
static_assert(static_cast<int>(cufile::HandleType::Fd) == CU_FILE_HANDLE_TYPE_OPAQUE_FD);

using Properties = cufile::DriverProperties;
static_assert(sizeof(Properties) == sizeof(CUfileDrvProps_t));
static_assert(offsetof(Properties, nvfs.poll_threshold) ==
              offsetof(CUfileDrvProps_t, nvfs.poll_thresh_size));
static_assert(offsetof(Properties, nvfs.status_flags) ==
              offsetof(CUfileDrvProps_t, nvfs.dstatusflags));
static_assert(offsetof(Properties, nvfs.control_flags) ==
              offsetof(CUfileDrvProps_t, nvfs.dcontrolflags));
static_assert(offsetof(Properties, feature_flags) == offsetof(CUfileDrvProps_t, fflags));
static_assert(offsetof(Properties, max_pinned_memory_size) ==
              offsetof(CUfileDrvProps_t, max_device_pinned_mem_size));
static_assert(offsetof(Properties, max_batch_timeout_ms) ==
              offsetof(CUfileDrvProps_t, max_batch_io_timeout_msecs));

using Counters = cufile::GpuCounters;
static_assert(sizeof(Counters) == sizeof(CUfilePerGpuStats_t));
static_assert(sizeof(Counters::uuid) == sizeof(CUfilePerGpuStats_t::uuid));
static_assert(offsetof(Counters, read_bytes) == offsetof(CUfilePerGpuStats_t, read_bytes));
static_assert(offsetof(Counters, p2p_reads) == offsetof(CUfilePerGpuStats_t, n_p2p_reads));
static_assert(offsetof(Counters, nvfs_reads) == offsetof(CUfilePerGpuStats_t, n_nvfs_reads));
static_assert(offsetof(Counters, posix_reads) == offsetof(CUfilePerGpuStats_t, n_posix_reads));
static_assert(offsetof(Counters, read_errors) == offsetof(CUfilePerGpuStats_t, n_reads_err));
static_assert(offsetof(Counters, write_bytes) == offsetof(CUfilePerGpuStats_t, writes_bytes));
static_assert(offsetof(Counters, p2p_writes) == offsetof(CUfilePerGpuStats_t, n_p2p_writes));
static_assert(offsetof(Counters, nvfs_writes) == offsetof(CUfilePerGpuStats_t, n_nvfs_writes));
static_assert(offsetof(Counters, posix_writes) == offsetof(CUfilePerGpuStats_t, n_posix_writes));
static_assert(offsetof(Counters, write_errors) == offsetof(CUfilePerGpuStats_t, n_writes_err));
static_assert(offsetof(Counters, registered_bytes) == offsetof(CUfilePerGpuStats_t, reg_bytes));
static_assert(4 * sizeof(CUfileStatsLevel3_t) < cufile::kStatsRoom);

TEST(CufileAbi, CountersAreFoundInTheVendorsStatistics) {
  CUfileStatsLevel3_t stats{};
  stats.num_gpus = 3;
  std::array<uint8_t, 16> uuid{};
  for (size_t gpu = 0; gpu < 3; ++gpu) {
    for (size_t i = 0; i < 16; ++i)
      stats.per_gpu_stats[gpu].uuid[i] = static_cast<char>(100 + 16 * gpu + i);
    stats.per_gpu_stats[gpu].n_p2p_reads = 10 * gpu + 1;
    stats.per_gpu_stats[gpu].n_posix_writes = 10 * gpu + 2;
  }
  for (size_t i = 0; i < 16; ++i) uuid[i] = static_cast<uint8_t>(116 + i);
  const auto bytes = std::as_bytes(std::span{&stats, 1});
  const auto found = find_gpu_counters(bytes, uuid);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->p2p_reads, 11U);
  EXPECT_EQ(found->posix_writes, 12U);
  uuid[5] ^= 1;
  EXPECT_FALSE(find_gpu_counters(bytes, uuid));
}

// Loading it and asking for its version is all that can be done without an NVIDIA driver: opening
// its driver would never return.
TEST(CufileAbi, TheVendorsLibraryLoadsAndHasEveryFunction) {
  ::setenv(kCufileLibraryVariable, PENSTOCK_VENDOR_CUFILE, 1);
  const auto library = load_cufile({});
  ASSERT_TRUE(library) << library.error().message;
  EXPECT_GE(library->version, 1150);
  EXPECT_LT(library->version, 10'000);
  EXPECT_TRUE(library->has_stats());
  EXPECT_NE(library->get_properties, nullptr);
  EXPECT_TRUE(std::filesystem::equivalent(library->path, PENSTOCK_VENDOR_CUFILE));
}

}  // namespace
}  // namespace penstock
