// Owners of what cuFile hands out: the driver, registered memory, registered files.
//
// cuFile wants them gone in this order: memory, files, driver. Whoever holds several declares them
// the other way round. The driver is one for the process: opened by the first lease, closed by the
// last. Every call here may hang in the vendor's code; callers are threads that may be left behind.
// Any thread, with a current CUDA context.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <utility>

#include "base/fd.hpp"
#include "io/cufile_library.hpp"

namespace penstock {

class CufileDriver {
 public:
  // A lease of the process's driver. Unsupported if there is no library, Io if it does not open.
  static Result<CufileDriver> open(std::span<const std::string> library_directories);
  CufileDriver(CufileDriver&& other) noexcept : held_{std::exchange(other.held_, false)} {}
  CufileDriver& operator=(CufileDriver&&) = delete;
  ~CufileDriver();
  const CufileLibrary& library() const noexcept;

 private:
  CufileDriver() noexcept : held_{true} {}
  bool held_;
};

class CufileBuffer {
 public:
  // An empty `memory` registers nothing.
  static Result<CufileBuffer> make(const CufileLibrary& library, std::span<std::byte> memory);
  CufileBuffer(CufileBuffer&& other) noexcept
      : library_{other.library_}, memory_{std::exchange(other.memory_, {})} {}
  CufileBuffer& operator=(CufileBuffer&&) = delete;
  ~CufileBuffer();
  // cuFile finds a registration by its base only: an address inside goes as base and offset. Memory
  // outside is its own base, and slow.
  std::pair<std::byte*, off_t> locate(std::byte* data, size_t size) const noexcept;

 private:
  CufileBuffer(const CufileLibrary& library, std::span<std::byte> memory) noexcept
      : library_{&library}, memory_{memory} {}
  const CufileLibrary* library_;
  std::span<std::byte> memory_;
};

// Files registered on their first use; at most kMaxFiles. A descriptor that has come to mean
// another file is noticed and registered again.
class CufileFiles {
 public:
  static constexpr size_t kMaxFiles = 1024;

  explicit CufileFiles(const CufileLibrary& library) noexcept : library_{&library} {}
  CufileFiles(const CufileFiles&) = delete;
  CufileFiles& operator=(const CufileFiles&) = delete;
  ~CufileFiles();
  // The handle, or an error number: errno's, or 50xx.
  struct Found {
    cufile::Handle handle = nullptr;
    int code = 0;
  };
  Found find(int fd) noexcept;

 private:
  struct File {
    dev_t device;
    ino_t inode;
    UniqueFd own;
    cufile::Handle handle;
  };
  const CufileLibrary* library_;
  std::mutex mutex_;
  std::map<int, File> files_;  // by the caller's descriptor
};

}  // namespace penstock
