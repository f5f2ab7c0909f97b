#include "io/cufile_open.hpp"

#include "base/sizes.hpp"
#include "io/cufile_engine.hpp"
#include "io/cufile_probe.hpp"
#include "io/open.hpp"

namespace penstock {
namespace {

Error invalid(std::string message) {
  return {Status::Invalid, "cuFile: " + std::move(message)};
}

Result<void> check(const CufileOptions& options) {
  if (options.depth < 1 || options.depth > kMaxIoDepth)
    return invalid("depth must be 1 to " + std::to_string(kMaxIoDepth));
  if (options.directories.empty()) return invalid("no directory is given");
  const auto address = reinterpret_cast<uintptr_t>(options.memory.data());
  if ((address | options.memory.size()) % kSector != 0)
    return invalid("its memory must begin and end at a multiple of " + std::to_string(kSector));
  return {};
}

CufileVerdict ask(const CufileOptions& options, const std::string& directory) {
  const CufileProbeOptions probe{.directory = directory,
                                 .gpu = options.gpu,
                                 .registered_bytes = options.memory.size(),
                                 .library_directories = options.library_directories,
                                 .limit = options.probe_limit,
                                 .check_host = options.mode == CufileOptions::Mode::Proven,
                                 .system_root = options.system_root};
  return options.fresh ? probe_cufile(probe) : probe_cufile_once(probe);
}

std::string path_of(const CufileVerdict& verdict) {
  const CufilePath reads = verdict.reads.path();
  return std::string{reads == verdict.writes.path() ? to_string(reads) : "mixed"};
}

}  // namespace

Result<OpenedCufile> open_cufile_engine(const CufileOptions& options) {
  if (auto good = check(options); !good) return good.take_error();
  const bool force = options.mode == CufileOptions::Mode::Force;
  OpenedCufile opened;
  for (const std::string& directory : options.directories) {
    auto verdict = ask(options, directory);
    const bool good = force ? verdict.usable : verdict.proven();
    if (!good)
      return Error{Status::Unsupported,
                   "cuFile is not used for " + directory + ": " + verdict.sentence};
    const auto path = path_of(verdict);
    opened.path = opened.path.empty() || opened.path == path ? path : "mixed";
    opened.reason += (opened.reason.empty() ? "cuFile " + format_version(verdict.version) : ";") +
                     std::string{" for "} + directory + ": " + verdict.sentence;
    opened.verdicts.push_back(std::move(verdict));
  }
  auto engine = make_cufile_engine({.depth = options.depth,
                                    .threads = options.threads,
                                    .memory = options.memory,
                                    .memory_owner = options.memory_owner,
                                    .thread_init = options.thread_init,
                                    .on_result = options.on_result,
                                    .library_directories = options.library_directories,
                                    .open_limit = options.open_limit,
                                    .close_limit = options.close_limit});
  if (!engine)
    return Error{engine.status(),
                 "cuFile passed its probe and fails here: " + engine.error().message};
  opened.engine = std::move(*engine);
  return opened;
}

}  // namespace penstock
