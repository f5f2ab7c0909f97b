// Config: everything a user can set, with the defaults that apply when nothing is set.
//
// Field names are the YAML keys of docs/CONFIGURATION.md. Sizes in GB are 1e9 bytes. Made by
// load_config() (src/config) from a YAML file, inline keys and PENSTOCK_<KEY> variables, or filled
// by hand; validate() says in one sentence what is wrong with it. A value; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "penstock/status.hpp"

namespace penstock {

struct GdsConfig {
  std::vector<std::string> cache_dir;   // one directory a drive; the first holds the index
  std::string enable_gds = "true";      // cuFile where proven: true | false | force
  bool enable_rdma = true;              // NIXL (not in this build yet)
  std::string remote_nixl_server;       // host:port
  uint32_t max_concurrent_ops = 4;      // jobs of a kind that use the drives at a time
  uint64_t block_size = 1'048'576;      // bytes; unit of allocation and of I/O, multiple of 4096
  uint32_t prefetch_factor = 2;         // accepted: all layers are asked for ahead
  double max_cache_size_gb = 256;       // all directories together, index included
  std::string eviction_policy = "lru";  // lru
  bool enable_compression = false;
  std::string compression_algo = "zstd";  // zstd | lz4

  // Our own keys.
  std::string io_engine = "auto";    // auto | uring | posix
  uint32_t io_depth = 32;            // requests in flight on a drive
  double min_free_gb = 1;            // never fill the file system beyond this
  double max_write_gb_per_day = -1;  // -1: the file system's capacity once a day; 0: no limit
  double load_deadline_s = 10;       // a load that takes longer is a miss
  double save_deadline_s = 60;       // a save that takes longer is dropped
  double max_load_gb_in_flight = 4;  // loads beyond this wait their turn
};

struct LocalConfig {
  std::string directory;         // on a tmpfs; empty: one on /dev/shm, named after cache_dir
  double max_cache_size_gb = 0;  // 0: a quarter of that file system
};

struct Config {
  // Some of local, gds, remote (not built yet), from fast to slow; then Python classes, which the
  // core leaves to its caller.
  std::vector<std::string> backend = {"gds"};
  GdsConfig gds_config;
  LocalConfig local_config;
  uint32_t chunk_size = 256;  // tokens
  double max_age_s = 0;       // copies that are older are not used; 0: no limit
  bool enable_layerwise = true;
  bool use_async = true;
  bool use_mla = false;
  bool save_decode_cache = true;
  bool enable_metrics = true;
  std::string log_level = "info";       // debug | info | warning | error
  std::string trace_file;               // empty: no trace
  std::string load_policy = "auto";     // auto | always
  std::string load_in_step = "memory";  // memory | never

  Result<void> validate() const;
};

}  // namespace penstock
