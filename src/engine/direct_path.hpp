// Decides whether blocks go straight between the drives and the GPU, and opens what that takes:
// slots in the GPU's memory and a cufile engine for them.
//
// Nothing here is an error: what is refused or fails leaves the way through host memory, and a
// sentence. May take seconds, see io/cufile_open.hpp. Any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "device/device.hpp"
#include "mover/transfer_pool.hpp"
#include "penstock/config.hpp"

namespace penstock {

struct OpenedDirectPath {
  std::unique_ptr<DirectPath> path;  // null: through host memory
  std::string name = "none";         // p2p, nvfs, posix, mixed, unknown: how the bytes go
  std::string reason;
};

struct DirectPathOptions {
  bool has_memory_tier = false;  // what comes from a drive is to stay in host memory then
  size_t slots = 0;
  size_t slot_bytes = 0;
  std::function<void()> on_result;  // see CufileOptions
};

OpenedDirectPath open_direct_path(const GdsConfig& config, Device& device,
                                  DirectPathOptions options);

}  // namespace penstock
