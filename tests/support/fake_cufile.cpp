// A libcufile.so.0 of our own, for machines without a GPU: real bytes by pread and pwrite, and
// every failure that the real one is known for, chosen by the variable FAKE_CUFILE. "Device" memory
// is whatever memory it is given.
//
// FAKE_CUFILE holds words, read when the driver is opened:
//   counters=p2p|nvfs|posix|none   what the statistics say of every transfer (p2p)
//   writes=p2p|nvfs|posix|none     the same of writes only
//   version=1140                   what cuFileGetVersion says (1190)
//   open=5001  handle=5027  buffer=5011   that call fails with the number
//   cuda=801                       goes with such a failure
//   fail=5008@3                    the 3rd transfer answers -1 with this errno; 3+: and every later
//   negative                       ... by answering the negated number instead
//   short                          a transfer moves half of its sectors
//   flip                           a read inverts one byte and claims success
//   more                           a transfer claims more than it was asked for
//   hang=open|read|handle|stats|close     that call returns only after fake_cufile_release()
//   crash=open|stats               that call aborts
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <string>

#include "io/cufile_abi.hpp"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

using penstock::cufile::Descriptor;
using penstock::cufile::GpuCounters;
using penstock::cufile::Handle;
using penstock::cufile::Outcome;

// The UUID that tests/support/fake_cuda.cpp gives its GPU.
constexpr uint8_t kUuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
constexpr size_t kStatsOffset = 1288;  // somewhere behind general statistics

struct File {
  int fd;
};

struct Fake {
  std::mutex mutex;
  std::condition_variable released;
  std::map<std::string, std::string> mode;
  std::map<std::string, long> counts;
  std::set<int> fds;
  std::map<const void*, size_t> buffers;
  long open = 0;
  long transfers = 0;
  bool let_go = false;
  GpuCounters statistics{};

  bool has(const std::string& word) const { return mode.contains(word); }
  std::string get(const std::string& word, const std::string& otherwise = "") const {
    const auto found = mode.find(word);
    return found == mode.end() ? otherwise : found->second;
  }
  int number(const std::string& word) const { return std::atoi(get(word, "0").c_str()); }
  Outcome outcome(const std::string& word) const {
    const int code = number(word);
    return {code, code == 0 ? 0 : number("cuda")};
  }
  void hang(std::unique_lock<std::mutex>& lock, const std::string& call) {
    if (get("hang") != call) return;
    ++counts["hanging"];
    released.notify_all();
    released.wait(lock, [this] { return let_go; });
    --counts["hanging"];
  }
  void crash(const std::string& call) const {
    if (get("crash") == call) std::abort();
  }
};

Fake& fake() {
  static Fake& instance = *new Fake;
  return instance;
}

std::map<std::string, std::string> read_mode() {
  std::map<std::string, std::string> mode;
  const char* const text = std::getenv("FAKE_CUFILE");
  std::istringstream words{text == nullptr ? "" : text};
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    mode[word.substr(0, equals)] = equals == std::string::npos ? "" : word.substr(equals + 1);
  }
  return mode;
}

// The number with which transfer `state.transfers` fails; 0: it does not.
int failure(const Fake& state) {
  const std::string rule = state.get("fail");  // 5008@3 or 5008@3+
  const size_t at = rule.find('@');
  if (at == std::string::npos) return 0;
  const long nth = std::atol(rule.c_str() + at + 1);
  const bool hit = rule.ends_with('+') ? state.transfers >= nth : state.transfers == nth;
  return hit ? std::atoi(rule.c_str()) : 0;
}

void count_transfer(Fake& state, bool reading, size_t size) {
  const std::string kind =
      reading ? state.get("counters", "p2p") : state.get("writes", state.get("counters", "p2p"));
  GpuCounters& all = state.statistics;
  ++(reading ? all.reads : all.writes);
  (reading ? all.read_bytes : all.write_bytes) += size;
  if (kind == "p2p") ++(reading ? all.p2p_reads : all.p2p_writes);
  if (kind == "nvfs") ++(reading ? all.nvfs_reads : all.nvfs_writes);
  if (kind == "posix") ++(reading ? all.posix_reads : all.posix_writes);
}

// What cuFile would take a detour for.
void judge(Fake& state, const std::byte* base, size_t size, off_t offset, off_t base_offset) {
  const auto found = state.buffers.find(base);
  const bool registered = found != state.buffers.end() && base_offset >= 0 &&
                          static_cast<size_t>(base_offset) + size <= found->second;
  ++state.counts[registered ? "registered" : "unregistered"];
  const auto address = reinterpret_cast<uintptr_t>(base) + static_cast<size_t>(base_offset);
  if ((address | size | static_cast<size_t>(offset)) % 4096 != 0) ++state.counts["misaligned"];
}

ssize_t transfer(bool reading, Handle handle, void* base, size_t size, off_t offset,
                 off_t base_offset) {
  Fake& state = fake();
  std::unique_lock lock{state.mutex};
  auto* const data = static_cast<std::byte*>(base);
  ++state.transfers;
  judge(state, data, size, offset, base_offset);
  if (reading) state.hang(lock, "read");
  if (const int code = failure(state); code != 0) {
    if (state.has("negative")) return -code;
    errno = code;
    return -1;
  }
  if (state.has("short")) size = std::max<size_t>(size / 2 / 4096 * 4096, 4096);
  const bool flip = state.has("flip");
  const bool more = state.has("more");
  lock.unlock();
  const int fd = static_cast<File*>(handle)->fd;
  const ssize_t moved = reading ? ::pread(fd, data + base_offset, size, offset)
                                : ::pwrite(fd, data + base_offset, size, offset);
  if (moved <= 0) return moved;
  if (reading && flip) data[base_offset + moved / 2] ^= std::byte{1};
  const int error = errno;
  lock.lock();
  count_transfer(state, reading, static_cast<size_t>(moved));
  errno = error;
  return more ? moved + 4096 : moved;
}

}  // namespace

EXPORTED Outcome cuFileDriverOpen() {
  Fake& state = fake();
  std::unique_lock lock{state.mutex};
  state.mode = read_mode();
  state.transfers = 0;
  state.let_go = false;
  ++state.counts["opens"];
  if (std::getenv("CUFILE_ENV_PATH_JSON") == nullptr) ++state.counts["without_json"];
  state.crash("open");
  state.hang(lock, "open");
  const Outcome outcome = state.outcome("open");
  if (outcome.code == 0) ++state.open;
  return outcome;
}

EXPORTED Outcome cuFileDriverClose_v2() {
  Fake& state = fake();
  std::unique_lock lock{state.mutex};
  state.hang(lock, "close");
  ++state.counts["closes"];
  if (!state.fds.empty() || !state.buffers.empty()) ++state.counts["disorder"];
  if (--state.open < 0) ++state.counts["disorder"];
  return {};
}

EXPORTED Outcome cuFileHandleRegister(Handle* handle, Descriptor* descriptor) {
  Fake& state = fake();
  std::unique_lock lock{state.mutex};
  if (state.open <= 0) return {5001, 0};
  state.hang(lock, "handle");
  if (const Outcome outcome = state.outcome("handle"); outcome.code != 0) return outcome;
  if (!state.fds.insert(descriptor->file.fd).second) return {5028, 0};
  ++state.counts["handles"];
  *handle = new File{descriptor->file.fd};
  return {};
}

EXPORTED void cuFileHandleDeregister(Handle handle) {
  Fake& state = fake();
  const std::lock_guard lock{state.mutex};
  if (!state.buffers.empty()) ++state.counts["disorder"];
  auto* const file = static_cast<File*>(handle);
  state.fds.erase(file->fd);
  --state.counts["handles"];
  delete file;
}

EXPORTED Outcome cuFileBufRegister(const void* base, size_t size, int) {
  Fake& state = fake();
  const std::lock_guard lock{state.mutex};
  if (const Outcome outcome = state.outcome("buffer"); outcome.code != 0) return outcome;
  if (!state.buffers.emplace(base, size).second) return {5023, 0};
  return {};
}

EXPORTED Outcome cuFileBufDeregister(const void* base) {
  Fake& state = fake();
  const std::lock_guard lock{state.mutex};
  if (state.buffers.erase(base) == 0) return {5024, 0};
  return {};
}

EXPORTED ssize_t cuFileRead(Handle handle, void* base, size_t size, off_t offset,
                            off_t base_offset) {
  return transfer(true, handle, base, size, offset, base_offset);
}

EXPORTED ssize_t cuFileWrite(Handle handle, const void* base, size_t size, off_t offset,
                             off_t base_offset) {
  return transfer(false, handle, const_cast<void*>(base), size, offset, base_offset);
}

EXPORTED Outcome cuFileGetVersion(int* version) {
  const auto mode = read_mode();
  const auto found = mode.find("version");
  *version = found == mode.end() ? 1190 : std::atoi(found->second.c_str());
  return {};
}

EXPORTED Outcome cuFileSetStatsLevel(int level) {
  return {level == 3 ? 0 : 5022, 0};
}

EXPORTED Outcome cuFileStatsStart() {
  Fake& state = fake();
  const std::lock_guard lock{state.mutex};
  state.statistics = {};
  std::memcpy(state.statistics.uuid, kUuid, sizeof kUuid);
  return {};
}

EXPORTED Outcome cuFileStatsStop() {
  return {};
}

EXPORTED Outcome cuFileGetStatsL3(void* stats) {
  Fake& state = fake();
  std::unique_lock lock{state.mutex};
  state.crash("stats");
  state.hang(lock, "stats");
  const uint32_t gpus = 1;
  auto* const at = static_cast<std::byte*>(stats) + kStatsOffset;
  std::memcpy(at - sizeof(uint64_t), &gpus, sizeof gpus);
  std::memcpy(at, &state.statistics, sizeof state.statistics);
  return {};
}

// For the tests, in the same process.
EXPORTED long fake_cufile_count(const char* name) {
  Fake& state = fake();
  const std::lock_guard lock{state.mutex};
  return state.counts[name];
}

EXPORTED void fake_cufile_reset() {
  Fake& state = fake();
  const std::lock_guard lock{state.mutex};
  state.counts.clear();
}

EXPORTED void fake_cufile_release() {
  Fake& state = fake();
  const std::lock_guard lock{state.mutex};
  state.let_go = true;
  state.released.notify_all();
}

// Until a call hangs.
EXPORTED void fake_cufile_wait_for_hang() {
  Fake& state = fake();
  std::unique_lock lock{state.mutex};
  state.released.wait(lock, [&state] { return state.counts["hanging"] > 0; });
}
