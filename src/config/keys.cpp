#include "config/keys.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <type_traits>

#include "base/checksum.hpp"
#include "base/sizes.hpp"

namespace penstock {
namespace {

template <auto Member>
auto& field(Config& config) {
  if constexpr (std::is_invocable_v<decltype(Member), Config&>) {
    return config.*Member;
  } else if constexpr (std::is_invocable_v<decltype(Member), GdsConfig&>) {
    return config.gds_config.*Member;
  } else {
    return config.local_config.*Member;
  }
}

std::vector<ConfigKey> make_keys() {
  constexpr double kMaxGb = 1e9;
  constexpr double kMaxSeconds = 3600;
  using C = Config;
  using G = GdsConfig;
  using L = LocalConfig;
  return {
      {.name = "backend",
       .access = &field<&C::backend>,
       .help = "Where copies are kept: on drives (gds), in host memory that all processes of the "
               "node share (local), on other nodes (remote; not built yet), or a list of them from "
               "fast to slow: [local, gds]. With both, saves go to memory and from there to the "
               "drives, and what is loaded from a drive is kept in memory too. Of a list, one that "
               "cannot start is left out with a warning (metric: backends_left_out); a size of "
               "local_config that does not fit is refused. Behind them may stand Python classes, "
               "as package.module:Class; see docs/user-document.md.",
       .choices = {"gds", "local", "remote"},
       .takes_classes = true},
      {.name = "cache_dir",
       .section = Section::Gds,
       .access = &field<&G::cache_dir>,
       .help = "Directory of the store, or a list of directories, one a drive; the first holds the "
               "index. Its last part is created if it is missing. On ext4 or xfs; on btrfs a full "
               "file system can end the process. Required."},
      {.name = "enable_gds",
       .section = Section::Gds,
       .access = &field<&G::enable_gds>,
       .help =
           "Use cuFile (GPUDirect Storage) between drive and GPU. true: where a test at start has "
           "proven that bytes go straight; force: wherever it works, also through host memory, "
           "for tests and comparison; false: never. Not behind a memory tier (local).",
       .choices = {"true", "false", "force"}},
      {.name = "enable_rdma",
       .section = Section::Gds,
       .access = &field<&G::enable_rdma>,
       .help = "Use NIXL between nodes. This build has no remote tier and ignores it."},
      {.name = "remote_nixl_server",
       .section = Section::Gds,
       .access = &field<&G::remote_nixl_server>,
       .help = "host:port of the NIXL server. This build has no remote tier and ignores it."},
      {.name = "max_concurrent_ops",
       .section = Section::Gds,
       .access = &field<&G::max_concurrent_ops>,
       .help = "Jobs of a kind (loads, saves) that share the drives at a time; later ones wait.",
       .min = 1,
       .max = 1024},
      {.name = "block_size",
       .section = Section::Gds,
       .access = &field<&G::block_size>,
       .unit = "bytes",
       .help = "Unit of allocation and of I/O. Fixed when the store is created; an existing store "
               "keeps its own.",
       .min = kSector,
       .max = kMaxBlock,
       .multiple = kSector},
      {.name = "prefetch_factor",
       .section = Section::Gds,
       .access = &field<&G::prefetch_factor>,
       .help = "Layers ahead of the one that is waited for. All of them are asked for at once, in "
               "their order, so this is accepted and changes nothing.",
       .max = 1024},
      {.name = "max_cache_size_gb",
       .section = Section::Gds,
       .access = &field<&G::max_cache_size_gb>,
       .unit = "GB of 1e9 bytes",
       .help = "Capacity of all directories together, index included.",
       .min = 0.001,
       .max = kMaxGb},
      {.name = "eviction_policy",
       .section = Section::Gds,
       .access = &field<&G::eviction_policy>,
       .help = "Which copies go first when the store is full.",
       .choices = {"lru"}},
      {.name = "enable_compression",
       .section = Section::Gds,
       .access = &field<&G::enable_compression>,
       .help =
           "Compress copies on their way to a drive, without loss: more fit, at the price of CPU "
           "time in both directions. A copy that does not get 1.05 times smaller is kept as it "
           "is. Takes up to 0.5 GB of memory an engine. A new store's blocks are then no larger "
           "than a 32nd of a copy."},
      {.name = "compression_algo",
       .section = Section::Gds,
       .access = &field<&G::compression_algo>,
       .help =
           "Algorithm of enable_compression. zstd saves more at about the same CPU time. Copies of "
           "either kind can be loaded whatever is set here.",
       .choices = {"zstd", "lz4"}},
      {.name = "io_engine",
       .section = Section::Gds,
       .access = &field<&G::io_engine>,
       .help = "How files are read and written. auto: io_uring where the kernel allows it, else a "
               "pool of threads.",
       .choices = {"auto", "uring", "posix"}},
      {.name = "io_depth",
       .section = Section::Gds,
       .access = &field<&G::io_depth>,
       .help = "Requests in flight on a drive.",
       .min = 1,
       .max = 4096},
      {.name = "min_free_gb",
       .section = Section::Gds,
       .access = &field<&G::min_free_gb>,
       .unit = "GB of 1e9 bytes",
       .help = "Space that is left free on each file system, whatever max_cache_size_gb says.",
       .max = kMaxGb},
      {.name = "max_write_gb_per_day",
       .section = Section::Gds,
       .access = &field<&G::max_write_gb_per_day>,
       .unit = "GB of 1e9 bytes",
       .help = "Saves above it are dropped and counted, to spare the drive. -1: the file system's "
               "capacity once a day. 0: no limit.",
       .min = -1,
       .max = kMaxGb},
      {.name = "load_deadline_s",
       .section = Section::Gds,
       .access = &field<&G::load_deadline_s>,
       .unit = "seconds",
       .help = "A load that takes longer is a miss.",
       .min = 0.001,
       .max = kMaxSeconds},
      {.name = "save_deadline_s",
       .section = Section::Gds,
       .access = &field<&G::save_deadline_s>,
       .unit = "seconds",
       .help = "A save that takes longer is dropped.",
       .min = 0.001,
       .max = kMaxSeconds},
      {.name = "max_load_gb_in_flight",
       .section = Section::Gds,
       .access = &field<&G::max_load_gb_in_flight>,
       .unit = "GB of 1e9 bytes",
       .help = "Loads beyond it wait their turn.",
       .min = 0.001,
       .max = kMaxGb},
      {.name = "directory",
       .section = Section::Local,
       .access = &field<&L::directory>,
       .help =
           "Where the copies in host memory lie: a directory on a tmpfs. Processes that name the "
           "same one share it. They stay there, and take the memory, when all processes have "
           "ended; remove the directory to give it back. None: a directory on /dev/shm named "
           "after the user and the first cache_dir."},
      {.name = "max_cache_size_gb",
       .section = Section::Local,
       .access = &field<&L::max_cache_size_gb>,
       .unit = "GB of 1e9 bytes",
       .help =
           "Host memory for copies, index included. 0: a quarter of the file system that the "
           "directory lies on, or of the container's memory if that is less. A container's "
           "/dev/shm has 64 MiB unless it is started with --shm-size (docker) or has an emptyDir "
           "with medium: Memory there (Kubernetes). Another size than before begins with an "
           "empty store.",
       .max = kMaxGb},
      {.name = "chunk_size",
       .access = &field<&C::chunk_size>,
       .unit = "tokens",
       .help = "What is keyed, saved, loaded and evicted. Rounded up to a multiple of the engine's "
               "block sizes.",
       .min = 1,
       .max = 1 << 20},
      {.name = "max_age_s",
       .access = &field<&C::max_age_s>,
       .unit = "seconds",
       .help =
           "Copies that are older are not used, and those of the last three quarters of it are. "
           "0: no limit. With vLLM, what is saved below a copy counts as old as that.",
       .max = 1e9},
      {.name = "enable_layerwise",
       .access = &field<&C::enable_layerwise>,
       .help = "Let layers be used as they arrive. With vLLM, of loads within a step alone "
               "(use_async: false, or load_in_step)."},
      {.name = "use_async",
       .access = &field<&C::use_async>,
       .help = "Load whole requests beside the running batch."},
      {.name = "use_mla",
       .access = &field<&C::use_mla>,
       .help = "The model's KV is the same on every rank (multi-head latent attention). The vLLM "
               "connector finds this out by itself."},
      {.name = "save_decode_cache",
       .access = &field<&C::save_decode_cache>,
       .help = "Save chunks that generated tokens complete, not only those of prompts."},
      {.name = "enable_metrics",
       .access = &field<&C::enable_metrics>,
       .help = "Report what is counted to vLLM, and to `penstock top`. See METRICS.md."},
      {.name = "log_level",
       .access = &field<&C::log_level>,
       .help = "Least important lines that are logged.",
       .choices = {"debug", "info", "warning", "error"}},
      {.name = "trace_file",
       .access = &field<&C::trace_file>,
       .help =
           "With vLLM, a file for ui.perfetto.dev that each rank writes when it ends (out.json: "
           "out.0.json, out.1.json, ...): its last 65,536 events. Empty: none."},
      {.name = "load_policy",
       .access = &field<&C::load_policy>,
       .help = "auto: a hit is loaded as far as that is expected to be sooner than computing it "
               "again, from the measured speeds of both; until the engine's is known, after three "
               "steps of 256 tokens or more, everything is computed. always: every hit is loaded.",
       .choices = {"auto", "always"}},
      {.name = "load_in_step",
       .access = &field<&C::load_in_step>,
       .help =
           "memory: with vLLM, a hit that lies in host memory is loaded within the step that uses "
           "it while nothing else runs, layer by layer under the launch of the step "
           "(enable_layerwise, docs/decisions/0012). With asynchronous scheduling that is done "
           "only for what a drive holds too, and if both are found damaged in one load the engine "
           "ends, because vLLM could not take the token back. never: loads go beside the steps.",
       .choices = {"memory", "never"}},
  };
}

std::string with_unit(std::string text, std::string_view unit) {
  return unit.empty() ? text : fmt::format("{} ({})", text, unit);
}

std::string range(const ConfigKey& key) {
  return fmt::format("from {} to {}", key.min, key.max);
}

template <typename T>
std::string expect(const ConfigKey& key) {
  if constexpr (std::is_same_v<T, bool>) return "true or false";
  if constexpr (std::is_same_v<T, double>)
    return with_unit(fmt::format("a number {}", range(key)), key.unit);
  if constexpr (std::is_integral_v<T>) {
    const auto whole = fmt::format("from {} to {}", static_cast<uint64_t>(key.min),
                                   static_cast<uint64_t>(key.max));
    return with_unit(key.multiple > 1 ? fmt::format("a multiple of {} {}", key.multiple, whole)
                                      : fmt::format("a whole number {}", whole),
                     key.unit);
  }
  if (key.choices.size() == 1) return fmt::format("{}", key.choices[0]);
  if (!key.choices.empty())
    return fmt::format("one of {}{}", fmt::join(key.choices, ", "),
                       key.takes_classes ? ", or package.module:Class" : "");
  return std::is_same_v<T, std::string> ? "text" : "a path, or a list of paths";
}

}  // namespace

std::string_view name_of(Section section) {
  switch (section) {
    case Section::Gds:
      return "gds_config";
    case Section::Local:
      return "local_config";
    case Section::Top:
      break;
  }
  return "";
}

std::string ConfigKey::path() const {
  const std::string_view in = name_of(section);
  return fmt::format("{}{}{}", in, in.empty() ? "" : ".", name);
}

bool ConfigKey::is_called(std::string_view given) const {
  return given == path() || (section == Section::Gds && given == name);
}

std::string ConfigKey::variable() const {
  std::string text = section == Section::Local ? "PENSTOCK_LOCAL_" : "PENSTOCK_";
  std::transform(name.begin(), name.end(), std::back_inserter(text),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

std::string ConfigKey::expectation() const {
  return std::visit([this]<typename T>(T& (*)(Config&)) { return expect<T>(*this); }, access);
}

std::string ConfigKey::show(const Config& config) const {
  return std::visit(
      [&config]<typename T>(T& (*find)(Config&)) {
        Config copy = config;
        const T& value = find(copy);
        if constexpr (std::is_same_v<T, std::vector<std::string>>) {
          return fmt::format("{}", fmt::join(value, ", "));
        } else {
          return fmt::format("{}", value);
        }
      },
      access);
}

std::span<const ConfigKey> config_keys() {
  static const std::vector<ConfigKey> keys = make_keys();
  return keys;
}

}  // namespace penstock
