#include "engine/direct_path.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "io/cufile_open.hpp"

namespace penstock {
namespace {

// Calls into cuFile block, so each request of a drive at a time takes a thread.
constexpr size_t kThreadsPerDrive = 8;
constexpr size_t kMostThreads = 32;

OpenedDirectPath refuse(LogLevel level, std::string reason) {
  log_once(level, "Blocks go through host memory: " + reason);
  return {nullptr, "none", std::move(reason)};
}

}  // namespace

OpenedDirectPath open_direct_path(const GdsConfig& config, Device& device,
                                  DirectPathOptions options) {
  if (config.enable_gds == "false") return {nullptr, "none", "enable_gds is false"};
  const bool force = config.enable_gds == "force";
  const LogLevel level = force ? LogLevel::Warning : LogLevel::Info;
  if (options.has_memory_tier)
    return refuse(force ? LogLevel::Warning : LogLevel::Debug,
                  "there is a memory tier, and what is loaded is to stay there");
  auto memory = device.make_direct_memory(options.slots * options.slot_bytes);
  if (memory.status() == Status::Unsupported)
    return {nullptr, "none", memory.take_error().message};  // nobody expects it there
  if (!memory) return refuse(level, memory.error().message);
  const size_t threads = std::min(kThreadsPerDrive * config.cache_dir.size(), kMostThreads);
  auto opened =
      open_cufile_engine({.mode = force ? CufileOptions::Mode::Force : CufileOptions::Mode::Proven,
                          .directories = config.cache_dir,
                          .gpu = memory->gpu,
                          .memory = memory->bytes,
                          .memory_owner = memory->owner,
                          .depth = options.slots,
                          .threads = threads,
                          .thread_init = memory->enter_thread,
                          .on_result = std::move(options.on_result)});
  if (!opened) return refuse(level, opened.error().message);
  log_once(LogLevel::Info, opened->reason);
  Staging staging{memory->bytes, std::move(memory->owner), options.slot_bytes};
  std::unique_ptr<DirectPath> path{new DirectPath{std::move(staging), std::move(opened->engine)}};
  return {std::move(path), std::move(opened->path), std::move(opened->reason)};
}

}  // namespace penstock
