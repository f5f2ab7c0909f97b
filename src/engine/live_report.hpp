// LiveReport: tells other processes what an engine does (LiveFile), for `penstock top`.
//
// tick() runs on a store's index thread, which may wait for the drive; stop() waits for no drive,
// so that a hung one does not hold an engine's end. What cannot be written is not shown; nothing
// else depends on it.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "metrics/live_file.hpp"

namespace penstock {

class LiveReport {
 public:
  using Source = std::function<LiveEngine()>;
  LiveReport(std::string directory, Source source)
      : directory_{std::move(directory)}, source_{std::move(source)} {}

  bool tick();  // false: it was stopped
  void stop();  // the source is not asked any more

 private:
  std::string directory_;
  std::mutex mutex_;
  Source source_;                   // guarded by mutex_
  std::unique_ptr<LiveFile> file_;  // made by the first tick
  bool failed_ = false;
  std::string written_;
};

}  // namespace penstock
