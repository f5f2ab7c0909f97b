// The part of cuFile's binary interface that Penstock uses, declared in our own words: types,
// numbers and the signatures of functions that are found with dlsym.
//
// The vendor's header is proprietary and is not needed to build. Where it is installed, a test
// compares every size, offset, number and signature with it. Plain data; no behaviour.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace penstock::cufile {

// What most calls return, by value. `code` is 0 or 50xx; `cuda` is a CUresult, of meaning with
// 5011.
struct Outcome {
  int32_t code = 0;
  int32_t cuda = 0;
};

// The numbers that the program acts on; cufile_errors.cpp knows more of them by name.
inline constexpr int kCodeBase = 5000;
inline constexpr int kIoNotSupported = 5008;
inline constexpr int kCudaDriverError = 5011;
inline constexpr int kDriverAlreadyOpen = 5026;
inline constexpr int kHandleNotRegistered = 5027;
inline constexpr int kHandleAlreadyRegistered = 5028;

using Handle = void*;  // of a registered file

enum class HandleType : int32_t { Fd = 1 };

struct Descriptor {
  HandleType type = HandleType::Fd;
  union {
    int fd;
    void* pointer;
  } file = {};
  const void* operations = nullptr;  // for file systems in user space; not used
};

struct DriverProperties {
  struct {
    uint32_t major_version, minor_version;
    size_t poll_threshold, max_direct_io_size;
    uint32_t status_flags, control_flags;
  } nvfs;
  uint32_t feature_flags, max_device_cache_size, per_buffer_cache_size, max_pinned_memory_size,
      max_batch_size, max_batch_timeout_ms;
};

// One GPU's counters in the statistics of level 3. What stands before them has grown between
// versions, so they are found by the GPU's UUID (cufile_counters.hpp).
struct GpuCounters {
  uint8_t uuid[16];
  uint64_t read_bytes, read_bandwidth, read_utilization, read_duration_us;
  uint64_t reads, p2p_reads, nvfs_reads, posix_reads, unaligned_reads, routed_reads;
  uint64_t sparse_regions, inline_regions, read_errors;
  uint64_t write_bytes, write_bandwidth, write_utilization, write_duration_us;
  uint64_t writes, p2p_writes, nvfs_writes, posix_writes, unaligned_writes, routed_writes;
  uint64_t write_errors;
  uint64_t maps, maps_ok, map_errors, unmaps, registered_bytes;
};
inline constexpr size_t kStatsRoom = 64 * 1024;  // far more than any version has written so far
inline constexpr int kStatsVersion = 1150;       // the first with statistics: 1.15

using DriverOpen = Outcome (*)();
using DriverClose = Outcome (*)();
using HandleRegister = Outcome (*)(Handle* handle, Descriptor* descriptor);
using HandleDeregister = void (*)(Handle handle);
using BufferRegister = Outcome (*)(const void* base, size_t size, int flags);
using BufferDeregister = Outcome (*)(const void* base);
// Bytes moved; -1 with errno (also a 50xx there), or a negative code.
using Read = ssize_t (*)(Handle handle, void* base, size_t size, off_t file_offset,
                         off_t base_offset);
using Write = ssize_t (*)(Handle handle, const void* base, size_t size, off_t file_offset,
                          off_t base_offset);
using GetVersion = Outcome (*)(int* version);  // 1000 * major + 10 * minor
using GetProperties = Outcome (*)(DriverProperties* properties);
using SetStatsLevel = Outcome (*)(int level);
using StatsStart = Outcome (*)();
using StatsStop = Outcome (*)();
using GetStatsL3 = Outcome (*)(void* stats);  // at least kStatsRoom bytes

}  // namespace penstock::cufile
