// How much of the raw ceiling the io engines reach, and what they cost: alternating rounds of the
// raw loop and of each engine on the same offsets of one O_DIRECT file; medians.
//
//   io_bench FILE [GiB=2] [request KiB=1024] [depth=32] [rounds=5]
// FILE is made if it is missing or too small, and left in place.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "io/open.hpp"
#include "io/raw_speed.hpp"

namespace penstock {
namespace {

using Clock = std::chrono::steady_clock;

struct Plan {
  int fd = -1;
  uint64_t file_size = 0;
  uint64_t request_size = 0;
  uint32_t depth = 0;
};

struct Sample {
  double gb_per_s = 0;
  double cpu_s_per_gb = 0;
};

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

[[noreturn]] void fail(const Error& error) {
  std::fprintf(stderr, "io_bench: %s\n", error.message.c_str());
  std::exit(2);
}

Sample run_raw(const Plan& plan, bool allow_uring) {
  const RawRange range{plan.fd, 0, plan.file_size};
  RawOptions options;
  options.request_size = plan.request_size;
  options.depth = plan.depth;
  options.allow_uring = allow_uring;
  auto speed = measure_raw_speed({&range, 1}, options);
  if (!speed) fail(speed.error());
  return {speed->gb_per_s(), speed->cpu_seconds / (static_cast<double>(speed->bytes) / 1e9)};
}

// Reads the file once through `engine`, one slot of `memory` for each request in flight.
Sample run_engine(const Plan& plan, IoEngine& engine, std::byte* memory) {
  std::vector<IoRequest> requests(plan.depth);
  std::vector<IoRequest*> ready;
  std::vector<IoCompletion> completions(plan.depth);
  uint64_t next = 0;
  const auto prepare = [&](size_t slot) {
    if (next >= plan.file_size) return;
    const uint64_t size = std::min(plan.request_size, plan.file_size - next);
    requests[slot] = {IoOp::Read, plan.fd, next, memory + slot * plan.request_size, size, slot};
    ready.push_back(&requests[slot]);
    next += size;
  };
  const double cpu = cpu_seconds();
  const auto start = Clock::now();
  for (size_t slot = 0; slot < plan.depth; ++slot) prepare(slot);
  while (!ready.empty() || engine.in_flight() > 0) {
    const size_t accepted = engine.submit(ready);
    ready.erase(ready.begin(), ready.begin() + static_cast<ptrdiff_t>(accepted));
    engine.wait(std::chrono::seconds{1});
    const size_t count = engine.poll(completions);
    for (size_t i = 0; i < count; ++i) {
      if (completions[i].status != Status::Ok) fail({Status::Io, "a read failed"});
      prepare(completions[i].request->user_data);
    }
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const double gb = static_cast<double>(plan.file_size) / 1e9;
  return {gb / seconds, (cpu_seconds() - cpu) / gb};
}

Sample run_kind(const Plan& plan, const std::string& kind) {
  const size_t size = plan.depth * plan.request_size;
  void* const memory =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail({Status::Io, "no memory"});
  ::madvise(memory, size, MADV_HUGEPAGE);  // as the raw loop has, and the product's staging
  std::memset(memory, 0, size);
  Sample sample;
  {
    auto* const data = static_cast<std::byte*>(memory);
    auto opened = open_io_engine({kind, plan.depth, {data, size}});
    if (!opened) fail(opened.error());
    sample = run_engine(plan, *opened->engine, data);
  }
  ::munmap(memory, size);
  return sample;
}

void prepare_file(const Plan& plan) {
  struct stat now {};
  if (::fstat(plan.fd, &now) != 0) fail({Status::Io, "cannot stat the file"});
  if (static_cast<uint64_t>(now.st_size) >= plan.file_size) return;
  const RawRange range{plan.fd, 0, plan.file_size};
  RawOptions options;
  options.write = true;
  auto written = measure_raw_speed({&range, 1}, options);
  if (!written) fail(written.error());
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void report(const std::map<std::string, std::vector<Sample>>& samples) {
  const auto middle = [&](const std::vector<Sample>& of, double Sample::*field) {
    std::vector<double> values;
    for (const Sample& sample : of) values.push_back(sample.*field);
    return median(values);
  };
  const double ceiling = middle(samples.at("1 raw io_uring"), &Sample::gb_per_s);
  std::printf("%-16s %8s %8s %14s\n", "", "GB/s", "% of raw", "CPU s per GB");
  for (const auto& [name, of] : samples) {
    const double speed = middle(of, &Sample::gb_per_s);
    std::printf("%-16s %8.2f %8.1f %14.4f\n", name.c_str() + 2, speed, speed / ceiling * 100,
                middle(of, &Sample::cpu_s_per_gb));
  }
}

int run(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: io_bench FILE [GiB=2] [request KiB=1024] [depth=32] [rounds=5]\n");
    return 2;
  }
  const auto number = [&](int i, uint64_t otherwise) {
    return argc > i ? std::strtoull(argv[i], nullptr, 10) : otherwise;
  };
  auto file = open_direct(argv[1], O_RDWR | O_CREAT);
  if (!file) fail(file.error());
  if (!file->direct) std::printf("%s\n", file->reason.c_str());
  const Plan plan{file->fd.get(), number(2, 2) << 30, number(3, 1024) << 10,
                  static_cast<uint32_t>(number(4, 32))};
  prepare_file(plan);
  std::map<std::string, std::vector<Sample>> samples;
  for (uint64_t round = 0; round < std::max<uint64_t>(1, number(5, 5)); ++round) {
    samples["1 raw io_uring"].push_back(run_raw(plan, true));
    samples["2 engine uring"].push_back(run_kind(plan, "uring"));
    samples["3 raw threads"].push_back(run_raw(plan, false));
    samples["4 engine posix"].push_back(run_kind(plan, "posix"));
  }
  report(samples);
  return 0;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  return penstock::run(argc, argv);
}
