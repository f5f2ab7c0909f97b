#include "io/cufile_driver.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <optional>

#include "base/assert.hpp"
#include "io/cufile_errors.hpp"
#include "io/cufile_settings.hpp"

namespace penstock {
namespace {

// Never destroyed: a thread that was left behind may come to it while the process ends.
struct Process {
  std::mutex mutex;  // guards all below, and orders open and close
  size_t leases = 0;
  bool opened_here = false;
  CufileLibrary library;
  std::optional<CufileSettings> settings;
};

Process& process() {
  static Process& instance = *new Process;
  return instance;
}

Result<void> open_driver(Process& state, std::span<const std::string> directories) {
  auto settings = CufileSettings::create();
  if (!settings) return settings.take_error();
  state.settings.emplace(std::move(*settings));
  const ScopedVariable variable{kCufileConfigVariable, state.settings->path()};
  auto library = load_cufile(directories);
  if (!library) return library.take_error();
  state.library = std::move(*library);
  const cufile::Outcome outcome = state.library.driver_open();
  state.opened_here = outcome.code == 0;
  if (outcome.code == 0 || outcome.code == cufile::kDriverAlreadyOpen) return {};
  return Error{Status::Io, "cuFileDriverOpen failed with " + describe_cufile(outcome)};
}

}  // namespace

Result<CufileDriver> CufileDriver::open(std::span<const std::string> library_directories) {
  Process& state = process();
  const std::lock_guard lock{state.mutex};
  if (state.leases == 0) {
    if (auto opened = open_driver(state, library_directories); !opened) {
      state.settings.reset();
      return opened.take_error();
    }
  }
  ++state.leases;
  return CufileDriver{};
}

CufileDriver::~CufileDriver() {
  if (!held_) return;
  Process& state = process();
  const std::lock_guard lock{state.mutex};
  if (--state.leases > 0) return;
  if (state.opened_here) state.library.driver_close();  // nobody is left to hear of an error
  state.settings.reset();
}

const CufileLibrary& CufileDriver::library() const noexcept {
  PENSTOCK_ASSERT(held_);
  return process().library;  // does not change while there is a lease
}

Result<CufileBuffer> CufileBuffer::make(const CufileLibrary& library, std::span<std::byte> memory) {
  if (memory.empty()) return CufileBuffer{library, memory};
  const auto outcome = library.buffer_register(memory.data(), memory.size(), 0);
  if (outcome.code == 0) return CufileBuffer{library, memory};
  return Error{Status::Io, "cuFileBufRegister of " + std::to_string(memory.size() >> 20) +
                               " MiB failed with " + describe_cufile(outcome)};
}

CufileBuffer::~CufileBuffer() {
  if (!memory_.empty()) library_->buffer_deregister(memory_.data());
}

std::pair<std::byte*, off_t> CufileBuffer::locate(std::byte* data, size_t size) const noexcept {
  const auto begin = reinterpret_cast<uintptr_t>(memory_.data());
  const auto at = reinterpret_cast<uintptr_t>(data);
  const bool inside =
      at >= begin && at - begin < memory_.size() && size <= memory_.size() - (at - begin);
  if (!inside) return {data, 0};
  return {memory_.data(), static_cast<off_t>(at - begin)};
}

CufileFiles::~CufileFiles() {
  for (const auto& [fd, file] : files_) library_->handle_deregister(file.handle);
}

CufileFiles::Found CufileFiles::find(int fd) noexcept {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return {nullptr, errno};
  const std::lock_guard lock{mutex_};
  if (const auto known = files_.find(fd); known != files_.end()) {
    const File& file = known->second;
    if (file.device == status.st_dev && file.inode == status.st_ino) return {file.handle, 0};
    library_->handle_deregister(file.handle);
    files_.erase(known);
  }
  if (files_.size() == kMaxFiles) return {nullptr, EMFILE};
  UniqueFd own{::fcntl(fd, F_DUPFD_CLOEXEC, 3)};
  if (!own) return {nullptr, errno};
  cufile::Descriptor descriptor;
  descriptor.file.fd = own.get();
  cufile::Handle handle = nullptr;
  const auto outcome = library_->handle_register(&handle, &descriptor);
  if (outcome.code != 0) return {nullptr, outcome.code};
  files_.emplace(fd, File{status.st_dev, status.st_ino, std::move(own), handle});
  return {handle, 0};
}

}  // namespace penstock
