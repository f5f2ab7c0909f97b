#include "engine/live_report.hpp"

#include "base/log.hpp"

namespace penstock {

bool LiveReport::tick() {
  LiveEngine engine;
  {
    std::scoped_lock lock{mutex_};
    if (!source_) return false;
    engine = source_();
  }
  if (failed_) return true;
  if (!file_) {
    auto created = LiveFile::create(directory_);
    failed_ = !created;
    if (failed_) {
      log_once(LogLevel::Debug, "not shown by penstock top: " + created.error().message);
      return true;
    }
    file_ = std::move(*created);
  }
  std::string text = to_text(engine);
  if (text == written_) return true;  // an engine that rests writes nothing
  if (file_->write(text)) written_ = std::move(text);
  return true;
}

void LiveReport::stop() {
  std::scoped_lock lock{mutex_};
  source_ = nullptr;
}

}  // namespace penstock
