#include "cli/block_reader.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "base/assert.hpp"
#include "base/sizes.hpp"
#include "io/open.hpp"

namespace penstock::cli {

void BlockReader::Free::operator()(std::byte* memory) const noexcept {
  std::free(memory);
}

Result<std::unique_ptr<BlockReader>> BlockReader::create(uint64_t max_size, Visit visit) {
  constexpr uint64_t kMemory = 128 * 1024 * 1024;
  constexpr uint64_t kDepth = 32;
  const size_t slots = std::clamp<uint64_t>(kMemory / max_size, 2, kDepth);
  std::unique_ptr<std::byte, Free> memory{
      static_cast<std::byte*>(std::aligned_alloc(kSector, slots * max_size))};
  if (!memory) return Error{Status::NoSpace, "no memory to read blocks into"};
  auto opened =
      open_io_engine({.kind = "auto", .depth = slots, .memory = {memory.get(), slots * max_size}});
  if (!opened) return opened.take_error();
  return std::unique_ptr<BlockReader>{new BlockReader{std::move(memory), slots, max_size,
                                                      std::move(opened->engine), std::move(visit)}};
}

BlockReader::BlockReader(std::unique_ptr<std::byte, Free> memory, size_t slots, uint64_t max_size,
                         std::unique_ptr<IoEngine> io, Visit visit)
    : memory_{std::move(memory)}, requests_(slots), visit_{std::move(visit)}, io_{std::move(io)} {
  for (size_t slot = 0; slot < slots; ++slot) {
    requests_[slot].data = memory_.get() + slot * max_size;
    free_.push_back(&requests_[slot]);
  }
}

void BlockReader::read(uint64_t tag, int fd, uint64_t offset, uint64_t size) {
  while (free_.empty()) wait_for_one();
  IoRequest* request = free_.back();
  free_.pop_back();
  *request = {.op = IoOp::Read,
              .fd = fd,
              .offset = offset,
              .data = request->data,
              .size = size,
              .user_data = tag};
  // As many requests as slots: the engine has room for this one.
  const size_t accepted = io_->submit({&request, 1});
  PENSTOCK_ASSERT(accepted == 1);
  reap();
}

void BlockReader::finish() {
  while (free_.size() < requests_.size()) wait_for_one();
}

void BlockReader::wait_for_one() {
  io_->wait(std::chrono::seconds{1});
  reap();
}

void BlockReader::reap() {
  std::array<IoCompletion, 32> completions;
  const size_t count = io_->poll(completions);
  for (size_t i = 0; i < count; ++i) {
    IoRequest* request = completions[i].request;
    const bool good = completions[i].status == Status::Ok;
    visit_(request->user_data, completions[i].status,
           good ? std::span<const std::byte>{request->data, request->size}
                : std::span<const std::byte>{});
    free_.push_back(request);
  }
}

}  // namespace penstock::cli
