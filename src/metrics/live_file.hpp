// LiveFile: what a process that uses a store tells others about itself, about once a second.
//
// A small file beside the store's index, held by flock(2): the kernel lets go of it when its
// process dies, so nobody has to believe a process id, in whatever container that is one. Whoever
// creates the next removes those of the dead. Written as a whole in one piece, with a checksum, so
// that a reader sees one moment or asks again. Bounded: kMaxFiles of kMaxBytes, which the plan of a
// store's space counts. Calls wait for the drive; one thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.hpp"
#include "metrics/catalog.hpp"
#include "penstock/status.hpp"

namespace penstock {

class LiveFile {
 public:
  static constexpr size_t kMaxFiles = 16;
  static constexpr size_t kMaxBytes = 8192;

  // Busy: there are kMaxFiles of living processes.
  static Result<std::unique_ptr<LiveFile>> create(const std::string& directory);
  ~LiveFile();  // removes it
  LiveFile(const LiveFile&) = delete;
  LiveFile& operator=(const LiveFile&) = delete;

  // Whole lines of `text`, as many as fit. False: the drive does not take it.
  bool write(std::string_view text) noexcept;

 private:
  LiveFile(std::string path, UniqueFd fd) : path_{std::move(path)}, fd_{std::move(fd)} {}

  std::string path_;
  UniqueFd fd_;
};

// What living processes have written, in no order. What cannot be read is left out.
std::vector<std::string> read_live_files(const std::string& directory);

// What an engine writes there.
struct LiveEngine {
  std::map<std::string, std::string> facts;  // "pid", "device", "io_engine", "tiers"; one line each
  Figures figures;
};
// Figures that are zero are left out; reading puts none in.
std::string to_text(const LiveEngine& engine);
LiveEngine parse_live_engine(std::string_view text);

}  // namespace penstock
