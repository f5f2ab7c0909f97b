#include "store/pool.hpp"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <system_error>
#include <type_traits>

#include "base/assert.hpp"
#include "base/checksum.hpp"
#include "base/sizes.hpp"
#include "store/schema.hpp"

namespace penstock {
namespace {

constexpr char kMagic[8] = {'P', 'S', 'T', 'K', 'P', 'O', 'O', 'L'};

// The header as it lies on disk. Change it only together with kFormatVersion.
struct alignas(kSector) Header {
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;
  Uuid store;
  Uuid uuid;
  uint64_t generation;
  uint64_t block_size;
  std::byte zero[4096 - 72];
  uint64_t checksum;  // of all before it; seed 0
};
static_assert(sizeof(Header) == kPoolHeader && offsetof(Header, checksum) == 4088);
static_assert(std::is_trivially_copyable_v<Header>);

uint64_t checksum_of(const Header& header) {
  return block_checksum(std::as_bytes(std::span{&header, 1}).first(offsetof(Header, checksum)), 0);
}

std::string path_of(const std::string& directory) {
  return directory + "/" + Pool::kFileName;
}

Error pool_error(const std::string& path, const std::string& what, int error) {
  return Error{error == ENOSPC || error == EDQUOT ? Status::NoSpace : Status::Io,
               "cannot " + what + " " + path + ": " + std::system_category().message(error)};
}

// Errno of moving the whole header; 0: done. An end of file reads as ENODATA.
template <typename Move>
int move_header(Move&& move) {
  uint64_t done = 0;
  while (done < kPoolHeader) {
    const ssize_t result = move(done);
    if (result < 0 && errno == EINTR) continue;
    if (result < 0) return errno;
    if (result == 0) return ENODATA;
    done += static_cast<uint64_t>(result);
  }
  return 0;
}

int fallocate_all(int fd, uint64_t offset, uint64_t size, bool mapped) noexcept {
  int result = 0;
  do {
    result = ::fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(size));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return 0;
  if (errno != EOPNOTSUPP || mapped) return errno;
  // No reservations on this file system: the file gets its length, and blocks when they are
  // written. Capacity still bounds it; a full file system shows as a failed write.
  struct stat about {};
  if (::fstat(fd, &about) != 0) return errno;
  const auto end = static_cast<off_t>(offset + size);
  if (about.st_size >= end) return 0;
  return ::ftruncate(fd, end) == 0 ? 0 : errno;
}

}  // namespace

Uuid random_uuid() {
  Uuid uuid{};
  if (::getrandom(uuid.data(), uuid.size(), 0) == static_cast<ssize_t>(uuid.size())) return uuid;
  std::random_device device;  // getrandom(2) forbidden
  for (uint8_t& byte : uuid) byte = static_cast<uint8_t>(device());
  return uuid;
}

Result<PoolIdentity> Pool::inspect(const std::string& directory) {
  const std::string path = path_of(directory);
  const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!fd) {
    const int error = errno;
    if (error == ENOENT) return Error{Status::NotFound, path + " does not exist"};
    return pool_error(path, "open", error);
  }
  Header header;
  auto* bytes = reinterpret_cast<char*>(&header);
  const int error = move_header([&](uint64_t done) {
    return ::pread(fd.get(), bytes + done, kPoolHeader - done, static_cast<off_t>(done));
  });
  if (error != 0 && error != ENODATA) return pool_error(path, "read", error);
  if (error != 0 || std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 ||
      header.version != kFormatVersion || header.checksum != checksum_of(header)) {
    return Error{Status::Corrupt,
                 path + " has no valid header of format version " + std::to_string(kFormatVersion)};
  }
  return PoolIdentity{header.store, header.uuid, header.generation, header.block_size};
}

Result<Pool> Pool::format(const std::string& directory, const PoolIdentity& identity) {
  const std::string path = path_of(directory);
  auto file = open_direct(path, O_RDWR | O_CREAT, 0600);
  if (!file) return file.take_error();
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kFormatVersion;
  header.header_bytes = kPoolHeader;
  header.store = identity.store;
  header.uuid = identity.uuid;
  header.generation = identity.generation;
  header.block_size = identity.block_size;
  header.checksum = checksum_of(header);

  const int fd = file->fd.get();
  if (::ftruncate(fd, 0) != 0) return pool_error(path, "empty", errno);
  const auto* bytes = reinterpret_cast<const char*>(&header);
  int error = move_header([&](uint64_t done) {
    return ::pwrite(fd, bytes + done, kPoolHeader - done, static_cast<off_t>(done));
  });
  if (error == 0 && ::fdatasync(fd) != 0) error = errno;
  if (error != 0) return pool_error(path, "write", error);
  return Pool{std::move(*file), identity.block_size};
}

Result<Pool> Pool::open(const std::string& directory, const PoolIdentity& identity) {
  auto file = open_direct(path_of(directory), O_RDWR);
  if (!file) return file.take_error();
  return Pool{std::move(*file), identity.block_size};
}

Status Pool::grow(uint64_t blocks, uint64_t count) noexcept {
  const int error = fallocate_all(fd(), end_of(blocks), count * block_size_, bool{mapping_});
  if (error == 0) return Status::Ok;
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG || error == ENOMEM;
  return full ? Status::NoSpace : Status::Io;
}

Status Pool::fit(uint64_t blocks) noexcept {
  struct stat about {};
  if (::fstat(fd(), &about) != 0) return Status::Io;
  const auto size = static_cast<uint64_t>(about.st_size);
  if (size > end_of(blocks)) return cut(blocks) ? Status::Ok : Status::Io;
  if (size < end_of(blocks)) return grow(0, blocks);
  return Status::Ok;
}

bool Pool::cut(uint64_t blocks) noexcept {
  return ::ftruncate(fd(), static_cast<off_t>(end_of(blocks))) == 0;
}

Result<void> Pool::map(uint64_t blocks) {
  PENSTOCK_ASSERT(!mapping_);
  auto mapping = Mapping::of_file(fd(), end_of(blocks));
  if (!mapping) return mapping.take_error();
  mapping_ = std::move(*mapping);
  return {};
}

std::span<std::byte> Pool::memory() const noexcept {
  return mapping_ ? mapping_.bytes().subspan(kPoolHeader) : std::span<std::byte>{};
}

uint64_t Pool::allocated() const noexcept {
  struct stat about {};
  if (::fstat(fd(), &about) != 0) return 0;
  const auto size = static_cast<uint64_t>(about.st_size);
  return size > kPoolHeader ? (size - kPoolHeader) / block_size_ : 0;
}

}  // namespace penstock
