#include "io/probe/proof.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <system_error>
#include <vector>

#include "base/sizes.hpp"
#include "io/cufile_counters.hpp"
#include "io/cufile_driver.hpp"
#include "io/cufile_errors.hpp"
#include "io/open.hpp"
#include "io/probe/cuda_driver.hpp"

namespace penstock::probe {
namespace {

constexpr uint64_t kMoved = 4 * 1024 * 1024;  // each way
constexpr uint64_t kCall = 1024 * 1024;       // a block, as the store moves it
constexpr uint64_t kGranule = 64 * 1024;      // GPU memory is pinned in pages of this size

struct Freer {
  void operator()(uint64_t* words) const { std::free(words); }
};

// Host memory that an O_DIRECT file can use.
class Bytes {
 public:
  Bytes() : words_{static_cast<uint64_t*>(std::aligned_alloc(kSector, kMoved))} {}
  uint64_t* data() const { return words_.get(); }
  // Numbers that occur once, so that a byte in a wrong place shows.
  void fill(uint64_t seed) const {
    for (uint64_t i = 0; i < kMoved / sizeof(uint64_t); ++i)
      data()[i] = (seed + i) * 0x9e3779b97f4a7c15;
  }
  bool equals(const Bytes& other) const {
    return std::equal(data(), data() + kMoved / sizeof(uint64_t), other.data());
  }

 private:
  std::unique_ptr<uint64_t[], Freer> words_;
};

Error failed(const std::string& what, int code) {
  return {Status::Io, what + " failed with " + describe_cufile_code(code)};
}

// Statistics of level 3 while it lives; they must be off before the driver is closed.
class Statistics {
 public:
  explicit Statistics(const CufileLibrary& library) : library_{library} {
    if (!library.has_stats()) return;
    running_ = library.set_stats_level(3).code == 0 && library.stats_start().code == 0;
  }
  ~Statistics() {
    if (running_) library_.stats_stop();
  }
  Statistics(const Statistics&) = delete;
  Statistics& operator=(const Statistics&) = delete;
  std::optional<cufile::GpuCounters> read(const GpuUuid& uuid) const {
    if (!running_) return std::nullopt;
    std::vector<std::byte> room(cufile::kStatsRoom);
    if (library_.get_stats_l3(room.data()).code != 0) return std::nullopt;
    return find_gpu_counters(room, uuid);
  }

 private:
  const CufileLibrary& library_;
  bool running_ = false;
};

// Everything that both directions use.
struct Path {
  const CufileLibrary& library;
  const CudaGpu::Memory& memory;
  const CufileBuffer& buffer;
  uint64_t offset;  // of the moved bytes in `memory`
  int fd;
  cufile::Handle handle;

  // All of it by cuFile, call by call.
  Result<void> move(bool reading) const {
    for (uint64_t done = 0; done < kMoved;) {
      const uint64_t size = std::min(kCall - done % kCall, kMoved - done);
      const auto [base, base_offset] = buffer.locate(memory.address() + offset + done, size);
      errno = 0;
      const auto at = static_cast<off_t>(done);
      const ssize_t moved = reading ? library.read(handle, base, size, at, base_offset)
                                    : library.write(handle, base, size, at, base_offset);
      const int error = errno;
      const char* const call = reading ? "cuFileRead" : "cuFileWrite";
      if (moved < 0) return failed(call, cufile_code(moved, error));
      if (moved == 0 || static_cast<uint64_t>(moved) > size)
        return Error{Status::Io, fmt::format("{} of {} bytes moved {}", call, size, moved)};
      done += static_cast<uint64_t>(moved);
    }
    return {};
  }
};

// All of it by plain system calls on the same descriptor: mixing O_DIRECT and the page cache is
// what cuFile does not bear. Afterwards nothing of the file is in memory.
Result<void> move_on_host(int fd, bool reading, const Bytes& bytes) {
  auto* const data = reinterpret_cast<char*>(bytes.data());
  for (uint64_t done = 0; done < kMoved;) {
    const auto at = static_cast<off_t>(done);
    const ssize_t moved = reading ? ::pread(fd, data + done, kMoved - done, at)
                                  : ::pwrite(fd, data + done, kMoved - done, at);
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return failed(reading ? "pread" : "pwrite", moved < 0 ? errno : EIO);
    done += static_cast<uint64_t>(moved);
  }
  return {};
}

Result<void> settle(int fd) {
  if (::fsync(fd) != 0) return failed("fsync", errno);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  return {};
}

Result<void> prove_read(const Path& path) {
  Bytes expected;
  Bytes got;
  expected.fill(1);
  got.fill(2);  // stays there if nothing is delivered
  if (auto done = move_on_host(path.fd, false, expected); !done) return done;
  if (auto done = settle(path.fd); !done) return done;
  if (auto done = path.memory.copy_in(path.offset, got.data(), kMoved); !done) return done;
  if (auto done = path.move(true); !done) return done;
  if (auto done = path.memory.copy_out(got.data(), path.offset, kMoved); !done) return done;
  if (got.equals(expected)) return {};
  return Error{Status::Corrupt, "cuFileRead said that it was done and delivered wrong bytes"};
}

Result<void> prove_write(const Path& path) {
  Bytes expected;
  Bytes got;
  expected.fill(3);
  if (auto done = path.memory.copy_in(path.offset, expected.data(), kMoved); !done) return done;
  if (auto done = path.move(false); !done) return done;
  if (auto done = settle(path.fd); !done) return done;
  if (auto done = move_on_host(path.fd, true, got); !done) return done;
  if (got.equals(expected)) return {};
  return Error{Status::Corrupt, "cuFileWrite said that it was done and wrote wrong bytes"};
}

std::string counts(uint64_t p2p, uint64_t nvfs, uint64_t posix) {
  return fmt::format("{} {} {}", p2p, nvfs, posix);
}

Result<void> prove_with(const CufileDriver& driver, const CudaGpu& gpu,
                        const CudaGpu::Memory& memory, uint64_t registered,
                        const ProofOptions& options, const Report& report) {
  const CufileLibrary& library = driver.library();
  report.stage("switching its statistics on");
  const Statistics statistics{library};
  const auto file = open_direct(options.file, O_RDWR);
  if (!file) return file.error();
  CufileFiles files{library};
  report.stage("cuFileHandleRegister");
  const auto [handle, code] = files.find(file->fd.get());
  if (code != 0) return failed("cuFileHandleRegister", code);
  report.stage("cuFileBufRegister");
  const auto buffer = CufileBuffer::make(library, {memory.address(), registered});
  if (!buffer) return buffer.error();

  const Path path{library, memory, *buffer, registered - kMoved, file->fd.get(), handle};
  report.stage("cuFileRead");
  if (auto done = prove_read(path); !done) return done;
  report.stage("cuFileWrite");
  if (auto done = prove_write(path); !done) return done;
  report.line("usable");
  report.stage("reading its statistics");
  if (const auto found = statistics.read(gpu.uuid())) {
    report.line("reads", counts(found->p2p_reads, found->nvfs_reads, found->posix_reads));
    report.line("writes", counts(found->p2p_writes, found->nvfs_writes, found->posix_writes));
  }
  report.stage("closing cuFile");
  return {};
}

}  // namespace

Result<void> prove(const ProofOptions& options, const Report& report) {
  report.stage("opening the GPU");
  const auto gpu = CudaGpu::open(options.gpu);
  if (!gpu) return gpu.error();
  report.line("gpu", format_uuid(gpu->uuid()));
  const uint64_t registered = round_up(std::max(options.registered_bytes, kMoved), kGranule);
  const auto memory = gpu->allocate(registered);
  if (!memory) return memory.error();

  report.stage("loading libcufile");
  const auto library = load_cufile(options.library_directories);
  if (!library) return library.error();
  report.line("library", library->path);
  report.line("version", std::to_string(library->version));
  report.stage("cuFileDriverOpen");
  const auto driver = CufileDriver::open(options.library_directories);
  if (!driver) return driver.error();
  return prove_with(*driver, *gpu, *memory, registered, options, report);
}

}  // namespace penstock::probe
