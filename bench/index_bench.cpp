// index_bench: the index at size. Fills a store with tiny copies over a sparse pool, then measures
// the lookup of a long prefix, the open, commits, and what a copy takes on disk and in memory.
//
//   index_bench DIRECTORY [copies] [chain]
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>

#include "store/clock.hpp"
#include "store/store.hpp"
#include "store/store_files.hpp"
#include "store/store_parts.hpp"

namespace penstock {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint32_t kBatch = 4096;  // copies of one transaction while filling

using Clock = std::chrono::steady_clock;

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

double percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

// Well spread, as digests are.
Key key_at(uint64_t chain, uint64_t chunk) {
  const uint32_t tokens[4] = {static_cast<uint32_t>(chain), static_cast<uint32_t>(chain >> 32),
                              static_cast<uint32_t>(chunk), static_cast<uint32_t>(chunk >> 32)};
  return chain_key(Key{}, tokens, 4);
}

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "index_bench: %s\n", why.c_str());
  std::exit(2);
}

uint64_t resident_kib() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss);
}

StoreParts open_parts(const StoreOptions& options) {
  auto directories = prepare_directories(options);
  if (!directories) fail(directories.error().message);
  auto parts = open_store(options, std::move(*directories));
  if (!parts) fail(parts.error().message);
  return std::move(*parts);
}

void fill(StoreParts& parts, NamespaceId ns, uint64_t copies, uint64_t chain) {
  Index& index = *parts.index;
  if (index.extend(0, [&](const PoolRow&) {
        return parts.pools[0].pool->cut(copies) ? copies : 0;  // a hole as long as the pool
      }) != Status::Ok)
    fail(index.last_error());
  std::vector<Reservation> reservations;
  std::vector<Status> statuses;
  for (uint64_t done = 0; done < copies; done += kBatch) {
    std::vector<Wish> wishes;
    std::vector<CopyInsert> inserts;
    for (uint64_t i = done; i < std::min(done + kBatch, copies); ++i) {
      const Key key = key_at(i / chain, i % chain);
      const Key parent = i % chain == 0 ? Key{} : key_at(i / chain, i % chain - 1);
      wishes.push_back({{key, 0, 0}, kBlock});
      inserts.push_back({{key, 0, 0}, parent, kBlock, {}, {i}});
    }
    index.reserve(ns, parts.process, wishes, {}, reservations);
    for (size_t i = 0; i < inserts.size(); ++i) inserts[i].extents = reservations[i].extents;
    index.commit(ns, parts.process, inserts, now_ms(), statuses);
    if (std::any_of(statuses.begin(), statuses.end(), [](Status s) { return s != Status::Ok; }))
      fail("a copy was not committed: " + index.last_error());
  }
}

void measure_lookups(Index& index, NamespaceId ns, uint64_t chains, uint64_t chain) {
  std::mt19937_64 random{1};
  const std::vector<GroupNeed> needs{{0, 1, 0}};
  for (const char* kind : {"whole", "part", "none"}) {
    std::vector<double> times;
    for (int round = 0; round < 3000; ++round) {
      std::vector<Key> keys;
      const uint64_t which = random() % chains;
      const uint64_t depth = *kind == 'w' ? chain : *kind == 'n' ? 0 : random() % chain;
      for (uint64_t i = 0; i < chain; ++i)
        keys.push_back(key_at(i < depth ? which : which + (uint64_t{1} << 40), i));
      const auto start = Clock::now();
      const uint32_t found = index.lookup(ns, keys, needs);
      times.push_back(us_since(start));
      if (found != depth) fail("a lookup found " + std::to_string(found));
    }
    std::printf("lookup of %llu chunks, %s present: p50 %.1f us, p99 %.1f us\n",
                static_cast<unsigned long long>(chain), kind, percentile(times, 0.5),
                percentile(times, 0.99));
  }
}

void measure_finds(Index& index, NamespaceId ns, uint64_t chains, uint64_t chain) {
  std::mt19937_64 random{2};
  constexpr uint64_t kNames = 256;
  std::vector<double> times;
  for (int round = 0; round < 300; ++round) {
    std::vector<CopyName> names;
    const uint64_t which = random() % chains;
    for (uint64_t i = 0; i < std::min(kNames, chain); ++i)
      names.push_back({key_at(which, i), 0, 0});
    const auto start = Clock::now();
    const auto records = index.find(ns, names);
    times.push_back(us_since(start));
    if (records.back().status != Status::Ok) fail("a copy was not found");
  }
  std::printf("find of %llu copies: p50 %.0f us, p99 %.0f us\n",
              static_cast<unsigned long long>(std::min(kNames, chain)), percentile(times, 0.5),
              percentile(times, 0.99));
}

void measure_commits(StoreParts& parts, NamespaceId ns, size_t batch) {
  Index& index = *parts.index;
  std::vector<double> times;
  for (uint64_t round = 0; round < 300; ++round) {
    std::vector<Wish> wishes;
    std::vector<CopyInsert> inserts;
    for (uint64_t i = 0; i < batch; ++i) {
      const Key key = key_at((uint64_t{1} << 50) + batch, round * batch + i);
      wishes.push_back({{key, 0, 0}, kBlock});
      inserts.push_back({{key, 0, 0}, Key{}, kBlock, {}, {i}});
    }
    uint32_t removed = 0;
    index.evict(batch, static_cast<uint32_t>(batch), removed);
    std::vector<Reservation> reservations;
    std::vector<Status> statuses;
    const auto start = Clock::now();
    index.reserve(ns, parts.process, wishes, {}, reservations);
    for (size_t i = 0; i < inserts.size(); ++i) inserts[i].extents = reservations[i].extents;
    index.commit(ns, parts.process, inserts, now_ms(), statuses);
    times.push_back(us_since(start));
  }
  std::printf("reserve and commit of %zu: p50 %.0f us, p99 %.0f us\n", batch,
              percentile(times, 0.5), percentile(times, 0.99));
}

void measure_open(const StoreOptions& options) {
  std::vector<double> times;
  for (int round = 0; round < 21; ++round) {
    const auto start = Clock::now();
    auto store = Store::open(options);
    times.push_back(us_since(start) / 1000);
    if (!store) fail(store.error().message);
  }
  std::printf("open: median %.2f ms, worst %.2f ms\n", percentile(times, 0.5),
              percentile(times, 1));
}

int run(const std::string& directory, uint64_t copies, uint64_t chain) {
  StoreOptions options;
  options.directories = {directory};
  options.block_size = kBlock;
  options.max_bytes = copies * (kBlock + kIndexBytesPerBlock) + (64 << 20);
  options.max_write_bytes_per_day = 0;
  const StoreFiles files{directory};
  if (file_size(files.index) != 0) fail(directory + " holds a store already");
  {
    StoreParts parts = open_parts(options);
    const auto ns = parts.index->open_namespace({Digest{}, "bench"}, now_ms());
    if (!ns) fail(ns.error().message);
    const auto start = Clock::now();
    fill(parts, *ns, copies, chain);
    std::printf("%llu copies in %.1f s\n", static_cast<unsigned long long>(copies),
                us_since(start) / 1e6);
  }
  std::printf("index: %.0f bytes a copy\n",
              static_cast<double>(file_size(files.index)) / static_cast<double>(copies));
  measure_open(options);
  {
    StoreParts parts = open_parts(options);
    const auto ns = parts.index->open_namespace({Digest{}, "bench"}, now_ms());
    if (!ns) fail(ns.error().message);
    measure_lookups(*parts.index, *ns, copies / chain, chain);
    measure_finds(*parts.index, *ns, copies / chain, chain);
    measure_commits(parts, *ns, 8);
    measure_commits(parts, *ns, 64);
    std::printf("resident at most: %.1f MiB\n", static_cast<double>(resident_kib()) / 1024);
  }
  return 0;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: index_bench DIRECTORY [copies] [chain]\n");
    return 2;
  }
  const uint64_t copies = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1'000'000;
  const uint64_t chain = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 4096;
  if (chain == 0 || copies < chain) {
    std::fprintf(stderr, "index_bench: there must be at least one chain\n");
    return 2;
  }
  return penstock::run(argv[1], copies, chain);
}
