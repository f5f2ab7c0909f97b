#include "io/cufile_probe.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <map>
#include <mutex>
#include <system_error>

#include "base/fd.hpp"
#include "io/cufile_host.hpp"
#include "io/cufile_library.hpp"
#include "io/cufile_settings.hpp"
#include "io/limited_child.hpp"
#include "io/own_place.hpp"

namespace penstock {
namespace {

constexpr const char* kProgram = "penstock-probe";

CufileVerdict refusal(std::string sentence) {
  CufileVerdict verdict;
  verdict.sentence = std::move(sentence);
  return verdict;
}

// A file that the helper fills, gone with this object.
class ScratchFile {
 public:
  explicit ScratchFile(const std::string& directory)
      : path_{directory + "/.penstock-probe-XXXXXX"} {
    const UniqueFd file{::mkstemp(path_.data())};
    if (!file) error_ = errno;
  }
  ~ScratchFile() {
    if (error_ == 0) ::unlink(path_.c_str());
  }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  const std::string& path() const { return path_; }
  int error() const { return error_; }

 private:
  std::string path_;
  int error_ = 0;
};

CufileVerdict run_helper(const CufileProbeOptions& options, const std::string& program) {
  const ScratchFile scratch{options.directory};
  if (scratch.error() != 0)
    return refusal("the probe cannot make a file in " + options.directory + ": " +
                   std::system_category().message(scratch.error()));
  const auto settings = CufileSettings::create();
  if (!settings) return refusal(settings.error().message);

  const auto limit = options.limit.count();
  std::vector<std::string> words{program, scratch.path(), options.gpu,
                                 std::to_string(options.registered_bytes), std::to_string(limit)};
  words.insert(words.end(), options.library_directories.begin(), options.library_directories.end());
  Environment more;
  if (!settings->is_the_users()) more.emplace_back(kCufileConfigVariable, settings->path());
  // What this process runs is what has to be proven.
  if (const auto loaded = loaded_cufile(); !loaded.empty())
    more.emplace_back(kCufileLibraryVariable, loaded);

  const auto end = run_limited(std::move(words), more, options.limit);
  if (!end) return refusal("the probe cannot be run: " + end.error().message);
  auto verdict = read_report(
      end->output,
      {.timed_out = end->timed_out, .limit_s = static_cast<int>(limit), .signal = end->signal});
  if (const auto line = settings->last_log_line(); !verdict.usable && !line.empty())
    verdict.sentence += "; cuFile's log: " + line;
  return verdict;
}

// Why a helper would be in vain; empty: nothing is known.
std::string obstacle_to(const CufileProbeOptions& options) {
  if (!options.check_host) return {};
  return examine_cufile_host(options.directory, options.system_root).obstacle();
}

}  // namespace

Result<std::string> find_probe_program() {
  if (const char* const named = std::getenv(kProbeVariable); named != nullptr && *named != '\0')
    return std::string{named};
  std::string places;
  for (const auto& directory : own_directories()) {
    const std::string path = directory / kProgram;
    if (::access(path.c_str(), X_OK) == 0) return path;
    places += (places.empty() ? "" : " and ") + directory.string();
  }
  return Error{Status::NotFound,
               std::string{kProgram} + " is missing (looked in " + places + "); install it again"};
}

CufileVerdict probe_cufile(const CufileProbeOptions& options) {
  if (auto obstacle = obstacle_to(options); !obstacle.empty()) return refusal(std::move(obstacle));
  const auto program = find_probe_program();
  if (!program) return refusal(program.error().message);
  return run_helper(options, *program);
}

CufileVerdict probe_cufile_once(const CufileProbeOptions& options) {
  static std::mutex mutex;
  static std::map<std::pair<dev_t, std::string>, CufileVerdict> known;
  constexpr size_t kMaxKnown = 256;
  // Not remembered: it costs nothing, and another call may not ask for it.
  if (auto obstacle = obstacle_to(options); !obstacle.empty()) return refusal(std::move(obstacle));
  struct stat status {};
  if (::stat(options.directory.c_str(), &status) != 0)
    return refusal(options.directory + ": " + std::system_category().message(errno));
  // Held during the probe: two engines that open together are to cost one probe.
  const std::lock_guard lock{mutex};
  const auto key = std::pair{status.st_dev, options.gpu};
  if (const auto found = known.find(key); found != known.end()) return found->second;
  auto verdict = probe_cufile(options);
  if (known.size() < kMaxKnown) known.emplace(key, verdict);
  return verdict;
}

}  // namespace penstock
