#include "store/store_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "store/space.hpp"

namespace penstock {

StoreFiles::StoreFiles(const std::string& directory)
    : index{directory + "/penstock.db"},
      wal{index + "-wal"},
      shared{index + "-shm"},
      lock{directory + "/penstock.lock"},
      set_aside{index + ".damaged"},
      damage_note{directory + "/penstock.damaged"} {}

void StoreFiles::note_damage(const std::string& reason) const noexcept {
  const UniqueFd fd{::open(damage_note.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
  // An empty note does as well: on a full disk the reason is lost, not the note.
  if (!fd || ::write(fd.get(), reason.data(), reason.size()) < 0)
    log_once(LogLevel::Warning, "cannot write " + damage_note);
}

bool StoreFiles::has_damage_note() const noexcept {
  struct stat about {};
  return ::stat(damage_note.c_str(), &about) == 0;
}

bool StoreFiles::had_index() const noexcept {
  struct stat about {};
  return file_size(index) != 0 || ::stat(lock.c_str(), &about) == 0;
}

Result<void> StoreFiles::put_index_aside(uint64_t most_bytes) const {
  if (::rename(index.c_str(), set_aside.c_str()) != 0 && errno != ENOENT) {
    return Error{Status::Io, "cannot rename the damaged index " + index + ": " +
                                 std::system_category().message(errno)};
  }
  const bool keep = file_size(set_aside) <= most_bytes;
  for (const std::string* path : {&wal, &shared, &damage_note, &set_aside}) {
    if (path == &set_aside && keep) continue;
    if (::unlink(path->c_str()) != 0 && errno != ENOENT) {
      return Error{Status::Io,
                   "cannot remove " + *path + ": " + std::system_category().message(errno)};
    }
  }
  return {};
}

}  // namespace penstock
