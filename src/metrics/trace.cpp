#include "metrics/trace.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace penstock {
namespace {

using Micros = std::chrono::duration<double, std::micro>;

// Perfetto sorts rows by number.
constexpr uint64_t kFirstJob = 10'000'000;
constexpr uint64_t kFirstRun = 20'000'000;

struct Ring {
  std::mutex mutex;
  std::vector<TraceEvent> events;  // guarded by mutex
  size_t capacity = 0;
  uint64_t written = 0;
};

Ring& ring() {
  static auto* made = new Ring;  // never destroyed: threads may outlive static objects
  return *made;
}

uint64_t row_of(const TraceEvent& event) {
  switch (event.row) {
    case TraceRow::Job:
      return kFirstJob + event.number;
    case TraceRow::Run:
      return kFirstRun + event.number;
    case TraceRow::Thread:
      break;
  }
  return event.number;
}

std::string name_of_row(const TraceEvent& event) {
  switch (event.row) {
    case TraceRow::Job:
      return fmt::format("job {}", event.number);
    case TraceRow::Run:
      return fmt::format("run {}", event.number);
    case TraceRow::Thread:
      break;
  }
  return "index";
}

std::string to_json(const TraceEvent& event, int pid) {
  std::string arguments;
  for (const TraceArgument& argument : event.arguments)
    if (argument.name != nullptr)
      arguments +=
          fmt::format("{}\"{}\":{}", arguments.empty() ? "" : ",", argument.name, argument.value);
  const Micros begin = event.begin.time_since_epoch();
  const Micros length = event.end - event.begin;
  const std::string kind = event.end == event.begin
                               ? R"("ph":"i","s":"t")"
                               : fmt::format(R"("ph":"X","dur":{:.3f})", length.count());
  return fmt::format(R"({{"name":"{}",{},"ts":{:.3f},"pid":{},"tid":{},"args":{{{}}}}})",
                     event.name, kind, begin.count(), pid, row_of(event), arguments);
}

}  // namespace

void start_trace(size_t capacity) {
  Ring& to = ring();
  std::scoped_lock lock{to.mutex};
  to.events.clear();
  to.events.reserve(capacity);
  to.capacity = std::max<size_t>(capacity, 1);
  to.written = 0;
  detail::tracing.store(true, std::memory_order_relaxed);
}

void trace(const TraceEvent& event) noexcept {
  if (!tracing()) return;
  Ring& to = ring();
  std::scoped_lock lock{to.mutex};
  if (to.capacity == 0) return;
  if (to.events.size() < to.capacity)
    to.events.push_back(event);
  else
    to.events[to.written % to.capacity] = event;
  ++to.written;
}

std::string stop_trace() {
  detail::tracing.store(false, std::memory_order_relaxed);
  Ring& from = ring();
  std::vector<TraceEvent> events;
  uint64_t lost = 0;
  {
    std::scoped_lock lock{from.mutex};
    events = std::exchange(from.events, {});
    lost = from.written - events.size();
    from.capacity = 0;
    from.written = 0;
  }
  // An event is written when it ends; what encloses others comes before them.
  std::ranges::stable_sort(events, [](const TraceEvent& a, const TraceEvent& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
  });
  const int pid = ::getpid();
  std::map<uint64_t, std::string> rows;
  for (const TraceEvent& event : events) rows.emplace(row_of(event), name_of_row(event));
  std::string text = R"({"displayTimeUnit":"ms","traceEvents":[)";
  text += fmt::format(R"({{"name":"process_name","ph":"M","pid":{},"args":{{"name":"penstock"}}}})",
                      pid);
  for (const auto& [row, name] : rows)
    text += fmt::format(
        ",\n{{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":{},\"tid\":{},\"args\":{{\"name\":\"{}"
        "\"}}}}",
        pid, row, name);
  for (const TraceEvent& event : events) text += ",\n" + to_json(event, pid);
  return text + fmt::format("],\n\"otherData\":{{\"lost_events\":\"{}\"}}}}\n", lost);
}

TraceScope::TraceScope(const char* name, const char* argument, uint64_t value) noexcept {
  if (!tracing()) return;
  event_.name = name;
  event_.number = static_cast<uint64_t>(::gettid());
  event_.arguments[0] = {argument, value};
  event_.begin = std::chrono::steady_clock::now();
}

}  // namespace penstock
