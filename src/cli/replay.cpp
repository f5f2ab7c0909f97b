#include "cli/replay.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <mutex>
#include <thread>

#include "cli/interrupt.hpp"

namespace penstock::cli {
namespace {

constexpr double kSecondsOfDay = 24 * 3600;
constexpr double kDaysOfYear = 365;

double share(uint64_t part, uint64_t whole) noexcept {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

double ReplayFigures::hit_rate() const noexcept {
  return share(restored_tokens, prompt_tokens);
}

double ReplayFigures::request_hit_rate() const noexcept {
  return share(hit_requests, requests);
}

Result<ReplayFigures> replay(const ReplaySetup& setup, uint64_t capacity_bytes,
                             const std::string& scratch_directory,
                             const std::function<void(uint64_t)>& advance) {
  auto trace = Trace::open(setup.trace, setup.trace_block);
  if (!trace) return trace.take_error();
  auto store = SimulatedStore::open(scratch_directory,
                                    {.capacity_bytes = capacity_bytes,
                                     .copies = setup.totals.chunks,
                                     .chunk_bytes = setup.chunk_tokens * setup.bytes_per_token,
                                     .block_bytes = setup.block_bytes,
                                     .max_write_bytes_per_day = setup.max_write_bytes_per_day});
  if (!store) return store.take_error();

  ReplayFigures figures;
  figures.capacity_bytes = capacity_bytes;
  for (uint64_t told = 0;;) {
    if (interrupted()) return Error{Status::Cancelled, "interrupted"};
    auto next = trace->next();
    if (!next) return next.take_error();
    if (!*next) break;
    const TraceRequest& request = **next;
    const std::vector<Key> chain = chunk_keys(request, setup.trace_block, setup.chunk_tokens);
    // One token is always computed, as the connector has it.
    const uint64_t usable =
        request.prompt_tokens == 0 ? 0 : (request.prompt_tokens - 1) / setup.chunk_tokens;
    const auto restored = (*store)->serve(request.time_ms - setup.totals.first_ms, chain,
                                          static_cast<uint32_t>(usable));
    if (!restored) return restored.error();
    ++figures.requests;
    figures.hit_requests += *restored > 0;
    figures.prompt_tokens += request.prompt_tokens;
    figures.restored_tokens += *restored * setup.chunk_tokens;
    advance(trace->bytes_read() - told);
    told = trace->bytes_read();
  }
  figures.store = (*store)->figures();
  return figures;
}

Result<std::vector<ReplayFigures>> replay_all(const ReplaySetup& setup,
                                              const std::vector<uint64_t>& capacities,
                                              const std::string& scratch_directory,
                                              const std::function<void(uint64_t)>& advance) {
  std::vector<ReplayFigures> all(capacities.size());
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::optional<Error> failure;  // the first; guarded by mutex
  const auto work = [&] {
    for (size_t i = next++; i < capacities.size(); i = next++) {
      const std::string directory = fmt::format("{}/{}", scratch_directory, i);
      auto figures = replay(setup, capacities[i], directory, [&](uint64_t bytes) {
        std::scoped_lock lock{mutex};
        advance(bytes);
      });
      std::error_code ignored;  // the directory above goes at the end
      std::filesystem::remove_all(directory, ignored);
      std::scoped_lock lock{mutex};
      if (figures) {
        all[i] = *figures;
      } else {
        if (!failure) failure = figures.take_error();
        next = capacities.size();  // the others stop before their next one
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    const size_t cores = std::max(1u, std::thread::hardware_concurrency());
    for (size_t i = 1; i < std::min(cores, capacities.size()); ++i) threads.emplace_back(work);
    work();
  }
  if (failure) return *failure;
  return all;
}

std::optional<Wear> wear_of(const ReplaySetup& setup, const ReplayFigures& figures,
                            const Drive& drive) {
  const double seconds = setup.totals.seconds();
  if (seconds <= 0) return std::nullopt;
  Wear wear;
  wear.bytes_per_day = static_cast<double>(figures.store.written_bytes) / seconds * kSecondsOfDay;
  if (setup.max_write_bytes_per_day != 0)
    wear.bytes_per_day =
        std::min(wear.bytes_per_day, static_cast<double>(setup.max_write_bytes_per_day));
  wear.drive_writes_per_day = wear.bytes_per_day / (drive.tb * 1e12);
  if (wear.bytes_per_day > 0)
    wear.years = drive.tb_written * 1e12 / wear.bytes_per_day / kDaysOfYear;
  return wear;
}

}  // namespace penstock::cli
