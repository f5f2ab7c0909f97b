// Directories, files and buffers for tests: on the real file system of the working directory, so
// that O_DIRECT is what it is in use, and gone at the end.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/sizes.hpp"

namespace penstock::test {

class TempDir {
 public:
  explicit TempDir(const std::filesystem::path& where = std::filesystem::current_path()) {
    std::string pattern = (where / "penstock-test-XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A file system in memory, where there is one: for tests whose subject is not the drive, and that
// would wait for it a thousand times.
inline std::filesystem::path in_memory() {
  return std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : std::filesystem::current_path();
}

// Sector-aligned memory, zeroed.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(size_t size)
      : data_{static_cast<std::byte*>(std::aligned_alloc(kSector, round_up(size, kSector)))},
        size_{size} {
    std::fill_n(data_.get(), size_, std::byte{0});
  }
  std::byte* data() const { return data_.get(); }
  size_t size() const { return size_; }
  std::span<std::byte> span() const { return {data_.get(), size_}; }

 private:
  struct Freer {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  std::unique_ptr<std::byte[], Freer> data_;
  size_t size_;
};

inline std::vector<std::byte> random_bytes(size_t size, uint64_t seed) {
  std::mt19937_64 random{seed};
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + i, &word, std::min(sizeof word, size - i));
  }
  return bytes;
}

// Replaces the file's content; the descriptor is its own and goes through the page cache.
inline void write_file(const std::string& path, std::span<const std::byte> bytes) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::pwrite(fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  ASSERT_EQ(::fsync(fd), 0);
  ::close(fd);
}

inline std::vector<std::byte> read_file(const std::string& path) {
  std::vector<std::byte> bytes(std::filesystem::file_size(path));
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(::pread(fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  ::close(fd);
  return bytes;
}

}  // namespace penstock::test
