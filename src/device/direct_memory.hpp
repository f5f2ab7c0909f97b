// DirectMemory: memory of a GPU for drives to write and read, past the host. A value; any thread.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace penstock {

struct DirectMemory {
  std::span<std::byte> bytes;          // by device address
  std::shared_ptr<const void> owner;   // frees it, in whatever thread lets go of it last
  std::string gpu;                     // its PCI bus id or number, as cufile_open.hpp takes them
  std::function<void()> enter_thread;  // makes the GPU current in the calling thread
};

}  // namespace penstock
