// Trace: what happened when, of the jobs, runs and index threads of this process, as a file for
// Perfetto (ui.perfetto.dev) and chrome://tracing.
//
// Off until start_trace(); a call site costs a branch until then. On, an event costs a lock and 88
// bytes; the last `capacity` events are kept, and how many were lost is told. Any thread.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

namespace penstock {

// Where an event is drawn. Events of one row do not overlap, or lie within each other.
enum class TraceRow : uint8_t {
  Thread,  // number: of the calling thread
  Job,     // number: the job's id
  Run,     // number: of a transfer: one run of blocks after the other
};

struct TraceArgument {
  const char* name = nullptr;  // a constant; null: none
  uint64_t value = 0;
};

struct TraceEvent {
  using Time = std::chrono::steady_clock::time_point;  // one clock for all processes of a machine

  const char* name = "";  // a constant
  TraceRow row = TraceRow::Thread;
  uint64_t number = 0;
  Time begin = {};
  Time end = {};  // equal to `begin`: an instant
  std::array<TraceArgument, 3> arguments = {};
};

constexpr size_t kTraceCapacity = 1 << 16;

void start_trace(size_t capacity = kTraceCapacity);  // begins anew
// Ends it. The JSON object that both programs read; also of a trace that was not started.
std::string stop_trace();

namespace detail {
inline std::atomic<bool> tracing{false};  // relaxed: an event more or less at its ends
}
inline bool tracing() noexcept {
  return detail::tracing.load(std::memory_order_relaxed);
}
// Nothing, when off.
void trace(const TraceEvent& event) noexcept;

// An event on the calling thread's row, for the lifetime of a scope.
class TraceScope {
 public:
  TraceScope(const char* name, const char* argument, uint64_t value) noexcept;
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;
  ~TraceScope() {
    if (event_.begin == TraceEvent::Time{}) return;
    event_.end = std::chrono::steady_clock::now();
    trace(event_);
  }

 private:
  TraceEvent event_;
};

}  // namespace penstock
